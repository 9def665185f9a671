use super::*;
use crate::daily::{DailyCertificate, Ending, HostLogs, SilentHost, Waiting};

const HOUR: i64 = 3_600_000;

/// 2026-11-21T10:00:00Z and so many hours.
fn at(hours: i64) -> Timestamp {
    Timestamp::from_ms(1_795_255_200_000 + hours * HOUR)
}

fn calm() -> DailyFacts {
    DailyFacts {
        date: "2026-11-21".to_owned(),
        since: at(-24),
        now: at(0),
        open: Vec::new(),
        suppressed: Vec::new(),
        resolved: Vec::new(),
        waiting: Vec::new(),
        ending: Vec::new(),
        silent: Vec::new(),
        certificates: Vec::new(),
        unknown_checks: 0,
    }
}

fn problem(host: &str, severity: Severity, opened: i64) -> DailyProblem {
    DailyProblem {
        id: host.to_owned(),
        severity,
        host: host.to_owned(),
        title: "Portal".to_owned(),
        opened_at: at(opened),
        resolved_at: None,
        acknowledged_by: None,
        why: None,
    }
}

#[test]
fn a_calm_day_is_one_line() {
    assert_eq!(
        summary(&calm(), Language::PtBr),
        "Resumo de 21/11/2026: dia calmo. Nada está aberto, nada aconteceu no último dia e nada espera decisão."
    );
    assert!(summary(&calm(), Language::En).starts_with("Summary of 2026-11-21: a calm day."));
    assert!(!summary(&calm(), Language::En).contains('\n'));
}

#[test]
fn a_day_on_which_nobody_looked_is_not_calm() {
    let text = summary(&DailyFacts { unknown_checks: 3, ..calm() }, Language::En);
    assert_eq!(
        text,
        "Summary of 2026-11-21.\nNothing open.\nIn the last day nothing opened or resolved.\n\
         Without an answer now: 3 checks; nothing is known of them."
    );
    let silent = vec![SilentHost { host: "vm112".to_owned(), last_seen: None }];
    assert!(!summary(&DailyFacts { silent, ..calm() }, Language::PtBr).contains("calmo"));
}

#[test]
fn each_fact_is_said_with_how_long_and_who() {
    let facts = DailyFacts {
        open: vec![
            DailyProblem { acknowledged_by: Some("ana".to_owned()), ..problem("vm112", Severity::Critical, -3) },
            problem("vm104", Severity::Low, -50),
        ],
        suppressed: vec![DailyProblem {
            why: Some("Silenciado por bia".to_owned()),
            ..problem("vm123", Severity::High, -2)
        }],
        resolved: vec![DailyProblem { resolved_at: Some(at(-1)), ..problem("vm122", Severity::Medium, -4) }],
        waiting: vec![Waiting {
            action_id: "a".to_owned(),
            what: "reiniciar o serviço portal".to_owned(),
            host: "vm112".to_owned(),
            risk_class: "R1",
            expires_at: at(2),
        }],
        ending: vec![Ending {
            id: "silence/1".to_owned(),
            until: at(5),
            summary: "Silenciado por bia até 21/11/2026 12:00 BRT: “disco” (vm123)".to_owned(),
        }],
        silent: vec![SilentHost { host: "pfsense".to_owned(), last_seen: Some(at(-30)) }],
        certificates: vec![DailyCertificate { host: "vm104".to_owned(), check: "mail.tls".to_owned(), days: 12.9 }],
        unknown_checks: 1,
        ..calm()
    };
    assert_eq!(
        summary(&facts, Language::PtBr),
        "Resumo de 21/11/2026.
Abertos: 2 (1 crítico, 1 baixo).
- [crítico] vm112: Portal, há 3 h, reconhecido por ana
- [baixo] vm104: Portal, há 2 d 2 h, sem reconhecimento
No último dia: abertos 3, resolvidos 1.
- [médio] vm122: Portal, resolvido após 3 h
Sem aviso por ora: 1.
- [alto] vm123: Portal. Silenciado por bia.
Esperam aprovação: 1.
- vm112: reiniciar o serviço portal (R1), até 21/11/2026 09:00 BRT
Terminam hoje:
- Silenciado por bia até 21/11/2026 12:00 BRT: “disco” (vm123)
Hosts em silêncio:
- pfsense, há 1 d 6 h
Certificados perto do fim:
- vm104, mail.tls: 12 dias
Sem resposta agora: 1 verificação; dela nada se sabe."
    );
    let english = summary(&facts, Language::En);
    for line in [
        "- [critical] vm112: Portal, for 3 h, acknowledged by ana",
        "- [medium] vm122: Portal, resolved after 3 h",
        "- vm104, mail.tls: 12 days",
        "Without an answer now: 1 check; nothing is known of it.",
    ] {
        assert!(english.lines().any(|said| said == line), "{line} is not in:\n{english}");
    }
}

#[test]
fn a_long_list_is_cut_and_counted_and_texts_of_others_stay_on_their_line() {
    let mut open: Vec<DailyProblem> = (0..13).map(|n| problem(&format!("vm{n}"), Severity::High, -1)).collect();
    open[0].title = "a\n- [critical] forged".to_owned();
    let text = summary(&DailyFacts { open, ..calm() }, Language::En);
    assert_eq!(text.lines().filter(|line| line.starts_with("- [")).count(), 10, "{text}");
    assert!(text.contains("- [high] vm0: a - [critical] forged, for"), "{text}");
    assert!(text.contains("- and 3 more"), "{text}");
}

fn looked(check: &str, kind: &'static str) -> LogCheck {
    LogCheck {
        check: check.to_owned(),
        kind,
        expected: 288,
        reports: 288,
        bad: 0,
        unknown: 0,
        most: Some(0.0),
        unit: Some("count".to_owned()),
        at: None,
        sample: None,
    }
}

fn host(name: &str, check: LogCheck) -> HostLogs {
    HostLogs { host: name.to_owned(), checks: vec![check] }
}

#[test]
fn the_review_says_where_errors_were_and_names_whom_nobody_looked_at() {
    let review = LogReview {
        since: at(-24),
        until: at(0),
        hosts: vec![
            host(
                "vm104",
                LogCheck {
                    bad: 2,
                    most: Some(12.0),
                    at: Some(at(-9)),
                    sample: Some("12 linhas com `error`".to_owned()),
                    ..looked("log.mail", "journal")
                },
            ),
            host("vm112", looked("log.portal", "journal")),
            host(
                "vm122",
                LogCheck { unknown: 2, sample: Some("não visível".to_owned()), ..looked("log.desk", "journal") },
            ),
            host("vm123", LogCheck { bad: 1, most: Some(4.0), at: Some(at(-2)), ..looked("units", "units") }),
            host("vm5", LogCheck { reports: 0, most: None, ..looked("log.new", "journal") }),
            host("vm6", LogCheck { reports: 9, ..looked("log.late", "journal") }),
        ],
        not_looked_at: vec!["pfsense".to_owned(), "proxmox".to_owned()],
    };
    assert_eq!(
        log_review(&review, Language::PtBr),
        "Erros nos registros no dia até 21/11/2026 07:00 BRT.
Com erros:
- vm104, log.mail: no máximo 12, em 20/11/2026 22:00 BRT; fora do limite em 2 de 288 relatos: “12 linhas com `error`”
- vm123, units: por último em 21/11/2026 05:00 BRT; fora do limite em 1 de 288 relatos
Não olharam o dia inteiro:
- vm122, log.desk: não pôde olhar em 2 de 288 relatos: “não visível”
- vm5, log.new: nenhum relato
- vm6, log.late: só 9 de 288 relatos esperados
Sem erros: vm112.
Não olhados, por falta de verificação de diário, unidades ou contêineres: pfsense, proxmox."
    );
}

#[test]
fn few_lines_below_the_limit_are_errors_all_the_same_and_a_quiet_journal_none() {
    let review = |check: LogCheck| {
        let review =
            LogReview { since: at(-24), until: at(0), hosts: vec![host("vm112", check)], not_looked_at: Vec::new() };
        log_review(&review, Language::En)
    };
    let few = review(LogCheck { most: Some(1.0), at: Some(at(-1)), ..looked("log", "journal") });
    assert!(
        few.contains("- vm112, log: 1 at most, at 2026-11-21 09:00 UTC; beyond its limit in 0 of 288 reports"),
        "{few}"
    );
    assert!(!few.contains("Without errors"));
    assert!(review(looked("log", "journal")).ends_with("Without errors: vm112."));
    // Restarts since a unit was begun say nothing of the last day.
    assert!(review(LogCheck { most: Some(3.0), ..looked("unit", "unit") }).ends_with("Without errors: vm112."));
}
