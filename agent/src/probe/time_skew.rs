//! The local clock against its time source, as the program that keeps it says:
//! chrony by its own client, else systemd over D-Bus.

use farol_protocol::Status;
pub(super) use farol_protocol::report::TimeSkewProbe;
use tokio::time::timeout;
use zbus::{Connection, OwnedVariant};

use super::{Probing, Seen, program, text::Text};
use crate::{exec::resolve, text::cut};

pub(super) async fn run(probing: Probing, probe: &TimeSkewProbe) -> Seen {
    if resolve("chronyc").is_some() {
        match program::run(probing, "chronyc", &["-n", "-c", "tracking"]).await {
            Ok(output) if output.succeeded() => {
                return match tracking(&output.stdout) {
                    Some(clock) => judge(probing, probe, "chrony", clock),
                    None => {
                        let why = output.complaint();
                        probing.unknown(Text::ProgramOdd, &[("program", "chronyc"), ("why", &why)])
                    }
                };
            }
            // It is installed and does not run: another may keep the clock.
            Ok(_) => {}
            Err(seen) => return *seen,
        }
    }
    match timeout(probing.limit, by_systemd()).await {
        Ok(Ok(clock)) => judge(probing, probe, "systemd", clock),
        Ok(Err(error)) => {
            tracing::debug!("no time from systemd: {error}");
            probing.not_configured(Text::TimeNone, &[("why", &cut(&error.to_string(), 150))])
        }
        Err(_) => probing.unknown(Text::TimeLimit, &[("seconds", &probing.seconds())]),
    }
}

/// What keeps the clock says of it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Clock {
    synchronised: bool,
    /// In seconds; positive where the local clock is ahead.
    offset: Option<f64>,
}

/// One line of `chronyc -c tracking`.
fn tracking(text: &str) -> Option<Clock> {
    let columns: Vec<&str> = text.trim().split(',').collect();
    // Reference, name, stratum, time, offset of the system's clock, …, leap.
    let [_, _, stratum, _, offset, .., leap] = columns.as_slice() else { return None };
    let offset: f64 = offset.parse().ok().filter(|offset: &f64| offset.is_finite())?;
    let stratum: u32 = stratum.parse().ok()?;
    let synchronised = stratum > 0 && *leap != "Not synchronised";
    Some(Clock { synchronised, offset: synchronised.then_some(offset) })
}

async fn by_systemd() -> zbus::Result<Clock> {
    let bus = Connection::system().await?;
    let get = async |service: &str, path: &str, interface: &str, name: &str| {
        let body = (interface, name);
        let properties = Some("org.freedesktop.DBus.Properties");
        let answer = bus.call_method(Some(service), path, properties, "Get", &body).await?;
        answer.body().deserialize::<OwnedVariant>()
    };
    let timedate = "org.freedesktop.timedate1";
    let synchronised = get(timedate, "/org/freedesktop/timedate1", timedate, "NTPSynchronized").await?;
    let synchronised = bool::try_from(&*synchronised)?;
    // Only its own client tells by how much; another leaves the offset open.
    let message = get(
        "org.freedesktop.timesync1",
        "/org/freedesktop/timesync1",
        "org.freedesktop.timesync1.Manager",
        "NTPMessage",
    );
    let offset = if synchronised { message.await.ok().and_then(|message| ntp_offset(&message)) } else { None };
    Ok(Clock { synchronised, offset })
}

/// From the four times of the last exchange, in µs, which begin at the ninth
/// field of `NTPMessage`: origin, receipt, transmission, destination.
fn ntp_offset(message: &OwnedVariant) -> Option<f64> {
    let zbus::Variant::Structure(structure) = &**message else { return None };
    let times: Vec<u64> = structure.fields().get(8..12)?.iter().filter_map(|field| u64::try_from(field).ok()).collect();
    offset_of(times.as_slice().try_into().ok()?)
}

#[expect(clippy::cast_precision_loss, reason = "an offset is no finer than that")]
fn offset_of([origin, receipt, transmission, destination]: [u64; 4]) -> Option<f64> {
    if [origin, receipt, transmission, destination].contains(&0) {
        return None;
    }
    let there = i128::from(receipt) - i128::from(origin) + i128::from(transmission) - i128::from(destination);
    // The other side is ahead by that much, so this clock is behind.
    Some(-(there as f64) / 2e6)
}

fn judge(probing: Probing, probe: &TimeSkewProbe, by: &str, clock: Clock) -> Seen {
    if !clock.synchronised {
        return probing.without_value(Status::Warning, Text::TimeUnsynchronised, &[("by", by)]);
    }
    let Some(offset) = clock.offset else {
        return probing.without_value(Status::Ok, Text::TimeSynchronised, &[("by", by)]);
    };
    let rounded = (offset.abs() * 1e6).round() / 1e6;
    let ms = probing.number((offset * 1e5).round() / 100.0);
    probing.judged(&probe.limits, rounded, "s", [Text::TimeOk, Text::TimeOver], &[("by", by), ("ms", &ms)])
}

#[cfg(test)]
mod tests {
    use farol_protocol::report::Limits;

    use super::{super::tests::probing, *};

    #[test]
    fn chronys_line_is_read_and_a_malformed_one_is_nothing() {
        let line = "C0248F97,192.36.143.151,2,1700000000.123456789,-0.000012345,0.000001,0.00002,-12.5,0.001,0.05,0.02,0.001,64.5,Normal\n";
        assert_eq!(tracking(line), Some(Clock { synchronised: true, offset: Some(-0.000_012_345) }));
        let lost = "00000000,,0,0.000000000,0.000000000,0,0,0,0,0,1,1,0,Not synchronised";
        assert_eq!(tracking(lost), Some(Clock { synchronised: false, offset: None }));
        for text in ["", "506 Cannot talk to daemon", "a,b,c,d,e,f", "x,y,2,t,nan,Normal"] {
            assert_eq!(tracking(text), None, "{text:?}");
        }
    }

    #[test]
    fn four_times_give_the_offset() {
        // Sent at 1 s, received by the other at 3.1 s, answered at 3.2 s, here at 1.3 s.
        let offset = offset_of([1_000_000, 3_100_000, 3_200_000, 1_300_000]).expect("whole");
        assert!((offset + 2.0).abs() < 1e-9, "{offset}");
        assert_eq!(offset_of([1, 0, 2, 3]), None);
    }

    #[test]
    fn a_clock_that_nothing_keeps_is_a_warning_and_an_unknown_offset_is_no_zero() {
        let limits = Limits { warning: Some(0.5), critical: Some(5.0), ..Limits::default() };
        let look = |synchronised, offset| {
            judge(probing(), &TimeSkewProbe { limits }, "chrony", Clock { synchronised, offset })
        };
        for (clock, status, value) in [
            (look(false, Some(0.0)), Status::Warning, None),
            (look(true, None), Status::Ok, None),
            (look(true, Some(-0.7)), Status::Warning, Some(0.7)),
            (look(true, Some(9.0)), Status::Critical, Some(9.0)),
            (look(true, Some(0.001)), Status::Ok, Some(0.001)),
        ] {
            assert_eq!((clock.status, clock.value, clock.cause), (status, value, None), "{}", clock.text);
        }
    }

    #[tokio::test]
    async fn a_host_says_something_and_never_that_an_unseen_clock_is_right() {
        let seen = run(probing(), &TimeSkewProbe { limits: Limits::default() }).await;
        assert!(seen.status != Status::Critical && !seen.text.is_empty(), "{}", seen.text);
    }
}
