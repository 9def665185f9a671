//! From values to the points of a minute, and from those to chunks.

use std::collections::BTreeMap;

use farol_protocol::Status;

use super::{
    Kind, Point, floor,
    pack::{Seen, Unreadable},
};

/// A metric or a check of a host, in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey(pub u32);

/// What a host showed within one minute and is not in chunks yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Minute {
    /// Values.
    pub points: BTreeMap<SeriesKey, Point>,
    /// Reports.
    pub reports: Vec<(SeriesKey, Seen)>,
}

const VERSION: u8 = 1;
const POINT_BYTES: usize = 4 + 8 + 3 * 8;
const REPORT_BYTES: usize = 4 + 8 + 8 + 1;

impl Minute {
    /// Adds a value.
    pub fn add(&mut self, series: SeriesKey, point: &Point) {
        self.points.entry(series).and_modify(|known| known.merge(point)).or_insert(*point);
    }

    /// Adds all of another part of the same minute.
    pub fn merge(&mut self, other: &Self) {
        for (series, point) in &other.points {
            self.add(*series, point);
        }
        self.reports.extend(&other.reports);
    }

    /// As the store keeps it: points, then reports.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let mut points = Vec::with_capacity(1 + self.points.len() * POINT_BYTES);
        points.push(VERSION);
        for (series, point) in &self.points {
            points.extend(series.0.to_le_bytes());
            points.extend(point.count.to_le_bytes());
            for value in [point.min, point.mean, point.max] {
                points.extend(value.to_le_bytes());
            }
        }
        let mut reports = Vec::with_capacity(1 + self.reports.len() * REPORT_BYTES);
        reports.push(VERSION);
        for (series, seen) in &self.reports {
            reports.extend(series.0.to_le_bytes());
            reports.extend(seen.at.to_le_bytes());
            reports.extend(seen.id.to_le_bytes());
            reports.push(seen.status);
        }
        (points, reports)
    }

    /// Reads what [`Minute::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are something else.
    pub fn decode(points: &[u8], reports: &[u8]) -> Result<Self, Unreadable> {
        Ok(Self { points: read_points(points)?.collect(), reports: read_reports(reports)?.collect() })
    }
}

/// The points of a minute as it is stored.
///
/// # Errors
/// The bytes are something else.
pub fn read_points(bytes: &[u8]) -> Result<impl Iterator<Item = (SeriesKey, Point)> + '_, Unreadable> {
    let point = |row: &[u8; POINT_BYTES]| {
        let value = |place: usize| f64::from_le_bytes(part(row, 12 + 8 * place));
        let count = u64::from_le_bytes(part(row, 4));
        (key(row), Point { count, min: value(0), mean: value(1), max: value(2) })
    };
    let rows = rows::<POINT_BYTES>(bytes)?;
    if !rows.iter().map(point).all(|(_, point)| point.count > 0 && point.min <= point.mean && point.mean <= point.max) {
        return Err(Unreadable::new("a minute has a point that nothing can have measured"));
    }
    Ok(rows.iter().map(point))
}

/// The reports of a minute as they are stored.
///
/// # Errors
/// The bytes are something else.
pub fn read_reports(bytes: &[u8]) -> Result<impl Iterator<Item = (SeriesKey, Seen)> + '_, Unreadable> {
    let seen = |row: &[u8; REPORT_BYTES]| {
        let whole = |place| i64::from_le_bytes(part(row, place));
        (key(row), Seen { at: whole(4), id: whole(12), status: row[20] })
    };
    let rows = rows::<REPORT_BYTES>(bytes)?;
    if !rows.iter().map(seen).all(|(_, seen)| (0..i64::MAX / 2).contains(&seen.at)) {
        return Err(Unreadable::new("a minute has a report of no time"));
    }
    Ok(rows.iter().map(seen))
}

fn rows<const N: usize>(bytes: &[u8]) -> Result<&[[u8; N]], Unreadable> {
    let [VERSION, rest @ ..] = bytes else {
        return Err(Unreadable::new("a minute has a version that this program does not know"));
    };
    match rest.as_chunks::<N>() {
        (rows, []) => Ok(rows),
        _ => Err(Unreadable::new("a minute is cut short")),
    }
}

fn key(row: &[u8]) -> SeriesKey {
    SeriesKey(u32::from_le_bytes(part(row, 0)))
}

/// Rows have a fixed length, so the part is always there.
fn part<const N: usize>(row: &[u8], from: usize) -> [u8; N] {
    row.get(from..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// What minutes add to one chunk.
#[derive(Debug, Clone, PartialEq)]
pub enum Addition {
    /// Points by their slots.
    Points(BTreeMap<u32, Point>),
    /// Reports.
    Reports(Vec<Seen>),
}

/// A chunk: whose, of which kind, from when on in ms.
pub type ChunkKey = (SeriesKey, Kind, i64);

/// What minutes add to which chunks. Minutes before `minutes_from` are too old
/// to be kept as such and count for their hours only.
#[must_use]
pub fn additions(minutes: &[(i64, Minute)], minutes_from: i64) -> BTreeMap<ChunkKey, Addition> {
    let mut all: BTreeMap<ChunkKey, Addition> = BTreeMap::new();
    for (at, minute) in minutes {
        let kinds: &[Kind] = if *at < minutes_from { &[Kind::Hours] } else { &[Kind::Minutes, Kind::Hours] };
        for (series, point) in &minute.points {
            for kind in kinds {
                let from = floor(*at, kind.chunk());
                let slot = u32::try_from((at - from) / kind.point()).unwrap_or(0);
                let chunk = all.entry((*series, *kind, from)).or_insert_with(|| Addition::Points(BTreeMap::new()));
                if let Addition::Points(points) = chunk {
                    points.entry(slot).and_modify(|known| known.merge(point)).or_insert(*point);
                }
            }
        }
        if *at < minutes_from {
            continue;
        }
        for (series, seen) in &minute.reports {
            let key = (*series, Kind::Reports, floor(seen.at, Kind::Reports.chunk()));
            if let Addition::Reports(list) = all.entry(key).or_insert_with(|| Addition::Reports(Vec::new())) {
                list.push(*seen);
            }
        }
    }
    all
}

/// The number of a status in the store.
#[must_use]
pub const fn status_code(status: Status) -> u8 {
    match status {
        Status::Ok => 0,
        Status::Warning => 1,
        Status::Critical => 2,
        Status::Unknown => 3,
    }
}

/// The status of a number; what is none is unknown.
#[must_use]
pub const fn status(code: u8) -> Status {
    match code {
        0 => Status::Ok,
        1 => Status::Warning,
        2 => Status::Critical,
        _ => Status::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{DAY, HOUR, MINUTE},
        *,
    };

    fn point(value: f64) -> Point {
        Point::of(value).expect("a number")
    }

    #[test]
    fn a_minute_comes_back_as_it_was() {
        let mut minute = Minute::default();
        minute.add(SeriesKey(7), &point(0.1));
        minute.add(SeriesKey(7), &point(0.3));
        minute.add(SeriesKey(9), &point(-5.0));
        minute.reports.push((SeriesKey(9), Seen { at: 1_700_000_000_123, id: 5, status: 2 }));
        let (points, reports) = minute.encode();
        assert_eq!(Minute::decode(&points, &reports).expect("readable"), minute);
        assert!(Minute::decode(&points[..points.len() - 1], &reports).is_err());
        assert!(Minute::decode(&points, &[]).is_err());
        assert!(Minute::decode(&[9], &reports).is_err());
        let filled = |bytes: &[u8]| [&bytes[..1], &vec![0xff; bytes.len() - 1]].concat();
        assert!(Minute::decode(&filled(&points), &reports).is_err(), "as long as it should be, and nothing that was");
        assert!(Minute::decode(&points, &filled(&reports)).is_err());
    }

    #[test]
    fn a_minute_adds_to_its_day_and_to_its_hour_and_an_old_one_to_its_hour_only() {
        let at = 40 * DAY + 5 * HOUR + 3 * MINUTE;
        let mut minute = Minute::default();
        minute.add(SeriesKey(1), &point(4.0));
        minute.reports.push((SeriesKey(1), Seen { at, id: 1, status: 0 }));
        let all = additions(&[(at, minute.clone()), (at + MINUTE, minute.clone())], 0);
        let keys: Vec<ChunkKey> = all.keys().copied().collect();
        assert_eq!(
            keys,
            [
                (SeriesKey(1), Kind::Minutes, 40 * DAY),
                (SeriesKey(1), Kind::Hours, 30 * DAY),
                (SeriesKey(1), Kind::Reports, 40 * DAY),
            ]
        );
        let Addition::Points(minutes) = &all[&keys[0]] else { panic!("points") };
        assert_eq!(minutes.keys().copied().collect::<Vec<_>>(), [303, 304]);
        let Addition::Points(hours) = &all[&keys[1]] else { panic!("points") };
        assert_eq!((hours.len(), hours[&245].count), (1, 2));

        let old = additions(&[(at, minute)], at + 1);
        assert_eq!(old.keys().copied().collect::<Vec<_>>(), [(SeriesKey(1), Kind::Hours, 30 * DAY)]);
    }
}
