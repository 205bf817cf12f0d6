//! How a job stands, in words.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize};

/// How the job of a transfer stands, as `GET …/transfer/{jobId}` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(deserialize = "camelCase"))]
pub struct JobState {
    /// Where it is between request and end.
    pub state: Word,
    /// While queued: why, in the scheduler's words.
    #[serde(default, deserialize_with = "shown")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// While queued: when the scheduler means to start it, in unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_start: Option<u64>,
    /// Where it runs.
    #[serde(default, deserialize_with = "shown")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Why it failed, was cancelled or waits.
    #[serde(default, deserialize_with = "shown")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The API's words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// It waits for its turn.
    Queued,
    /// It runs and is not ready yet.
    Starting,
    /// The endpoint waits for a client.
    Listening,
    /// The endpoint serves a client.
    Active,
    /// The transfer is over, and went well.
    Done,
    /// It is over, and did not.
    Failed,
    /// Somebody cancelled the job.
    Cancelled,
    /// A word of a newer API.
    #[serde(other)]
    Unknown,
}

impl JobState {
    /// Nobody listens any more, nor will.
    pub fn is_over(&self) -> bool {
        matches!(self.state, Word::Done | Word::Failed | Word::Cancelled)
    }

    /// Nobody listens yet.
    pub fn is_to_come(&self) -> bool {
        matches!(self.state, Word::Queued | Word::Starting)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, now: u64) -> fmt::Result {
        f.write_str(match self.state {
            Word::Queued => "the job is queued",
            Word::Starting => "the job is starting",
            Word::Listening => "the endpoint is listening",
            Word::Active => "the endpoint is serving a client",
            Word::Done => "the transfer of this job is done already",
            Word::Failed => "the job failed",
            Word::Cancelled => "the job was cancelled",
            Word::Unknown => "the job is there",
        })?;
        if let Some(node) = &self.node {
            write!(f, " on {node}")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        match self.estimated_start {
            Some(start) if start > now => {
                let left = Duration::from_secs(start - now);
                write!(f, ", expected to start in {}", rounded(left))?;
            }
            _ => {}
        }
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.write(f, now.unwrap_or_default().as_secs())
    }
}

/// A scheduler's estimate is not more exact than that.
fn rounded(left: Duration) -> String {
    match left.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Others wrote it, and it goes to a terminal.
fn shown<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    Ok(text.map(|text| text.chars().take(SHOWN_MAX_CHARS).map(plain).collect()))
}

const SHOWN_MAX_CHARS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        struct At(JobState);
        impl fmt::Display for At {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.write(f, 1000)
            }
        }
        At(serde_json::from_str(json).unwrap()).to_string()
    }

    #[test]
    fn each_state_is_a_sentence_with_what_is_known() {
        for (json, expected) in [
            (
                r#"{"jobId":"1","state":"queued","reason":"Resources","estimatedStart":2500}"#,
                "the job is queued (Resources), expected to start in 25 min",
            ),
            (
                r#"{"state":"queued","estimatedStart":10}"#,
                "the job is queued",
            ),
            (
                r#"{"state":"listening","node":"nid1","port":5665}"#,
                "the endpoint is listening on nid1",
            ),
            (
                r#"{"state":"cancelled","message":"by\u001b[2J root"}"#,
                "the job was cancelled: by [2J root",
            ),
            (r#"{"state":"dancing"}"#, "the job is there"),
        ] {
            assert_eq!(text(json), expected);
        }
        assert_eq!(rounded(Duration::from_secs(119)), "119 s");
        assert_eq!(rounded(Duration::from_secs(3 * 3600)), "3 h");
        assert_eq!(rounded(Duration::from_secs(200_000)), "2 days");
    }
}
