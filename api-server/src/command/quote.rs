//! The one place where shell text is built. Every argument is quoted here, whatever it holds.

use std::fmt::Write as _;

/// One shell word that the shell reads back as exactly `text`.
///
/// Single quotes protect every byte but the single quote itself, in every POSIX shell.
/// A NUL cannot be in an argument of any program; callers refuse it before
/// ([`RemotePath`](super::RemotePath)), and here it is left out.
pub fn quote(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str(r"'\''"),
            '\0' => {}
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// A command line under construction; it only grows by quoted words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellLine(String);

impl ShellLine {
    /// Starts with the program.
    pub fn new(program: &str) -> Self {
        Self(quote(program))
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<str>) -> Self {
        // Writing to a String cannot fail.
        let _ = write!(self.0, " {}", quote(argument.as_ref()));
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<T: AsRef<str>>(self, arguments: impl IntoIterator<Item = T>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// The line, for `sh -c`, an SSH channel or a job script.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn through_sh(words: &[String]) -> Vec<u8> {
        let line = ShellLine::new("printf").arg("%s\\0").args(words);
        Command::new("sh")
            .arg("-c")
            .arg(line.as_str())
            .output()
            .unwrap()
            .stdout
    }

    #[test]
    fn plain_words_stay_readable() {
        assert_eq!(quote("--port-range"), "--port-range");
        assert_eq!(quote("/home/a b"), "'/home/a b'");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }

    #[test]
    fn hostile_words_arrive_unchanged() {
        let words: Vec<String> = [
            "$(id)",
            "`id`",
            "a\nb",
            "-rf",
            "~",
            "*",
            "'; id; '",
            "\\",
            "\"",
            "!!",
            "é\u{200b}",
            "",
        ]
        .map(String::from)
        .to_vec();
        assert_eq!(through_sh(&words), (words.join("\0") + "\0").into_bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_word_arrives_unchanged(words in proptest::collection::vec("[^\0]{0,40}", 1..8)) {
            prop_assert_eq!(through_sh(&words), (words.join("\0") + "\0").into_bytes());
        }
    }
}
