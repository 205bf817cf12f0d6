//! Authorization codes: single use, short life, bounded number.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Codes issued and not used yet.
#[derive(Debug, Default)]
pub(super) struct Codes(HashMap<String, Grant>);

/// What a code stands for.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
    issued: Instant,
}

impl Grant {
    pub(super) fn new(redirect_uri: String, challenge: String) -> Self {
        Self {
            redirect_uri,
            challenge,
            issued: Instant::now(),
        }
    }
}

impl Codes {
    /// Remembers a code; the oldest go when there are too many.
    pub(super) fn put(&mut self, code: String, grant: Grant) {
        self.0.retain(|_, grant| grant.issued.elapsed() < LIFETIME);
        if self.0.len() >= CODES_MAX {
            let oldest = self.0.iter().min_by_key(|(_, grant)| grant.issued);
            if let Some(oldest) = oldest.map(|(code, _)| code.clone()) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(code, grant);
    }

    /// Uses a code up, whatever comes of it.
    pub(super) fn take(&mut self, code: &str) -> Option<Grant> {
        self.0
            .remove(code)
            .filter(|grant| grant.issued.elapsed() < LIFETIME)
    }
}

const LIFETIME: Duration = Duration::from_secs(60);
const CODES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn codes_are_used_once_and_soon() {
        let mut codes = Codes::default();
        let grant = || Grant::new("http://localhost/".into(), "c".into());
        codes.put("a".into(), grant());
        codes.put("b".into(), grant());
        assert!(codes.take("a").is_some());
        assert!(codes.take("a").is_none());
        tokio::time::advance(LIFETIME).await;
        assert!(codes.take("b").is_none());
        for number in 0..2 * CODES_MAX {
            codes.put(number.to_string(), grant());
        }
        assert_eq!(codes.0.len(), CODES_MAX);
    }
}
