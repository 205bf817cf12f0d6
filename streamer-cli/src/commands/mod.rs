//! The verbs, one file each.

pub(crate) mod client;
pub(crate) mod inspect;
pub(crate) mod s3;
pub(crate) mod server;

use std::sync::Arc;

use crate::exit::ExitStatus;
use crate::ui::Printer;
use crate::ui::output::Output;

/// Without a runtime nothing can be done.
pub(crate) fn no_runtime(output: &Arc<Output>, error: &std::io::Error) -> ExitStatus {
    Printer::plain(output).error(error, None, ExitStatus::Failure)
}
