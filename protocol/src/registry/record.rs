//! Where the head of the record is sent once a day: the section `record`.

use serde::Deserialize;

use super::notify::{self, To};
use crate::yaml::{Mistake, Spanned};

/// What is done with the record beside keeping it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Where its head is sent once a day; absent: to the mail address and the
    /// ntfy topic of the environment.
    pub anchor: Option<Vec<To>>,
}

/// `anchor` lists `email:ADDRESS`, `integration:NAME` and `ntfy:TOPIC`; an empty list sends it nowhere.
#[derive(Deserialize, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(super) struct RecordDoc {
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<String>>"))]
    anchor: Option<Vec<Spanned<String>>>,
}

impl RecordDoc {
    pub(super) fn resolve(self) -> Result<Record, Mistake> {
        let places = |list: Vec<Spanned<String>>| list.iter().map(|to| notify::to(to, None, None)).collect();
        Ok(Record { anchor: self.anchor.map(places).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn record(text: &str) -> Result<Record, Mistake> {
        Registry::parse(&format!("version: 1\n{text}"), &|_| None).map(|registry| registry.record)
    }

    #[test]
    fn the_head_goes_where_the_list_says_and_an_empty_list_is_not_the_same_as_none() {
        assert_eq!(record(""), Ok(Record { anchor: None }));
        assert_eq!(record("record: {anchor: []}\n"), Ok(Record { anchor: Some(Vec::new()) }));
        let to = vec![
            To::Email("root@example.org".to_owned()),
            To::Ntfy("ops".to_owned()),
            To::Integration { name: "phone".to_owned(), place: None },
        ];
        let text = "record:\n  anchor: [email:root@example.org, 'ntfy:ops', integration:phone]\n";
        assert_eq!(record(text), Ok(Record { anchor: Some(to) }));
        let mistake = record("record: {anchor: [root@example.org]}\n").expect_err("refused");
        assert!(mistake.message.contains("write email:ADDRESS"), "{mistake}");
        assert_eq!((mistake.line, mistake.column), (2, 19));
    }
}
