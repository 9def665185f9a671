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
        LivesTooLong: "o plano vale por mais de {days} dias ou vence antes de ser emitido", "the plan lives for more than {days} days or expires before it is issued";
        PreState: "este agente ainda não compara o estado anterior", "this agent does not compare a pre-state yet";
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
