//! `/status`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::call::Call;
use crate::command::{self, Id, Identity};
use crate::error::{ApiError, ApiResponseError, json};
use crate::health;
use crate::model::status::{
    GetNodesResponse, GetPartitionsResponse, GetReservationsResponse, UserInfoResponse,
};
use crate::model::systems::{GetLiveness, GetSystemsResponse};
use crate::scheduler::SchedulerError;
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
pub(crate) async fn systems(call: Call) -> Result<Response, ApiError> {
    let systems = &call.state.systems;
    let systems: serde_json::Result<Vec<_>> =
        systems.iter().map(|system| system.health.json()).collect();
    let systems = systems.map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error").with_source(error)
    })?;
    Ok(json(StatusCode::OK, &GetSystemsResponse { systems }))
}

/// Lists the nodes of a system.
#[utoipa::path(
    get, path = "/status/{system_name}/nodes", tag = "status",
    params(("system_name" = String, Path)),
    responses(
        (status = 200, description = "The nodes", body = GetNodesResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn nodes(call: Call) -> Result<Response, ApiError> {
    let system = call.system()?;
    let nodes = system.scheduler.nodes(&call.caller).await?;
    if nodes.is_empty() {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "No nodes found"));
    }
    Ok(json(StatusCode::OK, &GetNodesResponse { nodes }))
}

/// Lists the reservations of a system.
#[utoipa::path(
    get, path = "/status/{system_name}/reservations", tag = "status",
    params(("system_name" = String, Path)),
    responses(
        (status = 200, description = "The reservations", body = GetReservationsResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn reservations(call: Call) -> Result<Response, ApiError> {
    let system = call.system()?;
    let reservations = system.scheduler.reservations(&call.caller).await?;
    let body = GetReservationsResponse { reservations };
    Ok(json(StatusCode::OK, &body))
}

/// Lists the partitions of a system.
#[utoipa::path(
    get, path = "/status/{system_name}/partitions", tag = "status",
    params(
        ("system_name" = String, Path),
        ("show_hidden" = Option<bool>, Query, description = "Hidden partitions too"),
    ),
    responses(
        (status = 200, description = "The partitions", body = GetPartitionsResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn partitions(mut call: Call) -> Result<Response, ApiError> {
    let system = call.system()?;
    let show_hidden = call.query.boolean("show_hidden");
    let errors = call.query.take_errors();
    if !errors.is_empty() {
        return Err(ApiError::validation(errors));
    }
    let partitions = system
        .scheduler
        .partitions(&call.caller, show_hidden)
        .await?;
    Ok(json(StatusCode::OK, &GetPartitionsResponse { partitions }))
}

/// Shows who the caller is on a system.
#[utoipa::path(
    get, path = "/status/{system_name}/userinfo", tag = "status",
    params(("system_name" = String, Path)),
    responses(
        (status = 200, description = "User, groups and accounts", body = UserInfoResponse),
        (status = "4XX", description = "Client error", body = ApiResponseError),
        (status = "5XX", description = "Server error", body = ApiResponseError),
    ),
    security(("bearer" = []), ("oauth2" = [])),
)]
pub(crate) async fn userinfo(call: Call) -> Result<Response, ApiError> {
    let system = call.ssh_system()?;
    let Some(executor) = &system.executor else {
        let scheduler = system.scheduler_word();
        return Err(SchedulerError::NotDriven { scheduler }.into());
    };
    let identity = command::run(&**executor, &call.caller, system.command_limits, &Id);
    let accounts = system.scheduler.accounts(&call.caller);
    // Both are cancel-safe: the first failure ends the other.
    let (identity, accounts) =
        tokio::try_join!(async { identity.await.map_err(ApiError::from) }, async {
            accounts.await.map_err(ApiError::from)
        },)?;
    let Identity {
        user,
        group,
        groups,
    } = identity;
    let accounts = accounts.filter(|accounts| !accounts.is_empty());
    let info = UserInfoResponse {
        user,
        group,
        groups,
        accounts,
    };
    Ok(json(StatusCode::OK, &info))
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
