//! What the log of a job promises to its readers: these lines are contracts.

use serde::Serialize;
use streamer_core::Transport;
use streamer_server::Notice;

use crate::ui::{Printer, chain};

/// Prints what an endpoint says while it lives.
pub(crate) fn server(printer: &Printer, notice: &Notice<'_>, announce: bool) {
    match notice {
        Notice::Listening {
            address,
            coordinates,
        } => {
            // Whoever started the job knows them, and may wait for this line all the same.
            let encoded = announce.then(|| coordinates.encode());
            match &encoded {
                coordinates if printer.is_json() => printer.json_line(&Listening {
                    message_type: "listening",
                    address: address.to_string(),
                    coordinates: coordinates.as_ref().map(|encoded| encoded.as_str()),
                }),
                // Existing tools look for this sentence.
                Some(encoded) => {
                    printer.result(&format!("Use these coordinates to connect: {}", **encoded));
                }
                None => printer.note(&format!("listening on {address}")),
            }
        }
        Notice::Connected { peer, transport } => {
            news(
                printer,
                "connected",
                &format!("serving {peer} over {transport}"),
            );
            if *transport == Transport::Ws {
                plaintext(printer);
            }
        }
        Notice::Refused { peer } => {
            news(
                printer,
                "refused",
                &format!("refused {peer}: another client is being served"),
            );
        }
        Notice::Lost { error } => {
            news(
                printer,
                "lost",
                &format!("lost the client: {}; waiting for it", chain(error)),
            );
        }
        _ => {}
    }
}

/// Says what a WebSocket does not protect, whatever else is to be printed.
pub(crate) fn plaintext(printer: &Printer) {
    let text = "PLAINTEXT: this WebSocket is neither encrypted nor authenticated; anybody on the way can read and change the file, and use the coordinates";
    if printer.is_json() {
        status(printer, "plaintext", text);
    } else {
        printer.warning(text);
    }
}

/// One line about what is going on.
pub(crate) fn status(printer: &Printer, state: &'static str, text: &str) {
    if printer.is_json() {
        printer.json_line(&Status {
            message_type: "status",
            state,
            message: Some(text),
        });
    } else {
        printer.note(text);
    }
}

/// The same of what may be missed by who does not read: an endpoint goes on, and strangers to its reader
/// may make it say much.
fn news(printer: &Printer, state: &'static str, text: &str) {
    printer.news(&line(printer, state, text), |count| {
        line(printer, "left_out", &left_out(count))
    });
}

/// Says how many of those were left out, before the last words of an endpoint.
pub(crate) fn unsaid(printer: &Printer) {
    match printer.unsaid() {
        0 => {}
        count => status(printer, "left_out", &left_out(count)),
    }
}

fn left_out(count: u64) -> String {
    format!("{count} lines about clients are left out")
}

fn line(printer: &Printer, state: &'static str, text: &str) -> String {
    match printer.is_json() {
        true => Printer::json_text(&Status {
            message_type: "status",
            state,
            message: Some(text),
        }),
        false => text.to_owned(),
    }
}

#[derive(Serialize)]
struct Listening<'a> {
    message_type: &'static str,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    coordinates: Option<&'a str>,
}

#[derive(Serialize)]
struct Status<'a> {
    message_type: &'static str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}
