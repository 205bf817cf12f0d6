//! `streamer server`.

use std::sync::Arc;

use streamer_core::net::Progress;
use streamer_server::{Notice, ServeError, Served, serve};

use crate::args::ServerArgs;
use crate::config;
use crate::exit::ExitStatus;
use crate::signals;
use crate::ui::summary::Summary;
use crate::ui::{Printer, announce, hint};

/// Serves one transfer.
pub(crate) async fn server(args: ServerArgs) -> ExitStatus {
    let printer = if args.json {
        Printer::json()
    } else {
        Printer::plain()
    };
    let (config, exposed) = match config::server(&args) {
        Ok(config) => config,
        Err(error) => return printer.error(&error, None, (&error).into()),
    };
    if exposed {
        printer.note("the secret is visible to every user of this machine; prefer --secret-file or STREAMER_SECRET");
    }
    let stop = match signals::watch() {
        Ok(stop) => stop,
        Err(error) => return printer.error(&error, None, ExitStatus::Failure),
    };
    let (operation, path) = (config.operation, config.path.clone());
    let progress = Arc::new(Progress::default());
    let notify = |notice: Notice<'_>| {
        if !(args.no_announce && matches!(notice, Notice::Listening { .. })) {
            announce::server(&printer, &notice);
        }
    };
    match serve(config, Arc::clone(&progress), notify, stop).await {
        Ok(Served {
            transferred,
            sessions,
            elapsed,
            transport,
        }) => {
            let status = ExitStatus::from(&transferred);
            if status == ExitStatus::Success {
                let moved = progress.snapshot();
                let retries = sessions.saturating_sub(1);
                let summary = Summary::new(operation, &path, &transferred, moved, elapsed)
                    .over(transport, retries);
                printer.summary(&summary);
                return status;
            }
            printer.failures(&transferred, status)
        }
        Err(error) => fail(&printer, &error),
    }
}

fn fail(printer: &Printer, error: &ServeError) -> ExitStatus {
    printer.error(error, hint::of_server(error), error.into())
}
