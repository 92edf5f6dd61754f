//! The one error of the house, and its table to gRPC code, HTTP status and origin. Doors only change the JSON around it.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use flowgate_proto::v1::ErrorReason;
use http::StatusCode;
use tonic::Code;

/// `Result` with the house's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed: a reason of the contract's closed set and a message that says what to do next.
///
/// `Display` is safe for clients. The source is for logs only and never shown.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    reason: ErrorReason,
    message: Cow<'static, str>,
    /// The request fields at fault, for `BadRequest`.
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
    upstream_status: Option<u16>,
    is_credential_stale: bool,
    allow: Option<String>,
    /// The step of a chain that failed; of chains within chains all of them, the outermost first, with dots between.
    step: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// One request field at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field's path, for example `messages[2].parts[0]`.
    pub field: String,
    /// What is wrong with it and what is expected.
    pub description: String,
}

/// Whose fault an error is: the metric label, and what decides about retries and breakers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The caller's.
    Caller,
    /// A policy said no.
    Policy,
    /// The provider's, or the operator's account with it.
    Provider,
    /// Flowgate's own.
    Gateway,
}

/// Where a call that failed so may be tried again, as long as nothing of an answer is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Nowhere: it would fail everywhere.
    Nowhere,
    /// At another deployment only.
    Elsewhere,
    /// Also at the same one, later.
    Anywhere,
}

/// What one reason means on each wire.
struct Row {
    code: Code,
    http: u16,
    again: Again,
}

const fn row(reason: ErrorReason) -> Row {
    use Again::{Anywhere, Elsewhere, Nowhere};
    use ErrorReason as R;
    let (code, http, again) = match reason {
        R::Unspecified | R::GatewayInternal => (Code::Internal, 500, Nowhere),
        R::CallerInvalidRequest
        | R::CallerUnsupportedParameter
        | R::CallerWrongTask
        | R::PolicyBlocked
        | R::ProviderRejectedRequest
        | R::ProviderBlocked => (Code::InvalidArgument, 400, Nowhere),
        // A larger model may take it; which one that is, `balance` knows.
        R::CallerContextTooLong => (Code::InvalidArgument, 400, Elsewhere),
        R::CallerUnauthenticated => (Code::Unauthenticated, 401, Nowhere),
        R::CallerForbidden => (Code::PermissionDenied, 403, Nowhere),
        R::CallerEndpointNotFound | R::CallerRolloutNotFound | R::CallerModelNotFound => (Code::NotFound, 404, Nowhere),
        R::CallerUnknownPath => (Code::Unimplemented, 404, Nowhere),
        R::CallerMethodNotAllowed => (Code::Unimplemented, 405, Nowhere),
        R::CallerTooLarge => (Code::ResourceExhausted, 413, Nowhere),
        R::CallerUnsupportedMediaType => (Code::InvalidArgument, 415, Nowhere),
        R::CallerCancelled => (Code::Cancelled, 499, Nowhere),
        R::CallerDeadlineExceeded => (Code::DeadlineExceeded, 504, Nowhere),
        R::PolicyRateLimited | R::PolicyBudgetExceeded => (Code::ResourceExhausted, 429, Nowhere),
        R::ProviderRateLimited => (Code::ResourceExhausted, 429, Anywhere),
        R::ProviderCredentialRejected | R::ProviderNotFound => (Code::Internal, 502, Elsewhere),
        R::ProviderUnavailable => (Code::Unavailable, 503, Anywhere),
        R::ProviderFailed | R::ProviderBadAnswer | R::ProviderStreamCut => (Code::Unavailable, 502, Anywhere),
        R::ProviderTimeout => (Code::DeadlineExceeded, 504, Anywhere),
        R::ProviderModelFailed => (Code::Internal, 500, Nowhere),
        R::GatewayNotServing => (Code::FailedPrecondition, 503, Elsewhere),
        R::GatewayUnavailable => (Code::Unavailable, 503, Nowhere),
        R::GatewayUnsupportedTask => (Code::Unimplemented, 501, Elsewhere),
        R::GatewayOverloaded => (Code::ResourceExhausted, 503, Elsewhere),
    };
    Row { code, http, again }
}

/// A text of several lines in one of at most 300 letters: of a Python stack trace the exception, which stands below the last frame.
pub fn in_one_line(text: &str) -> String {
    const MOST: usize = 300;
    const FRAME: &str = "\n  File \"";
    if !text.trim().contains('\n') {
        return text.trim().to_owned();
    }
    let below = text.rfind(FRAME).and_then(|frame| text.get(frame + 1..));
    // A frame's own lines are indented.
    let lines = below.unwrap_or(text).lines().skip_while(|line| below.is_some() && line.starts_with(' '));
    let line = lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

impl Origin {
    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Policy => "policy",
            Self::Provider => "provider",
            Self::Gateway => "gateway",
        }
    }
}

impl Error {
    /// An error with a message for the caller: what is wrong and what to do next; lower case, no full stop.
    pub fn new(reason: ErrorReason, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            reason,
            message: message.into(),
            violations: Vec::new(),
            retry_after: None,
            upstream_status: None,
            is_credential_stale: false,
            allow: None,
            step: None,
            source: None,
        }))
    }

    /// A malformed or out-of-range request field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::new(ErrorReason::CallerInvalidRequest, "the request is invalid").at(field, description)
    }

    /// A parameter that the chosen provider does not have.
    pub fn unsupported(field: impl Into<String>, provider: &str) -> Self {
        let field = field.into();
        let message = format!("{provider} has no parameter for `{field}`; leave it out, or set `unsupported: drop` on the endpoint");
        Self::new(ErrorReason::CallerUnsupportedParameter, message.clone()).at(field, message)
    }

    /// Content that the chosen provider does not take. It is not for the operator to leave out.
    pub fn unsupported_content(field: impl Into<String>, provider: &str) -> Self {
        let field = field.into();
        let message = format!("{provider} does not take `{field}`; leave it out, or call an endpoint whose provider takes it");
        Self::new(ErrorReason::CallerUnsupportedParameter, message.clone()).at(field, message)
    }

    /// A fault of Flowgate itself.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorReason::GatewayInternal, message)
    }

    /// A stream without its end.
    pub fn stream_cut() -> Self {
        Self::new(ErrorReason::ProviderStreamCut, "the provider's stream stopped before its end mark; try again")
    }

    /// Names a request field at fault; the message then lists all fields.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.0.violations.push(Violation { field: field.into(), description: description.into() });
        self
    }

    /// When trying again makes sense.
    #[must_use]
    pub fn retry_after(mut self, after: Option<Duration>) -> Self {
        self.0.retry_after = after;
        self
    }

    /// The HTTP status with which an upstream failed.
    #[must_use]
    pub fn upstream_status(mut self, status: StatusCode) -> Self {
        self.0.upstream_status = Some(status.as_u16());
        self
    }

    /// Whether the upstream says that the credential itself is bad or expired, so that a newer one may do.
    #[must_use]
    pub fn credential_stale(mut self, is_stale: bool) -> Self {
        self.0.is_credential_stale = is_stale;
        self
    }

    /// The verbs that a path takes, as `Allow` lists them.
    #[must_use]
    pub fn allow(mut self, verbs: String) -> Self {
        self.0.allow = Some(verbs);
        self
    }

    /// Names the step of a chain that failed so; the message then begins with it.
    #[must_use]
    pub fn within(mut self, step: &str) -> Self {
        self.0.step = Some(match self.0.step {
            Some(inner) => format!("{step}.{inner}"),
            None => step.to_owned(),
        });
        self
    }

    /// With other texts in place of those for which `other` gives one; the cause in logs included.
    #[must_use]
    pub fn retold(mut self, other: impl Fn(&str) -> Option<String>) -> Self {
        if let Some(message) = other(&self.0.message) {
            self.0.message = message.into();
        }
        for violation in &mut self.0.violations {
            for text in [&mut violation.field, &mut violation.description] {
                if let Some(told) = other(text) {
                    *text = told;
                }
            }
        }
        // Its own causes go with it, should one of them have such a text.
        match self.0.source.as_ref().map(|source| (source.to_string(), format!("{source:?}"))) {
            Some((cause, whole)) if other(&cause).is_some() || other(&whole).is_some() => {
                let cause = other(&cause).unwrap_or(cause);
                self.because(cause)
            }
            _ => self,
        }
    }

    /// The cause, for logs.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// The reason.
    pub fn reason(&self) -> ErrorReason {
        self.0.reason
    }

    /// The reason's name on the wire, for example `CALLER_INVALID_REQUEST`.
    pub fn reason_name(&self) -> &'static str {
        let name = self.0.reason.as_str_name();
        name.strip_prefix("ERROR_REASON_").unwrap_or(name)
    }

    /// Whose fault it is.
    pub fn origin(&self) -> Origin {
        match self.reason_name().split('_').next() {
            Some("CALLER") => Origin::Caller,
            Some("POLICY") => Origin::Policy,
            Some("PROVIDER") => Origin::Provider,
            _ => Origin::Gateway,
        }
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        row(self.0.reason).code
    }

    /// The HTTP status; 499 stands for a caller who went away.
    pub fn http_status(&self) -> StatusCode {
        StatusCode::from_u16(row(self.0.reason).http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Where a call that failed so may be tried again.
    pub fn again(&self) -> Again {
        row(self.0.reason).again
    }

    /// The request fields at fault.
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// When trying again makes sense, if known.
    pub fn retry_after_hint(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The verbs that the path takes, if another one was sent.
    pub fn allowed(&self) -> Option<&str> {
        self.0.allow.as_deref()
    }

    /// The step of a chain that failed, if one did.
    pub fn step(&self) -> Option<&str> {
        self.0.step.as_deref()
    }

    /// The HTTP status with which an upstream failed, if one did.
    pub fn upstream_status_code(&self) -> Option<u16> {
        self.0.upstream_status
    }

    /// Whether a newer credential may do where this one did not. What is refused for other reasons, such as a spent quota or a lacking
    /// permission, is refused with any.
    pub fn is_credential_stale(&self) -> bool {
        self.0.is_credential_stale
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(step) = &self.0.step {
            write!(f, "step `{step}`: ")?;
        }
        f.write_str(&self.0.message)?;
        if self.0.reason == ErrorReason::CallerInvalidRequest {
            for (n, violation) in self.0.violations.iter().enumerate() {
                let lead = if n == 0 { ": " } else { "; " };
                write!(f, "{lead}`{}` {}", violation.field, violation.description)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.to_string();
        write!(f, "{}: {told}", self.reason_name())?;
        // A line of a log is one line, which says each thing once.
        let cause = self.0.source.as_ref().map(|source| in_one_line(&source.to_string())).unwrap_or_default();
        if cause.is_empty() || told.contains(&cause) { Ok(()) } else { write!(f, " ({cause})") }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_an_origin_and_a_wire_form() {
        let mut seen = 0;
        for reason in (0..100).filter_map(|n| ErrorReason::try_from(n).ok()).filter(|reason| *reason != ErrorReason::Unspecified) {
            let error = Error::new(reason, "x");
            let lead = error.reason_name().split('_').next().unwrap();
            assert_eq!(lead.to_lowercase(), format!("{:?}", error.origin()).to_lowercase(), "{reason:?}");
            assert_ne!(error.code(), Code::Ok);
            assert!(error.http_status().as_u16() >= 400);
            let is_providers = error.origin() == Origin::Provider;
            assert!(error.again() != Again::Anywhere || is_providers, "only a provider's fault passes by itself: {reason:?}");
            seen += 1;
        }
        assert!(seen > 25);
    }

    #[test]
    fn a_step_is_named_before_the_message_and_changes_nothing_else() {
        let error = Error::new(ErrorReason::ProviderRateLimited, "slow down").retry_after(Some(Duration::from_secs(2)));
        let named = error.clone().within("b").within("a");
        assert_eq!((named.to_string().as_str(), named.step()), ("step `a.b`: slow down", Some("a.b")));
        assert_eq!((named.reason(), named.retry_after_hint()), (error.reason(), error.retry_after_hint()));
    }

    #[test]
    fn no_text_of_an_error_is_passed_over_when_it_is_retold() {
        let other = |text: &str| text.contains("hush").then(|| text.replace("hush", "***"));
        let error = Error::internal("hush 1").at("hush 2", "hush 3").because("hush 4").retold(other);
        assert_eq!(format!("{error:?}"), "GATEWAY_INTERNAL: *** 1 (*** 4)");
        let told = Violation { field: "*** 2".to_owned(), description: "*** 3".to_owned() };
        assert_eq!(error.violations(), [told]);
        let nested = Error::internal("away").because(Error::internal("closed").because("hush")).retold(other);
        assert!(!format!("{nested:?} {:?}", nested.source()).contains("hush"));
        assert_eq!(format!("{:?}", Error::internal("a").because("b").retold(other)), "GATEWAY_INTERNAL: a (b)");
    }

    #[test]
    fn what_is_logged_is_one_line_that_says_each_thing_once() {
        let trace = "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    f(1)\n    ^^^^\n  File \"b.py\", line 2, in f\n    \
                     raise X\nRuntimeError: no licence\n  for this\n";
        let logged = |message: &'static str, cause: &str| format!("{:?}", Error::internal(message).because(cause.to_owned()));
        assert_eq!(logged("it failed", trace), "GATEWAY_INTERNAL: it failed (RuntimeError: no licence for this)");
        assert_eq!(
            logged("it failed: RuntimeError: no licence for this", trace),
            "GATEWAY_INTERNAL: it failed: RuntimeError: no licence for this"
        );
        assert_eq!(logged("it failed", "500: first\n\n  second\n"), "GATEWAY_INTERNAL: it failed (500: first second)");
        assert_eq!(logged("it failed", ""), "GATEWAY_INTERNAL: it failed");
        assert!(logged("it failed", &"long\n".repeat(200)).chars().count() < 340);
    }

    #[test]
    fn a_violation_is_part_of_the_message_and_the_source_is_not() {
        let error = Error::invalid("max_tokens", "must be at least 1").because("a secret");
        assert_eq!(error.to_string(), "the request is invalid: `max_tokens` must be at least 1");
        assert!(format!("{error:?}").contains("a secret"));
    }
}
