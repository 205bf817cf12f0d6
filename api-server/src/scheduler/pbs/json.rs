//! The JSON of PBS, which at times is none. Pure.
//!
//! Up to 2022, PBS writes one value a line, by hand: without quotes what `strtod` takes for a
//! number (`005`, `inf`, `0x1F`, nothing at all), and in the variables of a job each backslash
//! as it stores it (`\'`, `\,`). One such job, of anybody, spoils the answer about all jobs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Reads what a program of PBS printed. Of a name that is there twice the last counts.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    let value: Value = serde_json::from_str(&with_names(text))
        .or_else(|_| serde_json::from_str(&mended(text)))
        .ok()?;
    serde_json::from_value(value).ok()
}

/// Attributes of a job or node by their names; none if they are no object.
#[derive(Debug, Default)]
pub(super) struct Attributes(BTreeMap<String, Value>);

impl Attributes {
    /// One as text; empty ones are none.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(Self(serde_json::from_value(value).unwrap_or_default()))
    }
}

/// The name of a job, which is written as a number when it looks like one: `1e5` is not `100000`.
const NAME: &str = "Job_Name";

/// With names of jobs as texts, where they are on lines of their own.
fn with_names(text: &str) -> Cow<'_, str> {
    let is_bare = |line: &str| {
        let (name, value, _) = parts(line);
        name == Some(NAME) && value.starts_with(|c: char| c.is_ascii_digit() || c == '-')
    };
    if !text.lines().any(is_bare) {
        return text.into();
    }
    // Two quotes for each name.
    let mut named = String::with_capacity(text.len() + text.len() / 64);
    for line in text.lines() {
        match is_bare(line) {
            true => named.push_str(&mended_line(line)),
            false => named.push_str(line),
        }
        named.push('\n');
    }
    named.into()
}

/// Each line as JSON.
fn mended(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = Cow::Borrowed(line);
        while is_open(&line) {
            let Some(next) = lines.next() else { break };
            line = format!("{line}\n{next}").into();
        }
        mended.push_str(&mended_line(&line));
        mended.push('\n');
    }
    mended
}

/// `"name":value` in its parts, without the comma behind it; not all lines have a name.
fn parts(line: &str) -> (Option<&str>, &str, bool) {
    let line = line.trim();
    let (line, comma) = match line.strip_suffix(',') {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let named = line
        .strip_prefix('"')
        .and_then(|rest| rest.split_once("\":"));
    match named {
        Some((name, value)) => (Some(name), value.trim_start(), comma),
        None => (None, line, comma),
    }
}

/// Whether a text began that the line does not end.
fn is_open(line: &str) -> bool {
    let (_, value, _) = parts(line);
    value.starts_with('"') && (value.len() == 1 || !value.ends_with('"'))
}

fn mended_line(line: &str) -> String {
    let (name, value, comma) = parts(line);
    let is_name = name == Some(NAME);
    let name = name.map_or_else(String::new, |name| format!("{}:", quoted(&plain(name))));
    let comma = if comma { "," } else { "" };
    let value = match is_name && !value.starts_with('"') {
        true => quoted(value).into(),
        false => mended_value(value, name.is_empty()),
    };
    format!("{name}{value}{comma}")
}

fn mended_value(value: &str, alone: bool) -> Cow<'_, str> {
    let bracket = ["{", "}", "[", "]"].contains(&value);
    if bracket || (alone && value.is_empty()) || serde_json::from_str::<Value>(value).is_ok() {
        return value.into();
    }
    let text = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    quoted(&plain(text.unwrap_or(value))).into()
}

/// A text without its escapes. A backslash before what needs none goes, as in later versions.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let c = match c {
            '\\' => match rest.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        };
        plain.push(c);
    }
    plain
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(text: &str) -> Value {
        read(text).unwrap()
    }

    #[test]
    fn what_looks_like_a_number_to_c_is_a_text() {
        // The first line is of PBS 19 (openpbs issue 1255), the rest is what `strtod` also takes.
        let text = "{\n    \"foo\":005,\n    \"a\":inf,\n    \"b\":-nan,\n    \"c\":0x1F,\n    \"d\":.5,\n    \"e\":,\n    \"f\":+1,\n    \"g\":7,\n    \"h\":1e5,\n    \"i\":\n}\n";
        let expected = json!({
            "foo": "005", "a": "inf", "b": "-nan", "c": "0x1F", "d": ".5", "e": "", "f": "+1",
            "g": 7, "h": 1e5, "i": "",
        });
        assert_eq!(value(text), expected);
    }

    #[test]
    fn the_name_of_a_job_stays_as_it_was_written() {
        for name in ["1e5", "1.50", "-0", "12345678901234567890123", "7"] {
            let valid = format!("{{\n  \"Job_Name\":{name},\n  \"n\":1.50\n}}\n");
            assert_eq!(value(&valid), json!({"Job_Name": name, "n": 1.5}));
            let broken = valid.replace("1.50\n", "005\n");
            assert_eq!(value(&broken), json!({"Job_Name": name, "n": "005"}));
        }
        assert!(matches!(
            with_names("{\n\"Job_Name\":\"1\"\n}"),
            Cow::Borrowed(_)
        ));
    }

    #[test]
    fn escapes_that_json_does_not_have_lose_their_backslash() {
        // As openpbs pull request 2049 shows them.
        let text = r#"{
    "MYVAR":"\'\"asads\"\'",
    "MYVAR2":"/home/pbstest01/Mo\\\'",
    "LIST":"ab\,c",
    "BASH_FUNC_m()":"() {  eval "$(x -q)"\n}",
    "PATH":"C:\"
}"#;
        let expected = json!({
            "MYVAR": "'\"asads\"'", "MYVAR2": "/home/pbstest01/Mo\\'", "LIST": "ab,c",
            "BASH_FUNC_m()": "() {  eval \"$(x -q)\"\n}", "PATH": "C:\\",
        });
        assert_eq!(value(text), expected);
    }

    #[test]
    fn control_characters_and_names_that_come_twice_are_read() {
        let text = "{\"Queue\":{\n  \"q\":{\n \"max\":\"[o:PBS_ALL=10]\",\n \"max\":\"[u:tom=15]\",\n \"jobs\":[\n  \"1.pbs\",\n  \"2.pbs\"\n ],\n \"tab\":\"a\tb\",\n \"lines\":\"one\n two\n\",\n \"x\":1\n }\n}}";
        // The first line is not one value; such documents are valid but for their values.
        assert_eq!(read::<Value>(text), None);
        let text = text
            .replacen("{\"Queue\":{\n", "{\n\"Queue\":{\n", 1)
            .replace("}}", "}\n}");
        let queue = json!({
            "max": "[u:tom=15]", "jobs": ["1.pbs", "2.pbs"], "tab": "a\tb",
            "lines": "one\n two\n", "x": 1,
        });
        assert_eq!(value(&text), json!({"Queue": {"q": queue}}));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "qstat: no", "{\n\"a\":\"b", "{\n\"a\":1\n", "\"\\"] {
            assert_eq!(read::<BTreeMap<String, Value>>(text), None, "{text:?}");
        }
        assert!(read::<Attributes>("\"A=1,B=2\"").unwrap().0.is_empty());
    }
}
