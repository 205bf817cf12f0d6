//! One suite for every scheduler: what a client may count on, whatever runs its jobs.

mod pbs;
mod suite;

use serde_json::json;
use streamer_tests::cluster::Cluster;
use streamer_tests::service::Service;

use suite::{Backend, Metadata};

/// Slurm's own words, and all that it can by its command line.
fn slurm<'a>(cluster: &'a Cluster, service: &'a Service, system: &'static str) -> Backend<'a> {
    Backend {
        cluster,
        service,
        system,
        failed: "FAILED",
        cancelled: "CANCELLED",
        running: "RUNNING",
        starts_at_home: false,
        knows_ends: true,
        tells_of_ended: true,
        metadata: Metadata::WithScript,
        attaches: true,
        nodes: &["nid001", "nid002", "nid003"],
        partitions: &["normal", "xfer"],
        hidden: &["hidden"],
        reservation: Some(("maintenance", "nid003")),
        accounts: json!([{"name": "staff", "default": false}, {"name": "users", "default": true}]),
    }
}

#[test]
fn slurm_by_its_command_line_conforms() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let service = Service::start(&cluster.config());
    slurm(&cluster, &service, "cluster-slurm-ssh").conforms();
}

#[test]
fn slurm_by_rest_conforms() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let service = Service::start(&cluster.config());
    let backend = Backend {
        metadata: Metadata::Unsupported(
            "Scheduler can't handle this request when configured to use rest connection mode",
        ),
        attaches: false,
        tells_of_ended: !cluster.is_slurm_22(),
        ..slurm(&cluster, &service, "cluster-slurm-rest")
    };
    backend.conforms();
}

#[test]
fn slurm_by_both_conforms() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let service = Service::start(&cluster.config());
    let backend = Backend {
        tells_of_ended: !cluster.is_slurm_22(),
        ..slurm(&cluster, &service, "cluster-slurm-hybrid")
    };
    backend.conforms();
}

#[test]
fn pbs_by_its_command_line_conforms() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let node = pbs::start(&cluster, pbs::History::Kept);
    let service = on_pbs(&cluster, &node);
    pbs_backend(&cluster, &service).conforms();
}

#[test]
fn pbs_without_history_shows_jobs_until_they_end() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let node = pbs::start(&cluster, pbs::History::NotKept);
    let service = on_pbs(&cluster, &node);
    pbs_backend(&cluster, &service).shows_jobs_until_they_end();
}

fn on_pbs(cluster: &Cluster, node: &pbs::Node) -> Service {
    let config = format!(
        "{}
  - name: pbs
    ssh: {{host: 127.0.0.1, port: {}, timeout: {{command_execution: 20}}}}
    scheduler: {{type: pbs, version: '23.06'}}
    service_account: {{client_id: none, secret: none}}
    probing: {{}}
    file_systems: [{{path: /home, data_type: users, default_work_dir: true}}]
",
        cluster.config(),
        node.sshd.port
    );
    Service::start(&config)
}

fn pbs_backend<'a>(cluster: &'a Cluster, service: &'a Service) -> Backend<'a> {
    Backend {
        cluster,
        service,
        system: "pbs",
        failed: "F",
        cancelled: "F",
        running: "R",
        starts_at_home: true,
        knows_ends: false,
        tells_of_ended: true,
        metadata: Metadata::FilesOnly,
        attaches: false,
        nodes: &["cn1", "cn2"],
        partitions: &["old", "workq"],
        hidden: &[],
        reservation: Some(("maintenance", "cn1,cn2")),
        accounts: json!(null),
    }
}

#[test]
fn the_local_scheduler_conforms() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let config = format!(
        "{}
  - name: here
    scheduler: {{type: local}}
    file_systems: [{{path: /home, data_type: users, default_work_dir: true}}]
",
        cluster.config()
    );
    let service = Service::start(&config);
    let backend = Backend {
        cluster: &cluster,
        service: &service,
        system: "here",
        failed: "FAILED",
        cancelled: "CANCELLED",
        running: "RUNNING",
        starts_at_home: false,
        knows_ends: true,
        tells_of_ended: true,
        metadata: Metadata::WithScript,
        attaches: false,
        nodes: &[],
        partitions: &["local"],
        hidden: &[],
        reservation: None,
        accounts: json!(null),
    };
    backend.conforms();
}
