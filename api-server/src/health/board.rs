//! What is known about one system's health: written by the checker, read by everybody.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::model::systems::{BackendServiceType, ServiceHealth, System};

/// The latest view of a system, with its last health report in it.
#[derive(Debug)]
pub struct HealthBoard(RwLock<Board>);

#[derive(Debug)]
struct Board {
    view: Arc<System>,
    /// The view as JSON, once somebody has asked for it.
    json: OnceLock<Arc<RawValue>>,
    last_run: Option<Timestamp>,
}

impl HealthBoard {
    /// A board before the first check: nothing is known, so every gate is open.
    pub fn new(view: System) -> Self {
        Self(RwLock::new(Board {
            view: Arc::new(view),
            json: OnceLock::new(),
            last_run: None,
        }))
    }

    /// The system as `/status/systems` shows it now.
    pub fn view(&self) -> Arc<System> {
        Arc::clone(&self.read().view)
    }

    /// The same as JSON, written once for each check.
    ///
    /// # Errors
    /// Never, as long as the model has only string keys and finite numbers.
    pub fn json(&self) -> serde_json::Result<Arc<RawValue>> {
        let board = self.read();
        if let Some(json) = board.json.get() {
            return Ok(Arc::clone(json));
        }
        let json = Arc::from(serde_json::value::to_raw_value(&board.view)?);
        Ok(Arc::clone(board.json.get_or_init(|| json)))
    }

    /// When the last complete check ended.
    pub fn last_run(&self) -> Option<Timestamp> {
        self.read().last_run
    }

    /// Replaces the report by that of a complete check.
    pub fn publish(&self, report: Vec<ServiceHealth>, now: Timestamp) {
        let mut board = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let view = board.edit();
        view.services_health = Some(report);
        view.last_health_check = Some(moment(now));
        board.last_run = Some(now);
    }

    /// Replaces the report by why there is none. The moment of the last complete check stays.
    pub fn publish_failure(&self, reason: &str, now: Timestamp) {
        let entry = ServiceHealth {
            service_type: BackendServiceType::Exception,
            last_checked: Some(moment(now)),
            latency: None,
            healthy: false,
            message: Some(format!(
                "Cluster HealthChecker execution failed with error: {reason}"
            )),
            path: None,
        };
        let mut board = self.0.write().unwrap_or_else(PoisonError::into_inner);
        board.edit().services_health = Some(vec![entry]);
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Board> {
        // Every write leaves a whole board, also when it panics between two fields.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    fn edit(&mut self) -> &mut System {
        self.json.take();
        Arc::make_mut(&mut self.view)
    }
}

/// A moment as the API writes it: UTC, microseconds, `Z`.
pub(crate) fn moment(at: Timestamp) -> String {
    format!("{at:.6}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::Sources;

    /// Of a system with these probes, before its first check.
    pub(in crate::health) fn board(probes: &str) -> HealthBoard {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.yaml");
        let text = format!(
            r#"
auth: {{authentication: {{token_url: "http://x"}}}}
ssh_credentials: {{type: SSHStaticKeys, keys: {{}}}}
clusters:
- name: c
  ssh: {{host: h, port: 22}}
  scheduler: {{type: slurm, version: "24.11"}}
  service_account: {{client_id: a, secret: b}}
  probing: {{services: {probes}}}
  file_systems:
  - {{path: /home, data_type: users}}
  - {{path: /scratch/, data_type: scratch}}
"#
        );
        std::fs::write(&file, text).unwrap();
        let sources = Sources {
            file: Some(file),
            ..Sources::default()
        };
        let config = sources.load().unwrap();
        HealthBoard::new((&config.clusters[0]).into())
    }

    #[test]
    fn the_json_is_that_of_the_last_check() {
        let board = board("{ssh: {}}");
        let shown = || {
            let json = board.json().unwrap();
            assert_eq!(json.get(), serde_json::to_string(&board.view()).unwrap());
            serde_json::from_str::<serde_json::Value>(json.get()).unwrap()
        };
        assert_eq!(shown()["servicesHealth"], serde_json::Value::Null);
        board.publish(Vec::new(), Timestamp::UNIX_EPOCH);
        assert_eq!(shown()["lastHealthCheck"], "1970-01-01T00:00:00.000000Z");
        board.publish_failure("no token", Timestamp::UNIX_EPOCH);
        let message = &shown()["servicesHealth"][0]["message"];
        assert!(message.as_str().unwrap().ends_with("error: no token"));
    }

    #[test]
    fn moments_are_written_as_the_reference_writes_them() {
        let at = Timestamp::from_microsecond(1_795_430_736_687_592).unwrap();
        assert_eq!(moment(at), "2026-11-23T10:45:36.687592Z");
        let whole = Timestamp::from_second(0).unwrap();
        assert_eq!(moment(whole), "1970-01-01T00:00:00.000000Z");
    }
}
