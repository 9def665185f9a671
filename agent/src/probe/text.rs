//! What reports say, in the operator's language.

use std::{error::Error as StdError, io};

use farol_protocol::Language;

use crate::{
    text::catalogue,
    tls::{causes, tls_error},
};

catalogue! {
    /// A sentence of a report.
    Text {
        HttpOk: "{url} respondeu {status} em {ms} ms", "{url} answered {status} in {ms} ms";
        HttpSlow: "{url} respondeu {status} em {ms} ms (limite {limit} ms)", "{url} answered {status} in {ms} ms (limit {limit} ms)";
        HttpStatus: "{url} respondeu {status} em {ms} ms (esperado {expected})", "{url} answered {status} in {ms} ms (expected {expected})";
        HttpLacks: "{url} respondeu {status} em {ms} ms, sem o texto esperado `{text}`", "{url} answered {status} in {ms} ms, without the expected text `{text}`";
        HttpBroke: "{url} respondeu {status} em {ms} ms, mas o corpo não chegou inteiro: {why}", "{url} answered {status} in {ms} ms, but its body did not arrive whole: {why}";
        NoAnswer: "{target} não respondeu em {seconds} s", "{target} did not answer within {seconds} s";
        Unreachable: "{target} não pôde ser alcançado: {why}", "{target} could not be reached: {why}";
        BadUrl: "`{url}` não é um endereço http ou https", "`{url}` is not an http or https address";
        BadAddress: "`{address}` não tem a forma servidor:porta", "`{address}` does not have the form host:port";
        TcpOk: "{target} aceitou a conexão em {ms} ms", "{target} accepted the connection in {ms} ms";
        TcpSlow: "{target} aceitou a conexão em {ms} ms (limite {limit} ms)", "{target} accepted the connection in {ms} ms (limit {limit} ms)";
        DiskOk: "{mount} tem {value}% em uso", "{mount} has {value}% in use";
        DiskOver: "{mount} tem {value}% em uso (limite {limit}%)", "{mount} has {value}% in use (limit {limit}%)";
        NoMount: "nada está montado em {mount}", "nothing is mounted on {mount}";
        MemoryOk: "a memória tem {value}% em uso", "memory has {value}% in use";
        MemoryOver: "a memória tem {value}% em uso (limite {limit}%)", "memory has {value}% in use (limit {limit}%)";
        LoadOk: "a carga de 5 minutos é {value} por CPU", "the 5-minute load is {value} per CPU";
        LoadOver: "a carga de 5 minutos é {value} por CPU (limite {limit})", "the 5-minute load is {value} per CPU (limit {limit})";
        ProcessOk: "{count} processos `{name}` em execução", "{count} processes `{name}` running";
        ProcessFew: "{count} processos `{name}` em execução (mínimo {min})", "{count} processes `{name}` running (minimum {min})";
        ProcessMany: "{count} processos `{name}` em execução (máximo {max})", "{count} processes `{name}` running (maximum {max})";
        SqliteOk: "{file}: {value} {unit} medidos", "{file}: {value} {unit} measured";
        SqliteOver: "{file}: {value} {unit} (limite {limit})", "{file}: {value} {unit} (limit {limit})";
        SqliteNone: "a consulta a {file} não deu nenhum valor", "the query of {file} gave no value";
        SqliteNoNumber: "a primeira coluna da consulta a {file} não é um número", "the first column of the query of {file} is not a number";
        SqliteFailed: "a consulta a {file} falhou: {why}", "the query of {file} failed: {why}";
        SqliteBadQuery: "a consulta deve ser um único SELECT", "the query must be one single SELECT";
        UnitOk: "{unit} está {state} ({sub})", "{unit} is {state} ({sub})";
        UnitIs: "{unit} está {state} ({sub}{result})", "{unit} is {state} ({sub}{result})";
        UnitRestarts: "{unit} está {state}, mas foi reiniciado {value} vezes (limite {limit})", "{unit} is {state}, but was restarted {value} times (limit {limit})";
        UnitMissing: "a unidade {unit} não existe", "the unit {unit} does not exist";
        UnitUnknown: "o systemd não informou {unit}: {why}", "systemd did not tell about {unit}: {why}";
        NoSystemd: "{unit} não pode ser verificada: o systemd não está em execução neste servidor", "{unit} cannot be checked: systemd does not run on this host";
        ContainerOk: "o contêiner {name} está em execução", "the container {name} is running";
        ContainerIs: "o contêiner {name} está no estado `{state}`", "the container {name} is in the state `{state}`";
        ContainerHealth: "o contêiner {name} está em execução e se declara `{health}`", "the container {name} is running and calls itself `{health}`";
        ContainerRestarts: "o contêiner {name} foi reiniciado {count} vezes (limite {limit})", "the container {name} was restarted {count} times (limit {limit})";
        ContainerMissing: "o contêiner {name} não existe", "the container {name} does not exist";
        ContainerName: "`{name}` não é um nome possível de contêiner", "`{name}` is no name that a container can have";
        NoEngine: "o motor de contêineres não pode ser usado em {socket}: {why}; ajuste docker_socket e o acesso do agente", "the container engine cannot be used at {socket}: {why}; set docker_socket and the agent's access";
        EngineFailed: "o motor de contêineres não informou {name}: {why}", "the container engine did not tell about {name}: {why}";
        JournalOk: "{value} linhas com `{pattern}` nos últimos {minutes} minutos", "{value} lines with `{pattern}` in the last {minutes} minutes";
        JournalOver: "{value} linhas com `{pattern}` nos últimos {minutes} minutos (limite {limit})", "{value} lines with `{pattern}` in the last {minutes} minutes (limit {limit})";
        JournalCut: "o diário tem mais de {mib} MiB no período e não foi lido inteiro; reduza window_ms", "the journal has more than {mib} MiB in the window and was not read whole; reduce window_ms";
        JournalFailed: "o diário do sistema não pôde ser lido: {why}", "the system's journal could not be read: {why}";
        JournalHidden: "o diário do sistema não está visível ({why}); inclua o usuário do agente no grupo systemd-journal", "the system's journal is not visible ({why}); add the agent's user to the group systemd-journal";
        JournalNoUnit: "a verificação não diz de qual unidade é o diário; indique em `unit` uma que a política do servidor liste em services ou logs", "the check does not say whose journal; name in `unit` a unit that the host's policy lists under services or logs";
        JournalNoPolicy: "o servidor não tem política; para ler o diário de {unit}, crie-a com logs: [{unit}]", "the host has no policy; to read the journal of {unit}, create one with logs: [{unit}]";
        JournalNotAllowed: "a política do servidor não permite ler o diário de {unit}; inclua-a em logs", "the host's policy does not allow reading the journal of {unit}; add it to logs";
        JournalNotHere: "o coordenador não lê diários; deixe esta verificação com um servidor que tenha o agente", "the coordinator reads no journal; give this check to a host that has the agent";
        NoJournal: "este servidor não tem journalctl", "this host has no journalctl";
        PathRelative: "`{path}` não é um caminho absoluto", "`{path}` is not an absolute path";
        PathNoPolicy: "o servidor não tem política; para ler {path}, crie-a com paths.read", "the host has no policy; to read {path}, create one with paths.read";
        PathNotAllowed: "a política do servidor não permite ler {path}; inclua-o em paths.read", "the host's policy does not allow reading {path}; add it to paths.read";
        PathMissing: "{path} não pode ser aberto: {why}", "{path} cannot be opened: {why}";
        TimeLimit: "a verificação não terminou em {seconds} s", "the check did not finish within {seconds} s";
        NotReadable: "o sistema não informou {what}: {why}", "the system did not tell {what}: {why}";
        NotANumber: "o valor medido não é um número", "the measured value is not a number";
        BadLimits: "os limites da verificação se contradizem: {why}", "the check's limits contradict each other: {why}";
        WhatDisks: "os discos", "its disks";
        WhatMemory: "a memória", "its memory";
        WhatLoad: "a carga", "its load";
        WhatProcesses: "os processos", "its processes";
        Refused: "conexão recusada", "connection refused";
        Reset: "conexão interrompida pelo outro lado", "connection reset by the other side";
        TimedOut: "tempo esgotado", "timed out";
        NoName: "o nome não foi resolvido", "the name was not resolved";
        NoRoute: "sem rota até o destino", "no route to the target";
        Tls: "falha de TLS: {why}", "TLS failed: {why}";
        NotFound: "não existe", "it does not exist";
        Denied: "permissão negada", "permission denied";
        Other: "erro: {why}", "error: {why}";
    }
}

/// An I/O error in the operator's words.
pub(super) fn io_words(language: Language, error: &io::Error) -> String {
    use io::ErrorKind as Kind;

    let text = match error.kind() {
        Kind::ConnectionRefused => Text::Refused,
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => Text::Reset,
        Kind::TimedOut => Text::TimedOut,
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => Text::NoRoute,
        Kind::NotFound => Text::NotFound,
        Kind::PermissionDenied => Text::Denied,
        _ => return Text::Other.say(language, &[("why", &error.to_string())]),
    };
    text.say(language, &[])
}

/// Whether no way leads to the target, so that nothing is known of it.
#[must_use]
pub fn is_no_way(error: &(dyn StdError + 'static)) -> bool {
    use io::ErrorKind as Kind;

    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|io| {
        matches!(io.kind(), Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown | Kind::TimedOut)
    })
}

/// Whether the fault lies with this host, so that nothing is known of the target.
#[must_use]
pub fn is_local(error: &(dyn StdError + 'static)) -> bool {
    use io::ErrorKind as Kind;

    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|io| {
        let exhausted = io.raw_os_error().is_some_and(|code| OUT_OF_FILES.contains(&code));
        exhausted || matches!(io.kind(), Kind::PermissionDenied | Kind::AddrNotAvailable | Kind::OutOfMemory)
    })
}

/// ENFILE and EMFILE, which have no kind of their own.
const OUT_OF_FILES: [i32; 2] = [23, 24];

/// The innermost known cause of `error` in the operator's words.
#[must_use]
pub fn cause_words(language: Language, error: &(dyn StdError + 'static)) -> String {
    if let Some(tls) = tls_error(error) {
        return Text::Tls.say(language, &[("why", &tls.to_string())]);
    }
    match causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last() {
        Some(io) => io_words(language, io),
        None => {
            let innermost = causes(error).last().map(ToString::to_string).unwrap_or_default();
            Text::Other.say(language, &[("why", &innermost)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tests::placeholders;

    #[test]
    fn every_message_exists_in_both_languages_with_the_same_placeholders() {
        for text in Text::ALL {
            let [pt, en] = [Language::PtBr, Language::En].map(|language| text.template(language));
            assert!(!pt.is_empty() && !en.is_empty(), "{text:?} is empty");
            assert_ne!(pt, en, "{text:?} is not translated");
            assert_eq!(placeholders(pt), placeholders(en), "{text:?}");
        }
    }

    #[test]
    fn common_errors_have_words() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(cause_words(Language::PtBr, &refused), "conexão recusada");
        let tls = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::General("unknown issuer".to_owned()));
        assert!(cause_words(Language::En, &tls).starts_with("TLS failed: "));
    }
}
