//! One command in a channel of its own, with bytes on its standard input.

use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, Sig};

use super::channel::RemoteProgram;
use super::error::SshError;
use super::worker::within;
use crate::command::ShellLine;
use crate::executor::{ExecError, Output, RunLimits};

/// Runs one command.
///
/// Cancel safety: dropping kills it.
pub(super) async fn run(
    channel: Channel<Msg>,
    line: &ShellLine,
    input: &[u8],
    limits: RunLimits,
) -> Result<Output, ExecError> {
    let mut program = RemoteProgram::start(channel, &line.for_any_shell()).await?;
    let output = within(limits.timeout, exchange(&mut program, input, limits)).await?;
    program.ended();
    Ok(output)
}

async fn exchange(
    program: &mut RemoteProgram,
    input: &[u8],
    limits: RunLimits,
) -> Result<Output, ExecError> {
    let (read, write) = program.split()?;
    let send = async {
        // A program may end without reading all of it: how it ended tells what that means.
        if write.data(input).await.is_ok() {
            let _ = write.eof().await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        output = collect(read, limits) => output,
        () = send => Err(SshError::Reset.into()),
    }
}

/// Reads until the channel is closed.
async fn collect(read: &mut ChannelReadHalf, limits: RunLimits) -> Result<Output, ExecError> {
    let mut output = Output {
        exit_code: None,
        signal: None,
        stdout: Vec::new(),
        stderr: Vec::new(),
    };
    loop {
        match read.wait().await {
            Some(ChannelMsg::Data { data }) => {
                append(&mut output.stdout, &data, limits.output_bytes)?;
            }
            Some(ChannelMsg::ExtendedData { data, ext: 1 }) => {
                append(&mut output.stderr, &data, limits.error_bytes())?;
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                output.exit_code = Some(i32::try_from(exit_status).unwrap_or(i32::MAX));
            }
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                output.signal = Some(number(&signal_name));
            }
            Some(ChannelMsg::Failure) => return Err(SshError::Reset.into()),
            None | Some(ChannelMsg::Close) => break,
            Some(_) => {}
        }
    }
    if output.exit_code.is_none() && output.signal.is_none() {
        return Err(SshError::Reset.into());
    }
    Ok(output)
}

fn append(bytes: &mut Vec<u8>, data: &[u8], max_bytes: usize) -> Result<(), ExecError> {
    if bytes.len() + data.len() > max_bytes {
        return Err(ExecError::OutputTooLarge);
    }
    bytes.extend_from_slice(data);
    Ok(())
}

/// The number of a signal on Linux; 0 for one without a name in the protocol.
fn number(signal: &Sig) -> i32 {
    match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(_) => 0,
    }
}
