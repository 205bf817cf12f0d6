//! Query parameters, judged as the reference judges them.

use std::str::FromStr;

use crate::config::parse_boolean;
use crate::error::FieldError;

/// Decoded parameters; of a repeated one the last counts, unknown ones are ignored.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl Query {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(text.unwrap_or_default().as_bytes());
        Self {
            pairs: pairs.into_owned().collect(),
            errors: Vec::new(),
        }
    }

    fn last(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A text as it was given, empty or not.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.last(name)
    }

    /// A text; an empty one counts as not given.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.last(name)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    }

    /// A text of at most `max` characters.
    pub(crate) fn text_up_to(&mut self, name: &str, max: usize) -> Option<String> {
        let text = self.text(name)?;
        if text.chars().count() > max {
            let message = format!("String should have at most {max} characters");
            self.errors.push(FieldError::query(name, message));
        }
        Some(text)
    }

    /// A boolean, `false` when absent.
    pub(crate) fn boolean(&mut self, name: &str) -> bool {
        let Some(text) = self.last(name) else {
            return false;
        };
        parse_boolean(text).unwrap_or_else(|| {
            let message = "Input should be a valid boolean, unable to interpret input";
            self.errors.push(FieldError::query(name, message));
            false
        })
    }

    /// A whole number.
    pub(crate) fn integer(&mut self, name: &str) -> Option<i64> {
        let text = self.last(name)?;
        let parsed = whole_number(text).or_else(|| beyond(text));
        if parsed.is_none() {
            let message = "Input should be a valid integer, unable to parse string as an integer";
            self.errors.push(FieldError::query(name, message));
        }
        parsed
    }

    /// One of several words, each with its meaning; the one at `default` when absent.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        name: &str,
        choices: &[(&str, T)],
        default: usize,
    ) -> T {
        let text = self.last(name);
        let found = text.map(|text| choices.iter().find(|(word, _)| *word == text));
        match found {
            None => choices[default].1,
            Some(Some((_, meaning))) => *meaning,
            Some(None) => {
                let message = one_of(choices);
                self.errors.push(FieldError::query(name, message));
                choices[default].1
            }
        }
    }

    /// What was wrong so far.
    pub(crate) fn take_errors(&mut self) -> Vec<FieldError> {
        std::mem::take(&mut self.errors)
    }
}

/// A whole number, also one with a fraction of nothing: `5.0`.
pub(super) fn whole_number<T: FromStr>(text: &str) -> Option<T> {
    let text = text.trim();
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|b| b == b'0') => whole,
        _ => text,
    };
    whole.parse().ok()
}

/// The largest or smallest number in place of a whole one that is further from zero.
fn beyond(text: &str) -> Option<i64> {
    let text = text.trim();
    let (digits, most) = match text.strip_prefix('-') {
        // Its opposite is one too.
        Some(digits) => (digits, -i64::MAX),
        None => (text.strip_prefix('+').unwrap_or(text), i64::MAX),
    };
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    all_digits.then_some(most)
}

/// What is wrong with a word that is none of `choices`.
pub(super) fn one_of<T>(choices: &[(&str, T)]) -> String {
    let words = choices.iter().map(|(word, _)| format!("'{word}'"));
    let words: Vec<String> = words.collect();
    match words.as_slice() {
        [first @ .., last] if !first.is_empty() => {
            format!("Input should be {} or {last}", first.join(", "))
        }
        words => format!("Input should be {}", words.concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_booleans_and_the_last_one_wins() {
        let mut query = Query::parse(Some("a=no&a=ON&b=&c=perhaps&d=%74"));
        assert!(query.boolean("a") && query.boolean("d") && !query.boolean("absent"));
        assert!(query.take_errors().is_empty());
        assert!(!query.boolean("b") && !query.boolean("c"));
        assert_eq!(query.take_errors().len(), 2);
    }

    #[test]
    fn whole_numbers() {
        let mut query = Query::parse(Some("a=-3&b=%2B5&c=&d=1.5&e=x"));
        assert_eq!(
            (query.integer("a"), query.integer("b")),
            (Some(-3), Some(5))
        );
        assert_eq!(query.integer("absent"), None);
        let mut large = Query::parse(Some("a=9223372036854775808&b=-99999999999999999999"));
        assert_eq!(
            (large.integer("a"), large.integer("b")),
            (Some(i64::MAX), Some(-i64::MAX))
        );
        assert_eq!(whole_number("5.0"), Some(5_i64));
        assert_eq!(
            (whole_number::<i64>("5.01"), whole_number::<i64>(".0")),
            (None, None)
        );
        assert!(query.take_errors().is_empty());
        for name in ["c", "d", "e"] {
            assert_eq!(query.integer(name), None);
        }
        assert_eq!(query.take_errors().len(), 3);
    }

    #[test]
    fn texts_and_choices() {
        let mut query = Query::parse(Some("account=&name=xx&w=8h&v=9h"));
        assert_eq!(query.text("account"), None);
        assert_eq!(query.text_up_to("name", 2), Some("xx".into()));
        let choices = [("1h", 1), ("8h", 8), ("24h", 24)];
        assert_eq!(query.choice("w", &choices, 2), 8);
        assert_eq!(query.choice("absent", &choices, 2), 24);
        assert!(query.take_errors().is_empty());
        query.choice("v", &choices, 2);
        query.text_up_to("name", 1);
        let messages: Vec<String> = query.take_errors().into_iter().map(|e| e.message).collect();
        assert_eq!(
            messages,
            [
                "Input should be '1h', '8h' or '24h'",
                "String should have at most 1 characters"
            ]
        );
    }
}
