//! What becomes of the job that hosts the endpoint, asked of the API while nobody answers.

mod api;
mod state;

use std::time::Duration;

use streamer_core::JobName;
use tokio::time::{Instant, sleep_until};

use api::Api;
pub use api::{ApiAccess, AskError, Token, UrlError};
pub use state::{JobState, Word};

/// What is heard of a job.
#[derive(Debug)]
pub enum News<'a> {
    /// It stands otherwise than before.
    State(&'a JobState),
    /// It stands as before.
    Again(&'a JobState),
    /// The API does not say. It goes on being asked.
    Unknown(&'a AskError),
}

/// Asks now and then how a job stands: seldom enough for a scheduler that many ask.
#[derive(Debug)]
pub(crate) struct JobWatch {
    api: Api,
    job: JobName,
    next: Instant,
    pause: Duration,
    complained: bool,
    last: Option<JobState>,
}

impl JobWatch {
    /// Asks nothing yet: where the endpoint answers at once, nobody wants to know.
    pub(crate) fn new(access: ApiAccess, job: JobName) -> Result<Self, AskError> {
        Ok(Self {
            api: Api::new(access)?,
            job,
            next: Instant::now() + PAUSE_MIN,
            pause: PAUSE_MIN,
            complained: false,
            last: None,
        })
    }

    /// Waits until the job is over, and says how it ended. Cancel-safe.
    pub(crate) async fn until_over(&mut self, mut tell: impl FnMut(News<'_>)) -> JobState {
        loop {
            sleep_until(self.next).await;
            self.next = Instant::now() + self.pause;
            self.pause = (2 * self.pause).min(PAUSE_MAX);
            match self.api.state(&self.job).await {
                Ok(state) => {
                    self.complained = false;
                    match &self.last {
                        Some(last) if *last == state => tell(News::Again(&state)),
                        _ => tell(News::State(&state)),
                    }
                    self.last = Some(state.clone());
                    if state.is_over() {
                        return state;
                    }
                }
                Err(error) if !self.complained => {
                    tell(News::Unknown(&error));
                    self.complained = true;
                }
                Err(_) => {}
            }
        }
    }

    /// What was heard last.
    pub(crate) fn last(&self) -> Option<&JobState> {
        self.last.as_ref()
    }
}

/// Before the first question, and between the first ones.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// Between questions, when a job waits for long.
const PAUSE_MAX: Duration = Duration::from_secs(5);
