//! `wormhole`: magic-wormhole on both sides; the two meet at a mailbox server by a code.

use ring::rand::{SecureRandom, SystemRandom};
use streamer_core::Operation;

use super::{JobFiles, TransferError, TransferMethod, TransferPlan, TransferRequest};
use crate::Secret;
use crate::command::{Wormhole, WormholeVerb, reported};
use crate::config::WormholeConfig;
use crate::executor::BoxFuture;
use crate::model::transfer::{TransferDirective, TransferMethodName};

/// Plans wormholes as configured.
#[derive(Debug)]
pub struct WormholeMethod {
    config: WormholeConfig,
}

impl WormholeMethod {
    /// A method for one system.
    pub fn new(config: WormholeConfig) -> Self {
        Self { config }
    }

    fn plan_now(
        &self,
        request: &TransferRequest,
        job: &JobFiles,
    ) -> Result<TransferPlan, TransferError> {
        let mut directive = TransferDirective::new(TransferMethodName::Wormhole);
        let (verb, code, title, done) = match request.operation {
            Operation::Receive => {
                let code = request.directive.wormhole_code.as_deref();
                let code = code.filter(|code| is_code(code));
                let code = code.ok_or(TransferError::BadWormholeCode)?.to_owned();
                (
                    WormholeVerb::Receive,
                    code,
                    "Waiting for the sender.",
                    RECEIVED,
                )
            }
            Operation::Send => {
                let code = new_code(&SystemRandom::new()).ok_or(TransferError::NoRandomness)?;
                directive.wormhole_code = Some(code.clone());
                (WormholeVerb::Send, code, "Waiting for the receiver.", SENT)
            }
        };
        let line = Wormhole {
            verb,
            path: request.path.as_str().to_owned(),
            code_file: job.private_path(),
            state_prefix: job.state_prefix(),
            program: self.config.wormhole_binary.clone(),
            environment: job.environment(),
            index_url: self.config.pypi_index_url.clone(),
            mailbox_url: self.config.mailbox_url.clone(),
            transit_relay: self.config.transit_relay.clone(),
        };
        Ok(TransferPlan {
            body: reported(&line.render(), title, done),
            private: Secret::new(code),
            directive,
            coordinates: None,
        })
    }
}

impl TransferMethod for WormholeMethod {
    fn name(&self) -> TransferMethodName {
        TransferMethodName::Wormhole
    }

    fn needs_program(&self) -> bool {
        false
    }

    fn plan<'a>(
        &'a self,
        request: &'a TransferRequest,
        job: &'a JobFiles,
    ) -> BoxFuture<'a, Result<TransferPlan, TransferError>> {
        let plan = self.plan_now(request, job);
        Box::pin(async move { plan })
    }
}

/// A number, then words, joined by hyphens.
fn is_code(text: &str) -> bool {
    let (number, words) = text.split_once('-').unwrap_or_default();
    let number_fits = (1..=9).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    let words_fit = !words.is_empty() && words.chars().all(|c| c.is_alphanumeric() || c == '-');
    text.len() <= 128 && number_fits && words_fit
}

/// The number keeps people apart on the mailbox server; the words are the secret. One wrong
/// guess ends the exchange.
fn new_code(random: &dyn SecureRandom) -> Option<String> {
    let mut bytes = [0; 2 + WORDS_IN_CODE];
    random.fill(&mut bytes).ok()?;
    let [high, low, words @ ..] = bytes;
    let mut code = (1000 + u32::from(u16::from_be_bytes([high, low]))).to_string();
    for byte in words {
        code.push('-');
        // Local invariant: the list has 32 words.
        code.push_str(WORDS[usize::from(byte) % WORDS.len()]);
    }
    Some(code)
}

const RECEIVED: &str = "File was successfully received.";
const SENT: &str = "File was successfully sent.";
const WORDS_IN_CODE: usize = 4;
const WORDS: [&str; 32] = [
    "apogee", "asteroid", "aurora", "comet", "corona", "cosmos", "crater", "dwarf", "eclipse",
    "equinox", "galaxy", "gravity", "halo", "horizon", "jupiter", "lander", "lunar", "meteor",
    "module", "nebula", "nova", "orbit", "parsec", "perigee", "planet", "probe", "pulsar",
    "quasar", "rocket", "saturn", "solstice", "zenith",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_program() {
        for good in ["7-crossover-clockwork", "4-a", "123456789-é-x"] {
            assert!(is_code(good), "{good}");
        }
        let long = format!("7-{}", "x".repeat(200));
        for bad in [
            "", "7", "7-", "x-y", "7-a b", "7-$(id)", "7-a\n", "--help", &long,
        ] {
            assert!(!is_code(bad), "{bad:?}");
        }
        let code = new_code(&SystemRandom::new()).unwrap();
        assert!(is_code(&code), "{code}");
        assert_eq!(code.split('-').count(), 1 + WORDS_IN_CODE);
        assert_ne!(Some(code), new_code(&SystemRandom::new()));
    }
}
