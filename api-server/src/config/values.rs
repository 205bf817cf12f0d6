//! Lenient scalars, as existing configurations write them: numbers as strings, `secret_file:`.

use std::fmt;
use std::io::Read as _;
use std::marker::PhantomData;
use std::path::PathBuf;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::{Secret, limits};

/// A boolean, or a word for one.
pub(super) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Words;
    impl Visitor<'_> for Words {
        type Value = bool;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a boolean")
        }
        fn visit_bool<E: de::Error>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<bool, E> {
            match value {
                0 => Ok(false),
                1 => Ok(true),
                _ => Err(E::invalid_value(de::Unexpected::Unsigned(value), &self)),
            }
        }
        fn visit_str<E: de::Error>(self, value: &str) -> Result<bool, E> {
            parse_boolean(value).ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
        }
    }
    deserializer.deserialize_any(Words)
}

/// The words for booleans, of configuration and queries alike.
pub(crate) fn parse_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" | "t" | "y" => Some(true),
        "0" | "false" | "no" | "off" | "f" | "n" => Some(false),
        _ => None,
    }
}

/// A whole number, or a string holding one.
pub(super) fn integer<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    struct Number<T>(PhantomData<T>);
    impl<T: TryFrom<u64>> Visitor<'_> for Number<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number in range, not negative")
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
            let out_of_range = E::invalid_value(de::Unexpected::Unsigned(value), &self);
            T::try_from(value).map_err(|_| out_of_range)
        }
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
            match u64::try_from(value) {
                Ok(value) => self.visit_u64(value),
                Err(_) => Err(E::invalid_value(de::Unexpected::Signed(value), &self)),
            }
        }
        fn visit_str<E: de::Error>(self, value: &str) -> Result<T, E> {
            match value.trim().parse::<u64>() {
                Ok(number) => self.visit_u64(number),
                Err(_) => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
            }
        }
    }
    deserializer.deserialize_any(Number(PhantomData))
}

/// As [`integer`], or null.
pub(super) fn optional_integer<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    #[derive(serde::Deserialize)]
    #[serde(bound = "T: TryFrom<u64>")]
    struct Wrapped<T: TryFrom<u64>>(#[serde(deserialize_with = "integer")] T);
    Ok(Option::<Wrapped<T>>::deserialize(deserializer)?.map(|Wrapped(value)| value))
}

/// A string or a list of strings.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::One(text) => vec![text],
        Either::Many(list) => list,
    })
}

/// A literal secret, or `secret_file:/path`.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.strip_prefix("secret_file:") {
            None => Ok(Self::new(text)),
            Some(path) => read_secret(path).map_err(de::Error::custom),
        }
    }
}

fn read_secret(path: &str) -> Result<Secret, String> {
    let path = expand_home(path.trim());
    let mut text = zeroize::Zeroizing::new(String::new());
    let read = std::fs::File::open(&path).and_then(|file| {
        file.take(limits::SECRET_FILE_MAX_BYTES + 1)
            .read_to_string(&mut text)
    });
    match read {
        Err(error) => Err(format!("secret_file {}: {error}", path.display())),
        Ok(bytes) if bytes as u64 > limits::SECRET_FILE_MAX_BYTES => {
            Err(format!("secret_file {}: too long", path.display()))
        }
        Ok(_) => Ok(Secret::new(text.trim())),
    }
}

/// `~` and `~/…` stand for the home directory of the service.
pub(super) fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix('~'), std::env::home_dir()) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
            home.join(rest.trim_start_matches('/'))
        }
        _ => PathBuf::from(path),
    }
}

/// What serde says of a value that does not fit, without the value: it may be a key or a password
/// in the wrong place.
pub(super) fn without_value(message: &str) -> String {
    let is_about_value = ["invalid type: ", "invalid value: "]
        .iter()
        .any(|begin| message.starts_with(begin));
    match (message.find(['`', '"']), message.rfind(", expected ")) {
        // Such as: invalid type: integer `5`, expected a string
        (Some(value), Some(expected)) if is_about_value && value < expected => {
            format!("{}{}", message[..value].trim_end(), &message[expected..])
        }
        _ => message.to_owned(),
    }
}

/// Reads one alternative of a union, naming the path inside it in errors.
pub(super) fn alternative<T, E>(value: serde_json::Value) -> Result<T, E>
where
    T: de::DeserializeOwned,
    E: de::Error,
{
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, cause) = (error.path().to_string(), error.into_inner());
        let cause = without_value(&cause.to_string());
        if path == "." {
            E::custom(cause)
        } else {
            E::custom(format!("{path}: {cause}"))
        }
    })
}
