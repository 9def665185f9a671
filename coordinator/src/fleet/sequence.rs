//! Which batch of a stream may come next.

use farol_protocol::telemetry::Gap;

/// No agent lives long enough to send more; the store counts in 64 bits with a sign.
const HIGHEST: u64 = 1 << 53;

/// Position of a connection in its stream.
#[derive(Debug)]
pub(super) struct Sequence {
    received: u64,
}

/// What a batch's number means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the next one; so many before it are lost.
    Next {
        /// As its gaps say.
        lost: u64,
    },
    /// It came before.
    Repeated,
    /// Batches before it are missing and no gap says so.
    Hole {
        /// The number that was due.
        expected: u64,
    },
}

impl Sequence {
    /// After the last committed number.
    pub(super) const fn after(committed: u64) -> Self {
        Self { received: committed }
    }

    /// Judges a number and, if it is the next, moves on to it. Gaps must cover
    /// exactly what is missing, so that the count of what is lost is exact.
    pub(super) fn judge(&mut self, seq: u64, gaps: &[Gap]) -> Verdict {
        if seq <= self.received {
            return Verdict::Repeated;
        }
        if seq > HIGHEST {
            return Verdict::Hole { expected: self.received + 1 };
        }
        let mut expected = self.received + 1;
        let mut sorted: Vec<&Gap> = gaps.iter().collect();
        sorted.sort_by_key(|gap| gap.first_seq);
        for gap in sorted {
            if gap.first_seq == expected && gap.last_seq >= gap.first_seq && gap.last_seq < seq {
                expected = gap.last_seq + 1;
            }
        }
        if expected != seq {
            return Verdict::Hole { expected };
        }
        let lost = seq - self.received - 1;
        self.received = seq;
        Verdict::Next { lost }
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::Timestamp;

    use super::*;

    fn gap(first_seq: u64, last_seq: u64) -> Gap {
        Gap { first_seq, last_seq, from: Timestamp::from_ms(0), to: Timestamp::from_ms(0) }
    }

    #[test]
    fn only_the_next_batch_passes_and_a_repeat_is_known() {
        let mut sequence = Sequence::after(4);
        assert_eq!(sequence.judge(5, &[]), Verdict::Next { lost: 0 });
        assert_eq!(sequence.judge(5, &[]), Verdict::Repeated);
        assert_eq!(sequence.judge(1, &[]), Verdict::Repeated);
        assert_eq!(sequence.judge(7, &[]), Verdict::Hole { expected: 6 });
        assert_eq!(sequence.judge(6, &[]), Verdict::Next { lost: 0 });
    }

    #[test]
    fn a_hole_passes_only_when_its_gaps_cover_it_exactly() {
        assert_eq!(Sequence::after(4).judge(10, &[gap(5, 9)]), Verdict::Next { lost: 5 });
        assert_eq!(Sequence::after(4).judge(10, &[gap(8, 9), gap(5, 7)]), Verdict::Next { lost: 5 });
        assert_eq!(Sequence::after(4).judge(10, &[gap(5, 8)]), Verdict::Hole { expected: 9 });
        assert_eq!(Sequence::after(4).judge(10, &[gap(6, 9)]), Verdict::Hole { expected: 5 });
        assert_eq!(Sequence::after(4).judge(10, &[gap(5, 10)]), Verdict::Hole { expected: 5 });
        assert_eq!(Sequence::after(4).judge(10, &[gap(5, 0)]), Verdict::Hole { expected: 5 });
        assert_eq!(Sequence::after(4).judge(u64::MAX, &[gap(5, u64::MAX - 1)]), Verdict::Hole { expected: 5 });
    }
}
