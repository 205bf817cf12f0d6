//! Shows counters while bytes move: a bar on a terminal, or JSON lines.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use streamer_core::Transport;
use streamer_core::net::Progress;
use streamer_core::net::progress::Snapshot;
use tokio::task::JoinSet;

use crate::client::Notice;
use crate::job::{JobState, News};
use crate::ui::announce::{plaintext, status};
use crate::ui::{Printer, chain};

/// Reads counters now and then; the hot path never prints.
#[derive(Debug)]
pub(crate) struct Ticker {
    printer: Printer,
    bar: ProgressBar,
    /// Stops ticking when dropped.
    _task: JoinSet<()>,
}

impl Ticker {
    /// A bar that is not ticking yet.
    pub(crate) fn bar(show: bool) -> ProgressBar {
        let target = if show {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        ProgressBar::with_draw_target(Some(0), target).with_style(waiting_style())
    }

    pub(crate) fn start(
        printer: Printer,
        progress: Arc<Progress>,
        bar: ProgressBar,
        show_bar: bool,
    ) -> Self {
        let mut task = JoinSet::new();
        if show_bar || printer.is_json() {
            task.spawn(tick(printer, progress, bar.clone()));
        }
        Self {
            printer,
            bar,
            _task: task,
        }
    }

    pub(crate) fn client(&self, notice: &Notice<'_>) {
        let (state, text) = match notice {
            Notice::Dialling => ("connecting", "looking for the endpoint".to_owned()),
            Notice::Connected(peer, transport) => {
                ("connected", format!("connected to {peer} over {transport}"))
            }
            Notice::Lost(error) => ("lost", format!("{error}; trying again")),
            Notice::Unheard => (
                "unheard",
                "all is in place, but the endpoint could not be told: it may have left, or wait for longer".to_owned(),
            ),
            Notice::Job(news) => return self.job(news),
        };
        if matches!(notice, Notice::Connected(_, Transport::Ws)) {
            self.bar.suspend(|| plaintext(&self.printer));
        }
        if self.printer.is_json() {
            status(&self.printer, state, &text);
        } else if matches!(notice, Notice::Lost(_) | Notice::Unheard) {
            self.bar.suspend(|| self.printer.note(&text));
        } else {
            if let Notice::Connected(..) = notice {
                self.bar.set_style(style());
            }
            self.bar.set_message(text);
        }
    }

    /// While nobody answers.
    fn job(&self, news: &News<'_>) {
        let (text, state) = match news {
            News::State(state) => (state.to_string(), Some(*state)),
            // The time that is left has changed.
            News::Again(state) => return self.bar.set_message(state.to_string()),
            News::Unknown(error) => (
                format!("how the job stands is unknown: {}", chain(error)),
                None,
            ),
        };
        if self.printer.is_json() {
            self.printer.json_line(&WaitingLine {
                message_type: "status",
                state: "waiting",
                message: &text,
                job: state,
            });
        } else if self.bar.is_hidden() || state.is_none() {
            self.bar.suspend(|| self.printer.note(&text));
        } else {
            self.bar.set_message(text);
        }
    }

    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

async fn tick(printer: Printer, progress: Arc<Progress>, bar: ProgressBar) {
    let interval = if printer.is_json() {
        JSON_INTERVAL
    } else {
        BAR_INTERVAL
    };
    let mut ticks = tokio::time::interval(interval);
    let mut before = Snapshot::default();
    loop {
        ticks.tick().await;
        let now = progress.snapshot();
        if printer.is_json() && now != before {
            printer.json_line(&StatusLine::new(now, before, interval));
        }
        if now.entries > 1 {
            bar.set_message(format!("{} of {} files", now.entries_done, now.entries));
        }
        bar.set_length(now.total_bytes);
        bar.set_position(
            now.resumed_bytes
                .saturating_add(now.moved_bytes)
                .min(now.total_bytes),
        );
        before = now;
    }
}

/// Nothing moves yet: words only.
fn waiting_style() -> ProgressStyle {
    // Local invariant: as below.
    ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{msg} {bar:30} {percent:>3}% {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} ETA {eta}",
    )
    // Local invariant: the template is a constant that a test parses.
    .unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[derive(Serialize)]
struct WaitingLine<'a> {
    message_type: &'static str,
    state: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a JobState>,
}

#[derive(Serialize)]
struct StatusLine {
    message_type: &'static str,
    state: &'static str,
    bytes_total: u64,
    bytes_moved: u64,
    bytes_resumed: u64,
    bytes_per_second: f64,
    /// Files, directories and links found so far, and how many are in place or have failed.
    entries_total: u64,
    entries_done: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<f64>,
}

impl StatusLine {
    fn new(now: Snapshot, before: Snapshot, interval: Duration) -> Self {
        let moved = now.moved_bytes.saturating_sub(before.moved_bytes);
        let rate = moved as f64 / interval.as_secs_f64();
        let left = now
            .total_bytes
            .saturating_sub(now.resumed_bytes + now.moved_bytes);
        Self {
            message_type: "status",
            state: "transferring",
            bytes_total: now.total_bytes,
            bytes_moved: now.moved_bytes,
            bytes_resumed: now.resumed_bytes,
            bytes_per_second: rate,
            entries_total: now.entries,
            entries_done: now.entries_done,
            seconds_left: (rate > 0.0).then(|| left as f64 / rate),
        }
    }
}

/// Often enough to look smooth.
const BAR_INTERVAL: Duration = Duration::from_millis(100);

/// Seldom enough for logs.
const JSON_INTERVAL: Duration = Duration::from_millis(1000);
