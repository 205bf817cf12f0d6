//! Coordinates: the secret text that leads a client to an endpoint.
//!
//! URL-safe base64 of a JSON object (`docs/PROTOCOL.md#coordinates`). The first four keys are
//! those of the existing Python service and keep their meaning.

use std::fmt;
use std::net::Ipv6Addr;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::limits;
use crate::secret::{SecretError, TransferSecret};

/// Where an endpoint is, what it does, and the secret that opens it.
///
/// A secret itself: `Debug` redacts, and there is no `Display`; see [`encode`](Self::encode).
#[derive(Clone, PartialEq, Eq)]
pub struct Coordinates {
    /// Ports the endpoint may be on.
    pub ports: PortRange,
    /// Addresses or host names where the endpoint may be; at least one.
    pub ips: Vec<String>,
    /// The root of the endpoint's and the client's identity.
    pub secret: TransferSecret,
    /// What the endpoint does. Absent in coordinates from the existing Python API.
    pub operation: Option<Operation>,
    /// Transports the endpoint accepts, in order of preference. Empty: not said.
    pub transports: Vec<Transport>,
    /// The job that hosts the endpoint, where the API started one.
    pub job: Option<JobName>,
}

impl Coordinates {
    /// Reads coordinates, with or without base64 padding, white space around them ignored.
    /// Unknown keys and unknown transports are ignored.
    ///
    /// # Errors
    /// Says which rule the text breaks; never repeats any of it.
    pub fn parse(text: &str) -> Result<Self, CoordinatesError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(CoordinatesError::Empty);
        }
        if text.len() > limits::COORDINATES_TEXT_MAX_BYTES {
            return Err(CoordinatesError::TooLong);
        }
        let json = Zeroizing::new(
            BASE64
                .decode(text)
                .map_err(|_| CoordinatesError::NotBase64)?,
        );
        let wire: Wire =
            serde_json::from_slice(&json).map_err(|_| CoordinatesError::NotAnObject)?;
        wire.try_into()
    }

    /// The text to hand to the user: URL-safe base64 with padding, as existing tools write it.
    pub fn encode(&self) -> Zeroizing<String> {
        let key = self.secret.is_key().then(|| self.secret.expose_text());
        let bearer = self.secret.bearer();
        let wire = WireOut {
            ports: [self.ports.first, self.ports.last],
            ips: &self.ips,
            secret: &bearer,
            operation: self.operation,
            v: key.as_ref().map(|_| VERSION),
            key: key.as_ref().map(|key| key.as_str()),
            transports: &self.transports,
            job: self.job.as_ref().map(|job| [&*job.system, &*job.id]),
        };
        // Local invariant: numbers, strings and lists of them always serialise.
        let json = Zeroizing::new(serde_json::to_vec(&wire).unwrap_or_default());
        Zeroizing::new(BASE64.encode(&*json))
    }
}

/// What a job is called at the API that started it: no secret, and no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobName {
    system: String,
    id: String,
}

impl JobName {
    /// `None` unless both are plain words, which mean nothing else in a URL.
    pub fn new(system: &str, id: &str) -> Option<Self> {
        let job = || Self {
            system: system.to_owned(),
            id: id.to_owned(),
        };
        (is_plain_word(system) && is_plain_word(id)).then(job)
    }

    /// The system it runs on.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// Its id there.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// No dot at the start: `..` is a step of a path.
fn is_plain_word(text: &str) -> bool {
    (1..=limits::JOB_NAME_MAX_BYTES).contains(&text.len())
        && !text.starts_with('.')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// What the *endpoint* does. The client does the opposite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// The endpoint sends: the user downloads.
    Send,
    /// The endpoint receives: the user uploads.
    Receive,
}

impl Operation {
    /// What the other side does.
    pub fn opposite(self) -> Self {
        match self {
            Self::Send => Self::Receive,
            Self::Receive => Self::Send,
        }
    }

    /// The word used on command lines and in coordinates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How bytes travel (design § 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// QUIC over UDP.
    Quic,
    /// TLS 1.3 over TCP.
    Tls,
    /// The existing plaintext WebSocket protocol.
    Ws,
}

impl Transport {
    /// The word used on command lines, in coordinates and in summaries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tls => "tls",
            Self::Ws => "ws",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An inclusive range of ports, never empty, never with port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// `None` when `first` is 0 or greater than `last`.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first > 0 && first <= last).then_some(Self { first, last })
    }

    /// Lowest port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// Highest port, included.
    pub fn last(self) -> u16 {
        self.last
    }

    /// Number of ports, 1 to 65,535.
    pub fn count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Why a text is not coordinates. Never contains any of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoordinatesError {
    /// Nothing but white space.
    #[error("the coordinates are empty")]
    Empty,
    /// Over [`limits::COORDINATES_TEXT_MAX_BYTES`].
    #[error(
        "the coordinates are longer than {} bytes",
        limits::COORDINATES_TEXT_MAX_BYTES
    )]
    TooLong,
    /// Not URL-safe base64: often a cut or wrapped paste.
    #[error("the coordinates are not URL-safe base64; were they cut or wrapped when copied?")]
    NotBase64,
    /// Not a JSON object with the keys and types of coordinates.
    #[error("the coordinates do not hold the expected fields; were they cut when copied?")]
    NotAnObject,
    /// A newer format than this program knows.
    #[error("the coordinates are of version {0}, which this streamer does not know; update it")]
    UnknownVersion(u64),
    /// `ports` is empty, reversed or contains port 0.
    #[error("the coordinates hold an invalid port range")]
    BadPorts,
    /// No address, too many, or one that cannot be a host.
    #[error("the coordinates hold no valid address list")]
    BadAddresses,
    /// Version 2 without a 32-byte key.
    #[error("the coordinates hold no valid key")]
    BadKey,
    /// Version 1 with an unusable secret.
    #[error("the coordinates hold no valid secret: {0}")]
    BadSecret(SecretError),
}

impl fmt::Debug for Coordinates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ports,
            ips,
            secret,
            operation,
            transports,
            job,
        } = self;
        f.debug_struct("Coordinates")
            .field("ports", ports)
            .field("ips", ips)
            .field("secret", secret)
            .field("operation", operation)
            .field("transports", transports)
            .field("job", job)
            .finish()
    }
}

impl TryFrom<Wire> for Coordinates {
    type Error = CoordinatesError;

    fn try_from(wire: Wire) -> Result<Self, CoordinatesError> {
        let secret = match wire.v {
            None => {
                let text = wire.secret.ok_or(CoordinatesError::NotAnObject)?;
                TransferSecret::parse(&text).map_err(CoordinatesError::BadSecret)?
            }
            Some(VERSION) => wire
                .key
                .and_then(|text| TransferSecret::from_key_text(&text))
                .ok_or(CoordinatesError::BadKey)?,
            Some(other) => return Err(CoordinatesError::UnknownVersion(other)),
        };
        let [first, last] = wire.ports;
        let ports = PortRange::new(first, last).ok_or(CoordinatesError::BadPorts)?;
        check_hosts(&wire.ips)?;
        let transports = wire
            .transports
            .iter()
            .filter_map(|name| known_transport(name))
            .collect();
        Ok(Self {
            ports,
            ips: wire.ips,
            secret,
            operation: wire.operation,
            transports,
            // Only for show: a name that cannot be asked for spoils nothing.
            job: wire.job.and_then(|[system, id]| JobName::new(&system, &id)),
        })
    }
}

/// Whether coordinates may name these hosts: some, and not too many, each a name or an address.
///
/// # Errors
/// [`CoordinatesError::BadAddresses`].
pub fn check_hosts(hosts: &[String]) -> Result<(), CoordinatesError> {
    let counts = 1..=limits::COORDINATES_MAX_IPS;
    let fit = counts.contains(&hosts.len()) && hosts.iter().all(|host| is_host(host));
    fit.then_some(()).ok_or(CoordinatesError::BadAddresses)
}

/// Names and addresses only: no port, path, blank or control character.
fn is_host(text: &str) -> bool {
    let of_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    // Where a zone is named, behind a per cent sign, the address is of one link: RFC 4007 § 11.
    let (address, zone) = text.split_once('%').unwrap_or((text, ""));
    (1..=limits::HOST_NAME_MAX_BYTES).contains(&text.len())
        && (text.bytes().all(of_name)
            || address.parse::<Ipv6Addr>().is_ok() && zone.bytes().all(of_name))
}

fn known_transport(name: &str) -> Option<Transport> {
    [Transport::Quic, Transport::Tls, Transport::Ws]
        .into_iter()
        .find(|t| t.as_str() == name)
}

#[derive(Deserialize)]
struct Wire {
    ports: [u16; 2],
    ips: Vec<String>,
    secret: Option<Zeroizing<String>>,
    #[serde(default)]
    operation: Option<Operation>,
    #[serde(default)]
    v: Option<u64>,
    #[serde(default)]
    key: Option<Zeroizing<String>>,
    #[serde(default)]
    transports: Vec<String>,
    #[serde(default)]
    job: Option<[String; 2]>,
}

#[derive(Serialize)]
struct WireOut<'a> {
    ports: [u16; 2],
    ips: &'a [String],
    secret: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<Operation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    v: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "<[Transport]>::is_empty")]
    transports: &'a [Transport],
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<[&'a str; 2]>,
}

const VERSION: u64 = 2;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn coordinates() -> Coordinates {
        Coordinates {
            ports: PortRange::new(5665, 5670).unwrap(),
            ips: vec!["localhost".into(), "2001:db8::1".into()],
            secret: TransferSecret::generate().unwrap(),
            operation: Some(Operation::Send),
            transports: vec![Transport::Quic],
            job: JobName::new("daint", "4711"),
        }
    }

    fn encode_json(json: &str) -> String {
        BASE64.encode(json)
    }

    #[test]
    fn round_trip() {
        let coordinates = coordinates();
        assert_eq!(
            Coordinates::parse(&coordinates.encode()).unwrap(),
            coordinates
        );
    }

    #[test]
    fn coordinates_of_the_python_service_are_understood() {
        let text = encode_json(
            r#"{"ports": [5665, 5675], "ips": ["127.0.0.1"], "secret": "wCQX1nYqHW3wxJ8vX0dQzA"}"#,
        );
        let coordinates = Coordinates::parse(&format!(" {text}\n")).unwrap();
        assert_eq!(coordinates.operation, None);
        assert_eq!(
            coordinates.secret.bearer().as_str(),
            "wCQX1nYqHW3wxJ8vX0dQzA"
        );
        assert_eq!(
            Coordinates::parse(text.trim_end_matches('=')).unwrap(),
            coordinates
        );
    }

    #[test]
    fn unknown_keys_and_transports_are_ignored() {
        let key = coordinates().secret.expose_text().to_string();
        let text = encode_json(&format!(
            r#"{{"ports":[1,1],"ips":["a"],"v":2,"key":"{key}","transports":["avian","tls"],"x":{{}}}}"#
        ));
        assert_eq!(
            Coordinates::parse(&text).unwrap().transports,
            [Transport::Tls]
        );
    }

    #[test]
    fn a_job_that_cannot_be_asked_for_is_none() {
        for (system, id) in [
            ("daint", "../x"),
            ("..", "1"),
            ("a/b", "1"),
            ("a", ""),
            ("a?", "1"),
        ] {
            assert_eq!(JobName::new(system, id), None, "{system} {id}");
            let text = encode_json(&format!(
                r#"{{"ports":[1,1],"ips":["a"],"secret":"wCQX1nYqHW3wxJ8vX0dQzA","job":["{system}","{id}"]}}"#
            ));
            assert_eq!(Coordinates::parse(&text).unwrap().job, None);
        }
        assert!(JobName::new("cluster-slurm_1.a", "123").is_some());
    }

    #[test]
    fn each_broken_rule_has_its_error() {
        let parse = |json: &str| Coordinates::parse(&encode_json(json)).unwrap_err();
        let secret = "wCQX1nYqHW3wxJ8vX0dQzA";
        assert_eq!(Coordinates::parse("  "), Err(CoordinatesError::Empty));
        assert_eq!(
            Coordinates::parse("not base64!"),
            Err(CoordinatesError::NotBase64)
        );
        assert_eq!(
            Coordinates::parse(&"A".repeat(40_000)),
            Err(CoordinatesError::TooLong)
        );
        assert_eq!(parse("[]"), CoordinatesError::NotAnObject);
        assert_eq!(
            parse(r#"{"ports":[1,2],"ips":["a"]}"#),
            CoordinatesError::NotAnObject
        );
        for ports in ["[2,1]", "[0,1]"] {
            let json = format!(r#"{{"ports":{ports},"ips":["a"],"secret":"{secret}"}}"#);
            assert_eq!(parse(&json), CoordinatesError::BadPorts);
        }
        for ips in [
            "[]",
            r#"["a b"]"#,
            r#"[""]"#,
            r#"["node7:5665"]"#,
            r#"["https://node7"]"#,
            r#"["node7%eth0"]"#,
        ] {
            let json = format!(r#"{{"ports":[1,1],"ips":{ips},"secret":"{secret}"}}"#);
            assert_eq!(parse(&json), CoordinatesError::BadAddresses);
        }
        let json = r#"{"ports":[1,1],"ips":["a"],"v":2,"key":"short"}"#;
        assert_eq!(parse(json), CoordinatesError::BadKey);
        let json = r#"{"ports":[1,1],"ips":["a"],"v":3}"#;
        assert_eq!(parse(json), CoordinatesError::UnknownVersion(3));
    }

    #[test]
    fn debug_redacts() {
        let coordinates = coordinates();
        let shown = format!("{coordinates:?}");
        assert!(!shown.contains(coordinates.secret.expose_text().as_str()));
        assert!(!shown.contains(coordinates.secret.bearer().as_str()));
    }

    proptest! {
        #[test]
        fn any_text_is_coordinates_or_an_error(text in ".{0,300}") {
            let _ = Coordinates::parse(&text);
        }

        #[test]
        fn any_json_bytes_are_coordinates_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Coordinates::parse(&BASE64.encode(bytes));
        }
    }
}
