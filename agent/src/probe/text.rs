//! What reports say, in the operator's language.

use std::{error::Error as StdError, io};

use farol_protocol::Language;

use crate::{
    text::{catalogue, cut},
    tls::{causes, tls_error},
};

catalogue! {
    /// A sentence of a report.
    Text {
        HttpOk: "{url} respondeu {status} em {ms} ms", "{url} answered {status} in {ms} ms";
        HttpSlow: "{url} respondeu {status} em {ms} ms (limite {limit} ms)", "{url} answered {status} in {ms} ms (limit {limit} ms)";
        HttpStatus: "{url} respondeu {status} em {ms} ms (esperado {expected})", "{url} answered {status} in {ms} ms (expected {expected})";
        HttpDenied: "{url} recusou o acesso: respondeu {status} em {ms} ms (esperado {expected})", "{url} refused access: it answered {status} in {ms} ms (expected {expected})";
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
        SqliteSaid: "{said} ({value}; limite {limit})", "{said} ({value}; limit {limit})";
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
        HttpNoJson: "{url} respondeu {status} em {ms} ms, mas o corpo não é um documento JSON de até 1 MiB", "{url} answered {status} in {ms} ms, but its body is no JSON document of up to 1 MiB";
        HttpDiffers: "{url} respondeu {status} em {ms} ms, mas `{at}` é {is} (esperado {expected})", "{url} answered {status} in {ms} ms, but `{at}` is {is} (expected {expected})";
        HttpCertificate: "{url} respondeu {status} em {ms} ms, mas o certificado vence em {days} dias", "{url} answered {status} in {ms} ms, but its certificate ends in {days} days";
        HttpNoCertificate: "{url} respondeu {status} em {ms} ms, mas o certificado não pôde ser lido", "{url} answered {status} in {ms} ms, but its certificate could not be read";
        CertificateOk: "o certificado de {target} vale por mais {value} dias", "the certificate of {target} is valid for {value} more days";
        CertificateOver: "o certificado de {target} vale por mais {value} dias (limite {limit})", "the certificate of {target} is valid for {value} more days (limit {limit})";
        CertificateChanged: "o certificado de {target} mudou: agora é {fingerprint}; se a troca foi sua, ponha este valor em `pin`", "the certificate of {target} has changed: now it is {fingerprint}; if the change was yours, put this value into `pin`";
        CertificateRefused: "o certificado de {target} não é confiável: {why} (restam {value} dias)", "the certificate of {target} is not trusted: {why} ({value} days left)";
        CertificateUnreadable: "o certificado de {target} não pôde ser lido", "the certificate of {target} could not be read";
        TcpBanner: "{target} aceitou a conexão, mas disse `{line}` (esperado `{expected}`)", "{target} accepted the connection, but said `{line}` (expected `{expected}`)";
        InodesOk: "{mount} tem {value}% dos inodes em uso", "{mount} has {value}% of its inodes in use";
        InodesOver: "{mount} tem {value}% dos inodes em uso (limite {limit}%)", "{mount} has {value}% of its inodes in use (limit {limit}%)";
        InodesNone: "o sistema de arquivos de {mount} não tem um número fixo de inodes", "the file system of {mount} has no fixed number of inodes";
        ForecastOk: "neste ritmo ({rate} MiB/h), {mount} estará cheio em {value} horas", "at this rate ({rate} MiB/h), {mount} is full in {value} hours";
        ForecastOver: "neste ritmo ({rate} MiB/h), {mount} estará cheio em {value} horas (limite {limit})", "at this rate ({rate} MiB/h), {mount} is full in {value} hours (limit {limit})";
        ForecastFlat: "o uso de {mount} não está crescendo", "the use of {mount} does not grow";
        ForecastEarly: "ainda não há histórico de {mount} para uma previsão: {minutes} de {enough} minutos, em pelo menos 4 leituras", "there is not enough history of {mount} for a forecast yet: {minutes} of {enough} minutes, in at least 4 readings";
        ForecastNoSize: "o sistema de arquivos de {mount} não informa o seu tamanho", "the file system of {mount} does not tell its size";
        SwapOk: "a área de troca tem {value}% em uso", "swap has {value}% in use";
        SwapOver: "a área de troca tem {value}% em uso (limite {limit}%)", "swap has {value}% in use (limit {limit}%)";
        SwapNone: "este servidor não tem área de troca", "this host has no swap";
        PortOpen: "a porta {port}/{protocol} está aberta neste servidor", "port {port}/{protocol} is open on this host";
        PortClosed: "nada escuta na porta {port}/{protocol} deste servidor", "nothing listens on port {port}/{protocol} of this host";
        PortOther: "a porta {port}/{protocol} está aberta, mas não por `{process}`", "port {port}/{protocol} is open, but not by `{process}`";
        PortHidden: "a porta {port}/{protocol} está aberta, mas o agente não pode ver se é de `{process}`; retire `process` ou rode o agente como o mesmo usuário", "port {port}/{protocol} is open, but the agent may not see whether by `{process}`; remove `process` or run the agent as the same user";
        PortNotHere: "as portas abertas só podem ser vistas no Linux", "open ports can be seen on Linux only";
        DnsOk: "{name} {type}: {values}, em {ms} ms por {server}", "{name} {type}: {values}, in {ms} ms from {server}";
        DnsSlow: "{name} {type}: {values}, em {ms} ms por {server} (limite {limit} ms)", "{name} {type}: {values}, in {ms} ms from {server} (limit {limit} ms)";
        DnsOther: "{name} {type}: {values}, sem o valor esperado {expected} (por {server})", "{name} {type}: {values}, without the expected {expected} (from {server})";
        DnsNoName: "o nome {name} não existe (por {server}, tipo {type})", "the name {name} does not exist (from {server}, type {type})";
        DnsNoRecord: "o nome {name} existe, mas sem registro {type} (por {server})", "the name {name} exists, but without a record {type} (from {server})";
        DnsFailed: "o servidor de nomes {server} falhou ao responder {name} {type}: {why}", "the name server {server} failed on {name} {type}: {why}";
        DnsSilent: "o servidor de nomes {server} não respondeu {name} {type} em {seconds} s", "the name server {server} did not answer {name} {type} within {seconds} s";
        DnsNoServer: "não há servidor de nomes em {server}; indique um endereço IP em `server`", "there is no name server in {server}; give an IP address in `server`";
        DnsBadName: "`{name}` não é um nome possível", "`{name}` is no possible name";
        PingOk: "{target} respondeu em {value} ms ({loss}% sem resposta)", "{target} answered in {value} ms ({loss}% unanswered)";
        PingSlow: "{target} respondeu em {value} ms (limite {limit} ms; {loss}% sem resposta)", "{target} answered in {value} ms (limit {limit} ms; {loss}% unanswered)";
        PingLoss: "{target} respondeu em {value} ms, mas {loss}% ficaram sem resposta (limite {limit}%)", "{target} answered in {value} ms, but {loss}% stayed unanswered (limit {limit}%)";
        PingNone: "{target} não respondeu a nenhum de {total} pedidos de eco", "{target} answered none of {total} echo requests";
        PingNoGateway: "este servidor não tem rota padrão", "this host has no default route";
        PingTarget: "a verificação precisa de `address` ou de `gateway: true`", "the check needs `address` or `gateway: true`";
        PingLimit: "{total} pedidos de eco precisam de um limite de tempo de {least} ms; aumente `timeout` ou diminua `count`", "{total} echo requests need a time limit of {least} ms; raise `timeout` or lower `count`";
        PingDenied: "o sistema não deixa o agente enviar pedidos de eco; ajuste net.ipv4.ping_group_range (sysctl) para incluir o grupo do agente", "the system does not let the agent send echo requests; set net.ipv4.ping_group_range (sysctl) so that it includes the agent's group";
        UnitsOk: "nenhuma unidade falhou ({failed}) nem está sendo reiniciada ({restarting})", "no unit failed ({failed}) or keeps restarting ({restarting})";
        UnitsBad: "{failed} unidades falharam e {restarting} foram reiniciadas: {names}", "{failed} units failed and {restarting} restarted: {names}";
        UnitsUnknown: "o systemd não informou as unidades: {why}", "systemd did not tell about its units: {why}";
        UnitsNone: "as unidades não podem ser verificadas: o systemd não está em execução neste servidor", "units cannot be checked: systemd does not run on this host";
        ContainersOk: "nenhum de {total} contêineres está com problema", "none of {total} containers is in trouble";
        ContainersBad: "{value} de {total} contêineres com problema: {names}", "{value} of {total} containers in trouble: {names}";
        ContainersUnread: "{unread} contêineres não puderam ser lidos", "{unread} containers could not be read";
        EngineBroke: "o motor de contêineres não informou os contêineres: {why}", "the container engine did not tell about its containers: {why}";
        JournalRateOk: "{value} linhas por minuto com `{pattern}` nos últimos {minutes} minutos", "{value} lines a minute with `{pattern}` in the last {minutes} minutes";
        JournalRateOver: "{value} linhas por minuto com `{pattern}` nos últimos {minutes} minutos (limite {limit})", "{value} lines a minute with `{pattern}` in the last {minutes} minutes (limit {limit})";
        FileOk: "{file} tem {value} horas e {size}", "{file} is {value} hours old and has {size}";
        FileOver: "{file} tem {value} horas (limite {limit}) e {size}", "{file} is {value} hours old (limit {limit}) and has {size}";
        FileSmall: "{file} tem só {size} (mínimo {least}) e {value} horas", "{file} has only {size} (minimum {least}) and is {value} hours old";
        FileMissing: "não há nenhum arquivo {path}", "there is no file {path}";
        IntegrityOk: "{file} está íntegro ({value} falhas)", "{file} is sound ({value} faults)";
        IntegrityBad: "{file} está danificado: {why}", "{file} is damaged: {why}";
        TimeOk: "o relógio difere {ms} ms da sua fonte ({by})", "the clock differs {ms} ms from its source ({by})";
        TimeOver: "o relógio difere {ms} ms da sua fonte ({by}; limite {limit} s)", "the clock differs {ms} ms from its source ({by}; limit {limit} s)";
        TimeSynchronised: "o relógio está sincronizado ({by}); a diferença não é informada", "the clock is synchronised ({by}); by how much it differs is not told";
        TimeUnsynchronised: "o relógio não está sincronizado com nenhuma fonte ({by})", "the clock is not synchronised with any source ({by})";
        TimeNone: "nem chrony nem systemd informam sobre o relógio: {why}", "neither chrony nor systemd tells about the clock: {why}";
        ZfsOk: "os pools ZFS estão íntegros; o mais cheio, {pool}, tem {value}% em uso", "the ZFS pools are sound; the fullest, {pool}, has {value}% in use";
        ZfsOver: "o pool ZFS {pool} tem {value}% em uso (limite {limit}%)", "the ZFS pool {pool} has {value}% in use (limit {limit}%)";
        ZfsBad: "pools ZFS com problema: {names}", "ZFS pools in trouble: {names}";
        ZfsMissing: "o pool ZFS {pool} não existe ou não está importado", "the ZFS pool {pool} does not exist or is not imported";
        ZfsNone: "este servidor não tem pools ZFS", "this host has no ZFS pools";
        ZfsUnread: "{unread} linhas da lista de pools ZFS não puderam ser lidas; os demais estão íntegros", "{unread} lines of the list of ZFS pools could not be read; the others are sound";
        ZfsNoNumber: "os pools ZFS estão íntegros, mas não informam o uso", "the ZFS pools are sound, but do not tell their use";
        SmartOk: "{total} discos íntegros; o mais quente está a {value} °C", "{total} drives are sound; the hottest is at {value} °C";
        SmartHot: "{total} discos íntegros, mas o mais quente está a {value} °C (limite {limit})", "{total} drives are sound, but the hottest is at {value} °C (limit {limit})";
        SmartCool: "{total} discos íntegros; não informam a temperatura", "{total} drives are sound; they do not tell their temperature";
        SmartFails: "discos que declaram falha: {names}", "drives that say they fail: {names}";
        SmartWorn: "discos com setores ruins ou gastos: {names}", "drives with bad sectors or worn out: {names}";
        SmartUnread: "discos que não puderam ser lidos: {names}; dê ao agente uma regra do sudo para o smartctl, como em docs/CHECKS.md", "drives that could not be read: {names}; give the agent a sudo rule for smartctl, as in docs/CHECKS.md";
        SmartLeft: "{total} discos íntegros, mas {left} não foram consultados: têm nome ou tipo inesperado, ou são mais que {most}", "{total} drives are sound, but {left} were not asked: their name or type is odd, or there are more than {most}";
        SmartNone: "o smartctl não encontra discos neste servidor", "smartctl finds no drives on this host";
        RaidOk: "os {total} arranjos RAID estão completos", "all {total} RAID arrays are complete";
        RaidBusy: "os {total} arranjos RAID estão completos, mas em reconstrução: {busy}", "all {total} RAID arrays are complete, but being rebuilt: {busy}";
        RaidBad: "arranjos RAID incompletos: {names}", "RAID arrays that lack members: {names}";
        RaidUnread: "arranjos RAID cujos membros não puderam ser lidos: {names}", "RAID arrays whose members could not be read: {names}";
        RaidNone: "este servidor não tem arranjos RAID por software", "this host has no software RAID";
        UpdatesOk: "{value} pacotes esperam atualização ({security} de segurança {names})", "{value} packages wait for an update ({security} for security {names})";
        UpdatesOver: "{value} pacotes esperam atualização (limite {limit}; {security} de segurança {names})", "{value} packages wait for an update (limit {limit}; {security} for security {names})";
        UpdatesSecurity: "{security} atualizações de segurança esperam (limite {limit}), de {value} ao todo: {names}", "{security} security updates wait (limit {limit}), of {value} in all: {names}";
        UpdatesStale: "nenhuma atualização é conhecida, mas as listas de pacotes têm {days} dias; rode apt-get update", "no update is known, but the package lists are {days} days old; run apt-get update";
        UpdatesNoLists: "nenhuma atualização é conhecida, mas não há listas de pacotes; rode apt-get update", "no update is known, but there are no package lists; run apt-get update";
        RebootNot: "o servidor não precisa ser reiniciado", "the host need not be restarted";
        RebootAsked: "o servidor precisa ser reiniciado há {value} dias ({names})", "the host has needed a restart for {value} days ({names})";
        RebootKernel: "o servidor precisa ser reiniciado há {value} dias: o kernel {newest} está instalado, {running} está em execução", "the host has needed a restart for {value} days: the kernel {newest} is installed, {running} is running";
        RebootNoKernel: "não há como saber se o servidor precisa ser reiniciado: os módulos do kernel em execução não estão aqui, como num contêiner", "whether the host must be restarted cannot be told: the modules of the running kernel are not here, as in a container";
        MailOk: "{value} mensagens na fila, {deferred} adiadas{about}", "{value} messages in the queue, {deferred} deferred{about}";
        MailOver: "{value} mensagens na fila (limite {limit}), {deferred} adiadas{about}", "{value} messages in the queue (limit {limit}), {deferred} deferred{about}";
        MailDeferred: "{deferred} mensagens adiadas (limite {limit}), de {value} na fila{about}", "{deferred} messages deferred (limit {limit}), of {value} in the queue{about}";
        MailOldest: "; a mais antiga tem {hours} horas", "; the oldest is {hours} hours old";
        MailUnread: "{value} mensagens na fila, mas parte da lista não pôde ser lida", "{value} messages in the queue, but part of the list could not be read";
        MailDenied: "o Postfix não deixa o agente ver a fila; inclua o usuário do agente em authorized_mailq_users (main.cf)", "Postfix does not let the agent see its queue; add the agent's user to authorized_mailq_users (main.cf)";
        MailFailed: "a fila do Postfix não pôde ser lida: {why}", "Postfix's queue could not be read: {why}";
        NoProgram: "este servidor não tem o programa {program}", "this host has no program {program}";
        ProgramFailed: "{program} falhou: {why}", "{program} failed: {why}";
        ProgramOdd: "a resposta de {program} não pôde ser entendida: {why}", "the answer of {program} could not be understood: {why}";
        WhatPorts: "as portas abertas", "its open ports";
        WhatFiles: "os arquivos", "the files";
        WhatArrays: "os arranjos RAID", "its RAID arrays";
        WhatKernels: "os kernels instalados", "its installed kernels";
        WhatRoutes: "as rotas", "its routes";
        WhatGateway: "o gateway {address}", "the gateway {address}";
        PathRelative: "`{path}` não é um caminho absoluto", "`{path}` is not an absolute path";
        PathNoPolicy: "o servidor não tem política; para ler {path}, crie-a com paths.read", "the host has no policy; to read {path}, create one with paths.read";
        PathNotAllowed: "a política do servidor não permite ler {path}; inclua-o em paths.read", "the host's policy does not allow reading {path}; add it to paths.read";
        PathMissing: "{path} não pode ser aberto: {why}", "{path} cannot be opened: {why}";
        PathFolder: "{path} é uma pasta, não um arquivo", "{path} is a folder, not a file";
        TimeLimit: "a verificação não terminou em {seconds} s", "the check did not finish within {seconds} s";
        StillBusy: "uma consulta anterior a {what} ainda não terminou", "an earlier look at {what} has not ended yet";
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

/// A text from elsewhere on one line, cut, without control characters.
pub(super) fn printable(text: &str, limit: usize) -> String {
    cut(&text.replace(char::is_control, " "), limit)
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
