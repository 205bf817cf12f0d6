//! Values as schedulers write them in JSON, which differs from version to version: plain, or an
//! object that says whether there is one; a word, or a list of words.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A number: plain, as a text, or `{"set":…,"infinite":…,"number":…}`. Unset and infinite
/// ones are none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Number(pub(super) Option<f64>);

/// A text; empty ones are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text(pub(super) Option<String>);

/// One word, or several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words(pub(super) Vec<String>);

impl Number {
    /// A whole number, not negative.
    pub(super) fn whole(self) -> Option<u64> {
        let value = self.0.filter(|value| *value >= 0.0)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative; saturates"
        )]
        Some(value as u64)
    }

    /// A small whole number, also a negative one; one that does not fit is none.
    pub(super) fn signed(self) -> Option<i32> {
        let fits = f64::from(i32::MIN)..=f64::from(i32::MAX);
        let value = self.0.filter(|value| fits.contains(value))?;
        #[expect(clippy::cast_possible_truncation, reason = "fits")]
        Some(value as i32)
    }

    /// A moment in unix seconds; 0 stands for none.
    pub(super) fn moment(self) -> Option<u64> {
        self.whole().filter(|seconds| *seconds > 0)
    }

    /// A small whole number; one that does not fit is none.
    pub(super) fn small(self) -> Option<u32> {
        u32::try_from(self.whole()?).ok()
    }
}

impl Text {
    /// The text, or an empty one.
    pub(super) fn or_empty(self) -> String {
        self.0.unwrap_or_default()
    }
}

impl Words {
    /// The first word, or an empty text.
    pub(super) fn first(self) -> String {
        self.0.into_iter().next().unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self(number(&value)))
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Object(object) => {
            let says = |name| object.get(name).and_then(Value::as_bool);
            let known = says("set").unwrap_or(true) && !says("infinite").unwrap_or(false);
            known.then(|| object.get("number")?.as_f64()).flatten()
        }
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Value::deserialize(deserializer)? {
            Value::String(text) if !text.is_empty() => Some(text),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }))
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = |value| match value {
            Value::String(text) if !text.is_empty() => Some(text),
            _ => None,
        };
        Ok(Self(match Value::deserialize(deserializer)? {
            Value::Array(list) => list.into_iter().filter_map(word).collect(),
            value => word(value).into_iter().collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_of_every_version() {
        let read = |value| serde_json::from_value::<Number>(value).unwrap();
        assert_eq!(read(json!(60)).whole(), Some(60));
        assert_eq!(read(json!("60")).whole(), Some(60));
        let wrapped = |set, infinite| json!({"set": set, "infinite": infinite, "number": 60});
        assert_eq!(read(wrapped(true, false)).whole(), Some(60));
        for value in [
            wrapped(false, false),
            wrapped(true, true),
            wrapped(false, true),
            json!(null),
            json!(-1),
            json!([]),
            json!("soon"),
        ] {
            assert_eq!(read(value.clone()).whole(), None, "{value}");
        }
        assert_eq!(read(json!(0)).moment(), None);
        assert_eq!(read(json!(1e30)).small(), None);
        assert_eq!(read(json!("-29")).signed(), Some(-29));
        assert_eq!(
            (read(json!(271)).signed(), read(json!(1e30)).signed()),
            (Some(271), None)
        );
    }

    #[test]
    fn words_and_texts() {
        let words = |value| serde_json::from_value::<Words>(value).unwrap();
        assert_eq!(words(json!(["A", "B"])).first(), "A");
        assert_eq!(words(json!("A")).first(), "A");
        assert_eq!(words(json!([])).first(), "");
        let text = |value| serde_json::from_value::<Text>(value).unwrap().0;
        assert_eq!(text(json!("")), None);
        assert_eq!(text(json!(null)), None);
        assert_eq!(text(json!("x")), Some("x".into()));
    }
}
