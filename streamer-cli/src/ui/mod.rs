//! Everything that is printed. [`Printer`] says what, and [`Output`] is the sole owner of stdout and stderr.

pub(crate) mod announce;
mod entry;
pub(crate) mod hint;
mod json_path;
pub(crate) mod output;
mod progress;
pub(crate) mod summary;

use std::error::Error;
use std::io::IsTerminal as _;
use std::sync::Arc;

use serde::Serialize;
use streamer_core::net::progress::EntryReport;
use streamer_core::net::stop::Stop;
use streamer_core::net::{Progress, Transferred};
use streamer_core::{ErrorCode, Operation};
use streamer_server::Pace;

use crate::args::OutputArgs;
use crate::exit::ExitStatus;
use crate::ui::output::{Output, Stream};
use crate::ui::progress::{Ticker, View};
use crate::ui::summary::Summary;

/// Decides what is printed where.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    output: Arc<Output>,
    json: bool,
    quiet: bool,
    bar: bool,
    /// What goes on is a result too: the error output of a job is for errors.
    notes_are_results: bool,
}

impl Printer {
    pub(crate) fn new(output: &Arc<Output>, args: OutputArgs) -> Self {
        let OutputArgs {
            json,
            quiet,
            no_progress,
        } = args;
        let bar = !json && !quiet && !no_progress && std::io::stderr().is_terminal();
        Self {
            json,
            quiet,
            bar,
            ..Self::plain(output)
        }
    }

    /// Text, no bar.
    pub(crate) fn plain(output: &Arc<Output>) -> Self {
        Self {
            output: Arc::clone(output),
            json: false,
            quiet: false,
            bar: false,
            notes_are_results: false,
        }
    }

    /// Text for the log of a job.
    pub(crate) fn job(output: &Arc<Output>) -> Self {
        Self {
            notes_are_results: true,
            ..Self::plain(output)
        }
    }

    /// JSON lines.
    pub(crate) fn json(output: &Arc<Output>) -> Self {
        Self {
            json: true,
            ..Self::plain(output)
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Nobody waits for a reader any more once this says stop.
    pub(crate) fn heed(&self, stop: &Stop) {
        self.output.heed(stop);
    }

    /// Does `work`, no faster than what it tells is read. Cancel-safe if `work` is.
    pub(crate) async fn paced<T>(&self, work: impl Future<Output = T>) -> T {
        self.output.paced(work).await
    }

    /// What paces the sessions of an endpoint, which itself goes on.
    pub(crate) fn pace(&self) -> impl Pace + use<> {
        Arc::clone(&self.output)
    }

    /// A result, on stdout.
    pub(crate) fn result(&self, text: &str) {
        self.output.line(Stream::Out, text);
    }

    fn say(&self, text: &str) {
        self.output.line(Stream::Err, text);
    }

    /// Shows this until further notice.
    fn show(&self, view: Option<View>) {
        self.output.show(view);
    }

    /// One line of JSON, on stdout.
    pub(crate) fn json_line(&self, value: &impl Serialize) {
        self.result(&Self::json_text(value));
    }

    fn json_text(value: &impl Serialize) -> String {
        // Local invariant: our types serialise.
        serde_json::to_string(value).unwrap_or_default()
    }

    /// Something to know, on stderr.
    pub(crate) fn note(&self, text: &str) {
        match self.notes_are_results {
            true => self.result(text),
            false if !self.quiet && !self.json => self.say(text),
            false => {}
        }
    }

    /// Something to know that may be missed, where [`note`](Self::note) says such things; a line of JSON if
    /// it is to be that.
    fn news(&self, line: &str, left_out: impl FnOnce(u64) -> String) {
        let stream = match self.json || self.notes_are_results {
            true => Stream::Out,
            false if self.quiet => return,
            false => Stream::Err,
        };
        self.output.news(stream, line, left_out);
    }

    /// How many lines of news were left out and not told of; they are, from now on.
    fn unsaid(&self) -> u64 {
        self.output.unsaid()
    }

    /// Something that has to be known, asked for or not: on stderr, or as JSON.
    pub(crate) fn warning(&self, text: &str) {
        match self.json {
            true => announce::status(self, "warning", text),
            false => self.say(&format!("warning: {text}")),
        }
    }

    /// How a transfer ended for which a receipt was given. Returns the status to exit with.
    pub(crate) fn outcome(&self, summary: &Summary, transferred: &Transferred) -> ExitStatus {
        let status = ExitStatus::from(transferred);
        match &transferred.tree {
            None if status != ExitStatus::Success => {
                self.failures(transferred, summary.is_plain(), status)
            }
            None => {
                self.summary(summary);
                status
            }
            Some(counts) => {
                self.summary(summary);
                if status == ExitStatus::Success {
                    return status;
                }
                // Each of them was told when it failed.
                let hint = transferred.conclusion.failures.first();
                let hint = hint.and_then(|failure| hint::of_entry(failure.code));
                let text = match counts.failed {
                    1 => "1 entry failed; the others are in place".to_owned(),
                    failed => format!("{failed} entries failed; the others are in place"),
                };
                self.failure(&text, hint, status)
            }
        }
    }

    fn summary(&self, summary: &Summary) {
        match (self.json, self.quiet) {
            (true, _) => self.json_line(summary),
            (false, true) => {}
            (false, false) => self.result(&summary.to_string()),
        }
    }

    /// What failed, on what, why, and what to do. Returns the status to exit with.
    pub(crate) fn error(
        &self,
        error: &dyn Error,
        hint: Option<&'static str>,
        status: ExitStatus,
    ) -> ExitStatus {
        self.failure(&chain(error), hint, status)
    }

    /// What failed after a receipt was given.
    fn failures(
        &self,
        transferred: &Transferred,
        is_plain: bool,
        status: ExitStatus,
    ) -> ExitStatus {
        for failure in &transferred.conclusion.failures {
            let text = failure_text(transferred, failure.code);
            let hint = match is_plain {
                true => hint::of_plain(failure.code),
                false => hint::of_code(failure.code),
            };
            self.failure(&text, hint, status);
        }
        status
    }

    /// Counters of a transfer that tell of each entry of a tree.
    pub(crate) fn watch(&self, operation: Operation) -> Arc<Progress> {
        let printer = self.clone();
        let observer = move |report: &EntryReport<'_>| entry::print(&printer, operation, report);
        Arc::new(Progress::observed(observer))
    }

    /// The same, with a ticker that shows the counters until it is finished.
    pub(crate) fn progress(&self, operation: Operation) -> (Arc<Progress>, Ticker) {
        let progress = self.watch(operation);
        let ticker = Ticker::start(self.clone(), Arc::clone(&progress), self.bar);
        (progress, ticker)
    }

    fn failure(&self, text: &str, hint: Option<&'static str>, status: ExitStatus) -> ExitStatus {
        if self.json {
            let exit_code = status as u8;
            self.json_line(&ErrorLine {
                message_type: "error",
                message: text,
                hint,
                exit_code,
            });
        } else {
            self.say(&format!("error: {text}"));
            if let Some(hint) = hint {
                self.say(&format!("hint: {hint}"));
            }
        }
        status
    }
}

#[derive(Serialize)]
struct ErrorLine<'a> {
    message_type: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    exit_code: u8,
}

/// What failed after a receipt was given, in the words of the side that knows them.
pub(crate) fn failure_text(transferred: &Transferred, code: ErrorCode) -> String {
    match transferred.failures.iter().find(|ours| ours.code == code) {
        Some(ours) => chain(ours),
        None => format!("the other side failed: {code}"),
    }
}

/// An error and its causes, on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
