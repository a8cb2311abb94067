//! Settings of the RabbitMQ sink.

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
/// The longest name, or template of one, in bytes: AMQP's own limit.
const MAX_NAME: usize = 255;
/// The longest prefix of headers, in bytes; the name of an attribute follows it.
const MAX_PREFIX: usize = 64;

/// Events go to an exchange of RabbitMQ. One counts as delivered when the broker has confirmed that every queue it was
/// routed to holds it; one that no queue takes is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RabbitmqSettings {
    /// How the servers are reached; left out with `ref`.
    #[serde(flatten)]
    pub connection: RabbitmqConnectionSettings,
    /// The exchange, with the placeholders of `routingKey`. Empty is the default exchange, where the routing key is the
    /// name of a queue.
    #[serde(default = "RabbitmqSettings::default_exchange")]
    #[schemars(length(max = 255))]
    pub exchange: String,
    /// The routing key of each Event, with the placeholders `{group}` (`core` for the core group), `{version}`,
    /// `{kind}`, `{plural}`, `{namespace}` (`_cluster` for cluster-scoped objects), `{name}`, `{change}`, `{uid}`
    /// and `{subscription}` (`namespace.name`). In a value, `.` becomes `_`, and what separates or matches words is
    /// percent-encoded.
    #[serde(default = "RabbitmqSettings::default_routing_key")]
    #[schemars(length(max = 255))]
    pub routing_key: String,
    /// Present, the bridge declares the exchange, which the user must have the right to. Otherwise it must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declare_exchange: Option<DeclareExchangeSettings>,
    /// What the headers of attributes begin with in binary mode: `ce-`, as most readers of AMQP 0-9-1 expect it.
    /// `cloudEvents:` and `cloudEvents_` are for those who read through AMQP 1.0.
    #[serde(default = "RabbitmqSettings::default_header_prefix")]
    #[schemars(length(max = 64), regex(pattern = "^([A-Za-z][-_:.A-Za-z0-9]*)?$"))]
    pub header_prefix: String,
}

/// How servers of RabbitMQ are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RabbitmqConnectionSettings {
    /// URLs of nodes of one cluster, tried in this order: `amqp://host:port`, or `amqps://host:port` for TLS. The port
    /// is 5672, or 5671 with TLS, unless given. Credentials and virtual host do not belong here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 512), regex(pattern = "^amqps?://")))]
    pub servers: Vec<String>,
    /// The virtual host: `/` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub virtual_host: Option<String>,
    /// Who the bridge is to the server: a user with a password, or whom its certificate names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<RabbitmqAuthSettings>,
    /// Whom to trust, and the bridge's own certificate, for `amqps://`. Without it, the authorities that the bridge's
    /// system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
}

/// Who the bridge is to the server: a user with a password, or whom its certificate names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RabbitmqAuthSettings {
    /// The name of the user, with `passwordSecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub user: Option<String>,
    /// The password of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
    /// True: the user is whom the certificate of `tls` names (SASL EXTERNAL, `rabbitmq_auth_mechanism_ssl`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<bool>,
}

/// An exchange that the bridge declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeclareExchangeSettings {
    /// How it routes.
    #[serde(rename = "type")]
    pub kind: ExchangeType,
    /// Whether it is still there after a restart of the broker.
    pub durable: bool,
}

/// How an exchange routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExchangeType {
    /// By words of the routing key, with wildcards.
    #[default]
    Topic,
    /// By the whole routing key.
    Direct,
    /// To every queue that is bound.
    Fanout,
    /// By headers.
    Headers,
}

/// Servers that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidRabbitmqConnection {
    /// At least one, each with a host, and without credentials.
    pub servers: Vec<Url>,
    /// The virtual host.
    pub virtual_host: String,
    /// Who the bridge is to the server.
    pub auth: ValidRabbitmqAuth,
    /// With whom to speak TLS where a server has it.
    pub tls: ValidTls,
}

/// Where in RabbitMQ the Events of a Subscription go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidRabbitmqAddress {
    /// The exchange.
    pub exchange: Template,
    /// The routing key.
    pub routing_key: Template,
    /// How to declare the exchange, which then has no placeholders.
    pub declare: Option<DeclareExchangeSettings>,
    /// What headers begin with.
    pub header_prefix: String,
}

/// Who the bridge is to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValidRabbitmqAuth {
    /// A user with a password.
    Password {
        /// The name of the user.
        user: String,
        /// Where its password is.
        password: SecretKeyRef,
    },
    /// Whom the certificate names.
    External,
}

// === impl RabbitmqSettings ===

impl RabbitmqSettings {
    /// The exchange unless one is given.
    pub const DEFAULT_EXCHANGE: &str = "tidings";
    /// One routing key per object and kind of Change: a binding can pick any part of it with wildcards.
    pub const DEFAULT_ROUTING_KEY: &str = "{group}.{plural}.{namespace}.{name}.{change}";
    /// What headers begin with unless something is said.
    pub const DEFAULT_HEADER_PREFIX: &str = "ce-";

    fn default_exchange() -> String {
        Self::DEFAULT_EXCHANGE.to_owned()
    }

    fn default_routing_key() -> String {
        Self::DEFAULT_ROUTING_KEY.to_owned()
    }

    fn default_header_prefix() -> String {
        Self::DEFAULT_HEADER_PREFIX.to_owned()
    }

    /// Where the Events go; adds every mistake to `errors`, with paths that start with `path`, e.g. `spec.sink.rabbitmq`.
    pub fn address(&self, path: &str, errors: &mut FieldErrors) -> Option<ValidRabbitmqAddress> {
        let Self { connection: _, exchange, routing_key, declare_exchange, header_prefix } = self;
        let mut name = |field: &str, text: &str| {
            parse_name(text)
                .map_err(|problem| errors.push(FieldError::new(format!("{path}.{field}"), problem)))
        };
        let (exchange, routing_key) = (name("exchange", exchange), name("routingKey", routing_key));
        if let (Some(_), Ok(exchange)) = (declare_exchange, &exchange)
            && exchange.as_literal().is_none_or(|name| name.is_empty() || name.starts_with("amq."))
        {
            let problem = "only an exchange with a name of its own can be declared: no placeholders, not the default \
                           exchange, and none of the server's own (`amq.`)";
            errors.push(FieldError::new(format!("{path}.declareExchange"), problem));
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'.');
        let starts = header_prefix.bytes().next().is_none_or(|byte| byte.is_ascii_alphabetic());
        if header_prefix.len() > MAX_PREFIX || !header_prefix.bytes().all(legal) || !starts {
            let problem = format!(
                "a prefix begins with a letter and has at most {MAX_PREFIX} letters, digits, and any of `-_:.`"
            );
            errors.push(FieldError::new(format!("{path}.headerPrefix"), problem));
        }
        Some(ValidRabbitmqAddress {
            exchange: exchange.ok()?,
            routing_key: routing_key.ok()?,
            declare: declare_exchange.clone(),
            header_prefix: header_prefix.clone(),
        })
    }
}

impl Default for RabbitmqSettings {
    fn default() -> Self {
        Self {
            connection: RabbitmqConnectionSettings::default(),
            exchange: Self::default_exchange(),
            routing_key: Self::default_routing_key(),
            declare_exchange: None,
            header_prefix: Self::default_header_prefix(),
        }
    }
}

// === impl RabbitmqConnectionSettings ===

impl RabbitmqConnectionSettings {
    /// What can be connected to; adds every mistake to `errors`, with paths that start with `path`, e.g.
    /// `spec.sink.rabbitmq`.
    pub fn validate(&self, path: &str, errors: &mut FieldErrors) -> Option<ValidRabbitmqConnection> {
        let Self { servers, virtual_host, auth, tls } = self;
        let count = match servers.len() {
            1..=MAX_SERVERS => None,
            0 => Some("at least one server is needed, like `amqps://broker:5671`".to_owned()),
            count => Some(format!("{count} servers are more than the {MAX_SERVERS} that can be named")),
        };
        errors.extend(count.map(|problem| FieldError::new(format!("{path}.servers"), problem)));
        let mut urls = Vec::with_capacity(servers.len());
        for (index, server) in servers.iter().enumerate() {
            match parse_server(server, tls.is_some()) {
                Ok(url) => urls.push(url),
                Err(problem) => errors.push(FieldError::new(format!("{path}.servers[{index}]"), problem)),
            }
        }
        if let Some(name) = virtual_host
            && (name.is_empty() || name.len() > MAX_NAME)
        {
            let problem = format!("a virtual host has 1 to {MAX_NAME} bytes");
            errors.push(FieldError::new(format!("{path}.virtualHost"), problem));
        }
        let tls = tls.as_ref().map(|tls| tls.validate(&format!("{path}.tls"), errors)).unwrap_or_default();
        let Some(auth) = auth else {
            let problem = "a user with a password is needed, or `external: true` with a certificate";
            errors.push(FieldError::new(format!("{path}.auth"), problem));
            return None;
        };
        let auth = auth.validate(&format!("{path}.auth"), &tls, errors)?;
        let virtual_host = virtual_host.clone().unwrap_or_else(|| "/".to_owned());
        Some(ValidRabbitmqConnection { servers: urls, virtual_host, auth, tls })
    }
}

// === impl RabbitmqAuthSettings ===

impl RabbitmqAuthSettings {
    fn validate(&self, path: &str, tls: &ValidTls, errors: &mut FieldErrors) -> Option<ValidRabbitmqAuth> {
        let Self { user, password_secret_ref, external } = self;
        if let Some(key) = password_secret_ref {
            key.check(&format!("{path}.passwordSecretRef"), errors);
        }
        match (user, password_secret_ref, external.unwrap_or_default()) {
            (Some(user), Some(_), false) if user.is_empty() || user.len() > MAX_NAME => {
                let problem = format!("a user has 1 to {MAX_NAME} bytes");
                errors.push(FieldError::new(format!("{path}.user"), problem));
                None
            }
            (Some(user), Some(password), false) => {
                Some(ValidRabbitmqAuth::Password { user: user.clone(), password: password.clone() })
            }
            (None, None, true) if tls.certificate.is_some() => Some(ValidRabbitmqAuth::External),
            (None, None, true) => {
                let problem = "the certificate that says who the bridge is has to be named by `tls.certificateSecretName`";
                errors.push(FieldError::new(format!("{path}.external"), problem));
                None
            }
            _ => {
                let problem = "either `user` and `passwordSecretRef`, or `external: true`, is needed";
                errors.push(FieldError::new(path, problem));
                None
            }
        }
    }
}

// === impl DeclareExchangeSettings ===

impl Default for DeclareExchangeSettings {
    fn default() -> Self {
        Self { kind: ExchangeType::default(), durable: true }
    }
}

// === impl ValidRabbitmqConnection ===

impl ValidRabbitmqConnection {
    /// What has to be read before a connection can be made.
    pub fn secrets(&self) -> Vec<SecretKeyRef> {
        let Self { servers: _, virtual_host: _, auth, tls } = self;
        let password = match auth {
            ValidRabbitmqAuth::Password { password, .. } => Some(password.clone()),
            ValidRabbitmqAuth::External => None,
        };
        password.into_iter().chain(tls.secrets()).collect()
    }

    /// The servers in a few words.
    pub fn summary(&self) -> String {
        super::summary(self.servers.iter().map(Url::as_str))
    }
}

fn parse_server(text: &str, tls: bool) -> Result<Url, String> {
    let form = Form { plain: "amqp", encrypted: "amqps", example: "amqps://broker:5671" };
    let url = form.parse(text, tls)?;
    if is_bare(&url) {
        Ok(url)
    } else {
        Err("nothing may follow the host and the port; the virtual host is `virtualHost`".to_owned())
    }
}

/// A name of an exchange, or a routing key.
fn parse_name(text: &str) -> Result<Template, String> {
    if text.len() > MAX_NAME {
        return Err(format!("it has at most {MAX_NAME} bytes"));
    }
    let template = Template::parse(text).map_err(|error| error.to_string())?;
    let legal = |part: &Part| match part {
        Part::Literal(literal) => !literal.chars().any(char::is_control),
        Part::Value(_) => true,
    };
    if template.parts().iter().all(legal) {
        Ok(template)
    } else {
        Err("it has no control characters".to_owned())
    }
}

#[cfg(test)]
#[path = "rabbitmq/tests.rs"]
mod tests;
