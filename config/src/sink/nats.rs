//! Settings of the NATS JetStream sink.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::server::{Form, is_bare};
use super::template::{Part, Template};
use super::tls::{TlsSettings, ValidTls};
use crate::field_error::{FieldError, FieldErrors};
use crate::secret::SecretKeyRef;

/// The most servers that can be named.
const MAX_SERVERS: usize = 16;
/// The longest subject template, in bytes.
const MAX_TEMPLATE: usize = 512;
/// The longest name of a stream, domain or user, in bytes.
const MAX_NAME: usize = 255;

/// Events go to NATS JetStream. One counts as delivered when a stream has acknowledged that it holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NatsSettings {
    /// How the servers are reached; left out with `ref`.
    #[serde(flatten)]
    pub connection: NatsConnectionSettings,
    /// The stream that must take the Events. Without it, whichever stream takes the subject does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^ .*>/\\]+$"))]
    pub stream: Option<String>,
    /// The subject of each Event, with the placeholders `{group}` (`core` for the core group), `{version}`,
    /// `{kind}`, `{plural}`, `{namespace}` (`_cluster` for cluster-scoped objects), `{name}`, `{change}`, `{uid}`
    /// and `{subscription}` (`namespace.name`). In a value, `.` becomes `_`, and what a subject cannot hold
    /// is percent-encoded.
    #[serde(default = "NatsSettings::default_subject")]
    #[schemars(length(min = 1, max = 512))]
    pub subject: String,
}

/// How servers of NATS are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NatsConnectionSettings {
    /// URLs of servers of one cluster, tried in this order: `nats://host:port`, or `tls://host:port`, which
    /// insists on TLS. The port is 4222 unless given. Credentials do not belong here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 512), regex(pattern = "^(nats|tls)://"))
    )]
    pub servers: Vec<String>,
    /// The JetStream domain that the streams are in. Without it, the one of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^ .*>/\\]+$"))]
    pub domain: Option<String>,
    /// Who the bridge is to the server: exactly one of a user with a password, a token, an nkey, and a credentials file.
    /// Without it, it says nothing of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<NatsAuthSettings>,
    /// Present, it insists on TLS with every server, whatever the scheme of its URL; `{}` trusts the authorities
    /// that the bridge's system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
}

/// Who the bridge is to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NatsAuthSettings {
    /// The name of the user, with `passwordSecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub user: Option<String>,
    /// The password of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
    /// A token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
    /// The seed of an nkey (`SU…`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nkey_secret_ref: Option<SecretKeyRef>,
    /// A credentials file, as `nsc` writes it: a JWT and the seed of its nkey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creds_secret_ref: Option<SecretKeyRef>,
}

/// Servers that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidNatsConnection {
    /// At least one, each with a host, and without credentials.
    pub servers: Vec<Url>,
    /// The JetStream domain.
    pub domain: Option<String>,
    /// Who the bridge is to the server.
    pub auth: Option<ValidNatsAuth>,
    /// Whether TLS is insisted on with every server, and with which authorities.
    pub tls: Option<ValidTls>,
}

/// Where in JetStream the Events of a Subscription go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidNatsAddress {
    /// The stream that must take the Events.
    pub stream: Option<String>,
    /// Every value it could be filled with makes it a legal subject without wildcards.
    pub subject: Template,
}

/// Who the bridge is to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValidNatsAuth {
    /// A user with a password.
    Password {
        /// The name of the user.
        user: String,
        /// Where its password is.
        password: SecretKeyRef,
    },
    /// A token.
    Token(SecretKeyRef),
    /// The seed of an nkey.
    Nkey(SecretKeyRef),
    /// A JWT and the seed of its nkey, in one file.
    Creds(SecretKeyRef),
}

// === impl NatsSettings ===

impl NatsSettings {
    /// One subject per object and kind of Change: a consumer can pick any part of it with wildcards.
    pub const DEFAULT_SUBJECT: &str = "tidings.{group}.{plural}.{namespace}.{name}.{change}";

    fn default_subject() -> String {
        Self::DEFAULT_SUBJECT.to_owned()
    }

    /// Where the Events go; adds every mistake to `errors`, with paths that start with `path`, e.g. `spec.sink.nats`.
    pub fn address(&self, path: &str, errors: &mut FieldErrors) -> Option<ValidNatsAddress> {
        let Self { connection: _, stream, subject } = self;
        if let Some(stream) = stream
            && let Err(problem) = check_stream(stream)
        {
            errors.push(FieldError::new(format!("{path}.stream"), problem));
        }
        let subject = parse_subject(subject)
            .map_err(|problem| errors.push(FieldError::new(format!("{path}.subject"), problem)))
            .ok()?;
        Some(ValidNatsAddress { stream: stream.clone(), subject })
    }
}

impl Default for NatsSettings {
    fn default() -> Self {
        Self { connection: NatsConnectionSettings::default(), stream: None, subject: Self::default_subject() }
    }
}

// === impl NatsConnectionSettings ===

impl NatsConnectionSettings {
    /// What can be connected to; adds every mistake to `errors`, with paths that start with `path`, e.g. `spec.sink.nats`.
    pub fn validate(&self, path: &str, errors: &mut FieldErrors) -> ValidNatsConnection {
        let Self { servers, domain, auth, tls } = self;
        let count = match servers.len() {
            1..=MAX_SERVERS => None,
            0 => Some("at least one server is needed, like `nats://broker:4222`".to_owned()),
            count => Some(format!("{count} servers are more than the {MAX_SERVERS} that can be named")),
        };
        errors.extend(count.map(|problem| FieldError::new(format!("{path}.servers"), problem)));
        let mut urls = Vec::with_capacity(servers.len());
        for (index, server) in servers.iter().enumerate() {
            match parse_server(server) {
                Ok(url) => urls.push(url),
                Err(problem) => errors.push(FieldError::new(format!("{path}.servers[{index}]"), problem)),
            }
        }
        if let Some(domain) = domain
            && let Err(problem) = check_stream(domain)
        {
            errors.push(FieldError::new(format!("{path}.domain"), problem.replace("stream", "domain")));
        }
        let auth = auth.as_ref().and_then(|auth| auth.validate(&format!("{path}.auth"), errors));
        let tls = tls.as_ref().map(|tls| tls.validate(&format!("{path}.tls"), errors));
        ValidNatsConnection { servers: urls, domain: domain.clone(), auth, tls }
    }
}

// === impl NatsAuthSettings ===

impl NatsAuthSettings {
    fn validate(&self, path: &str, errors: &mut FieldErrors) -> Option<ValidNatsAuth> {
        let Self { user, password_secret_ref, token_secret_ref, nkey_secret_ref, creds_secret_ref } = self;
        let keys = [
            ("passwordSecretRef", password_secret_ref),
            ("tokenSecretRef", token_secret_ref),
            ("nkeySecretRef", nkey_secret_ref),
            ("credsSecretRef", creds_secret_ref),
        ];
        let given = || keys.iter().filter_map(|(field, key)| key.as_ref().map(|key| (*field, key)));
        for (field, key) in given() {
            key.check(&format!("{path}.{field}"), errors);
        }
        if given().count() != 1 {
            let problem = "exactly one of `passwordSecretRef`, `tokenSecretRef`, `nkeySecretRef` and `credsSecretRef` is \
                           needed";
            errors.push(FieldError::new(path, problem));
            return None;
        }
        if user.is_some() != password_secret_ref.is_some() {
            let problem = "`user` and `passwordSecretRef` belong together";
            errors.push(FieldError::new(path, problem));
        }
        if user.as_ref().is_some_and(|user| user.is_empty() || user.len() > MAX_NAME) {
            let problem = format!("a user has 1 to {MAX_NAME} bytes");
            errors.push(FieldError::new(format!("{path}.user"), problem));
        }
        match given().next()? {
            ("passwordSecretRef", key) => {
                Some(ValidNatsAuth::Password { user: user.clone()?, password: key.clone() })
            }
            ("tokenSecretRef", key) => Some(ValidNatsAuth::Token(key.clone())),
            ("nkeySecretRef", key) => Some(ValidNatsAuth::Nkey(key.clone())),
            (_, key) => Some(ValidNatsAuth::Creds(key.clone())),
        }
    }
}

// === impl ValidNatsConnection ===

impl ValidNatsConnection {
    /// What has to be read before a connection can be made.
    pub fn secrets(&self) -> Vec<SecretKeyRef> {
        let Self { servers: _, domain: _, auth, tls } = self;
        let auth = auth.iter().map(|auth| match auth {
            ValidNatsAuth::Password { password: key, .. }
            | ValidNatsAuth::Token(key)
            | ValidNatsAuth::Nkey(key)
            | ValidNatsAuth::Creds(key) => key.clone(),
        });
        auth.chain(tls.iter().flat_map(ValidTls::secrets)).collect()
    }

    /// The servers in a few words.
    pub fn summary(&self) -> String {
        super::summary(self.servers.iter().map(Url::as_str))
    }
}

fn parse_server(text: &str) -> Result<Url, String> {
    // With `tls` it is insisted on whatever the scheme.
    let form = Form { plain: "nats", encrypted: "tls", example: "nats://broker:4222" };
    let url = form.parse(text, false)?;
    if is_bare(&url) { Ok(url) } else { Err("nothing may follow the host and the port".to_owned()) }
}

/// The rule of the server for names of streams.
fn check_stream(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!("a stream's name has 1 to {MAX_NAME} bytes"));
    }
    let legal = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'.' | b'*' | b'>' | b'/' | b'\\');
    if name.bytes().all(legal) {
        Ok(())
    } else {
        Err("a stream's name is printable ASCII without spaces and without `. * > / \\`".to_owned())
    }
}

fn parse_subject(text: &str) -> Result<Template, String> {
    if text.is_empty() || text.len() > MAX_TEMPLATE {
        return Err(format!("a subject has 1 to {MAX_TEMPLATE} bytes"));
    }
    let template = Template::parse(text).map_err(|error| error.to_string())?;
    // No value is empty or holds a dot, so any text without dots stands for all values.
    let filled: String = template
        .parts()
        .iter()
        .map(|part| match part {
            Part::Literal(literal) => literal,
            Part::Value(_) => "value",
        })
        .collect();
    if !filled.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'>' | b'"' | b'\\')) {
        return Err("a subject is printable ASCII without spaces, `\"`, `\\` and the wildcards `*` and `>`"
            .to_owned());
    }
    if filled.split('.').any(str::is_empty) {
        return Err("no part between two dots may be empty".to_owned());
    }
    if filled.starts_with('$') || filled == "_INBOX" || filled.starts_with("_INBOX.") {
        return Err("subjects that start with `$` or `_INBOX` belong to the server".to_owned());
    }
    Ok(template)
}

#[cfg(test)]
#[path = "nats/tests.rs"]
mod tests;
