//! Reading answers whose types drift between releases: a number may be a text,
//! a truth may be 1, and one broken row costs only itself.

use serde_json::{Map, Value};

/// A number, however it is written. What is absent, empty or not finite is
/// unknown, never 0.
#[must_use]
pub fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
    .filter(|number| number.is_finite())
}

/// A whole number, however it is written.
#[must_use]
pub fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) if number.is_i64() || number.is_u64() => number.as_i64(),
        Value::String(text) if !text.contains(['.', 'e', 'E']) => text.trim().parse().ok(),
        _ => number(value).filter(|number| number.fract() == 0.0 && number.abs() < 9.0e15).map(truncated),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the caller has checked that it is whole and small enough")]
const fn truncated(number: f64) -> i64 {
    number as i64
}

/// A truth, however it is written: `true`, 1, "1", "yes", "on".
#[must_use]
pub fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) => number.as_f64().map(|number| number != 0.0),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" | "enabled" => Some(true),
            "0" | "false" | "no" | "off" | "disabled" => Some(false),
            _ => None,
        },
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A text that says something.
#[must_use]
pub fn text(value: &Value) -> Option<&str> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// What could be read of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows<T> {
    /// The rows that could be read.
    pub good: Vec<T>,
    /// How many could not.
    pub bad: usize,
}

/// Reads each row of a list by itself; none where `list` is no list.
#[must_use]
pub fn rows<'a, T>(list: &'a Value, read: impl Fn(&'a Map<String, Value>) -> Option<T>) -> Option<Rows<T>> {
    let list = list.as_array()?;
    let good: Vec<T> = list.iter().filter_map(|row| read(row.as_object()?)).collect();
    Some(Rows { bad: list.len() - good.len(), good })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_is_read_in_every_spelling_and_an_absent_one_is_no_zero() {
        for (value, expected) in [
            (json!(3), Some(3.0)),
            (json!(0.5), Some(0.5)),
            (json!(" 12.5 "), Some(12.5)),
            (json!(true), Some(1.0)),
            (json!(""), None),
            (json!("n/a"), None),
            (json!("inf"), None),
            (json!(null), None),
            (json!([1]), None),
        ] {
            assert_eq!(number(&value), expected, "{value}");
        }
        for (value, expected) in
            [(json!("42"), Some(42)), (json!(42.0), Some(42)), (json!(42.5), None), (json!("4.2e1"), Some(42))]
        {
            assert_eq!(integer(&value), expected, "{value}");
        }
    }

    #[test]
    fn a_truth_is_read_in_every_spelling() {
        for value in [json!(true), json!(1), json!("1"), json!("Yes"), json!("on")] {
            assert_eq!(flag(&value), Some(true), "{value}");
        }
        for value in [json!(false), json!(0), json!("0"), json!("no")] {
            assert_eq!(flag(&value), Some(false), "{value}");
        }
        for value in [json!(null), json!("perhaps"), json!({})] {
            assert_eq!(flag(&value), None, "{value}");
        }
    }

    #[test]
    fn one_broken_row_costs_only_itself() {
        let list = json!([{"id": 1}, {"id": "x"}, null, 7, {"id": "3"}]);
        assert_eq!(rows(&list, |row| integer(row.get("id")?)), Some(Rows { good: vec![1, 3], bad: 3 }));
        assert_eq!(rows(&json!({}), |_| Some(())), None);
    }
}
