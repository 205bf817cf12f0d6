//! `/status`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::call::Call;
use crate::error::{ApiResponseError, json};
use crate::model::systems::{GetLiveness, GetSystemsResponse};
use crate::state::AppState;

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
    let systems = call
        .state
        .systems
        .iter()
        .map(|system| system.view.clone())
        .collect();
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
    let checked = |system: &std::sync::Arc<crate::state::System>| {
        Some((
            system.view.name.clone(),
            system.view.last_health_check.clone()?,
        ))
    };
    let healthcheck_runs = state.systems.iter().filter_map(checked).collect();
    json(
        StatusCode::OK,
        &GetLiveness {
            healthcheck_runs,
            last_update: 0,
        },
    )
}
