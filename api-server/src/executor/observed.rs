//! An executor that is counted and shows in the tracing log.

use std::sync::Arc;
use std::time::Instant;

use super::{BoxFuture, ExecError, Executor, Output, RunLimits};
use crate::auth::Caller;
use crate::command::ShellLine;
use crate::context::{self, BackendCall};
use crate::limits;
use crate::metrics::{Backend, Metrics};

/// Passes everything on to another executor, and tells how it went.
#[derive(Debug)]
pub struct ObservedExecutor {
    inner: Arc<dyn Executor>,
    system: String,
    metrics: Arc<Metrics>,
}

impl ObservedExecutor {
    /// Observes the executor of a system.
    pub fn new(inner: Arc<dyn Executor>, system: &str, metrics: Arc<Metrics>) -> Self {
        Self {
            inner,
            system: system.to_owned(),
            metrics,
        }
    }
}

impl Executor for ObservedExecutor {
    fn run_with_input<'a>(
        &'a self,
        caller: &'a Caller,
        line: &'a ShellLine,
        input: &'a [u8],
        run_limits: RunLimits,
    ) -> BoxFuture<'a, Result<Output, ExecError>> {
        Box::pin(async move {
            let started = Instant::now();
            let result = self
                .inner
                .run_with_input(caller, line, input, run_limits)
                .await;
            let took = started.elapsed();
            self.metrics
                .backend_call(&self.system, Backend::Command, outcome(&result), took);
            context::record(BackendCall::Command {
                command: cut(line.as_str(), limits::LOGGED_COMMAND_MAX_BYTES).to_owned(),
                exit_status: result.as_ref().ok().and_then(|output| output.exit_code),
            });
            result
        })
    }
}

/// One word for metrics. A program that failed has answered.
fn outcome(result: &Result<Output, ExecError>) -> &'static str {
    match result {
        Ok(output) if output.exit_code == Some(0) => "ok",
        Ok(_) => "failed",
        Err(ExecError::Timeout) => "timeout",
        Err(ExecError::OutputTooLarge) => "too_large",
        Err(_) => "unreachable",
    }
}

/// At most so many bytes, whole characters.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
