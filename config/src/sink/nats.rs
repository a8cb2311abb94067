//! Settings of the NATS JetStream sink.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::template::{Part, Template};
use crate::field_error::{FieldError, FieldErrors};

/// The most servers that can be named.
const MAX_SERVERS: usize = 16;
/// The longest subject template, in bytes.
const MAX_TEMPLATE: usize = 512;
/// The longest name of a stream, user or file, in bytes.
const MAX_NAME: usize = 255;

/// Events go to NATS JetStream. One counts as delivered when a stream has acknowledged that it holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NatsSettings {
    /// URLs of servers of one cluster, tried in this order: `nats://host:port`, or `tls://host:port`, which
    /// insists on TLS. The port is 4222 unless given. Credentials do not belong here.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 512), regex(pattern = "^(nats|tls)://"))
    )]
    pub servers: Vec<String>,
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
    /// Who the bridge is to the server. Without it, it says nothing of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<NatsAuthSettings>,
    /// Present, it insists on TLS with every server, whatever the scheme of its URL; `{}` trusts the authorities
    /// that the bridge's system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<NatsTlsSettings>,
}

/// Who the bridge is to the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NatsAuthSettings {
    /// The name of the user.
    #[schemars(length(min = 1, max = 255))]
    pub user: String,
    /// The file that holds the password, inside the folder that the bridge's credentials directory has for the
    /// Subscription's namespace. It is read again for each connection; a line break at its end is left out.
    #[schemars(
        length(min = 1, max = 255),
        regex(pattern = r"^\.*[A-Za-z0-9_-][A-Za-z0-9._-]*(/\.*[A-Za-z0-9_-][A-Za-z0-9._-]*)*$")
    )]
    pub password_file: String,
}

/// How the server proves who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NatsTlsSettings {
    /// The file with the PEM certificates of the only authorities to trust, beside the password file. It is read
    /// again for each connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 255),
        regex(pattern = r"^\.*[A-Za-z0-9_-][A-Za-z0-9._-]*(/\.*[A-Za-z0-9_-][A-Za-z0-9._-]*)*$")
    )]
    pub ca_file: Option<String>,
}

/// Settings that can be connected with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidNats {
    /// At least one, each with a host, and without credentials.
    pub servers: Vec<Url>,
    /// The stream that must take the Events.
    pub stream: Option<String>,
    /// Every value it could be filled with makes it a legal subject without wildcards.
    pub subject: Template,
    /// Who the bridge is to the server.
    pub auth: Option<ValidNatsAuth>,
    /// Whether TLS is insisted on with every server, and with which authorities.
    pub tls: Option<ValidNatsTls>,
}

/// Who the bridge is to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidNatsAuth {
    /// The name of the user.
    pub user: String,
    /// Relative, and staying inside the folder it starts from.
    pub password_file: String,
}

/// How the server proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidNatsTls {
    /// Relative, and staying inside the folder it starts from; the system's authorities without it.
    pub ca_file: Option<String>,
}

// === impl NatsSettings ===

impl NatsSettings {
    /// One subject per object and kind of Change: a consumer can pick any part of it with wildcards.
    pub const DEFAULT_SUBJECT: &str = "tidings.{group}.{plural}.{namespace}.{name}.{change}";

    fn default_subject() -> String {
        Self::DEFAULT_SUBJECT.to_owned()
    }

    /// What can be connected with, or every mistake, with paths that start with `path`, e.g. `spec.sink.nats`.
    pub fn validate(&self, path: &str) -> Result<ValidNats, FieldErrors> {
        let Self { servers, stream, subject, auth, tls } = self;
        let mut errors = FieldErrors::new();
        let mut check = |field: &str, result: Result<(), String>| {
            errors.extend(result.err().map(|problem| FieldError::new(format!("{path}.{field}"), problem)));
        };

        let count = match servers.len() {
            1..=MAX_SERVERS => Ok(()),
            0 => Err("at least one server is needed, like `nats://broker:4222`".to_owned()),
            count => Err(format!("{count} servers are more than the {MAX_SERVERS} that can be named")),
        };
        check("servers", count);
        let mut urls = Vec::with_capacity(servers.len());
        for (index, server) in servers.iter().enumerate() {
            check(&format!("servers[{index}]"), parse_server(server).map(|url| urls.push(url)));
        }
        if let Some(stream) = stream {
            check("stream", check_stream(stream));
        }
        let mut template = None;
        check("subject", parse_subject(subject).map(|parsed| template = Some(parsed)));
        if let Some(NatsAuthSettings { user, password_file }) = auth {
            let long = user.is_empty() || user.len() > MAX_NAME;
            let length = if long { Err(format!("a user has 1 to {MAX_NAME} bytes")) } else { Ok(()) };
            check("auth.user", length);
            check("auth.passwordFile", check_file(password_file));
        }
        if let Some(NatsTlsSettings { ca_file: Some(file) }) = tls {
            check("tls.caFile", check_file(file));
        }

        match template {
            Some(subject) if errors.is_empty() => Ok(ValidNats {
                servers: urls,
                stream: stream.clone(),
                subject,
                auth: auth.as_ref().map(|NatsAuthSettings { user, password_file }| ValidNatsAuth {
                    user: user.clone(),
                    password_file: password_file.clone(),
                }),
                tls: tls
                    .as_ref()
                    .map(|NatsTlsSettings { ca_file }| ValidNatsTls { ca_file: ca_file.clone() }),
            }),
            _ => Err(errors),
        }
    }
}

/// The text itself is never repeated: where people put credentials by mistake, they must not spread.
fn parse_server(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("no URL like `nats://broker:4222`: {error}"))?;
    if !matches!(url.scheme(), "nats" | "tls") {
        return Err("the scheme is `nats://` or `tls://`".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials do not belong in a URL; `auth` names a file for them".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("no host; a server is written `nats://broker:4222`".to_owned());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("nothing may follow the host and the port".to_owned());
    }
    Ok(url)
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

/// Files are named relative to a folder that the operator chose for the namespace; nothing leads out of it.
fn check_file(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!("a file's name has 1 to {MAX_NAME} bytes"));
    }
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    if name.split('/').all(plain) {
        Ok(())
    } else {
        Err("a file is named relative to the namespace's credentials folder, like `nats/password`: letters, \
             digits, `.`, `_` and `-`, and no `..`"
            .to_owned())
    }
}

#[cfg(test)]
#[path = "nats/tests.rs"]
mod tests;
