//! `streamer inspect`.

use std::sync::Arc;

use serde::Serialize;
use streamer_core::identity::TransferId;
use streamer_core::{Operation, Transport};

use crate::args::InspectArgs;
use crate::config;
use crate::exit::ExitStatus;
use crate::ui::output::Output;
use crate::ui::{Printer, hint};

/// Prints what coordinates say.
pub(crate) fn inspect(output: &Arc<Output>, args: &InspectArgs) -> ExitStatus {
    let printer = if args.json {
        Printer::json(output)
    } else {
        Printer::plain(output)
    };
    let coordinates = match config::coordinates(&args.coordinates) {
        Ok(coordinates) => coordinates,
        Err(error) => return printer.error(&error, hint::of(&error), (&error).into()),
    };
    let shown = Shown {
        message_type: "coordinates",
        version: if coordinates.secret.is_key() { 2 } else { 1 },
        transfer: TransferId::new(&coordinates.secret).to_string(),
        ips: coordinates.ips.clone(),
        ports: [coordinates.ports.first(), coordinates.ports.last()],
        operation: coordinates.operation,
        transports: coordinates.transports.clone(),
        job: coordinates.job.as_ref().map(|job| [job.system(), job.id()]),
        secret: "redacted",
    };
    if args.json {
        printer.json_line(&shown);
        return ExitStatus::Success;
    }
    let words = |transports: &[Transport]| {
        let words: Vec<&str> = transports
            .iter()
            .map(|transport| transport.as_str())
            .collect();
        if words.is_empty() {
            "not said".to_owned()
        } else {
            words.join(", ")
        }
    };
    printer.result(&format!(
        "version    {}\ntransfer   {}\naddresses  {}\nports      {}\nendpoint   {}\ntransports {}\njob        {}\nsecret     redacted",
        shown.version,
        shown.transfer,
        shown.ips.join(", "),
        coordinates.ports,
        coordinates.operation.map_or("not said", Operation::as_str),
        words(&coordinates.transports),
        match &coordinates.job {
            Some(job) => format!("{} on {}", job.id(), job.system()),
            None => "not said".to_owned(),
        },
    ));
    ExitStatus::Success
}

#[derive(Serialize)]
struct Shown<'a> {
    message_type: &'static str,
    version: u8,
    transfer: String,
    ips: Vec<String>,
    ports: [u16; 2],
    operation: Option<Operation>,
    transports: Vec<Transport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<[&'a str; 2]>,
    secret: &'static str,
}
