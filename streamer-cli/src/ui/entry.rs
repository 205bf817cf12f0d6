//! One entry of a tree that is over.

use serde::Serialize;
use streamer_core::Operation;
use streamer_core::net::progress::{EntryReport, Outcome};
use streamer_core::wire::message::EntryKind;

use crate::ui::json_path::JsonPath;
use crate::ui::{Printer, chain};

/// Prints what failed; as JSON, also what did not.
pub(crate) fn print(printer: &Printer, operation: Operation, report: &EntryReport<'_>) {
    let failure = match report.outcome {
        Outcome::Failed(..) => Some(reason(operation, report)),
        Outcome::Done | Outcome::Kept => None,
    };
    if printer.is_json() {
        printer.json_line(&EntryLine::new(report, failure));
    } else if let Some(text) = failure {
        printer.say(&format!("error: {text}"));
    }
}

/// What failed, on what, and why.
fn reason(operation: Operation, report: &EntryReport<'_>) -> String {
    let path = &report.entry.path;
    let is_unsent = matches!(report.entry.kind, EntryKind::Unsent { .. });
    match report.outcome {
        Outcome::Failed(_, Some(error)) => chain(error),
        Outcome::Failed(code, None) if is_unsent && operation == Operation::Send => {
            format!("cannot send '{path}': {code}")
        }
        Outcome::Failed(code, None) => format!("the other side failed with '{path}': {code}"),
        Outcome::Done | Outcome::Kept => String::new(),
    }
}

#[derive(Serialize)]
struct EntryLine {
    message_type: &'static str,
    /// Below the root of the tree, which is empty.
    #[serde(flatten)]
    path: JsonPath,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    outcome: &'static str,
    /// Of the failure, as in the protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl EntryLine {
    fn new(report: &EntryReport<'_>, message: Option<String>) -> Self {
        let (kind, bytes) = match report.entry.kind {
            EntryKind::File { size } => ("file", Some(size)),
            EntryKind::Directory => ("directory", None),
            EntryKind::Symlink { .. } => ("link", None),
            EntryKind::Unsent { .. } => ("other", None),
        };
        let (outcome, code) = match report.outcome {
            Outcome::Done => ("done", None),
            Outcome::Kept => ("kept", None),
            Outcome::Failed(code, _) => ("failed", Some(code.number())),
        };
        Self {
            message_type: "entry",
            path: JsonPath::of(report.entry.path.as_bytes()),
            kind,
            bytes,
            outcome,
            code,
            message,
        }
    }
}
