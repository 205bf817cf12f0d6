//! `streamer send` and `streamer receive`.

use std::path::Path;
use std::sync::Arc;

use streamer_core::Coordinates;
use streamer_core::net::dial::Choice;
use streamer_core::net::send::SenderConfig;
use streamer_core::net::ws::dial::Plaintext;
use streamer_core::store::filter::Filter;
use streamer_core::store::source::Pinned;
use streamer_core::store::target::{Target, TargetPolicy};
use streamer_core::wire::message::Wanted;

use crate::args::{ApiArgs, ClientArgs, FilterArgs, ReceiveArgs, SendArgs, TransportArg};
use crate::client::{ClientError, Local, Options, Outcome, transfer};
use crate::config;
use crate::exit::ExitStatus;
use crate::job::ApiAccess;
use crate::signals;
use crate::ui::output::Output;
use crate::ui::summary::Summary;
use crate::ui::{Printer, hint};

/// Sends a file or directory.
pub(crate) async fn send(output: &Arc<Output>, args: SendArgs) -> ExitStatus {
    let printer = Printer::new(output, args.client.output);
    let filter = match filter(&args.filter) {
        Ok((wanted, filter)) => (!wanted.is_everything()).then_some(filter),
        Err(error) => return fail(&printer, &error),
    };
    let source = match Pinned::open(&args.path) {
        Ok(source) => source,
        Err(error) => return fail(&printer, &error.into()),
    };
    let local = Local::Source(
        source,
        SenderConfig {
            filter,
            restart: args.restart,
        },
    );
    run(&printer, &args.path, local, &args.client).await
}

/// What is wanted of a tree, and the same compiled.
fn filter(args: &FilterArgs) -> Result<(Wanted, Filter), ClientError> {
    let wanted = Wanted {
        include: args.include.clone(),
        exclude: args.exclude.clone(),
    };
    let filter = Filter::new(&wanted)?;
    Ok((wanted, filter))
}

/// Receives a file or directory.
pub(crate) async fn receive(output: &Arc<Output>, args: ReceiveArgs) -> ExitStatus {
    let printer = Printer::new(output, args.client.output);
    let wanted = match filter(&args.filter) {
        Ok((wanted, _)) => wanted,
        Err(error) => return fail(&printer, &error),
    };
    let target = Target::new(
        &args.path,
        TargetPolicy {
            existing: args.existing.policy(),
            restart: args.restart,
        },
    );
    if let Err(error) = target.check() {
        return fail(&printer, &error.into());
    }
    let local = Local::Target(target, wanted);
    run(&printer, &args.path, local, &args.client).await
}

async fn run(printer: &Printer, path: &Path, local: Local, args: &ClientArgs) -> ExitStatus {
    match try_run(printer, path, &local, args).await {
        Ok(outcome) => {
            let operation = local.operation();
            let Outcome {
                transferred,
                moved,
                retries,
                elapsed,
                transport,
                reason,
                ..
            } = &outcome;
            let summary = Summary::new(operation, path, transferred, *moved, *elapsed)
                .over(*transport, *retries)
                .because(reason);
            printer.outcome(&summary, transferred)
        }
        Err(error) => fail(printer, &error),
    }
}

async fn try_run(
    printer: &Printer,
    path: &Path,
    local: &Local,
    args: &ClientArgs,
) -> Result<Outcome, ClientError> {
    let coordinates = config::coordinates(&args.coordinates)?;
    if args.coordinates.coordinates.is_some() {
        printer.note("the coordinates are visible to every user of this machine; prefer --coordinates-file or STREAMER_COORDINATES");
    }
    let stop = signals::watch().map_err(|source| ClientError::Signals { source })?;
    printer.heed(&stop);
    let transport = match args.transport {
        TransportArg::Auto | TransportArg::Ws => Choice::Auto,
        TransportArg::Quic => Choice::Quic,
        TransportArg::Tls => Choice::Tls,
    };
    let plaintext = match (args.transport, args.allow_websocket) {
        (TransportArg::Ws, _) => Plaintext::Only,
        (_, true) => Plaintext::Allowed,
        (_, false) => Plaintext::Never,
    };
    let api = api(printer, &args.api, &coordinates)?;
    let options = Options {
        wait: args.wait,
        transport,
        plaintext,
        connections: args.connections,
        limit_rate: args.limit_rate,
        api,
    };
    if args.limit_rate.is_some() && plaintext != Plaintext::Never {
        printer.note("--limit-rate does not hold over the plaintext protocol");
    }
    let (progress, ticker) = printer.progress(local.operation());
    let work = transfer(
        &coordinates,
        local,
        path,
        options,
        &progress,
        |notice| ticker.client(&notice),
        stop,
    );
    let result = printer.paced(work).await;
    ticker.finish();
    let counts = result.as_ref().ok().and_then(|o| o.transferred.tree);
    if counts.is_some_and(|c| c.files + c.links + c.failed == 0) && local.selects() {
        printer.warning("nothing matches --include: the directory arrives empty");
    }
    result
}

/// Whom to ask about the job, with what the user should know about that.
fn api(
    printer: &Printer,
    args: &ApiArgs,
    coordinates: &Coordinates,
) -> Result<Option<ApiAccess>, ClientError> {
    let api = match config::api(args) {
        Err(error) if args.is_given() => return Err(error.into()),
        // Variables that are there for others stop no transfer.
        Err(error) => {
            printer.note(&format!("how the job stands is not shown: {error}"));
            None
        }
        Ok(api) => api,
    };
    if args.is_given() && coordinates.job.is_none() {
        printer.note("these coordinates do not name a job: how it stands is not shown");
    }
    let api = api.filter(|_| coordinates.job.is_some());
    if api.as_ref().is_some_and(ApiAccess::is_in_the_clear) {
        printer.warning("the access token travels unencrypted: use https:// for the API");
    }
    Ok(api)
}

fn fail(printer: &Printer, error: &ClientError) -> ExitStatus {
    printer.error(error, hint::of(error), error.into())
}
