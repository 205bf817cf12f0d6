//! SIGINT, SIGTERM and SIGHUP, and that no file may be as large as it gets.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use streamer_core::ErrorCode;
use streamer_core::net::stop::Stop;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::sync::watch;

/// Tells when to stop, and with which code: the first signal asks, the second ends the
/// program at once. From then on a file that gets larger than `ulimit -f` is an error of its write.
pub(crate) fn watch() -> io::Result<Stop> {
    let (asked, stop) = watch::channel(None);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = match is_ignored(Signal::HUP) {
        Some(false) => Some(signal(SignalKind::hangup())?),
        // `nohup` ignores it for us. Where that is unknown it stays what it is.
        Some(true) | None => None,
    };
    // Taken, it ends nobody; it stays taken when this is dropped.
    drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?);
    // Lives as long as the runtime, which ends with the program.
    drop(tokio::spawn(async move {
        let mut first: Option<Instant> = None;
        loop {
            // Cancel-safe per tokio's documentation.
            let heard = tokio::select! {
                _ = interrupt.recv() => Heard::Interrupt,
                _ = terminate.recv() => Heard::Terminate,
                () = next(hangup.as_mut()) => Heard::Hangup,
            };
            match heard.answer(first.map(|first| first.elapsed())) {
                Answer::Ask(code) => {
                    // After a closed terminal a session manager may ask as well: that is once.
                    first = (!matches!(heard, Heard::Hangup)).then(Instant::now);
                    let _ = asked.send(Some(code));
                }
                Answer::Leave => leave(),
                Answer::Nothing => {}
            }
        }
    }));
    Ok(stop)
}

/// Waits for one, if it is watched for. Cancel-safe.
async fn next(signals: Option<&mut Signals>) {
    match signals {
        Some(signals) => drop(signals.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether whoever started us has it ignored; `None` where the system does not say.
fn is_ignored(signal: Signal) -> Option<bool> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    let bit = u32::try_from(signal.as_raw() - 1).ok()?;
    Some(mask.checked_shr(bit)? & 1 == 1)
}

#[derive(Debug, Clone, Copy)]
enum Heard {
    Interrupt,
    Terminate,
    Hangup,
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Ask(ErrorCode),
    Leave,
    Nothing,
}

impl Heard {
    /// What to do about it, so long after the first one by which the user asked to stop.
    fn answer(self, since_first: Option<Duration>) -> Answer {
        match (self, since_first) {
            (Self::Interrupt, None) => Answer::Ask(ErrorCode::Interrupted),
            (Self::Terminate | Self::Hangup, None) => Answer::Ask(ErrorCode::Terminated),
            // One terminal that is closed is told of several times: by the kernel, and by the shell.
            (Self::Hangup, Some(_)) => Answer::Nothing,
            // Schedulers signal a process, and all of its job: one request.
            (Self::Terminate, Some(since)) if since < ECHO => Answer::Nothing,
            (Self::Interrupt | Self::Terminate, Some(_)) => Answer::Leave,
        }
    }
}

/// Whichever signals there were: scripts have one code to look for.
#[expect(clippy::exit, reason = "the user asked twice")]
fn leave() -> ! {
    std::process::exit(130)
}

/// Within this time a signal that comes again says the same again.
const ECHO: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_asks_and_the_second_ends_the_program_but_for_its_echo() {
        let (echo, later) = (Some(ECHO / 2), Some(ECHO));
        for (heard, since, answer) in [
            (Heard::Interrupt, None, Answer::Ask(ErrorCode::Interrupted)),
            (Heard::Interrupt, echo, Answer::Leave),
            (Heard::Interrupt, later, Answer::Leave),
            (Heard::Terminate, None, Answer::Ask(ErrorCode::Terminated)),
            (Heard::Terminate, echo, Answer::Nothing),
            (Heard::Terminate, later, Answer::Leave),
            (Heard::Hangup, None, Answer::Ask(ErrorCode::Terminated)),
            (Heard::Hangup, echo, Answer::Nothing),
            (Heard::Hangup, later, Answer::Nothing),
        ] {
            assert_eq!(heard.answer(since), answer, "{heard:?} after {since:?}");
        }
    }
}
