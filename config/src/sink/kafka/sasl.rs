//! Who the bridge is to a broker of Kafka.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::field_error::{FieldError, FieldErrors};
use crate::secret::SecretKeyRef;

/// The longest name of a user, client or scope, in bytes.
const MAX_NAME: usize = 255;
/// The longest URL, in bytes.
const MAX_URL: usize = 1024;

/// Who the bridge is to the brokers: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSaslSettings {
    /// PLAIN: the password itself is sent, so it wants `tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain: Option<KafkaUserSettings>,
    /// SCRAM-SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scram_sha256: Option<KafkaUserSettings>,
    /// SCRAM-SHA-512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scram_sha512: Option<KafkaUserSettings>,
    /// OAUTHBEARER: tokens of an OAuth 2.0 server, by the grant for client credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth_bearer: Option<KafkaOauthSettings>,
}

/// A user with a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaUserSettings {
    /// The name of the user.
    #[schemars(length(min = 1, max = 255))]
    pub user: String,
    /// The password of the user.
    pub password_secret_ref: SecretKeyRef,
}

/// A client of an OAuth 2.0 server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaOauthSettings {
    /// Where tokens are asked for: `https://…`, or `http://…` on the bridge's own host.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^https?://"))]
    pub token_endpoint: String,
    /// The id of the client.
    #[schemars(length(min = 1, max = 255))]
    pub client_id: String,
    /// The secret of the client.
    pub client_secret_ref: SecretKeyRef,
    /// The scope that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub scope: Option<String>,
    /// The PEM certificates of the only authorities that the endpoint's certificate may be of. Without it, those that the
    /// bridge's system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
}

/// Who the bridge is to the brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValidKafkaSasl {
    /// A user with a password.
    Password {
        /// How it is proven that the password is known.
        mechanism: KafkaMechanism,
        /// The name of the user.
        user: String,
        /// Where its password is.
        password: SecretKeyRef,
    },
    /// A client of an OAuth 2.0 server.
    Oauth(ValidKafkaOauth),
}

/// How it is proven that a password is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaMechanism {
    /// By saying it.
    Plain,
    /// SCRAM with SHA-256.
    ScramSha256,
    /// SCRAM with SHA-512.
    ScramSha512,
}

/// A client of an OAuth 2.0 server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidKafkaOauth {
    /// By HTTPS, or on this host.
    pub token_endpoint: Url,
    /// The id of the client.
    pub client_id: String,
    /// Where its secret is.
    pub client_secret: SecretKeyRef,
    /// The scope that is asked for.
    pub scope: Option<String>,
    /// PEM certificates; the system's authorities without it.
    pub ca: Option<SecretKeyRef>,
}

// === impl KafkaSaslSettings ===

impl KafkaSaslSettings {
    pub(super) fn validate(&self, path: &str, errors: &mut FieldErrors) -> Option<ValidKafkaSasl> {
        let Self { plain, scram_sha256, scram_sha512, oauth_bearer } = self;
        let users = [
            ("plain", KafkaMechanism::Plain, plain),
            ("scramSha256", KafkaMechanism::ScramSha256, scram_sha256),
            ("scramSha512", KafkaMechanism::ScramSha512, scram_sha512),
        ];
        let mut given = Vec::new();
        for (field, mechanism, user) in users {
            let Some(user) = user else { continue };
            user.check(&format!("{path}.{field}"), errors);
            let KafkaUserSettings { user, password_secret_ref } = user.clone();
            given.push(Some(ValidKafkaSasl::Password { mechanism, user, password: password_secret_ref }));
        }
        if let Some(oauth) = oauth_bearer {
            given.push(oauth.validate(&format!("{path}.oauthBearer"), errors).map(ValidKafkaSasl::Oauth));
        }
        if given.len() != 1 {
            let problem = "exactly one of `plain`, `scramSha256`, `scramSha512` and `oauthBearer` is needed";
            errors.push(FieldError::new(path, problem));
        }
        given.pop().flatten()
    }
}

// === impl KafkaUserSettings ===

impl KafkaUserSettings {
    fn check(&self, path: &str, errors: &mut FieldErrors) {
        let Self { user, password_secret_ref } = self;
        check_name("user", user, &format!("{path}.user"), errors);
        password_secret_ref.check(&format!("{path}.passwordSecretRef"), errors);
    }
}

// === impl KafkaOauthSettings ===

impl KafkaOauthSettings {
    fn validate(&self, path: &str, errors: &mut FieldErrors) -> Option<ValidKafkaOauth> {
        let Self { token_endpoint, client_id, client_secret_ref, scope, ca_secret_ref } = self;
        let endpoint = parse_endpoint(token_endpoint)
            .map_err(|problem| errors.push(FieldError::new(format!("{path}.tokenEndpoint"), problem)));
        check_name("client id", client_id, &format!("{path}.clientId"), errors);
        client_secret_ref.check(&format!("{path}.clientSecretRef"), errors);
        if let Some(scope) = scope {
            check_name("scope", scope, &format!("{path}.scope"), errors);
        }
        if let Some(ca) = ca_secret_ref {
            ca.check(&format!("{path}.caSecretRef"), errors);
        }
        Some(ValidKafkaOauth {
            token_endpoint: endpoint.ok()?,
            client_id: client_id.clone(),
            client_secret: client_secret_ref.clone(),
            scope: scope.clone(),
            ca: ca_secret_ref.clone(),
        })
    }
}

// === impl ValidKafkaSasl ===

impl ValidKafkaSasl {
    /// What has to be read before a connection can be made.
    pub fn secrets(&self) -> Vec<SecretKeyRef> {
        match self {
            Self::Password { mechanism: _, user: _, password } => vec![password.clone()],
            Self::Oauth(ValidKafkaOauth { token_endpoint: _, client_id: _, client_secret, scope: _, ca }) => {
                [client_secret].into_iter().chain(ca).cloned().collect()
            }
        }
    }
}

// === impl KafkaMechanism ===

impl KafkaMechanism {
    /// As Kafka calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

fn check_name(what: &str, name: &str, path: &str, errors: &mut FieldErrors) {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let problem = format!("a {what} has 1 to {MAX_NAME} bytes, and no control characters");
        errors.push(FieldError::new(path, problem));
    }
}

/// The text itself is never repeated: where people put credentials by mistake, they must not spread.
fn parse_endpoint(text: &str) -> Result<Url, String> {
    if text.len() > MAX_URL {
        return Err(format!("a URL has at most {MAX_URL} bytes"));
    }
    let url: Url = text.parse().map_err(|error| format!("no URL like `https://login/token`: {error}"))?;
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err("no host; an endpoint is written `https://login/token`".to_owned()),
    };
    match url.scheme() {
        "https" => {}
        "http" if local => {}
        "http" => return Err("by `http://`, the client's secret could be read on its way".to_owned()),
        _ => return Err("the scheme is `https://`".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "credentials do not belong in a URL; `clientSecretRef` names a Secret for them".to_owned()
        );
    }
    if url.fragment().is_some() {
        return Err("an endpoint has no `#`".to_owned());
    }
    Ok(url)
}
