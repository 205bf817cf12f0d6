//! Nodes, partitions, reservations, accounts and pings as slurmrestd tells of them. Pure:
//! the time is an argument.

use serde::Deserialize;

use crate::model::status::{
    AccountsModel, Features, NodeModel, NodeState, PartitionModel, PartitionState, ReservationModel,
};
use crate::scheduler::Ping;
use crate::scheduler::value::{Number, Text, Words};

/// Answer of `/slurm/…/nodes`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    name: Text,
    address: Text,
    hostname: Text,
    sockets: Number,
    cores: Number,
    threads: Number,
    cpus: Number,
    /// In hundredths.
    cpu_load: Number,
    free_mem: Number,
    free_memory: Number,
    features: Words,
    state: Words,
    state_flags: Words,
    partitions: Words,
    weight: Number,
    alloc_memory: Number,
    alloc_cpus: Number,
    alloc_idle_cpus: Number,
    idle_cpus: Number,
}

/// Answer of `/slurm/…/partitions`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Partitions {
    partitions: Vec<Partition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Partition {
    name: Text,
    /// Up to version 0.0.38.
    total_nodes: Number,
    total_cpus: Number,
    state: Words,
    flags: Words,
    /// Since then. Before, `nodes` is the names.
    #[serde(deserialize_with = "total_or_none")]
    nodes: Option<Total>,
    cpus: Total,
    partition: InnerState,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Total {
    total: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct InnerState {
    state: Words,
}

fn total_or_none<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Total>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

/// Answer of `/slurm/…/reservations`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reservations {
    reservations: Vec<Reservation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reservation {
    name: Text,
    node_list: Text,
    start_time: Number,
    end_time: Number,
    features: Text,
}

/// Answer of `/slurmdb/…/associations`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Associations {
    associations: Vec<Association>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Association {
    account: Text,
    user: Text,
    is_default: Flag,
}

/// A truth value, which some versions write as a number.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Number(i64),
    #[default]
    Absent,
}

/// Answer of `/slurm/…/ping`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pings {
    pings: Vec<OnePing>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OnePing {
    mode: Text,
    hostname: Text,
    /// From version 0.0.39 to 0.0.42; `ping` before.
    #[serde(alias = "ping")]
    pinged: Text,
    /// In later versions only this.
    responding: Option<bool>,
}

impl Nodes {
    pub(super) fn view(self) -> Vec<NodeModel> {
        self.nodes.into_iter().map(Node::view).collect()
    }
}

impl Node {
    fn view(self) -> NodeModel {
        let words = self.state.0.iter().chain(&self.state_flags.0);
        let mut state: Vec<NodeState> = Vec::new();
        for word in words.map(|word| NodeState::of_slurm(word)) {
            if !state.contains(&word) {
                state.push(word);
            }
        }
        NodeModel {
            sockets: self.sockets.small(),
            cores: self.cores.small(),
            threads: self.threads.small(),
            cpus: self.cpus.small().unwrap_or(0),
            cpu_load: self.cpu_load.0.map(|hundredths| hundredths / 100.0),
            free_memory: self.free_mem.whole().or_else(|| self.free_memory.whole()),
            features: Some(Features::List(split(self.features))),
            name: self.name.or_empty(),
            address: self.address.0,
            hostname: self.hostname.0,
            state,
            partitions: Some(self.partitions.0),
            weight: self.weight.whole(),
            alloc_memory: self.alloc_memory.whole(),
            alloc_cpus: self.alloc_cpus.small(),
            idle_cpus: self
                .alloc_idle_cpus
                .small()
                .or_else(|| self.idle_cpus.small()),
        }
    }
}

/// Older versions write a list as one text with commas.
fn split(words: Words) -> Vec<String> {
    let words = words.0.iter().flat_map(|word| word.split(','));
    words.map(str::to_owned).collect()
}

impl Partitions {
    pub(super) fn view(self, show_hidden: bool) -> Vec<PartitionModel> {
        let hidden = |partition: &Partition| {
            let mut flags = partition.flags.0.iter();
            flags.any(|flag| flag.eq_ignore_ascii_case("hidden"))
        };
        let shown = self.partitions.into_iter();
        let shown = shown.filter(|partition| show_hidden || !hidden(partition));
        shown.map(Partition::view).collect()
    }
}

impl Partition {
    fn view(self) -> PartitionModel {
        let state = match self.partition.state.0 {
            words if words.is_empty() => PartitionState::Word(self.state.first()),
            words => PartitionState::List(words),
        };
        let nodes = self.nodes.unwrap_or_default().total;
        PartitionModel {
            name: self.name.or_empty(),
            cpus: self.cpus.total.small().or_else(|| self.total_cpus.small()),
            total_nodes: nodes.small().or_else(|| self.total_nodes.small()),
            partition: state,
        }
    }
}

impl Reservations {
    /// `now` in unix seconds.
    pub(super) fn view(self, now: i64) -> Vec<ReservationModel> {
        let seconds = |number: Number| i64::try_from(number.whole().unwrap_or(0)).unwrap_or(0);
        let view = |one: Reservation| {
            let (start_time, end_time) = (seconds(one.start_time), seconds(one.end_time));
            let active = (start_time..end_time).contains(&now);
            let state = if active { "active" } else { "inactive" };
            ReservationModel {
                name: one.name.or_empty(),
                node_list: one.node_list.or_empty(),
                end_time,
                start_time,
                features: one.features.0,
                state: Some(state.to_owned()),
            }
        };
        self.reservations.into_iter().map(view).collect()
    }
}

impl Associations {
    /// Accounts of this user, each once: the same one can be there for several partitions.
    pub(super) fn view(self, user: &str) -> Vec<AccountsModel> {
        let mut accounts: Vec<AccountsModel> = Vec::new();
        for one in self.associations {
            let (Some(name), Some(of)) = (one.account.0, one.user.0) else {
                continue;
            };
            let default = match one.is_default {
                Flag::Bool(flag) => flag,
                Flag::Number(number) => number != 0,
                Flag::Absent => false,
            };
            match accounts.iter_mut().find(|account| account.name == name) {
                Some(known) => known.default |= default,
                None if of == user => accounts.push(AccountsModel { name, default }),
                None => {}
            }
        }
        accounts
    }
}

impl Pings {
    pub(super) fn view(self) -> Vec<Ping> {
        let view = |one: OnePing| Ping {
            mode: one.mode.0,
            hostname: one.hostname.0,
            pinged: one.pinged.0.unwrap_or_else(|| {
                let up = one.responding == Some(true);
                if up { "UP" } else { "DOWN" }.to_owned()
            }),
        };
        self.pings.into_iter().map(view).collect()
    }
}
