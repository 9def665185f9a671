//! Messages that operators read, in both languages side by side. The macro
//! makes a message without its pair impossible to write.

use farol_protocol::Language;

/// Replaces each `{name}` in `template` by its value, in one pass, so that a
/// value with braces cannot be mistaken for a placeholder.
pub(crate) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            text.push('{');
            rest = after;
            continue;
        };
        match values.iter().find(|(key, _)| *key == name) {
            Some((_, value)) => text.push_str(value),
            None => {
                debug_assert!(false, "no value for {{{name}}} in {template:?}");
                text.push_str(name);
            }
        }
        rest = tail;
    }
    text.push_str(rest);
    text
}

/// A number as people of that language write it, with at most two decimals.
pub(crate) fn number(language: Language, value: f64) -> String {
    let mut text = format!("{value:.2}");
    while text.ends_with('0') {
        text.pop();
    }
    if text.ends_with('.') {
        text.pop();
    }
    match language {
        Language::PtBr => text.replace('.', ","),
        Language::En => text,
    }
}

/// Cuts a text at `limit` characters.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(limit).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

macro_rules! catalogue {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $pt:literal, $en:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($key),+ }

        impl $name {
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$key),+];

            pub(crate) const fn template(self, language: farol_protocol::Language) -> &'static str {
                match (self, language) {
                    $((Self::$key, farol_protocol::Language::PtBr) => $pt,
                      (Self::$key, farol_protocol::Language::En) => $en,)+
                }
            }

            pub(crate) fn say(self, language: farol_protocol::Language, values: &[(&str, &str)]) -> String {
                crate::text::fill(self.template(language), values)
            }
        }
    };
}
pub(crate) use catalogue;

catalogue! {
    /// Why an order was refused or how it ended, where the code alone does not say.
    Detail {
        ValidationFailed: "nada foi alterado: a verificação prévia `{step}` não passou ({why})", "nothing was changed: the step `{step}` that must hold first did not ({why})";
        ModifyFailed: "a etapa `{step}` falhou ({why})", "the step `{step}` failed ({why})";
        VerifyContradicted: "foi executado, mas a verificação `{step}` mostra que não resolveu ({why})", "it was carried out, but the verification `{step}` shows that it did not help ({why})";
        VerifyUnclear: "foi executado, mas a verificação `{step}` não pôde dizer se resolveu ({why})", "it was carried out, but the verification `{step}` could not tell whether it helped ({why})";
        RolledBack: "{why}; a alteração foi desfeita", "{why}; the change was undone";
        RollbackFailed: "{why}; a alteração NÃO pôde ser desfeita, a etapa `{step}` falhou ({error}); veja o servidor agora", "{why}; the change could NOT be undone, the step `{step}` failed ({error}); look at the host now";
        StepNoSuch: "o estado visto é de uma etapa `{step}` que o plano não tem", "the state that was seen is of a step `{step}` that the plan does not have";
        NoPolicy: "o servidor não tem arquivo de política; crie {path}", "the host has no policy file; create {path}";
        PolicyBroken: "a política do servidor não pode ser usada: {error}", "the host's policy cannot be used: {error}";
        ReadOnly: "a política do servidor diz read_only", "the host's policy says read_only";
        CommandNotListed: "a política do servidor não lista `{command}` com estes argumentos", "the host's policy does not list `{command}` with these arguments";
        ServiceNotListed: "a política do servidor não lista o serviço `{service}`", "the host's policy does not list the service `{service}`";
        VerbNotListed: "a política do servidor não permite `{verb}` para o serviço `{service}`", "the host's policy does not allow `{verb}` for the service `{service}`";
        NeedsSignature: "a política do servidor classifica a ação como {class}; sem assinaturas ela aceita até {limit}", "the host's policy makes the action {class}; without signatures it accepts up to {limit}";
        ClassAbovePlan: "a política do servidor classifica a ação como {class}, acima da classe {plan} que foi aprovada", "the host's policy makes the action {class}, above the class {plan} that was approved";
        MoreSignatures: "faltam assinaturas para a classe {class}: {why}", "signatures are missing for class {class}: {why}";
        BadSignature: "uma assinatura não vale para a classe {class}: {why}", "a signature does not count for class {class}: {why}";
        ClockSkew: "o relógio do coordenador difere {seconds} s do deste servidor; com mais de 5 minutos de diferença nenhuma ordem assinada é aceita; acerte o relógio", "the coordinator's clock differs from this host's by {seconds} s; beyond 5 minutes no signed order is taken; set the clock right";
        SignaturesTooFew: "são necessárias {needed} pessoas, assinaram {given}", "{needed} people are needed, {given} signed";
        SignaturesNoLead: "uma das pessoas precisa ser super_admin ou ops_lead", "one of the people must be super_admin or ops_lead";
        SignaturesTooMany: "{given} assinaturas são demais", "{given} signatures are too many";
        SignerUnknown: "a política do servidor não lista o operador `{operator}`", "the host's policy does not list the operator `{operator}`";
        SignerOtherKey: "a política do servidor não lista essa chave de `{operator}`", "the host's policy does not list that key of `{operator}`";
        SignerNoRole: "os papéis de `{operator}` não assinam ações", "the roles of `{operator}` do not sign actions";
        SignerTwice: "`{operator}` assinou mais de uma vez", "`{operator}` signed more than once";
        SignerAsked: "`{operator}` pediu a ação e não pode assiná-la", "`{operator}` asked for the action and cannot sign it";
        SignatureInvalid: "a assinatura de `{operator}` não confere ({what})", "the signature of `{operator}` is not valid ({what})";
        Expired: "a ordem venceu em {at}", "the order expired at {at}";
        OtherHost: "o plano é para o servidor `{other}`; este é `{own}`", "the plan is for the host `{other}`; this is `{own}`";
        OtherAction: "o plano descreve a ação {other}", "the plan describes the action {other}";
        OtherKind: "o plano é do tipo {other}", "the plan is of the kind {other}";
        BadPlan: "o plano não é válido: {error}", "the plan is not valid: {error}";
        FromTheFuture: "o plano é datado de {at}, que ainda não chegou", "the plan is dated {at}, which is yet to come";
    LivesTooLong: "o plano vale por mais de {days} dias ou vence antes de ser emitido", "the plan lives for more than {days} days or expires before it is issued";
        ContainerNotListed: "a política do servidor não lista o contêiner `{container}`", "the host's policy does not list the container `{container}`";
        ContainerVerbNotListed: "a política do servidor não permite `{verb}` para o contêiner `{container}`", "the host's policy does not allow `{verb}` for the container `{container}`";
        PathNotCovered: "a política do servidor não cobre {path}; inclua-o em {key}", "the host's policy does not cover {path}; add it to {key}";
        LogNotListed: "a política do servidor não lista a unidade `{unit}`; inclua-a em logs", "the host's policy does not list the unit `{unit}`; add it to logs";
        FileLink: "{path} é um link simbólico, e links não são seguidos", "{path} is a symbolic link, and links are not followed";
        FileHardLinked: "{path} tem outros nomes (links físicos), por isso não é lido nem alterado", "{path} has other names (hard links), so it is neither read nor changed";
        FileNotRegular: "{path} não é um arquivo comum", "{path} is not a regular file";
        FileSetId: "{path} tem o bit set-user-ID ou set-group-ID, por isso não é alterado", "{path} has the set-user-ID or set-group-ID bit, so it is not changed";
        FileTooLarge: "{path} tem mais de {limit} KiB", "{path} has more than {limit} KiB";
        FileChanged: "{path} não está como quem aprovou viu; leia-o de novo", "{path} is not as the approver saw it; read it again";
        FileFailed: "{path} não pôde ser lido: {error}", "{path} could not be read: {error}";
        FileNotWritten: "{path} não pôde ser alterado pelo usuário do agente: {error}; nada mudou", "{path} could not be changed by the agent's user: {error}; nothing changed";
        FileOwner: "o agente não pode manter o dono e as permissões de {path}: {error}; nada mudou", "the agent cannot keep the owner and permissions of {path}: {error}; nothing changed";
        FileNotKept: "o conteúdo anterior não pôde ser guardado, por isso nada mudou: {error}", "the former content could not be kept, so nothing changed: {error}";
        FileUnsynced: "{path} foi alterado, mas a pasta não pôde ser gravada em disco: {error}", "{path} was changed, but its folder could not be flushed to the disk: {error}";
        FileHangs: "a operação no arquivo não termina; o arquivo está inteiramente antigo ou inteiramente novo", "the operation on the file does not end; the file is wholly old or wholly new";
        EffectBroke: "a ação terminou por um erro do agente: {error}", "the action ended by an error of the agent: {error}";
        PatchBroken: "a alteração não é um diff unificado válido: {error}; nada mudou", "the change is not a valid unified diff: {error}; nothing changed";
        PatchNotApplied: "o diff não se aplica a {path}: {error}; nada mudou", "the diff does not apply to {path}: {error}; nothing changed";
        NothingKept: "este servidor não guarda nada da ação {action}; só um file.apply daqui pode ser desfeito", "this host keeps nothing of the action {action}; only a file.apply of its own can be undone";
        KeptDamaged: "o conteúdo guardado não pode ser usado: {error}", "the kept content cannot be used: {error}";
        NoJournal: "este servidor não tem journalctl; leia um arquivo de log", "this host has no journalctl; read a log file instead";
        NoTimes: "nenhuma linha traz data e hora, por isso nenhuma pôde ser escolhida pelo período", "no line carries a date and time, so none could be chosen by the time span";
        NoEngine: "o motor de contêineres não pode ser usado em {socket}: {error}; ajuste docker_socket no agent.yaml e dê acesso ao usuário do agente", "the container engine cannot be used at {socket}: {error}; set docker_socket in agent.yaml and give the agent's user access";
        NoContainer: "o motor não conhece o contêiner `{container}`", "the engine knows no container `{container}`";
        EngineFailed: "o motor de contêineres não atendeu para `{container}`: {error}", "the container engine failed on `{container}`: {error}";
        EngineGoesOn: "o motor pode ainda concluir o que foi pedido para `{container}`", "the engine may still carry out what was asked for `{container}`";
        ContainerIs: "o contêiner `{container}` está `{state}` depois de `{verb}`", "the container `{container}` is `{state}` after `{verb}`";
        ContainerChanged: "o contêiner `{container}` está `{state}`, não como quem aprovou viu", "the container `{container}` is `{state}`, not as the approver saw it";
        ServiceChanged: "o serviço `{service}` não está como quem aprovou viu", "the service `{service}` is not as the approver saw it";
        NoStatus: "a política não diz como perguntar o estado do serviço `{service}`; inclua run.status", "the policy does not say how to ask for the state of the service `{service}`; add run.status";
        BusFailed: "o systemd não atendeu para o serviço `{service}`: {error}", "systemd failed on the service `{service}`: {error}";
        BusDenied: "o systemd não deixa o usuário do agente controlar o serviço `{service}` ({error}); dê a ele uma regra do polkit, como em docs/OPERATIONS.md, ou inclua run com sudo na política", "systemd does not let the agent's user control the service `{service}` ({error}); give it a polkit rule, as in docs/OPERATIONS.md, or add run with sudo to the policy";
        JobEnded: "o systemd terminou `{verb}` do serviço `{service}` com `{result}`", "systemd ended `{verb}` of the service `{service}` with `{result}`";
        Busy: "outra ação está em execução", "another action is running";
        Stopping: "o agente está parando", "the agent is stopping";
        Recovering: "o agente ainda encerra um processo de antes do reinício", "the agent still ends a process from before its restart";
        JournalFailed: "o diário de ações não pôde ser gravado", "the action journal could not be written";
        KnownOtherPlan: "este identificador já foi usado com outro plano", "this identifier was used with another plan";
        CancelledBefore: "o cancelamento chegou antes da ordem", "the cancel came before the order";
        SpawnFailed: "o programa não pôde ser iniciado: {error}", "the program could not be started: {error}";
        GroupUnrecorded: "o processo foi morto porque o diário de ações não pôde ser gravado", "the process was killed because the action journal could not be written";
        AgentRestarted: "o agente terminou enquanto a ação era executada", "the agent ended while the action ran";
        NotRunning: "o serviço `{service}` não está em execução depois de `{verb}`", "the service `{service}` is not running after `{verb}`";
        StillRunning: "o serviço `{service}` ainda está em execução depois de `{verb}`", "the service `{service}` is still running after `{verb}`";
        Survivors: "processos do grupo {pgid} não terminaram depois de SIGKILL", "processes of the group {pgid} did not end after SIGKILL";
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The `{names}` of a template, sorted.
    pub(crate) fn placeholders(template: &str) -> Vec<&str> {
        let mut names: Vec<&str> =
            template.split('{').skip(1).map(|part| part.split_once('}').expect("a placeholder is closed").0).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn every_detail_exists_in_both_languages_with_the_same_placeholders() {
        for detail in Detail::ALL {
            let [pt, en] = [Language::PtBr, Language::En].map(|language| detail.template(language));
            assert!(!pt.is_empty() && !en.is_empty() && pt != en, "{detail:?} is not translated");
            assert_eq!(placeholders(pt), placeholders(en), "{detail:?}");
        }
    }

    #[test]
    fn a_value_with_braces_is_not_filled_again() {
        assert_eq!(fill("{a} and {b}", &[("a", "{b}"), ("b", "2")]), "{b} and 2");
    }

    #[test]
    fn numbers_follow_the_language() {
        assert_eq!(number(Language::PtBr, 93.456), "93,46");
        assert_eq!(number(Language::En, 90.0), "90");
        assert_eq!(number(Language::En, 0.5), "0.5");
    }
}
