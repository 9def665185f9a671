//! What is said about silences, maintenance and backups.

use farol_protocol::{Language, Timestamp};
use jiff::civil::Weekday;

use super::words::{clock, commented, duration, quote};
use crate::quiet::{
    Window,
    rule::{Every, Rule},
};

/// Why nobody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuietReason<'a> {
    /// A person said so.
    Silence {
        /// Who.
        by: &'a str,
        /// Until when.
        until: Timestamp,
        /// Why.
        comment: &'a str,
    },
    /// Work that was planned.
    Maintenance {
        /// Its name.
        name: &'a str,
        /// Until when.
        until: Timestamp,
    },
    /// A hypervisor saves the host.
    Backup {
        /// Host.
        host: &'a str,
        /// Its number there.
        vmid: u32,
        /// Node that saves it.
        node: &'a str,
        /// Since when.
        since: Timestamp,
    },
}

impl QuietReason<'_> {
    /// In the words of a language.
    #[must_use]
    pub fn in_words(self, language: Language) -> String {
        match self {
            Self::Silence { by, until, comment } => {
                let (by, until) = (quote(by), clock(until, language));
                let comment = commented(Some(comment));
                say!(language, "Silenciado por {by} até {until}{comment}", "Silenced by {by} until {until}{comment}")
            }
            Self::Maintenance { name, until } => {
                let (name, until) = (quote(name), clock(until, language));
                say!(language, "Em manutenção até {until}: {name}", "In maintenance until {until}: {name}")
            }
            Self::Backup { host, vmid, node, since } => {
                let (host, node, since) = (quote(host), quote(node), clock(since, language));
                say!(
                    language,
                    "Backup de {host} (VM {vmid}) em andamento em {node} desde {since}",
                    "Backup of {host} (VM {vmid}) running on {node} since {since}"
                )
            }
        }
    }
}

/// When a window is in force: `toda semana: dom, às 02:00 por 2 h (America/Sao_Paulo)`.
#[must_use]
pub fn window(window: &Window, language: Language) -> String {
    let (date, time, zone) = (window.date(), window.time(), window.zone());
    let lasts = duration(i64::try_from(window.duration().as_millis()).unwrap_or(i64::MAX));
    let Some(rule) = window.rule() else {
        let day = match language {
            Language::PtBr => date.strftime("%d/%m/%Y"),
            Language::En => date.strftime("%Y-%m-%d"),
        };
        return say!(language, "{day} às {time} por {lasts} ({zone})", "{day} at {time} for {lasts} ({zone})");
    };
    let again = repeat(rule, date.weekday(), date.day(), language);
    say!(language, "{again}, às {time} por {lasts} ({zone})", "{again}, at {time} for {lasts} ({zone})")
}

fn repeat(rule: &Rule, weekday: Weekday, month_day: i8, language: Language) -> String {
    let n = rule.interval;
    let every = match (rule.every, n) {
        (Every::Day, 1) => say!(language, "todo dia", "every day"),
        (Every::Day, _) => say!(language, "a cada {n} dias", "every {n} days"),
        (Every::Week, 1) => say!(language, "toda semana", "every week"),
        (Every::Week, _) => say!(language, "a cada {n} semanas", "every {n} weeks"),
        (Every::Month, 1) => say!(language, "todo mês", "every month"),
        (Every::Month, _) => say!(language, "a cada {n} meses", "every {n} months"),
    };
    let mut days: Vec<String> = rule.by_day.iter().map(|(nth, day)| nth_day(*nth, *day, language)).collect();
    let mut of_month: Vec<String> = rule.by_month_day.iter().map(|day| day_of_month(*day, language)).collect();
    if days.is_empty() && of_month.is_empty() {
        match rule.every {
            Every::Day => {}
            Every::Week => days.push(nth_day(0, weekday, language)),
            Every::Month => of_month.push(day_of_month(month_day, language)),
        }
    }
    // Both at once: only the days that are both.
    let all: Vec<String> = [days, of_month].into_iter().filter(|list| !list.is_empty()).map(|l| l.join(", ")).collect();
    let all = all.join(&say!(language, " se for ", " if it is "));
    let ends = match (rule.count, rule.ends()) {
        (Some(times), _) => say!(language, ", {times} vezes", ", {times} times"),
        (None, Some(date)) => say!(language, ", até {date}", ", until {date}"),
        (None, None) => String::new(),
    };
    if all.is_empty() { format!("{every}{ends}") } else { format!("{every}: {all}{ends}") }
}

fn day_of_month(day: i8, language: Language) -> String {
    match day {
        -1 => say!(language, "último dia", "last day"),
        1.. => say!(language, "dia {day}", "day {day}"),
        _ => {
            let from_end = -day;
            say!(language, "{from_end}º dia do fim", "day {from_end} from the end")
        }
    }
}

fn nth_day(nth: i8, day: Weekday, language: Language) -> String {
    let (pt, en) = match day {
        Weekday::Monday => ("seg", "Mon"),
        Weekday::Tuesday => ("ter", "Tue"),
        Weekday::Wednesday => ("qua", "Wed"),
        Weekday::Thursday => ("qui", "Thu"),
        Weekday::Friday => ("sex", "Fri"),
        Weekday::Saturday => ("sáb", "Sat"),
        Weekday::Sunday => ("dom", "Sun"),
    };
    match nth {
        0 => say!(language, "{pt}", "{en}"),
        -1 => say!(language, "último {pt}", "last {en}"),
        1.. => say!(language, "{nth}º {pt}", "{en} no. {nth}"),
        _ => {
            let from_end = -nth;
            say!(language, "{from_end}º {pt} do fim", "{en} no. {from_end} from the end")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn said(start: &str, rule: Option<&str>) -> [String; 2] {
        let made = Window::parse(start, "America/Sao_Paulo", Duration::from_secs(5400), rule).expect("a window");
        [Language::PtBr, Language::En].map(|language| window(&made, language))
    }

    #[test]
    fn a_window_is_said_in_both_languages() {
        let zone = "1 h 30 min (America/Sao_Paulo)";
        for (rule, pt, en) in [
            (None, "22/11/2026 às 02:00", "2026-11-22 at 02:00"),
            (Some("FREQ=DAILY"), "todo dia, às 02:00", "every day, at 02:00"),
            (Some("FREQ=WEEKLY"), "toda semana: dom, às 02:00", "every week: Sun, at 02:00"),
            (
                Some("FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,WE"),
                "a cada 2 semanas: dom, qua, às 02:00",
                "every 2 weeks: Sun, Wed, at 02:00",
            ),
            (Some("FREQ=MONTHLY"), "todo mês: dia 22, às 02:00", "every month: day 22, at 02:00"),
            (
                Some("FREQ=MONTHLY;BYDAY=2TU,-1FR"),
                "todo mês: 2º ter, último sex, às 02:00",
                "every month: Tue no. 2, last Fri, at 02:00",
            ),
            (
                Some("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13"),
                "todo mês: sex se for dia 13, às 02:00",
                "every month: Fri if it is day 13, at 02:00",
            ),
            (Some("FREQ=DAILY;COUNT=3"), "todo dia, 3 vezes, às 02:00", "every day, 3 times, at 02:00"),
            (
                Some("FREQ=DAILY;UNTIL=20261231"),
                "todo dia, até 2026-12-31, às 02:00",
                "every day, until 2026-12-31, at 02:00",
            ),
        ] {
            assert_eq!(said("2026-11-22T02:00", rule), [format!("{pt} por {zone}"), format!("{en} for {zone}")]);
        }
    }

    #[test]
    fn a_reason_names_who_what_and_until_when_on_one_line() {
        let until = Timestamp::from_ms(1_700_000_000_000);
        let reason = QuietReason::Silence { by: "ana", until, comment: "troca\nde disco" };
        assert_eq!(reason.in_words(Language::PtBr), "Silenciado por ana até 14/11/2023 19:13 BRT: “troca de disco”");
        assert_eq!(reason.in_words(Language::En), "Silenced by ana until 2023-11-14 22:13 UTC: “troca de disco”");
        let reason = QuietReason::Maintenance { name: "patches", until };
        assert_eq!(reason.in_words(Language::PtBr), "Em manutenção até 14/11/2023 19:13 BRT: patches");
        let reason = QuietReason::Backup { host: "vm112", vmid: 112, node: "pve1", since: until };
        assert_eq!(
            reason.in_words(Language::En),
            "Backup of vm112 (VM 112) running on pve1 since 2023-11-14 22:13 UTC"
        );
    }
}
