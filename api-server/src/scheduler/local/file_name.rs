//! Names of files with Slurm's patterns, as in `%x-%j.out`. Pure.

use std::fmt::Write as _;

/// What patterns stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) id: u64,
    /// Of the job.
    pub(super) name: &'a str,
    pub(super) user: &'a str,
    /// Of this machine, with its domain or without.
    pub(super) host: &'a str,
}

/// The index in an array of a job that is in none, as Slurm writes it.
const NO_INDEX: u64 = 0xffff_fffe;

/// Most digits that a number is filled up to.
const WIDTH_MAX: usize = 10;

impl Names<'_> {
    /// The name that a pattern stands for. A backslash in it means that there are no patterns; what
    /// is none stays as it is.
    pub(super) fn expand(&self, pattern: &str) -> String {
        if pattern.contains('\\') {
            return unescaped(pattern);
        }
        let mut text = String::with_capacity(pattern.len());
        let mut rest = pattern;
        while let Some((before, behind)) = rest.split_once('%') {
            text.push_str(before);
            rest = self.replace(behind, &mut text).unwrap_or_else(|| {
                text.push('%');
                behind
            });
        }
        text + rest
    }

    /// Writes what stands behind a `%`, and returns what follows it.
    fn replace<'p>(&self, behind: &'p str, text: &mut String) -> Option<&'p str> {
        let letter = behind.trim_start_matches(|c: char| c.is_ascii_digit());
        let (digits, _) = behind.split_at(behind.len() - letter.len());
        let mut rest = letter.chars();
        let number = match rest.next()? {
            'A' | 'J' | 'j' => self.id,
            'a' => NO_INDEX,
            // The only node, and the only task.
            'n' | 't' => 0,
            word => {
                text.push_str(match word {
                    'N' => self.host.split('.').next()?,
                    's' => "batch",
                    'u' => self.user,
                    'x' => self.name,
                    '%' if digits.is_empty() => "%",
                    _ => return None,
                });
                return Some(rest.as_str());
            }
        };
        let width = digits.parse().unwrap_or(0).min(WIDTH_MAX);
        // Writing to a text never fails.
        let _ = write!(text, "{number:0width$}");
        Some(rest.as_str())
    }
}

/// Without the backslashes, but for those behind one.
fn unescaped(pattern: &str) -> String {
    let mut characters = pattern.chars();
    let mut text = String::with_capacity(pattern.len());
    while let Some(c) = characters.next() {
        match c {
            '\\' => text.extend(characters.next()),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_what_they_do_in_slurm() {
        let names = Names {
            id: 42,
            name: "my %j",
            user: "bob",
            host: "node.example.org",
        };
        for (pattern, expected) in [
            ("slurm-%j.out", "slurm-42.out"),
            ("%x/%u-%A.%a", "my %j/bob-42.4294967294"),
            ("%N-%n-%t-%s-%J", "node-0-0-batch-42"),
            ("%5j %05t %99j %0x", "00042 00000 0000000042 my %j"),
            ("100%%j %%%j", "100%j %42"),
            ("%q %7 %é %", "%q %7 %é %"),
            (r"a\%j\\b\", r"a%j\b"),
            ("", ""),
        ] {
            assert_eq!(names.expand(pattern), expected, "{pattern}");
        }
    }
}
