//! A channel whose program dies with it.

use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};

use super::error::SshError;
use crate::limits;

/// A program at the other end of a channel. Dropped, it is killed with all it started.
pub(super) struct RemoteProgram {
    /// Taken when it is killed or has ended.
    halves: Option<(ChannelReadHalf, ChannelWriteHalf<Msg>)>,
}

impl RemoteProgram {
    /// Starts a command line by the user's login shell. Cancel-safe.
    pub(super) async fn start(channel: Channel<Msg>, line: &str) -> Result<Self, SshError> {
        let (read, write) = channel.split();
        let program = Self {
            halves: Some((read, write)),
        };
        program.writer()?.exec(true, line).await?;
        Ok(program)
    }

    /// Both directions at once.
    pub(super) fn split(
        &mut self,
    ) -> Result<(&mut ChannelReadHalf, &ChannelWriteHalf<Msg>), SshError> {
        let halves = self.halves.as_mut();
        halves
            .map(|(read, write)| (read, &*write))
            .ok_or(SshError::Reset)
    }

    fn writer(&self) -> Result<&ChannelWriteHalf<Msg>, SshError> {
        let halves = self.halves.as_ref();
        halves.map(|(_, write)| write).ok_or(SshError::Reset)
    }

    /// Lets go of a program that has ended.
    pub(super) fn ended(mut self) {
        self.halves = None;
    }

    /// Kills it and waits until its channel is closed.
    pub(super) async fn kill(mut self) {
        if let Some(halves) = self.halves.take() {
            kill(halves).await;
        }
    }
}

impl Drop for RemoteProgram {
    fn drop(&mut self) {
        let Some(halves) = self.halves.take() else {
            return;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(kill(halves));
        }
    }
}

/// Signals the process group, first so that it can clean up; then closes the channel.
async fn kill((mut read, write): (ChannelReadHalf, ChannelWriteHalf<Msg>)) {
    // What it still prints is thrown away, so that it does not hold up other channels.
    let closed = async {
        while let Some(message) = read.wait().await {
            if matches!(message, ChannelMsg::Close) {
                return;
            }
        }
    };
    tokio::pin!(closed);
    for signal in [Sig::TERM, Sig::KILL] {
        if write.signal(signal).await.is_err() {
            return;
        }
        let waited = tokio::time::timeout(limits::COMMAND_KILL_GRACE, &mut closed).await;
        if waited.is_ok() {
            return;
        }
    }
    // The connection may be gone, and its channels with it.
    let _ = write.close().await;
}
