//! Members of a JSON object, in any of their spellings, judged as the reference judges them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::query::one_of;
use crate::config::parse_boolean;
use crate::error::FieldError;
use crate::limits;

/// Reads members and collects what is wrong with them.
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    /// For an object inside the body: the name that errors are reported under.
    parent: Option<&'a str>,
    errors: Vec<FieldError>,
}

pub(crate) const MISSING: &str = "Field required";
/// What no program can be given, and no file name holds.
pub(crate) const NUL: &str = "String should not contain a NUL character";
pub(crate) const NOT_A_STRING: &str = "Input should be a valid string";
const NOT_A_BOOLEAN: &str = "Input should be a valid boolean, unable to interpret input";
pub(crate) const NOT_AN_OBJECT: &str =
    "Input should be a valid dictionary or object to extract fields from";

impl<'a> Fields<'a> {
    /// The members of the body.
    pub(crate) fn new(map: &'a Map<String, Value>) -> Self {
        Self {
            map,
            parent: None,
            errors: Vec::new(),
        }
    }

    /// The members of the object `parent` inside the body.
    pub(crate) fn inside(map: &'a Map<String, Value>, parent: &'a str) -> Self {
        Self {
            map,
            parent: Some(parent),
            errors: Vec::new(),
        }
    }

    /// The first of these spellings that is there.
    pub(crate) fn find(&self, names: &[&'a str]) -> Option<(&'a str, &'a Value)> {
        names
            .iter()
            .find_map(|name| self.map.get(*name).map(|value| (*name, value)))
    }

    pub(crate) fn error(&mut self, name: &str, message: &str) {
        self.errors
            .push(FieldError::body(self.parent.unwrap_or(name), message));
    }

    /// A string that must be there.
    pub(crate) fn required_text(&mut self, names: &[&'a str]) -> Option<String> {
        let Some((name, value)) = self.find(names) else {
            self.error(names[0], MISSING);
            return None;
        };
        self.text_of(name, value)
    }

    /// A string, null or nothing.
    pub(crate) fn nullable_text(&mut self, names: &[&'a str]) -> Option<String> {
        let (name, value) = self.find(names).filter(|(_, value)| !value.is_null())?;
        self.text_of(name, value)
    }

    /// A string or nothing, but not null.
    pub(crate) fn optional_text(&mut self, names: &[&'a str]) -> Option<String> {
        let (name, value) = self.find(names)?;
        self.text_of(name, value)
    }

    /// What was read of `name`, if a program can be given it as an argument.
    pub(crate) fn argument(&mut self, name: &str, text: Option<String>) -> Option<String> {
        self.up_to(limits::ARGUMENT_MAX_BYTES, name, text)
    }

    /// As [`argument`](Self::argument), with another bound.
    pub(crate) fn up_to(
        &mut self,
        max_bytes: usize,
        name: &str,
        text: Option<String>,
    ) -> Option<String> {
        let text = text?;
        if text.len() > max_bytes {
            self.error(
                name,
                &format!("{name}: String should have at most {max_bytes} bytes"),
            );
            return None;
        }
        if text.contains('\0') {
            self.error(name, NUL);
            return None;
        }
        Some(text)
    }

    /// A boolean, in any of the words for it; `false` when absent.
    pub(crate) fn boolean(&mut self, names: &[&'a str]) -> bool {
        let Some((name, value)) = self.find(names) else {
            return false;
        };
        let word = match value {
            Value::Bool(value) => return *value,
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => {
                self.error(name, "Input should be a valid boolean");
                return false;
            }
        };
        parse_boolean(&word).unwrap_or_else(|| {
            self.error(name, NOT_A_BOOLEAN);
            false
        })
    }

    /// One of several words, each with its meaning.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        names: &[&'a str],
        choices: &[(&str, T)],
        default: T,
    ) -> T {
        let Some((name, value)) = self.find(names) else {
            return default;
        };
        let text = value.as_str().unwrap_or_default();
        if let Some((_, meaning)) = choices.iter().find(|(word, _)| *word == text) {
            return *meaning;
        }
        self.error(name, &one_of(choices));
        default
    }

    fn text_of(&mut self, name: &str, value: &Value) -> Option<String> {
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            self.error(name, NOT_A_STRING);
        }
        text
    }

    /// An object of strings, or a list of `K=V`, or of `K` for an empty value.
    pub(crate) fn variables(&mut self, names: &[&'a str]) -> Option<BTreeMap<String, String>> {
        let (name, value) = self.find(names)?;
        match value {
            Value::Object(map) => {
                let strings = map
                    .iter()
                    .map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())));
                let strings = strings.collect::<Option<BTreeMap<_, _>>>();
                if strings.is_none() {
                    self.error(name, NOT_A_STRING);
                    self.error(name, "Input should be a valid list");
                }
                strings
            }
            Value::Array(list) => {
                let pair = |item: &Value| {
                    let text = item.as_str()?;
                    let (key, value) = text.split_once('=').unwrap_or((text, ""));
                    Some((key.to_owned(), value.to_owned()))
                };
                let pairs = list.iter().map(pair).collect::<Option<BTreeMap<_, _>>>();
                if pairs.is_none() {
                    self.error(name, "Input should be a valid dictionary");
                    self.error(name, NOT_A_STRING);
                }
                pairs
            }
            _ => {
                self.error(name, "Input should be a valid dictionary");
                self.error(name, "Input should be a valid list");
                None
            }
        }
    }

    /// Whether a job can be given such variables, and if not, says so.
    pub(crate) fn check_variables(&mut self, name: &str, variables: &BTreeMap<String, String>) {
        let bytes = |(key, value): (&String, &String)| key.len() + value.len();
        if variables
            .iter()
            .any(|(key, value)| key.contains('\0') || value.contains('\0'))
        {
            self.error(name, NUL);
        }
        let one = limits::JOB_VARIABLE_MAX_BYTES;
        if variables.iter().map(bytes).any(|bytes| bytes > one) {
            let message = format!("{name}: A variable should have at most {one} bytes");
            self.error(name, &message);
        }
        let all = limits::JOB_ENVIRONMENT_MAX_BYTES;
        if variables.iter().map(bytes).sum::<usize>() > all {
            let message = format!("{name}: The variables should have at most {all} bytes");
            self.error(name, &message);
        }
    }

    /// What was wrong.
    pub(crate) fn into_errors(self) -> Vec<FieldError> {
        self.errors
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variables(env: Value) -> (Option<Vec<(String, String)>>, usize) {
        let body = Map::from_iter([("env".to_owned(), env)]);
        let mut fields = Fields::new(&body);
        let read = fields.variables(&["env", "environment"]);
        let read = read.map(|map| map.into_iter().collect());
        (read, fields.into_errors().len())
    }

    #[test]
    fn variables_are_an_object_or_a_list() {
        let pairs = |list: &[(&str, &str)]| {
            let owned = list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            (Some(owned.collect()), 0)
        };
        let expected = pairs(&[("A", "1=2"), ("B", "")]);
        assert_eq!(variables(json!({"A": "1=2", "B": ""})), expected);
        assert_eq!(variables(json!(["A=1=2", "B="])), expected);
        assert_eq!(variables(json!(["A=1=2", "B"])), expected);
        for wrong in [
            json!({"A": 1}),
            json!(["A=1", 2]),
            json!("A=1"),
            json!(null),
        ] {
            assert_eq!(variables(wrong.clone()), (None, 2), "{wrong}");
        }
    }
}
