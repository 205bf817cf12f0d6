//! A shell on the login node that stays and runs one command after another: a command then
//! costs neither a channel nor the start-up files of a login shell.

use std::time::{Duration, Instant};

use russh::client::Msg;
use russh::{Channel, ChannelMsg};

use super::channel::RemoteProgram;
use super::error::SshError;
use super::frame::{self, Reply};
use crate::executor::{ExecError, Output, RunLimits};
use crate::limits;

/// The login shell only starts it: whatever that is, commands are read by a POSIX shell.
const SHELL: &str = "exec env LC_ALL=C /bin/sh";

/// A shell at rest, or running one command.
pub(super) struct Worker {
    program: RemoteProgram,
    started: Instant,
}

/// Why a command did not run to its end.
#[derive(Debug)]
pub(super) enum WorkerError {
    /// The shell was gone before the command began, having said this: another one may run it.
    Stale(String),
    /// The command is lost.
    Failed(ExecError),
}

impl Worker {
    /// Starts a shell. Cancel-safe.
    pub(super) async fn start(channel: Channel<Msg>) -> Result<Self, SshError> {
        Ok(Self {
            program: RemoteProgram::start(channel, SHELL).await?,
            started: Instant::now(),
        })
    }

    /// Whether its environment may be out of date.
    pub(super) fn is_old(&self) -> bool {
        self.started.elapsed() > limits::SSH_WORKER_MAX_AGE
    }

    /// Ends it while it rests.
    pub(super) async fn close(self) {
        self.program.kill().await;
    }

    /// Runs one command, and hands the shell back when it can run another.
    ///
    /// Cancel safety: dropping kills the command and the shell.
    pub(super) async fn run(
        mut self,
        line: &str,
        limits: RunLimits,
    ) -> Result<(Output, Self), WorkerError> {
        let marker = frame::marker();
        let mut reply = Reply::new(&marker, limits);
        let request = frame::request(line, &marker);
        let run = self.exchange(request, &mut reply);
        match within(limits.timeout, run).await {
            Ok(output) => Ok((output, self)),
            Err(ExecError::Ssh(SshError::Reset)) if !reply.has_begun() => {
                Err(WorkerError::Stale(reply.said()))
            }
            Err(error) => Err(WorkerError::Failed(error)),
        }
    }

    async fn exchange(&mut self, request: String, reply: &mut Reply) -> Result<Output, ExecError> {
        let (read, write) = self.program.split()?;
        write.data_bytes(request).await.map_err(SshError::from)?;
        loop {
            match read.wait().await {
                Some(ChannelMsg::Data { data }) => reply.stdout(&data)?,
                Some(ChannelMsg::ExtendedData { data, ext: 1 }) => reply.stderr(&data)?,
                None | Some(ChannelMsg::Eof | ChannelMsg::Close | ChannelMsg::Failure) => {
                    return Err(SshError::Reset.into());
                }
                Some(_) => continue,
            }
            if let Some(output) = reply.take() {
                return Ok(output);
            }
        }
    }
}

/// As the future, or [`ExecError::Timeout`].
pub(super) async fn within<T>(
    limit: Duration,
    future: impl Future<Output = Result<T, ExecError>>,
) -> Result<T, ExecError> {
    let result = tokio::time::timeout(limit, future).await;
    result.unwrap_or(Err(ExecError::Timeout))
}
