//! Bodies of `/status/{system_name}/…`.

use serde::Serialize;
use utoipa::ToSchema;

/// `GET /status/{system_name}/nodes`.
#[derive(Debug, Serialize, ToSchema)]
pub struct GetNodesResponse {
    /// The nodes.
    pub nodes: Vec<NodeModel>,
}

/// One node; what is not known is null.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeModel {
    /// Sockets.
    pub sockets: Option<u32>,
    /// Cores of a socket.
    pub cores: Option<u32>,
    /// Threads of a core.
    pub threads: Option<u32>,
    /// Processors that jobs can have.
    pub cpus: u32,
    /// Load average.
    pub cpu_load: Option<f64>,
    /// Free memory, in MiB.
    pub free_memory: Option<u64>,
    /// Features, separated by commas or as a list, as the scheduler gives them.
    pub features: Option<Features>,
    /// Name in the scheduler.
    pub name: String,
    /// Address it is reached at.
    pub address: Option<String>,
    /// Name of the machine.
    pub hostname: Option<String>,
    /// States it is in.
    pub state: Vec<NodeState>,
    /// Partitions it belongs to.
    pub partitions: Option<Vec<String>>,
    /// Scheduling weight.
    pub weight: Option<u64>,
    /// Allocated memory, in MiB.
    pub alloc_memory: Option<u64>,
    /// Allocated processors.
    pub alloc_cpus: Option<u32>,
    /// Idle processors.
    pub idle_cpus: Option<u32>,
}

/// Features of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Features {
    /// One text.
    Text(String),
    /// A list.
    List(Vec<String>),
}

/// State of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the API's own words")]
pub enum NodeState {
    Idle,
    Allocated,
    Mixed,
    Down,
    Drain,
    Offline,
    Reserved,
    Completing,
    Busy,
    PoweringDown,
    PoweringUp,
    Unknown,
}

/// `GET /status/{system_name}/partitions`.
#[derive(Debug, Serialize, ToSchema)]
pub struct GetPartitionsResponse {
    /// The partitions.
    pub partitions: Vec<PartitionModel>,
}

/// One partition or queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionModel {
    /// Name.
    pub name: String,
    /// Its processors.
    pub cpus: Option<u32>,
    /// Its nodes.
    pub total_nodes: Option<u32>,
    /// Its state (sic), such as `UP`.
    pub partition: PartitionState,
}

/// State of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum PartitionState {
    /// One word.
    Word(String),
    /// Several.
    List(Vec<String>),
}

/// `GET /status/{system_name}/reservations`.
#[derive(Debug, Serialize, ToSchema)]
pub struct GetReservationsResponse {
    /// The reservations.
    pub reservations: Vec<ReservationModel>,
}

/// One reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReservationModel {
    /// Name.
    pub name: String,
    /// Nodes, as a host list.
    pub node_list: String,
    /// End, in unix seconds.
    pub end_time: i64,
    /// Start, in unix seconds.
    pub start_time: i64,
    /// Features of the nodes.
    pub features: Option<String>,
    /// `active` or `inactive`.
    pub state: Option<String>,
}

/// `GET /status/{system_name}/userinfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct UserInfoResponse {
    /// The user.
    pub user: PosixIdentified,
    /// Their primary group.
    pub group: PosixIdentified,
    /// All their groups.
    pub groups: Vec<GroupModel>,
    /// What they may charge; null where the scheduler keeps no accounts.
    pub accounts: Option<Vec<AccountsModel>>,
}

/// A number and its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PosixIdentified {
    /// The number, as text.
    pub id: String,
    /// The name.
    pub name: String,
}

/// A group of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct GroupModel {
    /// The number, as text.
    pub id: String,
    /// The name.
    pub name: String,
    /// Whether it is the primary group: read by clients of version 2.6.
    pub default: bool,
}

/// Something a user may charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AccountsModel {
    /// Name.
    pub name: String,
    /// Whether it is charged when nothing is said.
    pub default: bool,
}
