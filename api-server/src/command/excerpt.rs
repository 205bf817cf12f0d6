//! `head` and `tail`: an end of a file, or the file without one.

use super::{CommandError, RemoteCommand, RemotePath, ShellLine};
use crate::model::files::{ContentUnit, FileContent};

/// Shows the beginning of a file, or all but its end.
#[derive(Debug, Clone)]
pub struct Head {
    /// Which file.
    pub path: RemotePath,
    /// How much.
    pub amount: Amount,
    /// Everything but the last so many.
    pub skip_trailing: bool,
}

/// Shows the end of a file, or all but its beginning.
#[derive(Debug, Clone)]
pub struct Tail {
    /// Which file.
    pub path: RemotePath,
    /// How much.
    pub amount: Amount,
    /// Everything from the so-manieth on.
    pub skip_heading: bool,
}

/// How much of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// What the program shows unless told otherwise: ten lines. With a number, zero was asked
    /// for, which means the same but is echoed.
    Default(Option<i64>),
    /// So many lines.
    Lines(i64),
    /// So many bytes.
    Bytes(i64),
}

impl Amount {
    fn unit(self) -> ContentUnit {
        match self {
            Self::Bytes(_) => ContentUnit::Bytes,
            Self::Lines(_) | Self::Default(_) => ContentUnit::Lines,
        }
    }

    /// The option of `head` and `tail`, with a sign before its number.
    fn option(self, sign: &str) -> Option<String> {
        match self {
            Self::Default(_) => None,
            Self::Lines(n) => Some(format!("--lines={sign}{n}")),
            Self::Bytes(n) => Some(format!("--bytes={sign}{n}")),
        }
    }

    fn number(self) -> Option<i64> {
        match self {
            Self::Default(number) => number,
            Self::Lines(n) | Self::Bytes(n) => Some(n),
        }
    }
}

/// Where an excerpt begins, or ends, unless told otherwise. For `tail` too: the API says so.
const DEFAULT_POSITION: i64 = 10;

impl RemoteCommand for Head {
    type Parsed = FileContent;

    fn render(&self) -> ShellLine {
        let sign = if self.skip_trailing { "-" } else { "" };
        ShellLine::new("head")
            .args(self.amount.option(sign))
            .args(["--", self.path.as_str()])
    }

    fn parse(&self, stdout: &str) -> Result<FileContent, CommandError> {
        let signed = |n: i64| {
            if self.skip_trailing {
                n.saturating_neg()
            } else {
                n
            }
        };
        Ok(FileContent {
            content: stdout.to_owned(),
            content_type: self.amount.unit(),
            start_position: 0,
            end_position: self.amount.number().map_or(DEFAULT_POSITION, signed),
        })
    }
}

impl RemoteCommand for Tail {
    type Parsed = FileContent;

    fn render(&self) -> ShellLine {
        let sign = if self.skip_heading { "+" } else { "" };
        ShellLine::new("tail")
            .args(self.amount.option(sign))
            .args(["--", self.path.as_str()])
    }

    fn parse(&self, stdout: &str) -> Result<FileContent, CommandError> {
        let signed = |n: i64| {
            if self.skip_heading {
                n
            } else {
                n.saturating_neg()
            }
        };
        Ok(FileContent {
            content: stdout.to_owned(),
            content_type: self.amount.unit(),
            start_position: self.amount.number().map_or(DEFAULT_POSITION, signed),
            end_position: -1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(amount: Amount, skip_trailing: bool) -> (String, i64) {
        let path = RemotePath::parse("/f").unwrap();
        let head = Head {
            path,
            amount,
            skip_trailing,
        };
        let parsed = head.parse("x").unwrap();
        assert_eq!(parsed.start_position, 0);
        (head.render().as_str().to_owned(), parsed.end_position)
    }

    fn tail(amount: Amount, skip_heading: bool) -> (String, i64) {
        let path = RemotePath::parse("/f").unwrap();
        let tail = Tail {
            path,
            amount,
            skip_heading,
        };
        let parsed = tail.parse("x").unwrap();
        assert_eq!(parsed.end_position, -1);
        (tail.render().as_str().to_owned(), parsed.start_position)
    }

    #[test]
    fn lines_and_positions_are_those_of_the_api() {
        use Amount::{Bytes, Default, Lines};
        let is = |(line, at): (String, i64), text: &str, position| {
            assert_eq!((line.as_str(), at), (text, position));
        };
        is(head(Default(None), false), "head -- /f", 10);
        is(head(Default(Some(0)), true), "head -- /f", 0);
        is(head(Lines(3), false), "head --lines=3 -- /f", 3);
        is(head(Lines(-3), false), "head --lines=-3 -- /f", -3);
        is(head(Bytes(3), true), "head --bytes=-3 -- /f", -3);
        is(tail(Default(None), true), "tail -- /f", 10);
        is(tail(Default(Some(0)), false), "tail -- /f", 0);
        is(tail(Lines(3), false), "tail --lines=3 -- /f", -3);
        is(tail(Bytes(-5), false), "tail --bytes=-5 -- /f", 5);
        is(tail(Bytes(3), true), "tail --bytes=+3 -- /f", 3);
    }
}
