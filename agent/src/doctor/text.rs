//! What the doctor says, in both languages.

use crate::text::catalogue;

catalogue! {
    /// What was found and, after it, what to do.
    Say {
        IdentityOk: "este servidor é `{name}` ({id})", "this host is `{name}` ({id})";
        IdentityBad: "a identidade não pode ser usada: {error}", "the identity cannot be used: {error}";
        EnrolAgain: "no coordenador, execute `farol host add NOME`; aqui, o comando que ele mostra, com --force", "on the coordinator run `farol host add NAME`, and here the command it prints, with --force";
        RunAsOwner: "execute como root ou farol-agent", "run this as root or farol-agent";
        KeyOk: "a chave é só do agente e combina com o certificado", "the key is the agent's alone and fits the certificate";
        KeyExposed: "a chave pode ser lida por outros (modo {mode})", "the key can be read by others (mode {mode})";
        KeyExposedDo: "execute: chmod 600 {path}; se alguém pode tê-la lido, registre o servidor de novo", "run: chmod 600 {path}; if somebody may have read it, enrol the host again";
        CertificateOk: "válido até {end}", "valid until {end}";
        CertificateSoon: "termina logo, em {end}", "ends soon, at {end}";
        CertificateEnded: "terminou em {end}", "ended at {end}";
        CertificateDo: "o agente conectado o renova; se não, registre o servidor de novo: `farol host add NOME` no coordenador", "a connected agent renews it; if it does not, enrol the host again: `farol host add NAME` on the coordinator";
        StateOk: "{path} é privada e de um só dono", "{path} is private and has one owner";
        StateMissing: "{path} não existe", "{path} does not exist";
        StateMissingDo: "crie a pasta para o usuário farol-agent: systemd-tmpfiles --create farol-agent.conf", "make the folder for the user farol-agent: systemd-tmpfiles --create farol-agent.conf";
        StateExposed: "{path} pode ser lida por outros (modo {mode})", "{path} is open to others (mode {mode})";
        StateExposedDo: "execute: chmod 700 {path}", "run: chmod 700 {path}";
        StateForeign: "{path} pertence a outro usuário que a pasta", "{path} belongs to another user than the folder";
        StateForeignDo: "execute: chown --reference={folder} {path}", "run: chown --reference={folder} {path}";
        SpaceOk: "{free} MiB livres", "{free} MiB free";
        SpaceLow: "só {free} MiB livres; o spool pode precisar de mais {wanted} MiB", "only {free} MiB free; the spool may want {wanted} MiB more";
        SpaceDo: "libere espaço ou diminua spool_max_bytes", "free some space or lower spool_max_bytes";
        SpaceUnknown: "o espaço livre não pôde ser lido: {error}", "the free space could not be read: {error}";
        SpoolNone: "ainda não existe; o agente o cria ao iniciar", "not there yet; the agent makes it when it starts";
        SpoolOk: "{batches} lotes, {percent}% do limite; o mais antigo de {oldest}", "{batches} batches, {percent}% of the limit; the oldest of {oldest}";
        SpoolEmpty: "vazio", "empty";
        SpoolFull: "{batches} lotes, {percent}% do limite: os mais antigos são descartados em breve", "{batches} batches, {percent}% of the limit: the oldest are dropped soon";
        SpoolLost: "{lost} lotes foram descartados e ainda não informados; {batches} esperam, {percent}% do limite", "{lost} batches were dropped and are not yet told; {batches} wait, {percent}% of the limit";
        SpoolDo: "restabeleça a conexão, ou aumente spool_max_bytes em /etc/farol-agent/agent.yaml", "restore the connection, or raise spool_max_bytes in /etc/farol-agent/agent.yaml";
        SpoolBad: "não pode ser lido: {error}", "cannot be read: {error}";
        SpoolBadDo: "verifique o dono e o disco; um spool danificado é posto de lado no próximo início", "check its owner and the disk; a damaged spool is set aside at the next start";
        JournalOk: "{entries} registros, {running} em execução, {waiting} sem confirmação", "{entries} entries, {running} running, {waiting} not acknowledged";
        JournalNone: "ainda não existe; o agente o cria ao iniciar", "not there yet; the agent makes it when it starts";
        JournalBad: "não pode ser lido: {error}", "cannot be read: {error}";
        JournalBadDo: "verifique o dono e o disco; sem ele nenhuma ação é executada", "check its owner and the disk; without it no action runs";
        AgentConnected: "em execução e conectado desde {since}", "running and connected since {since}";
        AgentApart: "em execução, mas sem conexão desde {since}: {reason}", "running, but not connected since {since}: {reason}";
        AgentApartDo: "veja as linhas sobre o coordenador abaixo", "see the lines about the coordinator below";
        AgentStarting: "em execução, ainda sem estado de conexão", "running, without a state of the connection yet";
        AgentDown: "não está em execução", "not running";
        AgentDownDo: "execute: systemctl enable --now farol-agent", "run: systemctl enable --now farol-agent";
        PolicyOk: "em vigor: até {class} sem assinatura", "in force: up to {class} without a signature";
        PolicyReadOnly: "em vigor: read_only recusa toda ação", "in force: read_only refuses every effect";
        PolicyNone: "não há {path}: o servidor é observado e toda ação é recusada", "there is no {path}: the host is watched and every effect is refused";
        PolicyNoneDo: "crie o arquivo se ações devem ser permitidas; veja docs/OPERATIONS.md", "make the file if effects are to be allowed; see docs/OPERATIONS.md";
        PolicyBad: "não pode ser usada, e o agente não inicia com ela: {error}", "cannot be used, and the agent does not start with it: {error}";
        PolicyBadDo: "corrija o arquivo {path}", "mend the file {path}";
        NameOk: "{host} é {addresses}", "{host} is {addresses}";
        NameBad: "{host} não tem endereço: {error}", "{host} has no address: {error}";
        NameBadDo: "corrija o DNS ou /etc/hosts", "mend DNS or /etc/hosts";
        PortOk: "{address} aceita conexões", "{address} takes connections";
        PortBad: "{address} não aceita conexões: {error}", "{address} takes no connection: {error}";
        PortBadDo: "verifique se o coordenador está em execução, o firewall e o endereço", "check that the coordinator runs, the firewall and the address";
        TlsOk: "o coordenador é o esperado, pela cadeia e pelo nome", "the coordinator is the expected one, by chain and name";
        TlsBad: "sem confiança: {error}", "no trust: {error}";
        TlsBadDo: "verifique o endereço e os relógios; se a autoridade mudou, registre o servidor de novo", "check the address and the clocks; if the authority is another one, enrol the host again";
        AcceptedOk: "o coordenador aceita este servidor", "the coordinator takes this host";
        NotLive: "o coordenador recusa a chave (key_not_live): o servidor foi revogado ou registrado de novo em outro lugar", "the coordinator refuses the key (key_not_live): the host was revoked, or enrolled again elsewhere";
        WrongIdentity: "certificado e chave são de servidores diferentes (wrong_identity)", "certificate and key are of different hosts (wrong_identity)";
        NoCertificate: "o coordenador não recebeu certificado (certificate_required)", "the coordinator got no certificate (certificate_required)";
        NotCoordinator: "a resposta {status} não é a de um coordenador", "the answer {status} is not that of a coordinator";
        NotCoordinatorDo: "verifique se a porta é a dos agentes (8192) e se nenhum proxy encerra o TLS", "check that the port is the agents' one (8192) and that no proxy ends the TLS";
        ClockOk: "diferença de {seconds} s do coordenador", "{seconds} s from the coordinator's";
        ClockOff: "diferença de {seconds} s do coordenador", "{seconds} s from the coordinator's";
        ClockDo: "acerte o relógio: timedatectl set-ntp true; além de 300 s, ordens assinadas são recusadas", "set the clock: timedatectl set-ntp true; beyond 300 s signed orders are refused";
        ClockPlausible: "{now}; não pôde ser comparado ao do coordenador", "{now}; it could not be compared with the coordinator's";
        ClockAbsurd: "{now} não pode estar certo", "{now} cannot be right";
        UnitOk: "{state}", "{state}";
        UnitNone: "a unidade farol-agent.service não está instalada", "the unit farol-agent.service is not installed";
        UnitNoneDo: "instale systemd/farol-agent.service; veja docs/OPERATIONS.md", "install systemd/farol-agent.service; see docs/OPERATIONS.md";
        UnitDisabled: "{state}, mas não inicia com o sistema", "{state}, but it does not start with the machine";
        UnitDown: "{state}", "{state}";
        UnitDownDo: "execute: journalctl -u farol-agent -n 50; depois systemctl restart farol-agent", "run: journalctl -u farol-agent -n 50; then systemctl restart farol-agent";
        UnitElsewhere: "não há systemd aqui", "there is no systemd here";
    }
}

#[cfg(test)]
mod tests {
    use farol_protocol::Language;

    use super::*;
    use crate::text::tests::placeholders;

    #[test]
    fn everything_is_said_in_both_languages_with_the_same_values() {
        for say in Say::ALL {
            let [pt, en] = [Language::PtBr, Language::En].map(|language| say.template(language));
            assert!(!pt.is_empty() && !en.is_empty(), "{say:?} is not translated");
            assert_eq!(placeholders(pt), placeholders(en), "{say:?}");
        }
    }
}
