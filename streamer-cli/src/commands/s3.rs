//! `streamer s3`: the job's side of a transfer through an object store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use streamer_core::net::stop::Stop;
use streamer_server::s3::{GetOptions, GetPlan, Moved, PutOptions, PutPlan, S3Error, get, put};

use crate::args::{PathArgs, S3Args, S3Operation};
use crate::config;
use crate::exit::ExitStatus;
use crate::signals;
use crate::status_file::{State, StatusFile};
use crate::ui::output::Output;
use crate::ui::{Printer, chain};
use crate::units::show_bytes;

/// Moves one file.
pub(crate) async fn s3(output: &Arc<Output>, args: S3Args) -> ExitStatus {
    let printer = Printer::plain(output);
    let stop = match signals::watch() {
        Ok(stop) => stop,
        Err(error) => return printer.error(&error, None, ExitStatus::Failure),
    };
    printer.heed(&stop);
    let moved = Arc::new(Moved::default());
    let counted = Arc::clone(&moved);
    let counters = Box::new(move || counted.snapshot());
    let status = StatusFile::start(args.status_file.as_deref(), counters);
    let begun = Instant::now();
    let result = run(&args, moved, &status, stop).await;
    let stopped = matches!(result, Err(Error::S3(S3Error::Stopped(_))));
    if args.remove_plan_file && !stopped {
        remove_plan(&args.plan_file);
    }
    match result {
        Ok(size) => {
            status.finish(State::Done, None);
            let elapsed = begun.elapsed();
            let seconds = elapsed.as_secs_f64();
            printer.result(&format!("{} in {seconds:.2} s", show_bytes(size)));
            ExitStatus::Success
        }
        Err(error) => {
            status.finish(State::Failed, Some(chain(&error)));
            let code = match &error {
                Error::Plan { .. } => ExitStatus::File,
                Error::S3(error) => error.into(),
            };
            printer.error(&error, None, code)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot read the plan from '{}'", path.display())]
    Plan {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    S3(#[from] S3Error),
}

async fn run(
    args: &S3Args,
    moved: Arc<Moved>,
    status: &StatusFile,
    stop: Stop,
) -> Result<u64, Error> {
    let parallel = usize::from(args.parallel);
    match &args.operation {
        S3Operation::Get(PathArgs { path }) => {
            let plan: GetPlan = plan(&args.plan_file)?;
            let options = GetOptions {
                target: path.clone(),
                parallel,
                wait: args.wait,
            };
            status.set(State::Listening, None, None);
            let on_found = || status.set(State::Active, None, None);
            Ok(get(plan, options, moved, on_found, stop).await?)
        }
        S3Operation::Put(PathArgs { path }) => {
            let plan: PutPlan = plan(&args.plan_file)?;
            let options = PutOptions {
                source: path.clone(),
                journal: journal_of(&args.plan_file),
                parallel,
                is_last: args.remove_plan_file,
            };
            status.set(State::Active, None, None);
            Ok(put(plan, options, moved, stop).await?)
        }
    }
}

fn plan<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    config::s3_plan(path).map_err(|source| Error::Plan {
        path: path.to_owned(),
        source,
    })
}

/// Where it is noted which parts of the plan are through: of use to nobody without the plan.
fn journal_of(plan_file: &Path) -> PathBuf {
    let mut journal = plan_file.to_owned().into_os_string();
    journal.push("-parts");
    journal.into()
}

fn remove_plan(plan_file: &Path) {
    for path in [plan_file, &journal_of(plan_file)] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "a file of the plan stays");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_goes_with_what_was_noted_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let plan = directory.path().join("plan");
        for notes in [false, true] {
            std::fs::write(&plan, "").unwrap();
            if notes {
                std::fs::write(directory.path().join("plan-parts"), "").unwrap();
            }
            remove_plan(&plan);
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }
}
