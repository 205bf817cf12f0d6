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
                command: cut(line.shown(), limits::LOGGED_COMMAND_MAX_BYTES).to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::HIDDEN;
    use crate::context::RequestContext;
    use crate::executor::{Accounts, LocalExecutor, UserPolicy};
    use std::time::Duration;

    #[tokio::test]
    async fn the_log_is_told_the_line_without_what_belongs_to_the_user() {
        let policy = UserPolicy::DangerousEverybodyAsService;
        let accounts = Arc::new(Accounts::new(policy).await.unwrap());
        let inner = Arc::new(LocalExecutor::new(accounts));
        let observed = ObservedExecutor::new(inner, "here", Arc::new(Metrics::new()));
        let caller = Caller::for_tests("bob");
        let line = ShellLine::new("env").arg_shown_as("A=sesame", &format!("A={HIDDEN}"));
        let line = line.args(["sh", "-c", "echo $A"]);
        let limits = RunLimits {
            timeout: Duration::from_secs(10),
            output_bytes: 1000,
        };
        let context = Arc::new(RequestContext::new("r".into(), "c".into()));
        let run = observed.run(&caller, &line, limits);
        let output = context::scope(Arc::clone(&context), run).await.unwrap();
        assert_eq!(output.stdout, b"sesame\n");
        let command = "env 'A=***' sh -c 'echo $A'".to_owned();
        let call = BackendCall::Command {
            command,
            exit_status: Some(0),
        };
        assert_eq!(context.last_call(), Some(call));
    }
}
