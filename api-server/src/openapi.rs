//! The published description, generated from routes and model.

use utoipa::OpenApi;
use utoipa::openapi::security::{
    ClientCredentials, Flow, HttpAuthScheme, HttpBuilder, OAuth2, Scopes, SecurityScheme,
};
use utoipa::openapi::{OpenApi as Description, ServerBuilder};

use crate::config::Config;
use crate::error::ApiResponseError;
use crate::routes::{compute, ops, status, transfer};

/// The version of the FirecREST API that answers announce in `f7t-appversion`.
///
/// Clients parse it on every answer and switch features by it: aiida-firecrest needs 2.2.8,
/// pyfirecrest sends `name` and `time_window` (which are served) only from 2.6.0 on.
pub const API_VERSION: &str = "2.6.0";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "FirecREST",
        description = "Runs jobs and moves files on HPC systems"
    ),
    paths(
        status::systems,
        status::liveness,
        status::nodes,
        status::reservations,
        status::partitions,
        status::userinfo,
        compute::submit,
        compute::list,
        compute::show,
        compute::cancel,
        compute::metadata,
        compute::attach,
        ops::read::ls,
        ops::read::head,
        ops::read::tail,
        ops::read::view,
        ops::read::checksum,
        ops::read::file,
        ops::read::stat,
        ops::change::chmod,
        ops::change::chown,
        ops::change::mkdir,
        ops::change::symlink,
        ops::change::rm,
        ops::bytes::download,
        ops::bytes::upload,
        ops::archive::compress,
        ops::archive::extract,
        transfer::upload,
        transfer::download,
        transfer::mv,
        transfer::cp,
        transfer::rm,
        transfer::compress,
        transfer::extract,
        transfer::show,
    ),
    components(schemas(ApiResponseError))
)]
struct Api;

/// The description, independent of any configuration.
pub fn description() -> Description {
    let mut description = Api::openapi();
    description.info.version = API_VERSION.to_owned();
    let components = description.components.get_or_insert_default();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    components.add_security_scheme("oauth2", oauth2("", Scopes::new()));
    description
}

/// The description with the servers and token endpoint of one configuration.
pub fn description_for(config: &Config) -> Description {
    let mut description = description();
    if let Some(servers) = &config.doc_servers {
        let entry = |server: &crate::config::DocServer| {
            ServerBuilder::new()
                .url(&server.url)
                .description(server.description.clone())
                .build()
        };
        description.servers = Some(servers.iter().map(entry).collect());
    } else if !config.apis_root_path.is_empty() {
        // Without one, clients would ask at the root of whichever host they have it from.
        let here = ServerBuilder::new().url(&config.apis_root_path).build();
        description.servers = Some(vec![here]);
    }
    let authentication = &config.auth.authentication;
    let scopes = authentication.scopes.clone().unwrap_or_default();
    let scheme = oauth2(&authentication.token_url, Scopes::from_iter(scopes));
    let components = description.components.get_or_insert_default();
    components.add_security_scheme("oauth2", scheme);
    description
}

fn oauth2(token_url: &str, scopes: Scopes) -> SecurityScheme {
    let flow = Flow::ClientCredentials(ClientCredentials::new(token_url, scopes));
    SecurityScheme::OAuth2(OAuth2::new([flow]))
}

/// The description as committed in `openapi.json`.
pub fn text() -> String {
    let mut text = description().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_committed_description_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == text(),
            "openapi.json is out of date; run: firecrest-api openapi >api-server/openapi.json"
        );
    }
}
