//! `scontrol show partitions`.

use super::{SlurmCommand, SlurmError, success};
use crate::command::ShellLine;
use crate::executor::Output;
use crate::model::status::{PartitionModel, PartitionState};

/// Asks for the partitions.
#[derive(Debug, Clone, Copy)]
pub struct Partitions {
    /// Also hidden ones.
    pub show_hidden: bool,
}

impl SlurmCommand for Partitions {
    type Parsed = Vec<PartitionModel>;

    fn render(&self) -> ShellLine {
        ShellLine::new("scontrol").args(["-a", "show", "-o", "partitions"])
    }

    fn read(&self, output: &Output) -> Result<Vec<PartitionModel>, SlurmError> {
        let text = success(output)?;
        let partitions = text.lines().filter_map(|line| {
            let hidden = value(line, "Hidden") == Some("YES");
            (self.show_hidden || !hidden).then(|| partition(line))?
        });
        Ok(partitions.collect())
    }
}

fn partition(line: &str) -> Option<PartitionModel> {
    let number = |key| value(line, key).and_then(|text| text.parse().ok());
    Some(PartitionModel {
        name: value(line, "PartitionName")?.to_owned(),
        cpus: number("TotalCPUs"),
        total_nodes: number("TotalNodes"),
        partition: PartitionState::Word(value(line, "State")?.to_owned()),
    })
}

/// The value of a key among `KEY=VALUE` words.
pub(super) fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split(' ')
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::printed;
    use super::*;

    #[test]
    fn partitions_of_slurm_22_05() {
        let text = include_str!("../../../testdata/slurm22.05/partitions.txt");
        let names = |show_hidden| {
            let partitions = Partitions { show_hidden }.read(&printed(text)).unwrap();
            partitions
                .into_iter()
                .map(|p| (p.name, p.cpus, p.total_nodes))
                .collect::<Vec<_>>()
        };
        let visible = [
            ("normal".into(), Some(24), Some(3)),
            ("xfer".into(), Some(8), Some(1)),
        ];
        assert_eq!(names(false), visible);
        assert_eq!(names(true).len(), 3);
    }
}
