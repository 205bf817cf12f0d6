//! The verbs, one file each.

pub(crate) mod client;
pub(crate) mod inspect;
pub(crate) mod s3;
pub(crate) mod server;

use crate::exit::ExitStatus;
use crate::ui::Printer;

/// Without a runtime nothing can be done.
pub(crate) fn no_runtime(error: &std::io::Error) -> ExitStatus {
    Printer::plain().error(error, None, ExitStatus::Failure)
}
