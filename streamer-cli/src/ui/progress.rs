//! Shows counters while bytes move: a bar on a terminal, or JSON lines.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use streamer_core::Transport;
use streamer_core::net::Progress;
use streamer_core::net::progress::Snapshot;

use crate::client::Notice;
use crate::job::{JobState, News};
use crate::ui::announce::{plaintext, status};
use crate::ui::{Printer, chain};

/// What is shown of a transfer while it lasts.
#[derive(Debug)]
pub(crate) struct Ticker {
    printer: Printer,
    caption: Arc<Mutex<Caption>>,
    has_bar: bool,
}

/// In words.
#[derive(Debug, Clone, Default)]
struct Caption {
    text: String,
    /// Bytes move: a bar says more than words.
    over: Option<Transport>,
}

impl Ticker {
    pub(crate) fn start(printer: Printer, progress: Arc<Progress>, show_bar: bool) -> Self {
        let caption = Arc::<Mutex<Caption>>::default();
        let view = View::new(progress, Arc::clone(&caption), printer.is_json(), show_bar);
        let has_bar = !view.bar.is_hidden();
        if has_bar || view.is_json {
            printer.show(Some(view));
        }
        Self {
            printer,
            caption,
            has_bar,
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
            plaintext(&self.printer);
        }
        if self.printer.is_json() {
            status(&self.printer, state, &text);
        } else if matches!(notice, Notice::Lost(_) | Notice::Unheard) {
            self.printer.note(&text);
        } else {
            self.caption(
                text,
                match notice {
                    Notice::Connected(_, transport) => Some(*transport),
                    _ => None,
                },
            );
        }
    }

    /// While nobody answers.
    fn job(&self, news: &News<'_>) {
        let (text, state) = match news {
            News::State(state) => (state.to_string(), Some(*state)),
            // The time that is left has changed.
            News::Again(state) => return self.caption(state.to_string(), None),
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
        } else if !self.has_bar || state.is_none() {
            self.printer.note(&text);
        } else {
            self.caption(text, None);
        }
    }

    fn caption(&self, text: String, over: Option<Transport>) {
        let mut caption = self.caption.lock().unwrap_or_else(PoisonError::into_inner);
        *caption = Caption { text, over };
    }

    pub(crate) fn finish(self) {
        self.printer.show(None);
    }
}

/// Reads counters now and then, on the thread that writes: the hot path never prints.
#[derive(Debug)]
pub(crate) struct View {
    progress: Arc<Progress>,
    caption: Arc<Mutex<Caption>>,
    is_json: bool,
    bar: ProgressBar,
    /// Whether it is one, or words.
    is_bar: bool,
    before: Snapshot,
    since: Instant,
}

impl View {
    fn new(
        progress: Arc<Progress>,
        caption: Arc<Mutex<Caption>>,
        is_json: bool,
        show_bar: bool,
    ) -> Self {
        let target = match show_bar {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(0), target).with_style(waiting_style());
        Self {
            progress,
            caption,
            is_json,
            bar,
            is_bar: false,
            before: Snapshot::default(),
            since: Instant::now(),
        }
    }

    pub(crate) fn interval(&self) -> Duration {
        match self.is_json {
            true => JSON_INTERVAL,
            false => BAR_INTERVAL,
        }
    }

    /// Before it is shown first.
    pub(crate) fn first_after(&self) -> Duration {
        match self.is_json {
            true => JSON_INTERVAL,
            false => Duration::ZERO,
        }
    }

    /// Draws the bar, or returns a line of JSON where something has changed.
    pub(crate) fn show(&mut self) -> Option<String> {
        let now = self.progress.snapshot();
        if !self.is_json {
            self.draw(now);
            return None;
        }
        let passed = std::mem::replace(&mut self.since, Instant::now()).elapsed();
        let before = std::mem::replace(&mut self.before, now);
        (now != before).then(|| Printer::json_text(&StatusLine::new(now, before, passed)))
    }

    fn draw(&mut self, now: Snapshot) {
        let caption = &self.caption;
        // Not held while something is drawn.
        let Caption { text, over } = caption
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let is_bar = over.is_some() && now.total_bytes > 0;
        self.bar.set_message(match over {
            Some(_) if now.entries > 1 => {
                format!("{} of {} files", now.entries_done, now.entries)
            }
            // Short: one line of 80 columns holds all of it.
            Some(transport) if is_bar => format!("over {transport}"),
            _ => text,
        });
        // Each of these may draw, and a bar for no bytes is a full one.
        if !is_bar {
            self.restyle(false);
        }
        self.bar.set_length(now.total_bytes);
        self.bar.set_position(now.present_bytes());
        if is_bar {
            self.restyle(true);
        }
    }

    fn restyle(&mut self, is_bar: bool) {
        if std::mem::replace(&mut self.is_bar, is_bar) != is_bar {
            self.bar.set_style(match is_bar {
                true => style(),
                false => waiting_style(),
            });
        }
    }

    /// Does `write` where the bar is not.
    pub(crate) fn aside(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }

    /// Leaves nothing of it.
    pub(crate) fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Nothing moves yet: words only.
fn waiting_style() -> ProgressStyle {
    // Local invariant: as below.
    ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{msg} {wide_bar} {percent:>3}% {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} ETA {eta}",
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
    fn new(now: Snapshot, before: Snapshot, passed: Duration) -> Self {
        let moved = now.moved_bytes.saturating_sub(before.moved_bytes);
        let rate = moved as f64 / passed.as_secs_f64();
        let left = now.total_bytes.saturating_sub(now.present_bytes());
        Self {
            message_type: "status",
            state: "transferring",
            bytes_total: now.total_bytes,
            bytes_moved: now.moved_bytes,
            bytes_resumed: now.held_bytes(),
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
