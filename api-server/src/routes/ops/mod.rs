//! `/filesystem/{system_name}/ops`: one command on the login node, answered at once.

pub(crate) mod read;

use std::sync::Arc;

use super::call::Call;
use crate::command::{self, PathError, RemoteCommand, RemotePath};
use crate::error::{ApiError, FieldError};
use crate::executor::Executor;
use crate::scheduler::SchedulerError;
use crate::state::System;

/// What drives commands of a system.
fn executor(system: &System) -> Result<&dyn Executor, ApiError> {
    let missing = || SchedulerError::NotDriven {
        scheduler: system.scheduler_word(),
    };
    Ok(system.executor.as_deref().ok_or_else(missing)?)
}

/// Runs a command that only looks: it ends when the client goes away.
async fn look<C: RemoteCommand>(
    call: &Call,
    system: &System,
    command: &C,
) -> Result<C::Parsed, ApiError> {
    let executor = executor(system)?;
    let limits = system.command_limits;
    Ok(command::run_within(executor, &call.caller, limits, command).await?)
}

/// A path that the gates let pass, for a program.
fn path_of(text: &str) -> Result<RemotePath, ApiError> {
    RemotePath::parse(text)
        .map_err(|error: PathError| ApiError::bad_request(format!("Invalid path: {error}.")))
}

/// The query parameter `path` and the system, and what else was wrong with the query.
fn query_path(call: &mut Call) -> Result<(Arc<System>, RemotePath), ApiError> {
    let system = call.ops_system()?;
    let mut errors = Vec::new();
    let path = call.query.given("path").map(str::to_owned);
    if path.is_none() {
        errors.push(FieldError::query("path", super::fields::MISSING));
    }
    errors.append(&mut call.query.take_errors());
    match path {
        Some(path) if errors.is_empty() => Ok((system, path_of(&path)?)),
        _ => Err(ApiError::validation(errors)),
    }
}
