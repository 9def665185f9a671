//! Holes in a stream's numbers.

use farol_protocol::{Timestamp, telemetry::Gap};

/// Joins a range to its neighbour, so that a long outage stays one entry. Not
/// across `border`, where the stream may be cut: each side keeps its own times.
pub(super) fn add(gaps: &mut Vec<Gap>, new: Gap, border: Option<u64>) {
    let at = gaps.partition_point(|gap| gap.first_seq < new.first_seq);
    gaps.insert(at, new);
    let mut joined: Vec<Gap> = Vec::with_capacity(gaps.len());
    for gap in gaps.drain(..) {
        match joined.last_mut() {
            Some(last) if last.last_seq + 1 >= gap.first_seq && border != Some(last.last_seq) => {
                last.last_seq = last.last_seq.max(gap.last_seq);
                last.from = last.from.min(gap.from);
                last.to = last.to.max(gap.to);
            }
            _ => joined.push(gap),
        }
    }
    *gaps = joined;
}

/// Gaps that cover exactly `first` to `last`. Where nothing is remembered about
/// a number, `ts` stands for its time.
pub(super) fn cover(gaps: &[Gap], first: u64, last: u64, ts: Timestamp) -> Vec<Gap> {
    let mut covered = Vec::new();
    let mut next = first;
    for gap in gaps.iter().filter(|gap| gap.last_seq >= first && gap.first_seq <= last) {
        let begin = gap.first_seq.max(first);
        if begin > next {
            covered.push(Gap { first_seq: next, last_seq: begin - 1, from: ts, to: ts });
        }
        let end = gap.last_seq.min(last);
        covered.push(Gap { first_seq: begin, last_seq: end, from: gap.from, to: gap.to });
        next = end + 1;
    }
    if next <= last {
        covered.push(Gap { first_seq: next, last_seq: last, from: ts, to: ts });
    }
    covered
}

/// Cuts the gaps after the number `at`. One that lies on both sides, because it
/// grew while the border was not known, keeps the whole of its times on each.
pub(super) fn split(gaps: &[Gap], at: u64) -> (Vec<Gap>, Vec<Gap>) {
    let below = gaps.iter().filter(|gap| gap.first_seq <= at);
    let above = gaps.iter().filter(|gap| gap.last_seq > at);
    (
        below.map(|gap| Gap { last_seq: gap.last_seq.min(at), ..*gap }).collect(),
        above.map(|gap| Gap { first_seq: gap.first_seq.max(at + 1), ..*gap }).collect(),
    )
}

/// The same gap under the numbers of another stream.
pub(super) const fn renumber(gap: Gap, from: u64, to: u64) -> Gap {
    Gap { first_seq: gap.first_seq - from + to, last_seq: gap.last_seq - from + to, ..gap }
}
