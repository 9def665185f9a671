//! Updates. What the firewall says about them is the result of its last look
//! for them, and means nothing without the date of it.

use farol_protocol::{Language, Status, Timestamp, system::OpnsenseProbe};
use serde_json::Value;
use time::{Date, Month, PrimitiveDateTime, Time, UtcOffset};

use crate::{
    checks::system::{
        Seen,
        phrase::{Said, above, limits_or, quoted},
    },
    integrations::lenient::{flag, text},
    text::{number, say},
};

pub(super) fn look(language: Language, now: Timestamp, probe: &OpnsenseProbe, body: &Value) -> Seen {
    let word = |key: &str| body.get(key).and_then(text).map(quoted);
    let product = |key: &str| {
        body.get("product").and_then(|product| product.get(key)).or_else(|| body.get(key)).and_then(text).map(quoted)
    };
    let version = product("product_version").map(|version| format!("OPNsense {version}"));
    let version = version.unwrap_or_else(|| "OPNsense".to_owned());
    let mut said = Said::new(language);
    let looked = word("last_check").and_then(|date| looked_at(&date));
    let Some(looked) = looked else {
        said.say(
            Status::Unknown,
            say!(
                language,
                "{version}: nunca procurou atualizações, ou não diz quando: agende a verificação em System > Settings > Cron",
                "{version}: it never looked for updates, or does not say when: schedule the check in System > Settings > Cron"
            ),
        );
        return said.seen();
    };
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since a recent year")]
    let days = (now.since(looked).max(0) as f64 / 86_400_000.0 * 10.0).round() / 10.0;
    let limits = limits_or(&probe.limits, above(Some(8.0), None));
    let old = limits.judge(days) != Status::Ok;
    let ago = number(days, language);
    let age = say!(
        language,
        "{version}, procurou atualizações há {ago} dias",
        "{version}, looked for updates {ago} days ago"
    );
    said.judge(&limits, days, "d", &age);
    let latest = product("product_latest").map(|latest| format!(" ({latest})")).unwrap_or_default();
    match word("status").unwrap_or_default().to_ascii_lowercase().as_str() {
        "none" => {}
        "update" | "upgrade" | "ok" => {
            said.say(Status::Warning, say!(language, "há atualizações{latest}", "there are updates{latest}"));
        }
        "error" => said.say(
            Status::Unknown,
            say!(
                language,
                "a última procura falhou: veja a conexão com o repositório",
                "the last look failed: see the connection to the repository"
            ),
        ),
        other => {
            said.say(Status::Unknown, say!(language, "resultado desconhecido: `{other}`", "unknown result: `{other}`"))
        }
    }
    let needs = |key: &str| body.get(key).and_then(flag).unwrap_or(false);
    if needs("needs_reboot") {
        said.say(Status::Warning, say!(language, "precisa reiniciar", "it needs a restart"));
    } else if old && word("status").as_deref() == Some("none") {
        said.say(Status::Ok, say!(language, "o resultado é velho demais para valer", "the result is too old to count"));
    }
    said.seen()
}

/// Reads what `date` prints: `Thu Nov 20 10:11:12 CET 2026`. A zone that is not
/// known counts as UTC, which is wrong by hours and not by days.
fn looked_at(text: &str) -> Option<Timestamp> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, month, day, clock, zone, year] = *words.as_slice() else { return None };
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = u8::try_from(months.iter().position(|name| *name == month)? + 1).ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, Month::try_from(month).ok()?, day.parse().ok()?).ok()?;
    let mut parts = clock.split(':').map(str::parse::<u8>);
    let mut part = || parts.next()?.ok();
    let time = Time::from_hms(part()?, part()?, part()?).ok()?;
    let at = PrimitiveDateTime::new(date, time).assume_offset(offset(zone));
    Some(Timestamp::from_ms(at.unix_timestamp().checked_mul(1000)?))
}

/// `-03`, `+0530`, or one of the names that are common.
fn offset(zone: &str) -> UtcOffset {
    let hours = |hours: i8, minutes: i8| UtcOffset::from_hms(hours, minutes, 0).unwrap_or(UtcOffset::UTC);
    let sign = match zone.as_bytes().first() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => {
            return match zone {
                "BST" | "CET" | "WEST" => hours(1, 0),
                "CEST" | "EET" => hours(2, 0),
                "EEST" | "MSK" => hours(3, 0),
                "BRT" => hours(-3, 0),
                "EDT" => hours(-4, 0),
                "EST" | "CDT" => hours(-5, 0),
                "CST" | "MDT" => hours(-6, 0),
                "MST" | "PDT" => hours(-7, 0),
                "PST" => hours(-8, 0),
                _ => UtcOffset::UTC,
            };
        }
    };
    let digit = |range: std::ops::Range<usize>| zone.get(range).and_then(|digits| digits.parse::<i8>().ok());
    hours(sign * digit(1..3).unwrap_or(0), sign * digit(3..5).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_as_date_prints_it() {
        let at = |text: &str| looked_at(text).map(|at| at.to_string());
        assert_eq!(at("Thu Nov 20 10:11:12 UTC 2026").as_deref(), Some("2026-11-20T10:11:12.000Z"));
        assert_eq!(at("Thu Nov 20 10:11:12 -03 2026").as_deref(), Some("2026-11-20T13:11:12.000Z"));
        assert_eq!(at("Thu Nov  5 00:30:00 CET 2026").as_deref(), Some("2026-11-04T23:30:00.000Z"));
        for wrong in ["", "unknown", "Thu Nov 31 10:11:12 UTC 2026", "Thu Nov 20 25:11:12 UTC 2026", "a b c d e f"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
