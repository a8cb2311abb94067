//! Settings of the HTTP sink.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::server::Form;
use super::template::{Part, Template};
use super::tls::{TlsSettings, ValidTls};
use crate::duration::{self, Duration};
use crate::field_error::{FieldError, FieldErrors};
use crate::secret::SecretKeyRef;

/// The longest path template, in bytes.
const MAX_PATH: usize = 1024;
/// The longest name of a user or header, in bytes.
const MAX_NAME: usize = 255;
/// The most headers, and the most statuses in a list.
const MAX_LIST: usize = 32;
/// The most Events in one request.
const MAX_BATCH: u32 = 1000;
/// The longest time without an answer.
const MAX_TIMEOUT: Duration = Duration::from_secs(300);

/// Events go to an HTTP endpoint. One counts as delivered when the receiver has answered with a status of the class 2xx,
/// which says that it has accepted it; what it does with it then is its own affair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpSettings {
    /// How the receiver is reached; left out with `ref`.
    #[serde(flatten)]
    pub connection: HttpConnectionSettings,
    /// What follows the path of the URL, with the placeholders `{group}` (`core` for the core group), `{version}`,
    /// `{kind}`, `{plural}`, `{namespace}` (`_cluster` for cluster-scoped objects), `{name}`, `{change}`, `{uid}`
    /// and `{subscription}` (`namespace.name`). Values are percent-encoded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub path: String,
    /// Present, up to as many Events of one path share a request, as a JSON array
    /// (`application/cloudevents-batch+json`), whatever the mode of the Event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_batch: Option<u32>,
    /// Statuses after which the Event is sent again, beside 401, 403, 404, 407, 408, 410, 421, 423, 424, 425, 429 and all of
    /// the class 5xx.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(range(min = 300, max = 599)))]
    pub retry_on: Vec<u16>,
    /// Statuses that say that the Event can never be taken, beside the others of the classes 3xx and 4xx.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(range(min = 300, max = 599)))]
    pub reject_on: Vec<u16>,
}

/// How a receiver is reached by HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpConnectionSettings {
    /// Where requests (POST) go: `https://host/path`, or `http://`. Redirects are not followed. Credentials do not belong
    /// here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://"))]
    pub url: Option<String>,
    /// Who the bridge is to the receiver: a token, or a user with a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<HttpAuthSettings>,
    /// Headers of every request, with values from Secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub headers: Vec<HttpHeaderSettings>,
    /// Whom to trust, and the bridge's own certificate, for `https://`. Without it, the authorities that the bridge's
    /// system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
    /// How long a receiver may say nothing before what is under way is sent again: `10s` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), extend("format" = "duration"))]
    pub timeout: Option<String>,
}

/// Who the bridge is to the receiver: a token, or a user with a password.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpAuthSettings {
    /// A token, sent as `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
    /// The name of the user, with `passwordSecretRef` (`Authorization: Basic`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub user: Option<String>,
    /// The password of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
}

/// A header with a value from a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpHeaderSettings {
    /// The name of the header.
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub name: String,
    /// Its value.
    pub value_secret_ref: SecretKeyRef,
}

/// A receiver that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidHttpConnection {
    /// With a host, and without credentials or a fragment.
    pub url: Url,
    /// Who the bridge is to the receiver.
    pub auth: Option<ValidHttpAuth>,
    /// Headers by name.
    pub headers: Vec<(String, SecretKeyRef)>,
    /// With whom to speak TLS where the URL says so.
    pub tls: ValidTls,
    /// How long a receiver may say nothing.
    pub timeout: Duration,
    /// Whether the operator allows nothing but public addresses. No user says this: whoever opens the connection does.
    pub public_only: bool,
}

/// Where behind the URL the Events of a Subscription go, and what answers mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidHttpAddress {
    /// What follows the path of the URL, without a slash at its beginning.
    pub path: Template,
    /// The most Events in one request, where they share one.
    pub max_batch: Option<usize>,
    /// Statuses to try again after.
    pub retry_on: Vec<u16>,
    /// Statuses that refuse for good.
    pub reject_on: Vec<u16>,
}

/// Who the bridge is to the receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValidHttpAuth {
    /// A bearer token.
    Token(SecretKeyRef),
    /// A user with a password.
    Password {
        /// The name of the user.
        user: String,
        /// Where its password is.
        password: SecretKeyRef,
    },
}

// === impl HttpSettings ===

impl HttpSettings {
    /// Where the Events go; adds every mistake to `errors`, with paths that start with `path`, e.g. `spec.sink.http`.
    pub fn address(&self, path: &str, errors: &mut FieldErrors) -> Option<ValidHttpAddress> {
        let Self { connection: _, path: template, max_batch, retry_on, reject_on } = self;
        if max_batch.is_some_and(|count| !(1..=MAX_BATCH).contains(&count)) {
            let problem = format!("a request has 1 to {MAX_BATCH} Events");
            errors.push(FieldError::new(format!("{path}.maxBatch"), problem));
        }
        for (field, statuses) in [("retryOn", retry_on), ("rejectOn", reject_on)] {
            if statuses.len() > MAX_LIST {
                let problem =
                    format!("{} statuses are more than the {MAX_LIST} that are possible", statuses.len());
                errors.push(FieldError::new(format!("{path}.{field}"), problem));
            }
            for (index, status) in
                statuses.iter().enumerate().filter(|(_, status)| !(300..600).contains(*status))
            {
                let problem = format!("{status} is not from 300 to 599");
                errors.push(FieldError::new(format!("{path}.{field}[{index}]"), problem));
            }
        }
        if let Some(status) = retry_on.iter().find(|status| reject_on.contains(status)) {
            let problem = format!("{status} is also in `retryOn`");
            errors.push(FieldError::new(format!("{path}.rejectOn"), problem));
        }
        let template = parse_path(template)
            .map_err(|problem| errors.push(FieldError::new(format!("{path}.path"), problem)))
            .ok()?;
        Some(ValidHttpAddress {
            path: template,
            max_batch: max_batch.and_then(|count| usize::try_from(count).ok()),
            retry_on: retry_on.clone(),
            reject_on: reject_on.clone(),
        })
    }
}

// === impl HttpConnectionSettings ===

impl HttpConnectionSettings {
    /// How long a receiver may say nothing unless something is said.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

    /// What can be connected to; adds every mistake to `errors`, with paths that start with `path`, e.g. `spec.sink.http`.
    pub fn validate(&self, path: &str, errors: &mut FieldErrors) -> Option<ValidHttpConnection> {
        let Self { url, auth, headers, tls, timeout } = self;
        let url = url.as_deref().ok_or_else(|| "a URL is needed, like `https://receiver/events`".to_owned());
        let url = url
            .and_then(|url| parse_url(url, tls.is_some()))
            .map_err(|problem| errors.push(FieldError::new(format!("{path}.url"), problem)));
        let auth = auth.as_ref().and_then(|auth| auth.validate(&format!("{path}.auth"), errors));
        if headers.len() > MAX_LIST {
            let problem = format!("there are at most {MAX_LIST} headers");
            errors.push(FieldError::new(format!("{path}.headers"), problem));
        }
        for (index, header) in headers.iter().enumerate() {
            header.check(&format!("{path}.headers[{index}]"), errors);
        }
        let tls = tls.as_ref().map(|tls| tls.validate(&format!("{path}.tls"), errors)).unwrap_or_default();
        let timeout = timeout.as_ref().map_or(Ok(Self::DEFAULT_TIMEOUT), |timeout| parse_timeout(timeout));
        let timeout =
            timeout.map_err(|problem| errors.push(FieldError::new(format!("{path}.timeout"), problem)));
        let headers = headers.iter().map(|header| (header.name.clone(), header.value_secret_ref.clone()));
        let headers = headers.collect();
        Some(ValidHttpConnection {
            url: url.ok()?,
            auth,
            headers,
            tls,
            timeout: timeout.ok()?,
            public_only: false,
        })
    }
}

// === impl HttpAuthSettings ===

impl HttpAuthSettings {
    fn validate(&self, path: &str, errors: &mut FieldErrors) -> Option<ValidHttpAuth> {
        let Self { token_secret_ref, user, password_secret_ref } = self;
        for (field, key) in [("tokenSecretRef", token_secret_ref), ("passwordSecretRef", password_secret_ref)]
        {
            if let Some(key) = key {
                key.check(&format!("{path}.{field}"), errors);
            }
        }
        match (token_secret_ref, user, password_secret_ref) {
            (Some(token), None, None) => Some(ValidHttpAuth::Token(token.clone())),
            (None, Some(user), Some(_)) if user.is_empty() || user.len() > MAX_NAME || user.contains(':') => {
                let problem = format!("a user has 1 to {MAX_NAME} bytes and no colon");
                errors.push(FieldError::new(format!("{path}.user"), problem));
                None
            }
            (None, Some(user), Some(password)) => {
                Some(ValidHttpAuth::Password { user: user.clone(), password: password.clone() })
            }
            _ => {
                let problem = "either `tokenSecretRef`, or `user` and `passwordSecretRef`, is needed";
                errors.push(FieldError::new(path, problem));
                None
            }
        }
    }
}

// === impl HttpHeaderSettings ===

impl HttpHeaderSettings {
    fn check(&self, path: &str, errors: &mut FieldErrors) {
        let Self { name, value_secret_ref } = self;
        value_secret_ref.check(&format!("{path}.valueSecretRef"), errors);
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-!#$%&'*+.^_`|~".contains(&byte);
        let own =
            ["host", "content-length", "content-type", "transfer-encoding", "connection", "authorization"];
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(legal) {
            let problem = format!("the name of a header has 1 to {MAX_NAME} letters, digits, and `-`");
            errors.push(FieldError::new(format!("{path}.name"), problem));
        } else if own.contains(&&*lower) || lower.starts_with("ce-") {
            let problem = "this header is the bridge's own; `auth` is for credentials";
            errors.push(FieldError::new(format!("{path}.name"), problem));
        }
    }
}

// === impl ValidHttpConnection ===

impl ValidHttpConnection {
    /// What has to be read before a connection can be made.
    pub fn secrets(&self) -> Vec<SecretKeyRef> {
        let Self { url: _, auth, headers, tls, timeout: _, public_only: _ } = self;
        let auth = auth.iter().map(|auth| match auth {
            ValidHttpAuth::Token(key) | ValidHttpAuth::Password { password: key, .. } => key.clone(),
        });
        auth.chain(headers.iter().map(|(_, key)| key.clone())).chain(tls.secrets()).collect()
    }

    /// The receiver, without a query, in which people hide credentials.
    pub fn summary(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.to_string()
    }
}

fn parse_url(text: &str, tls: bool) -> Result<Url, String> {
    let form = Form { plain: "http", encrypted: "https", example: "https://receiver/events" };
    let url = form.parse(text, tls)?;
    if url.fragment().is_some() {
        return Err("a fragment (`#`) is never sent".to_owned());
    }
    Ok(url)
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout: Duration = text.parse().map_err(|error: duration::Error| error.to_string())?;
    if timeout < Duration::from_millis(100) || timeout > MAX_TIMEOUT {
        return Err(format!("a timeout is between `100ms` and `{MAX_TIMEOUT}`"));
    }
    Ok(timeout)
}

fn parse_path(text: &str) -> Result<Template, String> {
    if text.len() > MAX_PATH {
        return Err(format!("a path has at most {MAX_PATH} bytes"));
    }
    let template =
        Template::parse(text.strip_prefix('/').unwrap_or(text)).map_err(|error| error.to_string())?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&byte);
    let is_legal = |part: &Part| match part {
        Part::Literal(literal) => literal.bytes().all(legal),
        Part::Value(_) => true,
    };
    if !template.parts().iter().all(is_legal) {
        return Err("a path has only what a URL can hold, percent-encoded, and no query".to_owned());
    }
    // Whoever names a Sink of somebody else must not leave what that one's URL opens. No value is only dots.
    let is_dots = |part: &str| matches!(&*part.to_ascii_lowercase().replace("%2e", "."), "." | "..");
    if text.split('/').any(is_dots) {
        return Err("no part of a path is `.` or `..`: it stays below the URL".to_owned());
    }
    Ok(template)
}

#[cfg(test)]
#[path = "http/tests.rs"]
mod tests;
