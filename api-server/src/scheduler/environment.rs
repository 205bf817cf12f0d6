//! Variables of jobs on the command lines of `sbatch` and `qsub`.

use super::{JobDescription, SchedulerError};

/// Names and values.
pub(crate) type Variables<'a> = Vec<(&'a str, &'a str)>;

impl JobDescription {
    /// The variables that an option can list as they are, and the others, which reach the job only
    /// if the program has them in its own environment and exports that: lists are split at commas,
    /// and quotes and backslashes in them mean something, in PBS not always the same.
    pub(crate) fn listed_and_inherited(&self) -> (Variables<'_>, Variables<'_>) {
        let variables = self.environment.iter();
        let variables = variables.map(|(name, value)| (name.as_str(), value.as_str()));
        variables.partition(|(_, value)| is_plain(value))
    }

    /// Whether the program can have the variables that it has to inherit: those of `own` it would
    /// read itself. What ends in `_` there is the beginning of names.
    ///
    /// # Errors
    /// With the variable that it cannot have.
    pub(crate) fn check_inherited(
        &self,
        program: &str,
        own: &[&str],
    ) -> Result<(), SchedulerError> {
        let (_, inherited) = self.listed_and_inherited();
        let is_own = |name: &str| {
            let mut own = own.iter();
            own.any(|own| name == *own || (own.ends_with('_') && name.starts_with(own)))
        };
        match inherited.into_iter().find(|(name, _)| is_own(name)) {
            Some((name, _)) => Err(SchedulerError::Rejected {
                reason: format!(
                    "the variable '{name}' cannot hold a comma, quote, backslash or line break, \
                     since {program} would take it for itself; set it in the script"
                ),
            }),
            None => Ok(()),
        }
    }
}

fn is_plain(value: &str) -> bool {
    !value.contains([',', '\'', '"', '\\', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_reads_itself_is_listed_or_refused() {
        let check = |name: &str, value: &str| {
            let mut job = JobDescription::default();
            job.environment.insert(name.to_owned(), value.to_owned());
            job.check_inherited("sbatch", &["LD_", "SBATCH_"])
        };
        for plain in ["", "a b", "a=b;$(id)", "/lib:/lib64"] {
            assert!(check("LD_LIBRARY_PATH", plain).is_ok(), "{plain}");
        }
        for odd in ["a,b", "it's", "\"", "\\", "a\nb"] {
            let refused = check("SBATCH_PARTITION", odd).unwrap_err().to_string();
            assert!(
                refused.contains("'SBATCH_PARTITION' cannot hold"),
                "{refused}"
            );
            assert!(check("MY_SBATCH_PARTITION", odd).is_ok());
        }
    }
}
