//! `#SBATCH` lines as fields of a submission: slurmrestd does not read scripts. Pure.
//!
//! What has a field is given; what does not change how a job runs is left out; anything else is
//! refused, since the job would get other resources than its script asks for.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::scheduler::sbatch::{Asked, asked, stands_alone};
use crate::scheduler::{is_no_time_limit, parse_time_limit};

/// Options of a script by their long names; a later one replaces an earlier one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Directives(BTreeMap<String, Option<String>>);

/// What a job by REST is not affected by: it never has the submitter's environment, nobody
/// reads what a submission prints, and mail is no resource.
const WITHOUT_EFFECT: &[&str] = &[
    "chdir",
    "export",
    "get-user-env",
    "mail-type",
    "mail-user",
    "parsable",
    "quiet",
    "verbose",
];

/// Texts that are given as they are: option and field.
const TEXTS: &[(&str, &str)] = &[
    ("account", "account"),
    ("array", "array"),
    ("comment", "comment"),
    ("constraint", "constraints"),
    ("dependency", "dependency"),
    ("error", "standard_error"),
    ("input", "standard_input"),
    ("job-name", "name"),
    ("licenses", "licenses"),
    ("output", "standard_output"),
    ("partition", "partition"),
    ("qos", "qos"),
    ("reservation", "reservation"),
    ("wckey", "wckey"),
];

/// Plain numbers.
const NUMBERS: &[(&str, &str)] = &[
    ("cpus-per-task", "cpus_per_task"),
    ("ntasks", "tasks"),
    ("ntasks-per-node", "tasks_per_node"),
];

impl Directives {
    /// Reads a script as sbatch does.
    ///
    /// # Errors
    /// With the word that is no option.
    pub(super) fn of(script: &str) -> Result<Self, String> {
        let mut found = Self::default();
        for asked in asked(script).map_err(|error| error.to_string())? {
            let (name, value) = match asked {
                Asked::Option { name, value } => (name, value),
                Asked::Word(word) => {
                    return Err(format!(
                        "'{word}' in an #SBATCH line of the script is no known option"
                    ));
                }
            };
            if value.is_none() && !stands_alone(&name) {
                return Err(format!("#SBATCH --{name} in the script lacks a value"));
            }
            found.0.insert(name, value);
        }
        Ok(found)
    }

    /// Adds what the script asks for to the fields of a job, unless the request says it.
    ///
    /// # Errors
    /// With the directive that this version of the service has no field for, or whose value is
    /// none.
    pub(super) fn add_to(
        self,
        fields: &mut Map<String, Value>,
        version: u32,
    ) -> Result<(), String> {
        for (name, value) in self.0 {
            if WITHOUT_EFFECT.contains(&name.as_str()) {
                continue;
            }
            let value = value.unwrap_or_default();
            let Some((field, value)) = field(&name, &value, version) else {
                return Err(format!(
                    "'#SBATCH --{name}' of the script, with the value '{value}', cannot be given to \
                     Slurm's REST service; remove the line, or have the system's connection_mode \
                     be hybrid"
                ));
            };
            fields.entry(field).or_insert(value);
        }
        Ok(())
    }
}

/// The field for an option, and its value in the form of this version.
fn field(name: &str, value: &str, version: u32) -> Option<(&'static str, Value)> {
    let in_table = |table: &[(&str, &'static str)]| {
        let found = table.iter().find(|(option, _)| *option == name);
        found.map(|(_, field)| *field)
    };
    if let Some(field) = in_table(TEXTS) {
        return Some((field, value.into()));
    }
    if let Some(field) = in_table(NUMBERS) {
        return Some((field, value.parse::<u32>().ok()?.into()));
    }
    let number = |number: u64| match version {
        ..40 => json!(number),
        _ => json!({"set": true, "infinite": false, "number": number}),
    };
    let per_node = |what: String| match version {
        40.. => Some(("tres_per_node", what.into())),
        _ => None,
    };
    match name {
        // Slurm rounds up to minutes, too.
        "time" if is_no_time_limit(value) => {
            let none = match version {
                ..40 => json!(0),
                _ => json!({"set": true, "infinite": true, "number": 0}),
            };
            Some(("time_limit", none))
        }
        "time" => {
            let seconds = parse_time_limit(value)?.as_secs();
            Some(("time_limit", number(seconds.div_ceil(60))))
        }
        "nodes" => Some(("nodes", nodes(value)?)),
        "mem" => Some(("memory_per_node", number(mebibytes(value)?))),
        "mem-per-cpu" => Some(("memory_per_cpu", number(mebibytes(value)?))),
        "gres" if version < 39 => Some(("gres", value.into())),
        "gpus" if version < 39 => Some(("gpus", value.into())),
        "gpus-per-node" if version < 39 => Some(("gpus_per_node", value.into())),
        "gres" if !value.contains(',') => per_node(format!("gres/{value}")),
        "gpus-per-node" => per_node(format!("gres/gpu:{value}")),
        "gpus" if version >= 40 => Some(("tres_per_job", format!("gres/gpu:{value}").into())),
        "requeue" => Some(("requeue", true.into())),
        "no-requeue" => Some(("requeue", false.into())),
        "hold" => Some(("hold", true.into())),
        _ => None,
    }
}

/// `N` or `N-M`, as a text. Version 0.0.38 describes a list of numbers, and then takes no notice
/// of it.
fn nodes(text: &str) -> Option<Value> {
    let numbers = text.split('-').map(|part| part.parse::<u32>().ok());
    let numbers: Vec<u32> = numbers.collect::<Option<_>>()?;
    let fits = match numbers[..] {
        [number] => number > 0,
        [least, most] => least > 0 && most >= least,
        _ => false,
    };
    fits.then(|| text.into())
}

/// A size such as `4G`; without a letter, in MiB. Rounded up.
fn mebibytes(text: &str) -> Option<u64> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let number: u64 = digits.parse().ok()?;
    match unit
        .trim_end_matches(['B', 'b'])
        .to_ascii_uppercase()
        .as_str()
    {
        "K" => Some(number.div_ceil(1024)),
        "" | "M" => Some(number),
        "G" => number.checked_mul(1024),
        "T" => number.checked_mul(1024 * 1024),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(version: u32, lines: &str) -> Result<Value, String> {
        let mut fields = Map::from_iter([("name".to_owned(), json!("asked"))]);
        let directives = Directives::of(&format!("#!/bin/sh\n{lines}\necho\n"))?;
        directives.add_to(&mut fields, version)?;
        Ok(fields.into())
    }

    #[test]
    fn what_has_a_field_is_given_in_the_form_of_each_version() {
        let lines = "#SBATCH -J mine -t 1:30 --nodes=1-2\n\n# words\n#SBATCH --mem 2G -n4 # more\n\
                     #SBATCH --comment='a \"b\"' -A=staff --no-requeue --mail-type=ALL";
        let old = json!({
            "name": "asked", "account": "staff", "comment": "a \"b\"", "memory_per_node": 2048,
            "nodes": "1-2", "requeue": false, "tasks": 4, "time_limit": 2,
        });
        assert_eq!(fields(38, lines).unwrap(), old);
        assert_eq!(fields(39, lines).unwrap(), old);
        for version in 40..=42 {
            let new = fields(version, lines).unwrap();
            let wrapped = |number| json!({"set": true, "infinite": false, "number": number});
            assert_eq!(new["time_limit"], wrapped(2));
            assert_eq!(new["memory_per_node"], wrapped(2048));
            assert_eq!((&new["nodes"], &new["tasks"]), (&json!("1-2"), &json!(4)));
        }
        let gpus = "#SBATCH --gres=gpu:2 -G 4";
        assert_eq!(fields(38, gpus).unwrap()["gres"], "gpu:2");
        let new = fields(42, gpus).unwrap();
        assert_eq!(
            (&new["tres_per_node"], &new["tres_per_job"]),
            (&json!("gres/gpu:2"), &json!("gres/gpu:4"))
        );
    }

    #[test]
    fn what_has_none_is_refused_by_its_name() {
        for (version, line, word) in [
            (38, "--switches=2", "--switches"),
            (38, "--exclusive", "--exclusive"),
            (39, "--gres=gpu:1", "--gres"),
            (38, "--time=soon", "--time"),
            (38, "--nodes=0", "--nodes"),
            (38, "--nodes=3-2", "--nodes"),
            (38, "--mem=4X", "--mem"),
            (38, "-n many", "--ntasks"),
            (38, "-Z", "-Z"),
            (38, "words", "words"),
            (38, "--time", "--time"),
            (38, "-J 'open", "quote"),
        ] {
            let error = fields(version, &format!("#SBATCH {line}")).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn only_the_head_of_the_script_counts() {
        assert_eq!(
            Directives::of("#!/bin/sh\necho\n#SBATCH --switches=2\n"),
            Ok(Directives::default())
        );
        assert_eq!(
            Directives::of("#!/bin/sh\n## SBATCH x\n#SBATCH # -J x\n"),
            Ok(Directives::default())
        );
        assert_eq!(mebibytes("1500K"), Some(2));
        assert_eq!(mebibytes("99999999999999999999"), None);
        assert_eq!(mebibytes("18446744073709551615T"), None);
    }
}
