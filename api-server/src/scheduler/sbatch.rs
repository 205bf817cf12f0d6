//! `#SBATCH` lines of scripts, read as sbatch does. Pure.

/// One word of such a line, with the next one where that is its value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// An option by its long name.
    Option { name: String, value: Option<String> },
    /// What is no option that is known.
    Word(String),
}

/// A quote is not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a quote in an #SBATCH line of the script is not closed")]
pub(super) struct OpenQuote;

/// Options with one letter, and what they stand for.
const SHORT: &[(char, &str)] = &[
    ('A', "account"),
    ('a', "array"),
    ('B', "extra-node-info"),
    ('b', "begin"),
    ('C', "constraint"),
    ('c', "cpus-per-task"),
    ('D', "chdir"),
    ('d', "dependency"),
    ('e', "error"),
    ('F', "nodefile"),
    ('G', "gpus"),
    ('H', "hold"),
    ('i', "input"),
    ('J', "job-name"),
    ('k', "no-kill"),
    ('L', "licenses"),
    ('M', "clusters"),
    ('m', "distribution"),
    ('N', "nodes"),
    ('n', "ntasks"),
    ('O', "overcommit"),
    ('o', "output"),
    ('p', "partition"),
    ('Q', "quiet"),
    ('q', "qos"),
    ('S', "core-spec"),
    ('s', "oversubscribe"),
    ('t', "time"),
    ('v', "verbose"),
    ('W', "wait"),
    ('w', "nodelist"),
    ('x', "exclude"),
];

/// Options whose next word is not their value: they have none, or only one behind `=`.
const ALONE: &[&str] = &[
    "contiguous",
    "exclusive",
    "get-user-env",
    "hold",
    "ignore-pbs",
    "nice",
    "no-kill",
    "no-requeue",
    "overcommit",
    "oversubscribe",
    "parsable",
    "propagate",
    "quiet",
    "reboot",
    "requeue",
    "spread-job",
    "test-only",
    "use-min-nodes",
    "verbose",
    "wait",
];

/// Whether an option means something without a value. One that is not known is taken to need one.
pub(super) fn stands_alone(name: &str) -> bool {
    ALONE.contains(&name)
}

/// What the head of a script asks for, in its order: all up to the first line that is neither
/// comment nor blank.
///
/// # Errors
/// When a quote is not closed.
pub(super) fn asked(script: &str) -> Result<Vec<Asked>, OpenQuote> {
    let head = script.lines().take_while(|line| {
        let line = line.trim_start();
        line.is_empty() || line.starts_with('#')
    });
    let mut found = Vec::new();
    for line in head.filter_map(|line| line.strip_prefix("#SBATCH")) {
        let mut words = words(line)?.into_iter();
        while let Some(word) = words.next() {
            found.push(match option(&word) {
                Some((name, None)) if !stands_alone(&name) => Asked::Option {
                    name,
                    value: words.next(),
                },
                Some((name, value)) => Asked::Option { name, value },
                None => Asked::Word(word),
            });
        }
    }
    Ok(found)
}

/// The long name of one option, and its value where it is in the same word.
fn option(word: &str) -> Option<(String, Option<String>)> {
    if let Some(long) = word.strip_prefix("--") {
        return match long.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), Some(value.to_owned()))),
            None => (!long.is_empty()).then(|| (long.to_owned(), None)),
        };
    }
    let mut letters = word.strip_prefix('-')?.chars();
    let letter = letters.next()?;
    let (_, name) = SHORT.iter().find(|(short, _)| *short == letter)?;
    let rest = letters.as_str();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let value = (!rest.is_empty()).then(|| rest.to_owned());
    Some(((*name).to_owned(), value))
}

/// Words of a line: quotes and backslashes hold them together, a `#` ends the line.
fn words(line: &str) -> Result<Vec<String>, OpenQuote> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(OpenQuote);
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_option_is_read() {
        let option = |name: &str, value: Option<&str>| Asked::Option {
            name: name.to_owned(),
            value: value.map(str::to_owned),
        };
        let script = "#!/bin/sh\n\n#SBATCH -J mine -o=out -t5 --exclusive --mem 2G\n\
                      # words\n#SBATCH --comment \"-o x\" -H --chdir='a b' word -Z # -e err\n\
                      \x20#SBATCH -e indented\n##SBATCH -e twice\n#SBATCH --error\n\
                      \techo\n#SBATCH -e late\n";
        let expected = [
            option("job-name", Some("mine")),
            option("output", Some("out")),
            option("time", Some("5")),
            option("exclusive", None),
            option("mem", Some("2G")),
            option("comment", Some("-o x")),
            option("hold", None),
            option("chdir", Some("a b")),
            Asked::Word("word".into()),
            Asked::Word("-Z".into()),
            option("error", None),
        ];
        assert_eq!(asked(script).unwrap(), expected);
        assert_eq!(asked("#SBATCH -J 'open\n"), Err(OpenQuote));
    }
}
