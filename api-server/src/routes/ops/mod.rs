//! `/filesystem/{system_name}/ops`: one command on the login node, answered at once.

pub(crate) mod archive;
pub(crate) mod bytes;
pub(crate) mod change;
pub(crate) mod read;

use std::sync::Arc;

use super::call::Call;
use super::compute::interrupted;
use super::fields::{Fields, MISSING};
use crate::command::{self, PathError, RemoteCommand, RemotePath};
use crate::error::{ApiError, FieldError};
use crate::executor::Executor;
use crate::health::Gates;
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

/// Runs a command that changes something: to its end, also when the client goes away.
async fn change<C>(call: &Call, system: Arc<System>, command: C) -> Result<C::Parsed, ApiError>
where
    C: RemoteCommand + 'static,
    C::Parsed: Send + 'static,
{
    let caller = call.caller.clone();
    let work = async move {
        let executor = executor(&system)?;
        let limits = system.command_limits;
        Ok(command::run_within(executor, &caller, limits, &command).await?)
    };
    call.state.detached(work).await.ok_or_else(interrupted)?
}

/// A path of a request, whichever field it came in, for a program: the gates ask about one.
fn path_of(system: &System, text: &str) -> Result<RemotePath, ApiError> {
    Gates(&system.health.view()).path(text)?;
    RemotePath::parse(text)
        .map_err(|error: PathError| ApiError::bad_request(format!("Invalid path: {error}.")))
}

/// The path in a body.
fn body_path(fields: &mut Fields<'_>) -> Option<String> {
    fields.required_text(&["sourcePath", "source_path", "path"])
}

/// What was read from a body, unless anything in it was wrong.
fn checked<T>(fields: Fields<'_>, read: Option<T>) -> Result<T, ApiError> {
    match (read, fields.into_errors()) {
        (Some(read), errors) if errors.is_empty() => Ok(read),
        (_, errors) => Err(ApiError::validation(errors)),
    }
}

/// The query parameter `path` and the system, and what else was wrong with the query.
fn query_path(call: &mut Call) -> Result<(Arc<System>, RemotePath), ApiError> {
    let system = call.ops_system()?;
    let mut errors = Vec::new();
    let path = call.query.given("path").map(str::to_owned);
    if path.is_none() {
        errors.push(FieldError::query("path", MISSING));
    }
    errors.append(&mut call.query.take_errors());
    match path {
        Some(path) if errors.is_empty() => {
            let path = path_of(&system, &path)?;
            Ok((system, path))
        }
        _ => Err(ApiError::validation(errors)),
    }
}
