//! What a request can be answered with besides success, in FirecREST's body: the one mapping
//! from domain errors to HTTP.

use std::error::Error as StdError;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::command::CommandError;
use crate::executor::ExecError;
use crate::health::GateError;
use crate::scheduler::SchedulerError;
use crate::ssh::SshError;
use crate::storage::StorageError;
use crate::transfer::TransferError;

/// An error answer before it is rendered. `message` goes to the client; the source chain goes
/// to the log with the request id.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    caused_by: Option<Vec<String>>,
    fields: Option<Vec<FieldError>>,
    challenge: bool,
    anonymous: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// One wrong field of a request (`data.fields[]`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// `query`, `path` or `body`.
    pub location: &'static str,
    /// Field as the client spelled it, a character offset for broken JSON, or nothing.
    pub name: FieldName,
    /// What is wrong with it.
    pub message: String,
}

/// Where in its location a field error lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum FieldName {
    /// A named field.
    Name(String),
    /// An offset in characters into text that is not JSON.
    Offset(usize),
    /// The whole body.
    Whole,
}

impl ApiError {
    /// An error with a status and a text for the client.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            caused_by: None,
            fields: None,
            challenge: false,
            anonymous: false,
            source: None,
        }
    }

    /// 400 `validation`, listing every wrong field.
    pub fn validation(fields: Vec<FieldError>) -> Self {
        let list: Vec<String> = fields.iter().map(FieldError::sentence).collect();
        let plural = if fields.len() == 1 { "" } else { "s" };
        let message = format!(
            "{} validation error{plural}: {}",
            fields.len(),
            list.join("; ")
        );
        Self {
            fields: Some(fields),
            ..Self::new(StatusCode::BAD_REQUEST, message)
        }
    }

    /// 401 with `WWW-Authenticate: Bearer`: no usable credentials were sent at all.
    pub fn not_authenticated() -> Self {
        let error = Self::new(StatusCode::UNAUTHORIZED, "Not authenticated");
        Self {
            challenge: true,
            ..error
        }
    }

    /// 400 with a text.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Keeps the cause for the log.
    pub fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Self {
        Self {
            source: Some(Box::new(source)),
            ..self
        }
    }

    /// Without the user's name in the answer.
    pub(crate) fn without_user(self) -> Self {
        Self {
            anonymous: true,
            ..self
        }
    }

    /// Whether the answer leaves the user's name out.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.anonymous
    }

    /// The status the client will see.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The text the client will see.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The causes, for the log; what the message says already is left out.
    pub(crate) fn chain(&self) -> String {
        let mut texts = self.caused_by.clone().unwrap_or_default();
        if let Some(source) = self.source.as_deref() {
            texts.push(source.to_string());
            texts.push(causes(source));
        }
        texts.retain(|text| !text.is_empty() && *text != self.message);
        texts.dedup();
        texts.join(": ")
    }

    /// The answer, with the authenticated user where there is one.
    pub(crate) fn render(self, user: Option<&str>) -> Response {
        let body = ApiResponseError {
            error_type: if self.fields.is_some() {
                ErrorType::Validation
            } else {
                ErrorType::Error
            },
            message: self.message,
            caused_by: self.caused_by,
            data: self.fields.map(|fields| ValidationData { fields }),
            user: user.map(str::to_owned),
        };
        let mut response = json(self.status, &body);
        if self.challenge {
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// What lies behind an error, outermost first; for the log.
pub(crate) fn causes(error: &dyn StdError) -> String {
    let mut texts = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts.join(": ")
}

/// An answer with a JSON body.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        // Local invariant: the model has only string keys and finite numbers.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

impl FieldError {
    /// A wrong field of the body.
    pub(crate) fn body(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::named("body", name, message)
    }

    /// A wrong query parameter.
    pub(crate) fn query(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::named("query", name, message)
    }

    /// A wrong field of any location.
    pub(crate) fn named(
        location: &'static str,
        name: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            location,
            name: FieldName::Name(name.into()),
            message: message.into(),
        }
    }

    /// The body as a whole is wrong.
    pub(crate) fn whole_body(message: impl Into<String>) -> Self {
        Self {
            location: "body",
            name: FieldName::Whole,
            message: message.into(),
        }
    }

    fn sentence(&self) -> String {
        match &self.name {
            FieldName::Name(name) => format!("{} '{name}': {}", self.location, self.message),
            FieldName::Offset(at) => format!("{} at {at}: {}", self.location, self.message),
            FieldName::Whole => format!("{}: {}", self.location, self.message),
        }
    }
}

/// Body of every 4xx and 5xx answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiResponseError {
    /// What kind of error.
    pub error_type: ErrorType,
    /// Text for the user.
    pub message: String,
    /// Messages of the errors behind this one, outermost first.
    pub caused_by: Option<Vec<String>>,
    /// For validation errors, the wrong fields.
    pub data: Option<ValidationData>,
    /// The authenticated user, when authentication succeeded.
    pub user: Option<String>,
}

/// Kinds of error.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ErrorType {
    /// Anything but a validation error.
    Error,
    /// A parameter or body field is missing or wrong.
    Validation,
}

/// What was wrong with a request.
#[derive(Debug, Serialize, ToSchema)]
pub struct ValidationData {
    /// One entry for each wrong field.
    pub fields: Vec<FieldError>,
}

/// Handlers leave the error in the response; `front` renders it, knowing the caller.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        // Extensions must be `Clone`; the error is taken out once.
        response.extensions_mut().insert(Pending::new(self));
        response
    }
}

/// An error on its way from the handler to `front`.
#[derive(Clone)]
pub(crate) struct Pending(std::sync::Arc<std::sync::Mutex<Option<ApiError>>>);

impl Pending {
    fn new(error: ApiError) -> Self {
        Self(std::sync::Arc::new(std::sync::Mutex::new(Some(error))))
    }

    /// The error, the first time it is asked for.
    pub(crate) fn take(&self) -> Option<ApiError> {
        self.0.lock().ok()?.take()
    }
}

impl From<ExecError> for ApiError {
    fn from(error: ExecError) -> Self {
        Self::new(exec_status(&error), error.to_string()).with_source(error)
    }
}

fn exec_status(error: &ExecError) -> StatusCode {
    match error {
        ExecError::Ssh(ssh) => ssh_status(ssh),
        ExecError::Timeout => StatusCode::REQUEST_TIMEOUT,
        ExecError::OutputTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ExecError::Account(account) if account.is_refusal() => StatusCode::FORBIDDEN,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn ssh_status(error: &SshError) -> StatusCode {
    match error {
        SshError::Shared(error) => ssh_status(error),
        SshError::ConnectTimeout | SshError::KeyTimeout => StatusCode::REQUEST_TIMEOUT,
        SshError::Connect(_)
        | SshError::HostKey(_)
        | SshError::Refused(_)
        | SshError::Capacity
        | SshError::Channel(_)
        | SshError::Protocol(_)
        | SshError::Reset => StatusCode::FAILED_DEPENDENCY,
        // The Python service tells these two apart, and so do its clients.
        SshError::Unreachable(_)
        | SshError::NoCredentials { .. }
        | SshError::BadCredentials { .. }
        | SshError::KeyService { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Exec(source) => source.into(),
            other => Self::new(command_status(&other), other.to_string()),
        }
    }
}

fn command_status(error: &CommandError) -> StatusCode {
    match error {
        CommandError::Exec(source) => exec_status(source),
        CommandError::Failed { kind, .. } => failure_status(*kind),
        CommandError::Unparsable { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn failure_status(kind: crate::command::FailureKind) -> StatusCode {
    use crate::command::FailureKind as K;
    match kind {
        K::Timeout => StatusCode::REQUEST_TIMEOUT,
        K::NotFound => StatusCode::NOT_FOUND,
        K::PermissionDenied => StatusCode::FORBIDDEN,
        K::Exists | K::InvalidUser => StatusCode::BAD_REQUEST,
        K::Other => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<GateError> for ApiError {
    fn from(error: GateError) -> Self {
        let status = match error {
            GateError::ServiceUnhealthy { .. } | GateError::FilesystemUnhealthy { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

impl From<SchedulerError> for ApiError {
    fn from(error: SchedulerError) -> Self {
        match error {
            SchedulerError::Exec(source) => source.into(),
            SchedulerError::Command(source) => source.into(),
            other => Self {
                caused_by: scheduler_causes(&other),
                ..Self::new(scheduler_status(&other), other.to_string()).with_source(other)
            },
        }
    }
}

fn scheduler_status(error: &SchedulerError) -> StatusCode {
    match error {
        SchedulerError::Exec(source) => exec_status(source),
        SchedulerError::Command(source) => command_status(source),
        SchedulerError::Shared(error) => scheduler_status(error),
        SchedulerError::NotFound => StatusCode::NOT_FOUND,
        SchedulerError::NotOwner { .. } | SchedulerError::Quota { .. } => StatusCode::FORBIDDEN,
        SchedulerError::AlreadyEnded { .. } => StatusCode::CONFLICT,
        SchedulerError::Rejected { .. } => StatusCode::BAD_REQUEST,
        SchedulerError::QueueFull { .. } | SchedulerError::Stopping => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        SchedulerError::NotDriven { .. }
        | SchedulerError::Unsupported { .. }
        | SchedulerError::NotByRest => StatusCode::NOT_IMPLEMENTED,
        SchedulerError::Failed { .. } | SchedulerError::Io { .. } => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

fn scheduler_causes(error: &SchedulerError) -> Option<Vec<String>> {
    match error {
        SchedulerError::Failed { causes, .. } if !causes.is_empty() => Some(causes.clone()),
        SchedulerError::Shared(error) => scheduler_causes(error),
        _ => None,
    }
}

impl From<TransferError> for ApiError {
    fn from(error: TransferError) -> Self {
        let message = error.to_string();
        let status = match error {
            TransferError::Command(source) => return source.into(),
            TransferError::Scheduler(source) => return source.into(),
            TransferError::TargetExists { .. } => StatusCode::FORBIDDEN,
            TransferError::WorkDirectory { source, .. } => {
                let mut error = Self::from(source);
                error.message = message;
                return error;
            }
            TransferError::NotADirectory { .. }
            | TransferError::NotAFile { .. }
            | TransferError::NoFileSize
            | TransferError::BadWormholeCode
            | TransferError::ObjectTooLarge(_)
            | TransferError::PlanTooLong { .. }
            | TransferError::MethodNotAvailable
            | TransferError::AccountRequired
            | TransferError::BadAccount
            | TransferError::BadPath { .. } => StatusCode::BAD_REQUEST,
            TransferError::OverInboundLimit { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            TransferError::NoRoom { .. } | TransferError::OverQuota { .. } => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            TransferError::Storage(StorageError::Unreachable(_)) => StatusCode::BAD_GATEWAY,
            TransferError::Storage(_)
            | TransferError::NoWorkDirectory { .. }
            | TransferError::NoProgram { .. }
            | TransferError::NoRandomness => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, message).with_source(error)
    }
}
