//! What the daily message with the head of the record says.

use farol_protocol::{Language, Timestamp};

use super::words::clock;

/// A head on its way out.
#[derive(Debug, Clone, Copy)]
pub struct Anchor<'a> {
    /// `SEQ:HASH`.
    pub head: &'a str,
    /// Entries that it covers.
    pub links: u64,
    /// When the last of them was sealed.
    pub sealed_at: Timestamp,
    /// The key that signed it.
    pub public_key: &'a str,
    /// Whether nothing is sealed at present.
    pub trouble: bool,
}

/// Subject and title of such a message.
#[must_use]
pub fn anchor_title(language: Language) -> String {
    say!(language, "Farol: ponta do registro", "Farol: head of the record")
}

impl Anchor<'_> {
    /// In the words of a language.
    #[must_use]
    pub fn in_words(&self, language: Language) -> String {
        let Self { head, links, public_key, .. } = self;
        let at = clock(self.sealed_at, language);
        let text = say!(
            language,
            "O registro tem {links} entradas seladas, a última em {at}.\nPonta: {head}\nChave: {public_key}\nGuarde esta \
             mensagem. Ela prova que nada até aqui foi mudado nem cortado:\nfarol audit verify --against {head}",
            "The record has {links} sealed entries, the last of {at}.\nHead: {head}\nKey: {public_key}\nKeep this \
             message. It proves that nothing up to here was changed or cut off:\nfarol audit verify --against {head}"
        );
        if !self.trouble {
            return text;
        }
        let warning = say!(
            language,
            "ATENÇÃO: o registro não está sendo selado. Veja o log do coordenador e `farol audit verify`.",
            "WARNING: the record is not being sealed. See the coordinator's log and `farol audit verify`."
        );
        format!("{warning}\n{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_the_head_the_key_and_the_command_in_both_languages() {
        let anchor = Anchor {
            head: "7:ab",
            links: 7,
            sealed_at: Timestamp::from_ms(0),
            public_key: "ed25519:x",
            trouble: false,
        };
        for language in [Language::PtBr, Language::En] {
            let text = anchor.in_words(language);
            assert!(text.contains("farol audit verify --against 7:ab") && text.contains("ed25519:x"), "{text}");
            assert!(Anchor { trouble: true, ..anchor }.in_words(language).len() > text.len());
        }
    }
}
