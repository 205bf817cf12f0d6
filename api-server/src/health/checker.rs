//! The health checks: for each system a task that looks every so often, as the system's
//! service account, through the same executor and scheduler that requests use.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::moment;
use super::probe::Probe;
use crate::auth::Caller;
use crate::config::SystemConfig;
use crate::limits;
use crate::model::systems::{BackendServiceType, ServiceHealth};
use crate::state::{AppState, System};

/// Starts checking all systems that have a service account. Tasks end when `stop` is
/// cancelled, or with the returned set.
#[must_use = "dropping the set stops the checks"]
pub fn start(state: &AppState, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for config in &state.config.clusters {
        let Some(system) = state.system(&config.name) else {
            continue;
        };
        if config.service_account.is_none() {
            tracing::info!(
                system = config.name,
                "no service_account: health is not checked"
            );
            continue;
        }
        let (state, config, stop) = (state.clone(), config.clone(), stop.clone());
        tasks.spawn(async move {
            // Dropping a check in the middle is harmless: it publishes at its end only.
            tokio::select! {
                () = check_forever(&state, &system, &config) => {}
                () = stop.cancelled() => {}
            }
        });
    }
    tasks
}

async fn check_forever(state: &AppState, system: &Arc<System>, config: &SystemConfig) {
    let seconds = config
        .probing
        .as_ref()
        .map_or(120, |probing| probing.interval_check);
    let mut ticks = tokio::time::interval(Duration::from_secs(seconds.max(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        check(state, system, config).await;
    }
}

/// Checks one system once and publishes what was found.
///
/// Cancel safety: nothing is published when it is dropped.
pub async fn check(state: &AppState, system: &Arc<System>, config: &SystemConfig) {
    let caller = match service_caller(state, config).await {
        Ok(caller) => caller,
        Err(reason) => {
            tracing::warn!(system = system.name, reason, "health cannot be checked");
            system.health.publish_failure(&reason, Timestamp::now());
            let exception = BackendServiceType::Exception.word();
            state.metrics.checked(&system.name, exception, None, false);
            return;
        }
    };
    let report = run_probes(system, config, &caller).await;
    for entry in &report {
        let service = entry.service_type.word();
        state
            .metrics
            .checked(&system.name, service, entry.path.as_deref(), entry.healthy);
        if !entry.healthy {
            let (path, message) = (entry.path.as_deref(), entry.message.as_deref());
            tracing::warn!(system = system.name, service, path, message, "unhealthy");
        }
    }
    let exception = BackendServiceType::Exception.word();
    state.metrics.checked(&system.name, exception, None, true);
    let now = Timestamp::now();
    state.metrics.check_complete(&system.name, now.as_second());
    system.health.publish(report, now);
}

/// The service account as a caller, by a token that is verified like anybody's. The error is
/// a class and a text, as clients are shown it.
async fn service_caller(state: &AppState, config: &SystemConfig) -> Result<Caller, String> {
    let Some(account) = &config.service_account else {
        return Err("ConfigError - no service_account".to_owned());
    };
    let timeout = limits::TOKEN_FETCH_TIMEOUT;
    let token = state.client_credentials.token(account, timeout).await;
    let token = token.map_err(|error| {
        let cause = error.source().map(|cause| format!(": {cause}"));
        format!("TokenError - {error}{}", cause.unwrap_or_default())
    })?;
    let caller = state.authenticator.caller(token.expose()).await;
    caller.map_err(|error| format!("AuthError - {error}"))
}

/// All probes at once; their results in the order in which the API lists them.
async fn run_probes(
    system: &Arc<System>,
    config: &SystemConfig,
    caller: &Caller,
) -> Vec<ServiceHealth> {
    let mut running = JoinSet::new();
    for (place, (probe, timeout)) in Probe::of(config).into_iter().enumerate() {
        let (system, caller) = (Arc::clone(system), caller.clone());
        running.spawn(async move { (place, measure(probe, &system, &caller, timeout).await) });
    }
    let mut results = Vec::new();
    while let Some(result) = running.join_next().await {
        // A probe that panicked is missing from the report; the runtime reports the panic.
        results.extend(result.ok());
    }
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, entry)| entry).collect()
}

async fn measure(
    probe: Probe,
    system: &System,
    caller: &Caller,
    timeout: Duration,
) -> ServiceHealth {
    let (at, started) = (Timestamp::now(), Instant::now());
    let result = tokio::time::timeout(timeout, probe.run(system, caller, timeout)).await;
    let result = result.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", timeout.as_secs());
        Err(text)
    });
    let healthy = result.is_ok();
    let message = result.unwrap_or_else(Some);
    ServiceHealth {
        service_type: probe.kind(),
        last_checked: Some(moment(at)),
        latency: Some(started.elapsed().as_secs_f64()),
        healthy,
        message,
        path: probe.into_path(),
    }
}
