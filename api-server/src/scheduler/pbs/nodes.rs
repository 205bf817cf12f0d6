//! Nodes, queues, reservations and servers as PBS tells of them. Pure: the time is an
//! argument.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::json::Attributes;
use super::text::{blocks, mebibytes, moment};
use crate::model::status::{
    NodeModel, NodeState, PartitionModel, PartitionState, ReservationModel,
};
use crate::scheduler::Ping;
use crate::scheduler::value::{Number, Text};

/// What `pbsnodes -a -F json` prints.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Nodes {
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    #[serde(rename = "Mom")]
    mom: Text,
    state: Text,
    pcpus: Number,
    queue: Text,
    resources_available: Attributes,
    resources_assigned: Attributes,
}

/// What `qstat -F json -f -Q` prints.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Queues {
    #[serde(rename = "Queue")]
    queues: BTreeMap<String, Queue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Queue {
    started: Text,
}

/// What `qstat -F json -f -B` prints.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Servers {
    #[serde(rename = "Server")]
    servers: BTreeMap<String, Server>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Server {
    server_state: Text,
    server_host: Text,
}

impl Nodes {
    pub(super) fn view(self) -> Vec<NodeModel> {
        self.nodes
            .into_iter()
            .map(|(name, node)| node.view(name))
            .collect()
    }
}

impl Node {
    fn view(self, name: String) -> NodeModel {
        let (available, assigned) = (&self.resources_available, &self.resources_assigned);
        let count = |of: &Attributes, key| of.text(key).and_then(|text| text.parse::<u32>().ok());
        let memory = |of: &Attributes| of.text("mem").and_then(|text| mebibytes(&text));
        let usable = count(available, "ncpus");
        let taken = count(assigned, "ncpus").unwrap_or(0);
        let taken_memory = memory(assigned).unwrap_or(0);
        let states = self.state.or_empty();
        NodeModel {
            cpus: self.pcpus.small().or(usable).unwrap_or(0),
            free_memory: memory(available).map(|all| all.saturating_sub(taken_memory)),
            address: self.mom.0,
            hostname: available.text("host"),
            state: states.split(',').map(|word| state(word.trim())).collect(),
            partitions: self.queue.0.map(|queue| vec![queue]),
            alloc_memory: Some(taken_memory),
            alloc_cpus: Some(taken),
            idle_cpus: usable.map(|usable| usable.saturating_sub(taken)),
            name,
            ..NodeModel::default()
        }
    }
}

fn state(word: &str) -> NodeState {
    match word {
        "free" => NodeState::Idle,
        "job-exclusive" | "job-busy" => NodeState::Allocated,
        "job-sharing" | "time-shared" => NodeState::Mixed,
        "down" => NodeState::Down,
        "offline" => NodeState::Offline,
        "reserve" | "resv-exclusive" => NodeState::Reserved,
        "busy" => NodeState::Busy,
        _ => NodeState::Unknown,
    }
}

impl Queues {
    pub(super) fn view(self) -> Vec<PartitionModel> {
        let view = |(name, queue): (String, Queue)| {
            let up = queue.started.0.as_deref() == Some("True");
            PartitionModel {
                name,
                cpus: None,
                total_nodes: None,
                partition: PartitionState::Word(if up { "UP" } else { "DOWN" }.to_owned()),
            }
        };
        self.queues.into_iter().map(view).collect()
    }
}

impl Servers {
    pub(super) fn view(self) -> Vec<Ping> {
        let view = |(name, server): (String, Server)| {
            let state = server.server_state.or_empty();
            let up = ["Active", "Scheduling", "Idle"].contains(&state.as_str());
            Ping {
                mode: None,
                hostname: Some(server.server_host.0.unwrap_or(name)),
                pinged: if up { "UP".to_owned() } else { state },
            }
        };
        self.servers.into_iter().map(view).collect()
    }
}

/// What `pbs_rstat -Sf` prints; `now` in unix seconds.
pub(super) fn reservations(text: &str, now: u64) -> Vec<ReservationModel> {
    let view = |(head, block): (String, BTreeMap<String, String>)| {
        let time = |name: &str| moment(block.get(name)?);
        let (start, end) = (time("reserve_start")?, time("reserve_end")?);
        let id = head.rsplit(':').next().unwrap_or(&head).trim();
        let name = block.get("Reserve_Name").filter(|name| *name != "NULL");
        let state = if (start..end).contains(&now) {
            "active"
        } else {
            "inactive"
        };
        Some(ReservationModel {
            name: name.map_or(id, String::as_str).to_owned(),
            node_list: vnodes(block.get("resv_nodes").map_or("", String::as_str)),
            start_time: i64::try_from(start).ok()?,
            end_time: i64::try_from(end).ok()?,
            features: None,
            state: Some(state.to_owned()),
        })
    };
    blocks(text).into_iter().filter_map(view).collect()
}

/// `(a:ncpus=1)+(b:ncpus=1)` as `a,b`.
fn vnodes(text: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for part in text.split('+') {
        let name = part
            .trim_start_matches('(')
            .split([':', ')'])
            .next()
            .unwrap_or("");
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(",")
}
