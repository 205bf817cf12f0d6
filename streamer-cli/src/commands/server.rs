//! `streamer server`.

use std::path::Path;
use std::sync::Arc;

use streamer_server::{Notice, ServeError, Served, serve};

use crate::args::ServerArgs;
use crate::config;
use crate::exit::ExitStatus;
use crate::signals;
use crate::status_file::{State, StatusFile};
use crate::ui::output::Output;
use crate::ui::summary::Summary;
use crate::ui::{Printer, announce, chain, hint};

/// Serves one transfer.
pub(crate) async fn server(output: &Arc<Output>, args: ServerArgs) -> ExitStatus {
    let printer = if args.json {
        Printer::json(output)
    } else if args.status_file.is_some() {
        Printer::job(output)
    } else {
        Printer::plain(output)
    };
    let (config, exposed) = match config::server(&args) {
        Ok(config) => config,
        Err(error) => return printer.error(&error, None, (&error).into()),
    };
    if exposed {
        printer.note("the secret is visible to every user of this machine; prefer --secret-file or STREAMER_SECRET");
    }
    if config.allow_websocket {
        printer.note(
            "plaintext WebSockets are answered too: for the Python streamer and pyfirecrest only",
        );
    }
    let stop = match signals::watch() {
        Ok(stop) => stop,
        Err(error) => return printer.error(&error, None, ExitStatus::Failure),
    };
    printer.heed(&stop);
    let (operation, path) = (config.operation, config.path.clone());
    let progress = printer.watch(operation);
    let counted = Arc::clone(&progress);
    let status = StatusFile::start(
        args.status_file.as_deref(),
        Box::new(move || {
            let now = counted.snapshot();
            (now.present_bytes(), now.total_bytes)
        }),
    );
    let notify = |notice: Notice<'_>| {
        follow(&status, &notice);
        announce::server(&printer, &notice, !args.no_announce);
    };
    let counted = Arc::clone(&progress);
    let served = serve(config, counted, notify, printer.pace(), stop).await;
    if args.remove_secret_file && !matches!(served, Err(ServeError::Stopped(_))) {
        remove_secret_file(&args);
    }
    let failure = match &served {
        Ok(served) => {
            let failures = &served.transferred.conclusion.failures;
            failures.first().map(|failure| failure.code.to_string())
        }
        Err(error) => Some(chain(error)),
    };
    match failure {
        None => status.finish(State::Done, None),
        failure => status.finish(State::Failed, failure),
    }
    announce::unsaid(&printer);
    match served {
        Ok(Served {
            transferred,
            sessions,
            elapsed,
            transport,
        }) => {
            let moved = progress.snapshot();
            let retries = sessions.saturating_sub(1);
            let summary = Summary::new(operation, &path, &transferred, moved, elapsed)
                .over(transport, retries);
            printer.outcome(&summary, &transferred)
        }
        Err(error) => fail(&printer, &error),
    }
}

/// What is worth knowing from afar.
fn follow(status: &StatusFile, notice: &Notice<'_>) {
    match notice {
        Notice::Listening { address, .. } => {
            status.set(State::Listening, Some(address.port()), None);
        }
        Notice::Connected { .. } => status.set(State::Active, None, None),
        Notice::Lost { error } => {
            let text = format!("waiting for the client to come back: {}", chain(error));
            status.set(State::Listening, None, Some(text));
        }
        _ => {}
    }
}

fn remove_secret_file(args: &ServerArgs) {
    let file = args.secret_file.as_deref();
    if let Some(file) = file.filter(|file| *file != Path::new("-"))
        && let Err(error) = std::fs::remove_file(file)
    {
        tracing::warn!(path = %file.display(), %error, "the secret file stays");
    }
}

fn fail(printer: &Printer, error: &ServeError) -> ExitStatus {
    printer.error(error, hint::of_server(error), error.into())
}
