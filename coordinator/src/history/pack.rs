//! Chunks as bytes: whole numbers in columns, each packed by `pco`.
//!
//! A value is rounded to a grain first, which is stored with the chunk; packing
//! what was unpacked gives the same again, so that nothing drifts however often
//! a chunk is packed anew. A column whose numbers are all the same is stored
//! as that one number.

use pco::{
    ChunkConfig,
    standalone::{simple_compress, simple_decompress_into},
};

use super::{Kind, Point};

/// The only format there is so far.
const VERSION: u8 = 1;
/// Most reports in a chunk: one every ten ms.
const MOST_REPORTS: usize = 8_640_000;

/// Why bytes are not a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(&'static str);

impl Unreadable {
    pub(super) const fn new(why: &'static str) -> Self {
        Self(why)
    }
}

/// How finely a value is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// To 12 significant bits: an error of at most one in 4096. Whole numbers up
    /// to 4096 stay exact.
    Relative,
    /// To a part of one: a tenth, a hundredth.
    Part(u32),
    /// To a multiple.
    Multiple(u32),
}

/// Bits of a number's fraction that [`Grain::Relative`] drops.
const DROPPED: u32 = 41;

impl Grain {
    /// Grains by the number in the first bytes of a chunk. Only ever appended to.
    const ALL: [Self; 6] = [
        Self::Relative,
        Self::Part(10),
        Self::Part(100),
        Self::Multiple(1),
        Self::Multiple(1 << 16),
        Self::Multiple(1 << 20),
    ];

    fn code(self) -> u8 {
        let place = Self::ALL.iter().position(|grain| *grain == self).unwrap_or(0);
        u8::try_from(place).unwrap_or(0)
    }

    /// A grain that chunks know, as near to this one as there is.
    fn known(self) -> Self {
        Self::ALL[usize::from(self.code())]
    }

    /// Order is kept.
    #[expect(clippy::cast_possible_truncation, reason = "a cast from floating point saturates")]
    fn whole(self, value: f64) -> i64 {
        match self {
            Self::Relative => {
                let magnitude = (value.abs().to_bits() + (1 << (DROPPED - 1))) >> DROPPED;
                let magnitude = i64::try_from(magnitude).unwrap_or(i64::MAX);
                if value < 0.0 { -magnitude } else { magnitude }
            }
            Self::Part(part) => (value * f64::from(part)).round() as i64,
            Self::Multiple(of) => (value / f64::from(of)).round() as i64,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "what was rounded to so many bits has no more")]
    fn value(self, whole: i64) -> f64 {
        match self {
            Self::Relative => {
                let magnitude = f64::from_bits((whole.unsigned_abs() << DROPPED) & (u64::MAX >> 1));
                if whole < 0 { -magnitude } else { magnitude }
            }
            Self::Part(part) => whole as f64 / f64::from(part),
            Self::Multiple(of) => whole as f64 * f64::from(of),
        }
    }
}

/// A report's place in a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// When it was observed, in ms.
    pub at: i64,
    /// Its row.
    pub id: i64,
    /// What it said, as [`super::roll::status_code`] writes it.
    pub status: u8,
}

/// Packs points, whose slots rise.
///
/// # Errors
/// The packer failed, which it does for no numbers at all.
pub fn points(points: &[(u32, Point)], grain: Grain) -> Result<Vec<u8>, Unreadable> {
    let grain = grain.known();
    let mut out = vec![VERSION, grain.code()];
    let count = u32::try_from(points.len()).map_err(|_| Unreadable("more points than a chunk has"))?;
    out.extend(count.to_le_bytes());
    out.extend(points.first().map_or(0, |(slot, _)| *slot).to_le_bytes());
    let steps: Vec<i64> = points.windows(2).map(|pair| i64::from(pair[1].0) - i64::from(pair[0].0)).collect();
    let counts: Vec<i64> = points.iter().map(|(_, point)| i64::try_from(point.count).unwrap_or(i64::MAX)).collect();
    let whole =
        |of: fn(&Point) -> f64| -> Vec<i64> { points.iter().map(|(_, point)| grain.whole(of(point))).collect() };
    let means = whole(|point| point.mean);
    // Wrapping: whatever the numbers are, adding brings them back.
    let below: Vec<i64> =
        means.iter().zip(whole(|point| point.min)).map(|(mean, min)| mean.wrapping_sub(min)).collect();
    let above: Vec<i64> =
        means.iter().zip(whole(|point| point.max)).map(|(mean, max)| max.wrapping_sub(*mean)).collect();
    for numbers in [steps, counts, means, below, above] {
        column(&mut out, &numbers)?;
    }
    Ok(out)
}

/// Unpacks what [`points`] made, with the grain they have.
///
/// # Errors
/// The bytes are not a chunk of that kind.
pub fn read_points(bytes: &[u8], kind: Kind) -> Result<(Vec<(u32, Point)>, Grain), Unreadable> {
    let mut rest = Reader(bytes);
    if rest.take::<1>()? != [VERSION] {
        return Err(Unreadable("a chunk has a version that this program does not know"));
    }
    let [grain] = rest.take::<1>()?;
    let grain = *Grain::ALL.get(usize::from(grain)).ok_or(Unreadable("a chunk has an unknown grain"))?;
    let count = usize::try_from(u32::from_le_bytes(rest.take()?)).unwrap_or(usize::MAX);
    let mut slot = i64::from(u32::from_le_bytes(rest.take()?));
    if i64::try_from(count).unwrap_or(i64::MAX) > kind.slots() {
        return Err(Unreadable("a chunk has more points than fit into its time"));
    }
    let steps = rest.column(count.saturating_sub(1))?;
    let counts = rest.column(count)?;
    let means = rest.column(count)?;
    let below = rest.column(count)?;
    let above = rest.column(count)?;
    rest.end()?;
    let mut points = Vec::with_capacity(count);
    for place in 0..count {
        if place > 0 {
            let step = steps[place - 1];
            slot = slot.checked_add(step).filter(|_| step > 0).ok_or(Unreadable("slots of a chunk do not rise"))?;
        }
        let place_in_time = u32::try_from(slot).ok().filter(|_| slot < kind.slots());
        points.push((
            place_in_time.ok_or(Unreadable("a chunk has a point outside its time"))?,
            Point {
                count: u64::try_from(counts[place]).map_err(|_| Unreadable("a chunk has a negative count"))?,
                min: grain.value(means[place].wrapping_sub(below[place])),
                mean: grain.value(means[place]),
                max: grain.value(means[place].wrapping_add(above[place])),
            },
        ));
    }
    Ok((points, grain))
}

/// Packs reports of the day that begins at `from`.
///
/// # Errors
/// The packer failed, or there are more than a day has room for.
pub fn reports(seen: &[Seen], from: i64) -> Result<Vec<u8>, Unreadable> {
    let count = Some(seen.len()).filter(|count| *count <= MOST_REPORTS).and_then(|count| u32::try_from(count).ok());
    let mut out = vec![VERSION, 0];
    out.extend(count.ok_or(Unreadable("more reports than a day has room for"))?.to_le_bytes());
    column(&mut out, &seen.iter().map(|seen| seen.at - from).collect::<Vec<_>>())?;
    column(&mut out, &seen.iter().map(|seen| seen.id).collect::<Vec<_>>())?;
    column(&mut out, &seen.iter().map(|seen| i64::from(seen.status)).collect::<Vec<_>>())?;
    Ok(out)
}

/// Unpacks what [`reports`] made.
///
/// # Errors
/// The bytes are not a chunk of reports.
pub fn read_reports(bytes: &[u8], from: i64) -> Result<Vec<Seen>, Unreadable> {
    let mut rest = Reader(bytes);
    if rest.take::<2>()? != [VERSION, 0] {
        return Err(Unreadable("a chunk of reports has a version that this program does not know"));
    }
    let count = usize::try_from(u32::from_le_bytes(rest.take()?)).unwrap_or(usize::MAX);
    if count > MOST_REPORTS {
        return Err(Unreadable("a chunk has more reports than a day has room for"));
    }
    let (times, ids, statuses) = (rest.column(count)?, rest.column(count)?, rest.column(count)?);
    rest.end()?;
    let rows = times.into_iter().zip(ids).zip(statuses);
    rows.map(|((at, id), status)| {
        let status = u8::try_from(status).map_err(|_| Unreadable("a chunk has an unknown status"))?;
        Ok(Seen { at: from.wrapping_add(at), id, status })
    })
    .collect()
}

const SAME: u8 = 0;
const PACKED: u8 = 1;

fn column(out: &mut Vec<u8>, numbers: &[i64]) -> Result<(), Unreadable> {
    let first = numbers.first().copied().unwrap_or(0);
    if numbers.iter().all(|number| *number == first) {
        out.push(SAME);
        out.extend(first.to_le_bytes());
        return Ok(());
    }
    let packed =
        simple_compress(numbers, &ChunkConfig::default()).map_err(|_| Unreadable("a chunk cannot be packed"))?;
    out.push(PACKED);
    out.extend(u32::try_from(packed.len()).map_err(|_| Unreadable("a chunk is too large"))?.to_le_bytes());
    out.extend(packed);
    Ok(())
}

/// What is left of a chunk.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Unreadable("a chunk is cut short"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Unreadable("a chunk is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn column(&mut self, count: usize) -> Result<Vec<i64>, Unreadable> {
        match self.take::<1>()? {
            [SAME] => Ok(vec![i64::from_le_bytes(self.take()?); count]),
            [PACKED] => {
                let length = usize::try_from(u32::from_le_bytes(self.take()?)).unwrap_or(usize::MAX);
                let mut numbers = vec![0; count];
                let progress = simple_decompress_into(self.bytes(length)?, &mut numbers);
                match progress {
                    Ok(progress) if progress.finished && progress.n_processed == count => Ok(numbers),
                    _ => Err(Unreadable("a column of a chunk cannot be unpacked")),
                }
            }
            _ => Err(Unreadable("a column of a chunk has an unknown form")),
        }
    }

    const fn end(&self) -> Result<(), Unreadable> {
        if self.0.is_empty() { Ok(()) } else { Err(Unreadable("a chunk is longer than it says")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(value: f64) -> Point {
        Point::of(value).expect("a number")
    }

    fn random_points(random: &mut fastrand::Rng, kind: Kind) -> Vec<(u32, Point)> {
        let density = random.f64();
        let scale = 10f64.powi(random.i32(-6..14));
        let slots = u32::try_from(kind.slots()).expect("few");
        (0..slots)
            .filter(|_| random.f64() < density)
            .collect::<Vec<_>>()
            .into_iter()
            .map(|slot| {
                let mut all = point((random.f64() - 0.3) * scale);
                for _ in 0..random.u8(0..7) {
                    all.merge(&point((random.f64() - 0.3) * scale));
                }
                (slot, all)
            })
            .collect()
    }

    #[test]
    fn whatever_is_packed_comes_back_within_its_grain_and_stays_as_it_is_then() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let kind = if random.bool() { Kind::Minutes } else { Kind::Hours };
            let grain = Grain::ALL[random.usize(0..Grain::ALL.len())];
            let given = random_points(&mut random, kind);
            let bytes = points(&given, grain).expect("packed");
            let (back, of) = read_points(&bytes, kind).expect("readable");
            assert_eq!((of, back.len()), (grain, given.len()), "seed {seed}");
            for ((slot, before), (same, after)) in given.iter().zip(&back) {
                assert_eq!((slot, before.count), (same, after.count), "seed {seed}");
                assert!(after.min <= after.mean && after.mean <= after.max, "seed {seed}: {after:?}");
                for (before, after) in [(before.min, after.min), (before.mean, after.mean), (before.max, after.max)] {
                    let allowed = match grain {
                        Grain::Relative => before.abs() / 4096.0,
                        Grain::Part(part) => 0.500_001 / f64::from(part),
                        Grain::Multiple(of) => 0.500_001 * f64::from(of),
                    };
                    // Numbers of 1e14 have fewer digits after the point than a grain.
                    let allowed = allowed + before.abs() * 1e-12;
                    assert!((before - after).abs() <= allowed, "seed {seed}: {before} became {after}, {grain:?}");
                }
            }
            assert_eq!(points(&back, grain).expect("packed"), bytes, "seed {seed}: packing again changes it");
        }
    }

    #[test]
    fn bytes_that_are_no_chunk_are_refused_and_never_panic() {
        let given: Vec<(u32, Point)> = (0..1440).map(|slot| (slot, point(f64::from(slot % 97) * 0.7))).collect();
        let bytes = points(&given, Grain::Part(100)).expect("packed");
        assert!(read_points(&bytes[..bytes.len() - 1], Kind::Minutes).is_err());
        assert!(read_points(&[bytes.as_slice(), &[0]].concat(), Kind::Minutes).is_err());
        assert!(read_points(&bytes, Kind::Hours).is_err(), "a day of minutes is no month of hours");
        assert!(read_points(&[], Kind::Minutes).is_err());
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2000 {
            let mut wrong = bytes.clone();
            for _ in 0..random.usize(1..4) {
                let place = random.usize(0..wrong.len());
                wrong[place] = random.u8(..);
            }
            // Some changes make another value, which nobody can know.
            let _either = read_points(&wrong, Kind::Minutes);
            let _either = read_reports(&wrong, 0);
        }
    }

    #[test]
    fn absurd_values_are_packed_without_a_panic() {
        for grain in Grain::ALL {
            let given = [(0, point(-1e100)), (1, point(1e100)), (2, point(0.0)), (7, point(-0.0))];
            let bytes = points(&given, grain).expect("packed");
            assert_eq!(read_points(&bytes, Kind::Minutes).expect("readable").0.len(), 4);
        }
        let none = points(&[], Grain::Relative).expect("packed");
        assert_eq!(read_points(&none, Kind::Minutes).expect("readable").0, []);
    }

    #[test]
    fn whole_numbers_up_to_4096_and_tenths_stay_what_they_are() {
        for count in 0..=4096 {
            let value = f64::from(count);
            assert_eq!(Grain::Relative.value(Grain::Relative.whole(value)), value);
            assert_eq!(Grain::Relative.value(Grain::Relative.whole(-value)), -value);
            assert_eq!(Grain::Part(10).value(Grain::Part(10).whole(value / 10.0)), value / 10.0);
        }
    }

    #[test]
    fn reports_come_back_exactly() {
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let from = 20_000 * super::super::DAY;
            let (mut at, mut id) = (from, random.i64(0..1 << 40));
            let given: Vec<Seen> = (0..random.usize(0..1500))
                .map(|_| {
                    at += random.i64(0..60_000);
                    id += random.i64(1..5_000);
                    Seen { at, id, status: random.u8(0..4) }
                })
                .collect();
            let bytes = reports(&given, from).expect("packed");
            assert_eq!(read_reports(&bytes, from).expect("readable"), given, "seed {seed}");
        }
    }

    #[test]
    fn a_day_of_one_value_takes_almost_nothing_and_a_noisy_one_few_bytes_a_point() {
        let calm: Vec<(u32, Point)> = (0..1440).map(|slot| (slot, point(41.5))).collect();
        assert!(points(&calm, Grain::Part(10)).expect("packed").len() < 64);
        let mut random = fastrand::Rng::with_seed(1);
        let noisy: Vec<(u32, Point)> = (0..1440)
            .map(|slot| {
                let mut all = point(20.0 + 10.0 * random.f64());
                for _ in 0..5 {
                    all.merge(&point(20.0 + 10.0 * random.f64()));
                }
                (slot, all)
            })
            .collect();
        let bytes = points(&noisy, Grain::Part(10)).expect("packed").len();
        assert!(bytes < 1440 * 3, "{bytes} bytes for 1440 points");
    }
}
