//! Files of the user in a service's directory, and how operations on them are asked for.

use std::path::{Path, PathBuf};

use form_urlencoded::Serializer;

use super::Service;

/// A service, and the directory of its user.
pub(crate) struct Files {
    pub(crate) service: Service,
    pub(crate) directory: PathBuf,
}

impl Files {
    pub(crate) async fn new() -> Self {
        let service = Service::new().await;
        let directory = Path::new(&service.directory()).join("fireuser");
        Self { service, directory }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory.display())
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

/// Path and query of an operation.
pub(crate) fn url(system: &str, operation: &str, query: &[(&str, &str)]) -> String {
    let query = Serializer::new(String::new()).extend_pairs(query).finish();
    format!("/filesystem/{system}/ops/{operation}?{query}")
}
