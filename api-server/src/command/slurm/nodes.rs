//! `sinfo`: the nodes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{SlurmCommand, SlurmError, given, success};
use crate::command::ShellLine;
use crate::executor::Output;
use crate::model::status::{Features, NodeModel, NodeState};

/// Asks for all nodes.
#[derive(Debug, Clone, Copy)]
pub struct Nodes;

const FIELD_COUNT: usize = 14;

impl SlurmCommand for Nodes {
    type Parsed = Vec<NodeModel>;

    fn render(&self) -> ShellLine {
        ShellLine::new("sinfo").args([
            "-a",
            "-N",
            "--noheader",
            "--format=%z|%c|%O|%e|%f|%N|%o|%n|%T|%R|%w|%v|%m|%C",
        ])
    }

    fn read(&self, output: &Output) -> Result<Vec<NodeModel>, SlurmError> {
        let text = success(output)?;
        let mut nodes: Vec<NodeModel> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for line in text.lines() {
            let fields: Vec<&str> = line.split('|').collect();
            if fields.len() != FIELD_COUNT {
                continue;
            }
            // One line for each partition of a node.
            match places.entry(fields[5]) {
                Entry::Occupied(place) => nodes[*place.get()]
                    .partitions
                    .get_or_insert_default()
                    .push(fields[9].to_owned()),
                Entry::Vacant(place) => {
                    place.insert(nodes.len());
                    nodes.push(node(&fields));
                }
            }
        }
        Ok(nodes)
    }
}

fn node(fields: &[&str]) -> NodeModel {
    let layout: Vec<Option<u32>> = fields[0].split(':').map(|n| n.parse().ok()).collect();
    let layout = |at: usize| layout.get(at).copied().flatten();
    // Allocated, idle, other, total.
    let cpus: Vec<Option<u32>> = fields[13].split('/').map(|n| n.parse().ok()).collect();
    NodeModel {
        sockets: layout(0),
        cores: layout(1),
        threads: layout(2),
        cpus: fields[1].parse().unwrap_or(0),
        cpu_load: fields[2].parse().ok(),
        free_memory: fields[3].parse().ok(),
        features: given(fields[4]).map(Features::Text),
        name: fields[5].to_owned(),
        address: given(fields[6]),
        hostname: given(fields[7]),
        state: vec![NodeState::of_slurm(fields[8])],
        partitions: Some(vec![fields[9].to_owned()]),
        weight: fields[10].parse().ok(),
        // The reference reports a node's whole memory here, and clients show it as such.
        alloc_memory: fields[12].parse().ok(),
        alloc_cpus: cpus.first().copied().flatten(),
        idle_cpus: cpus.get(1).copied().flatten(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::printed;
    use super::*;

    #[test]
    fn nodes_of_slurm_22_05() {
        let text = include_str!("../../../testdata/slurm22.05/sinfo.txt");
        let nodes = Nodes.read(&printed(text)).unwrap();
        assert_eq!(nodes.len(), 3);
        let first = &nodes[0];
        assert_eq!(
            first.partitions.as_deref().unwrap(),
            ["normal", "xfer", "hidden"]
        );
        assert_eq!(
            (first.sockets, first.cores, first.threads),
            (Some(8), Some(1), Some(1))
        );
        assert_eq!(
            (first.alloc_cpus, first.idle_cpus, first.cpus),
            (Some(0), Some(8), 8)
        );
        assert_eq!(first.state, [NodeState::Idle]);
    }
}
