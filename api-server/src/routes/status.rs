//! `/status`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::call::Call;
use crate::error::{ApiResponseError, json};
use crate::health;
use crate::model::systems::{GetLiveness, GetSystemsResponse};
use crate::state::{AppState, System};

/// Lists the systems and their health.
#[utoipa::path(
    get, path = "/status/systems", tag = "status",
    responses(
        (status = 200, description = "The systems", body = GetSystemsResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn systems(call: Call) -> Response {
    let systems = &call.state.systems;
    let systems = systems.iter().map(|system| system.health.view()).collect();
    json(StatusCode::OK, &GetSystemsResponse { systems })
}

/// Says that the service is alive, and how old the health checks are.
#[utoipa::path(
    get, path = "/status/liveness/", tag = "status",
    responses(
        (status = 200, description = "Alive", body = GetLiveness),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
)]
pub(crate) async fn liveness(State(state): State<AppState>) -> Response {
    let runs = state.systems.iter();
    let runs = runs.filter_map(|system| Some((system, system.health.last_run()?)));
    let oldest = runs.clone().map(|(_, at)| at).min();
    let age = oldest.map(|at| jiff::Timestamp::now().duration_since(at).as_secs());
    let name = |system: &System| system.name.clone();
    let liveness = GetLiveness {
        healthcheck_runs: runs
            .map(|(system, at)| (name(system), health::moment(at)))
            .collect(),
        last_update: u64::try_from(age.unwrap_or(0)).unwrap_or(0),
    };
    json(StatusCode::OK, &liveness)
}
