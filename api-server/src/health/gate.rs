//! The gates before a request: is the service well, may the path be used? Pure.

use serde_json::Value;

use crate::config::{FileSystem, normal_path};
use crate::model::systems::{BackendServiceType, System};

/// Why a request is not passed on. The texts are what existing clients show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The last check of a service failed.
    #[error("The {service} service for the requested system ({system}) is unhealthy.")]
    ServiceUnhealthy {
        /// Which service.
        service: &'static str,
        /// Of which system.
        system: String,
    },
    /// The last check of the path's file system failed.
    #[error("The requested filesystem ({path} on {system}) is unhealthy.")]
    FilesystemUnhealthy {
        /// Which file system.
        path: String,
        /// Of which system.
        system: String,
    },
    /// There is no path in the request. The spelling is the reference's.
    #[error("Unable to decode request and retreive the required path or source_path parameter.")]
    NoPath,
    /// It is null.
    #[error("All filesystem requests require a path or source_path parameter.")]
    NullPath,
    /// It is relative.
    #[error("The provided path ({0}) is not an absolute path.")]
    NotAbsolute(String),
    /// It is outside of the configured file systems.
    #[error(
        "The provided path ({path}) does not match any of the defined filesystem paths for the requested system ({system})."
    )]
    Outside {
        /// The path, normalised.
        path: String,
        /// Which system.
        system: String,
    },
}

/// The gates of one system. Without probes they are open, as in the reference; before the
/// first check, and when checks cannot be made, the health gates are.
#[derive(Debug, Clone, Copy)]
pub struct Gates<'a>(pub &'a System);

impl Gates<'_> {
    /// Whether the last check of the scheduler, if there was one, was good.
    ///
    /// # Errors
    /// When it was not.
    pub fn scheduler(&self) -> Result<(), GateError> {
        self.service(BackendServiceType::Scheduler)
    }

    /// Whether the last login, if there was one, worked.
    ///
    /// # Errors
    /// When it did not.
    pub fn ssh(&self) -> Result<(), GateError> {
        self.service(BackendServiceType::Ssh)
    }

    fn service(&self, kind: BackendServiceType) -> Result<(), GateError> {
        let mut report = self.0.services_health.iter().flatten();
        let unhealthy = report.any(|entry| entry.service_type == kind && !entry.healthy);
        if self.closed_never() || !unhealthy {
            return Ok(());
        }
        Err(GateError::ServiceUnhealthy {
            service: kind.word(),
            system: self.0.name.clone(),
        })
    }

    /// Whether a path of a request lies in a configured file system that is well: `query` is
    /// the parameter `path`, `body` the JSON body, looked at when there is no such parameter.
    ///
    /// # Errors
    /// When there is no path, or it may not be used now.
    pub fn filesystem(&self, query: Option<&str>, body: Option<&Value>) -> Result<(), GateError> {
        if self.closed_never() {
            return Ok(());
        }
        let named = |name| body.and_then(Value::as_object)?.get(name);
        let path = match query {
            Some(path) => path,
            None => match ["sourcePath", "source_path", "path"]
                .into_iter()
                .find_map(named)
            {
                Some(Value::String(path)) => path,
                Some(Value::Null) => return Err(GateError::NullPath),
                _ => return Err(GateError::NoPath),
            },
        };
        self.path(path)
    }

    /// Whether any other path, such as a target, may be used now.
    ///
    /// # Errors
    /// When not.
    pub fn path(&self, path: &str) -> Result<(), GateError> {
        if self.closed_never() {
            return Ok(());
        }
        if !path.starts_with('/') {
            return Err(GateError::NotAbsolute(path.to_owned()));
        }
        let path = normal_path(path);
        let inside = |file_system: &FileSystem| is_below(&path, &file_system.path);
        if !self.0.file_systems.iter().any(inside) {
            let system = self.0.name.clone();
            return Err(GateError::Outside { path, system });
        }
        let mut report = self.0.services_health.iter().flatten();
        let entry = report.find_map(|entry| {
            let of = entry.path.as_deref()?;
            is_below(&path, of).then_some((of, entry.healthy))
        });
        match entry {
            Some((of, false)) => Err(GateError::FilesystemUnhealthy {
                path: of.to_owned(),
                system: self.0.name.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn closed_never(&self) -> bool {
        let probes = self.0.probing.services.as_ref();
        probes.is_none_or(|probes| probes.is_empty())
    }
}

/// Whether a normalised path is a directory or lies below it.
fn is_below(path: &str, directory: &str) -> bool {
    let rest = path.strip_prefix(directory.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::board::tests::board;
    use crate::model::systems::ServiceHealth;
    use jiff::Timestamp;
    use serde_json::json;

    /// A system with probes, and a report that names these services as unhealthy.
    fn system(probes: &str, ill: &[(BackendServiceType, Option<&str>)]) -> std::sync::Arc<System> {
        let board = board(probes);
        let entry = |(kind, path): &(BackendServiceType, Option<&str>)| ServiceHealth {
            service_type: *kind,
            last_checked: None,
            latency: None,
            healthy: false,
            message: None,
            path: path.map(str::to_owned),
        };
        if !ill.is_empty() {
            board.publish(ill.iter().map(entry).collect(), Timestamp::UNIX_EPOCH);
        }
        board.view()
    }

    #[test]
    fn services_are_refused_only_after_a_check_that_failed() {
        use BackendServiceType as T;
        let unknown = system("{ssh: {}}", &[]);
        assert_eq!(Gates(&unknown).ssh(), Ok(()));
        assert_eq!(Gates(&unknown).scheduler(), Ok(()));
        let ill = system("{ssh: {}}", &[(T::Ssh, None)]);
        assert_eq!(Gates(&ill).scheduler(), Ok(()));
        assert_eq!(
            Gates(&ill).ssh().unwrap_err().to_string(),
            "The ssh service for the requested system (c) is unhealthy."
        );
        let failed = system("{ssh: {}}", &[(T::Exception, None)]);
        assert_eq!(Gates(&failed).ssh(), Ok(()));
        let unprobed = system("{}", &[(T::Ssh, None)]);
        assert_eq!(Gates(&unprobed).ssh(), Ok(()));
    }

    #[test]
    fn paths_are_found_as_clients_spell_them() {
        let system = system("{ssh: {}}", &[]);
        let gate = |query, body: Value| Gates(&system).filesystem(query, Some(&body));
        assert_eq!(gate(Some("/home/x"), Value::Null), Ok(()));
        assert_eq!(gate(None, json!({"source_path": "/home"})), Ok(()));
        let first = json!({"path": "/etc", "sourcePath": "/scratch/a"});
        assert_eq!(gate(None, first), Ok(()));
        assert_eq!(gate(Some("/home"), json!({"path": "/etc"})), Ok(()));
        for (body, expected) in [
            (json!({"path": null}), GateError::NullPath),
            (json!({"path": 5}), GateError::NoPath),
            (json!({}), GateError::NoPath),
            (json!("/home"), GateError::NoPath),
        ] {
            assert_eq!(gate(None, body), Err(expected));
        }
    }

    #[test]
    fn paths_stay_inside_the_file_systems() {
        let ill = [(BackendServiceType::Filesystem, Some("/scratch"))];
        let system = system("{filesystem: {}}", &ill);
        let gate = |path| Gates(&system).path(path);
        for path in ["/home", "/home/", "/home/a/../b", "/x/../home/b", "///home"] {
            assert_eq!(gate(path), Ok(()), "{path}");
        }
        for path in ["", "home/x", "~/x"] {
            assert_eq!(gate(path), Err(GateError::NotAbsolute(path.into())));
        }
        for (path, normal) in [
            ("/homeevil/x", "/homeevil/x"),
            ("/home/../../etc/passwd", "/etc/passwd"),
            ("/", "/"),
        ] {
            let expected = GateError::Outside {
                path: normal.into(),
                system: "c".into(),
            };
            assert_eq!(gate(path), Err(expected));
        }
        assert_eq!(
            gate("/scratch/a").unwrap_err().to_string(),
            "The requested filesystem (/scratch on c) is unhealthy."
        );
    }
}
