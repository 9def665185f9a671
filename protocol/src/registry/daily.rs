//! When A0 sums up the day.

use serde::Deserialize;

use crate::yaml::{Location, Mistake, Spanned};

/// When A0 sums up the day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daily {
    /// Minute of the day by the zone's clock, 0 to 1439; absent: never.
    pub minute: Option<u16>,
    /// IANA name of a time zone, as it is written: only its form was looked
    /// at. Absent: the zone whose clock the operators' texts show.
    pub timezone: Option<String>,
}

impl Default for Daily {
    fn default() -> Self {
        Self { minute: Some(7 * 60), timezone: None }
    }
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(super) struct DailyDoc {
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    at: Spanned<String>,
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    timezone: Option<Spanned<String>>,
}

impl Default for DailyDoc {
    fn default() -> Self {
        Self { at: Spanned::new("07:00".to_owned(), Location::UNKNOWN, Location::UNKNOWN), timezone: None }
    }
}

impl DailyDoc {
    pub(super) fn resolve(self) -> Result<Daily, Mistake> {
        let timezone = self.timezone.map(zone).transpose()?;
        let minute = if self.at.value == "never" { None } else { Some(minute(&self.at)?) };
        Ok(Daily { minute, timezone })
    }
}

fn minute(at: &Spanned<String>) -> Result<u16, Mistake> {
    let two = |text: &str, below: u16| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|number| digits && *number < below)
    };
    let read = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        Some(two(hour, 24)? * 60 + two(minute, 60)?)
    };
    read(&at.value).ok_or_else(|| {
        let given: String = at.value.chars().take(40).collect();
        Mistake::at(at.referenced, format!("`{given}` is no time of the day such as 07:00, nor `never`"))
    })
}

fn zone(name: Spanned<String>) -> Result<String, Mistake> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "/_-+".contains(c);
    if !(1..=64).contains(&name.value.len()) || !name.value.chars().all(fits) {
        return Err(Mistake::at(name.referenced, "this is no IANA time zone such as America/Sao_Paulo"));
    }
    Ok(name.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn daily(section: &str) -> Result<Daily, Mistake> {
        Registry::parse(&format!("version: 1\n{section}"), &|_| None).map(|registry| registry.daily)
    }

    #[test]
    fn the_summary_is_due_at_seven_unless_another_time_or_never_is_written() {
        assert_eq!(daily(""), Ok(Daily { minute: Some(420), timezone: None }));
        let timezone = Some("America/Sao_Paulo".to_owned());
        let written = daily("daily: {at: \"23:59\", timezone: America/Sao_Paulo}\n");
        assert_eq!(written, Ok(Daily { minute: Some(1439), timezone }));
        assert_eq!(daily("daily: {at: never}\n"), Ok(Daily { minute: None, timezone: None }));
    }

    #[test]
    fn what_is_no_time_and_no_zone_is_refused_at_its_place() {
        for (section, says) in [
            ("daily: {at: \"7:00\"}", "such as 07:00"),
            ("daily: {at: \"24:00\"}", "such as 07:00"),
            ("daily: {at: \"07:60\"}", "such as 07:00"),
            ("daily: {at: \"+7:00\"}", "such as 07:00"),
            ("daily: {at: noon}", "such as 07:00"),
            ("daily: {timezone: \"../etc\"}", "America/Sao_Paulo"),
            ("daily: {timezone: \"\"}", "America/Sao_Paulo"),
            ("daily: {hour: 7}", "`hour` is not a known key"),
        ] {
            let mistake = daily(section).expect_err(section);
            assert_eq!(mistake.line, 2, "{section}: {mistake}");
            assert!(mistake.message.contains(says), "{section}: {mistake}");
        }
    }
}
