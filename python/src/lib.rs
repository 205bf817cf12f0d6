//! `streamer._engine`: the engine of `streamer`, for Python. The package around it is what
//! users import (`python/package/streamer`).
//!
//! Everything here runs with the interpreter released, so that other Python threads go on.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeWarning, PyValueError};
use pyo3::prelude::*;
use streamer_cli::args::Args;
use streamer_cli::embed::{self, Done, Failed, Request, run};
use streamer_core::net::Progress;
use streamer_core::net::ws::dial::Plaintext;
use streamer_core::{ErrorCode, Operation, Transport};
use tokio::sync::watch;

pyo3::create_exception!(
    _engine,
    StreamerError,
    pyo3::exceptions::PyException,
    "A transfer that failed: the message says what and why, `hint` what to do, `exit_code` how the command would have exited."
);

/// The command: parses and does what `argv` says, and returns the code to exit with.
#[pyfunction]
fn main(py: Python<'_>, argv: Vec<OsString>) -> u8 {
    streamer_cli::leave_no_core();
    py.detach(|| match Args::read(argv) {
        Ok(args) => streamer_cli::run(args) as u8,
        Err(error) => {
            // A closed pipe is no error of ours.
            let _ = error.print();
            u8::try_from(error.exit_code()).unwrap_or(1)
        }
    })
}

/// One transfer, which may be watched and stopped from another thread while it runs.
#[pyclass(frozen)]
#[derive(Debug)]
struct Transfer {
    progress: Arc<Progress>,
    stop: watch::Sender<Option<ErrorCode>>,
}

#[pymethods]
impl Transfer {
    #[new]
    fn new() -> Self {
        Self {
            progress: Arc::default(),
            stop: watch::Sender::new(None),
        }
    }

    /// Sends or receives the file at `path`. Returns (bytes, transport, BLAKE3 or None), or
    /// raises [`StreamerError`].
    fn run(
        &self,
        py: Python<'_>,
        operation: &str,
        coordinates: String,
        path: PathBuf,
        wait_seconds: f64,
        allow_websocket: bool,
    ) -> PyResult<(u64, &'static str, Option<String>)> {
        let coordinates = match embed::coordinates(coordinates) {
            Ok(coordinates) => coordinates,
            Err(failed) => return Err(raise(py, failed)?),
        };
        let request = Request {
            coordinates,
            operation: match operation {
                "send" => Operation::Send,
                "receive" => Operation::Receive,
                _ => return Err(PyValueError::new_err("operation is send or receive")),
            },
            path,
            wait: Duration::try_from_secs_f64(wait_seconds)
                .map_err(|error| PyValueError::new_err(error.to_string()))?,
            plaintext: if allow_websocket {
                Plaintext::Allowed
            } else {
                Plaintext::Never
            },
        };
        let stop = self.stop.subscribe();
        let result = py.detach(|| run(&request, &self.progress, stop, warn_of_plaintext));
        match result {
            Ok(Done {
                bytes,
                transport,
                root,
            }) => Ok((bytes, transport.as_str(), root.map(|root| root.to_string()))),
            Err(failed) => Err(raise(py, failed)?),
        }
    }

    /// Ends it early; what arrived is kept. Returns at once.
    fn stop(&self) {
        self.stop.send_replace(Some(ErrorCode::Interrupted));
    }

    /// Bytes in place, and bytes in all as far as known.
    fn progress(&self) -> (u64, u64) {
        let now = self.progress.snapshot();
        (now.present_bytes(), now.total_bytes)
    }
}

fn warn_of_plaintext(transport: Transport) {
    if transport != Transport::Ws {
        return;
    }
    Python::attach(|py| {
        let text = c"this file travels over a plaintext WebSocket: anybody on the way can read and change it";
        let category = py.get_type::<PyRuntimeWarning>();
        // A filter may turn warnings into errors; the transfer was allowed to be plaintext.
        if let Err(error) = PyErr::warn(py, &category, text, 1) {
            error.write_unraisable(py, None);
        }
    });
}

fn raise(py: Python<'_>, failed: Failed) -> PyResult<PyErr> {
    let Failed {
        message,
        hint,
        status,
    } = failed;
    let error = StreamerError::new_err(message);
    let value = error.value(py);
    value.setattr("exit_code", status as u8)?;
    value.setattr("hint", hint)?;
    Ok(error)
}

#[pymodule]
mod _engine {
    #[pymodule_export]
    use super::{StreamerError, Transfer, main};
}
