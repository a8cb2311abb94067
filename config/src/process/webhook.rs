//! Settings of the process `tidings webhook`.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::reference::{self, Setting};
use super::{LogFormat, Settings};
use crate::byte_size::ByteSize;
use crate::duration::Duration;
use crate::field_error::{FieldError, FieldErrors};

// The doc comments are the text of docs/reference/webhook-settings.md and of `tidings webhook --help`.

/// Settings of the webhook process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
pub struct WebhookSettings {
    /// Address that the API server is answered on, over TLS.
    #[schemars(with = "String")]
    pub address: SocketAddr,
    /// Address that `/livez`, `/readyz` and `/metrics` are served on. The default is what a container needs;
    /// `127.0.0.1:8080` keeps them on one machine.
    #[schemars(with = "String")]
    pub admin_address: SocketAddr,
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels per module such as
    /// `info,tidings_webhook=debug`.
    pub log_level: String,
    /// How it is logged: `pretty`, `json`, or `auto`, which is pretty on a terminal and JSON elsewhere.
    pub log_format: LogFormat,
    /// Namespace that the webhook runs in, where its Service and its Secret are. What is written there is not checked, so that
    /// the webhook cannot keep itself from starting. Without it, the namespace of the pod, or of the kubeconfig's context.
    pub namespace: Option<String>,
    /// Name of the Service through which the API server reaches the webhook, on port 443.
    pub service: String,
    /// Where the API server reaches the webhook instead of through a Service, e.g. `https://127.0.0.1:8443`: for a webhook
    /// that runs outside of the cluster.
    pub url: Option<String>,
    /// Name of the `ValidatingWebhookConfiguration`, which the webhook makes and keeps as it has to be.
    pub configuration: String,
    /// What the API server does when the webhook cannot be asked: `auto` refuses (`Fail`) while the webhook has found that it
    /// can be reached, and accepts (`Ignore`) otherwise; `ignore` always accepts.
    pub failure_policy: FailurePolicy,
    /// Time between two looks at whether the webhook can be reached where the API server reaches it.
    pub probe_interval: Duration,
    /// Time that the API server waits for an answer: whole seconds, at most 5.
    pub timeout: Duration,
    /// Longest request that is read.
    pub max_request_bytes: ByteSize,
    /// Most connections at the same time; more wait.
    pub max_connections: NonZeroU32,
    /// Time after the signal to stop in which everything is still answered, and `/readyz` already says no: until nobody sends
    /// anything here any more.
    pub shutdown_delay: Duration,
    /// Time to answer what is under way, after that.
    pub shutdown_deadline: Duration,
    /// How the API server knows that it talks to the webhook.
    pub certificates: Certificates,
}

/// Where certificates come from, and how long they hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Certificates {
    /// Folder with `tls.crt` and `tls.key`, e.g. a mounted Secret of cert-manager, which are read again when they change.
    /// Whoever makes them also has to put the authority into the configuration's `caBundle`: the webhook leaves it alone then.
    /// Without it, the webhook has an authority of its own.
    #[schemars(with = "Option<String>")]
    pub files: Option<PathBuf>,
    /// Name of the Secret in which replicas share their authority.
    pub secret: String,
    /// Time for which an authority holds. The next one is made while there is time for two serving certificates.
    pub authority_lifetime: Duration,
    /// Time for which a serving certificate holds. It is replaced when a third of that is left.
    pub lifetime: Duration,
    /// Time for which API servers have to know a new authority before a certificate is signed by it.
    pub overlap: Duration,
}

/// What the API server does when the webhook cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum FailurePolicy {
    /// It refuses while the webhook can be reached.
    #[default]
    Auto,
    /// It accepts.
    Ignore,
}

/// The longest that Kubernetes' advice lets a webhook take, in seconds.
const MAX_TIMEOUT: u64 = 5;

// === impl WebhookSettings ===

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443)),
            admin_address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            log_level: "info".to_owned(),
            log_format: LogFormat::Auto,
            namespace: None,
            service: "tidings-webhook".to_owned(),
            url: None,
            configuration: "tidings-webhook".to_owned(),
            failure_policy: FailurePolicy::Auto,
            probe_interval: Duration::from_secs(5),
            timeout: Duration::from_secs(MAX_TIMEOUT),
            // An update has the object twice, and etcd takes 1.5 MiB by default.
            max_request_bytes: ByteSize::from_mebibytes(4),
            max_connections: NonZeroU32::MIN.saturating_add(255),
            shutdown_delay: Duration::from_secs(5),
            shutdown_deadline: Duration::from_secs(10),
            certificates: Certificates::default(),
        }
    }
}

impl Default for Certificates {
    fn default() -> Self {
        let day = 24 * 60 * 60;
        Self {
            files: None,
            secret: "tidings-webhook-ca".to_owned(),
            authority_lifetime: Duration::from_secs(365 * day),
            lifetime: Duration::from_secs(30 * day),
            overlap: Duration::from_secs(5 * 60),
        }
    }
}

impl Settings for WebhookSettings {
    const COMMAND: &'static str = "webhook";
    const EXAMPLE: (&'static str, &'static str) = ("certificates.lifetime", "240h");

    fn settings() -> &'static [Setting] {
        static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(reference::read_off::<WebhookSettings>);
        &SETTINGS
    }

    fn validate(&self) -> FieldErrors {
        let Self {
            address: _,
            admin_address: _,
            log_level,
            log_format: _,
            namespace,
            service,
            url,
            configuration,
            failure_policy: _,
            probe_interval,
            timeout,
            max_request_bytes,
            max_connections: _,
            shutdown_delay: _,
            shutdown_deadline: _,
            certificates: Certificates { files: _, secret, authority_lifetime, lifetime, overlap },
        } = self;
        let mut errors = FieldErrors::new();
        let mut require = |holds: bool, path: &str, problem: &str| {
            if !holds {
                errors.push(FieldError::new(path, problem));
            }
        };
        require(!log_level.trim().is_empty(), "log_level", "must not be empty; `error` logs the least");
        let name = "must be a name as Kubernetes has them: lower-case letters, digits, `-` and `.`";
        require(namespace.as_deref().is_none_or(is_name), "namespace", name);
        require(is_name(service), "service", name);
        require(
            url.as_deref().is_none_or(|url| Url::parse(url).is_ok_and(|url| is_origin(&url))),
            "url",
            "must be `https://`, a host and a port, and nothing else: the path is the webhook's own",
        );
        require(is_name(configuration), "configuration", name);
        require(
            *probe_interval >= Duration::from_millis(100),
            "probe_interval",
            "must be at least 100ms, for the network's sake",
        );
        require(
            (1..=MAX_TIMEOUT).contains(&timeout.get().as_secs()) && timeout.get().subsec_nanos() == 0,
            "timeout",
            "must be whole seconds, from 1s to 5s: everybody who writes a resource waits",
        );
        require(
            max_request_bytes.get() >= 64 * 1024,
            "max_request_bytes",
            "must be at least 64Ki, or good Subscriptions do not fit",
        );
        require(is_name(secret), "certificates.secret", name);
        require(
            *lifetime >= Duration::from_secs(3),
            "certificates.lifetime",
            "must be at least 3s: certificates count in seconds",
        );
        require(
            authority_lifetime.get() >= lifetime.get().saturating_mul(4),
            "certificates.authority_lifetime",
            "must be at least four times `certificates.lifetime`, or there is no time to change it",
        );
        require(
            overlap <= lifetime,
            "certificates.overlap",
            "must be at most `certificates.lifetime`, or the old authority ends before the new one begins",
        );
        errors
    }
}

/// What Kubernetes calls a DNS subdomain (RFC 1123).
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn is_origin(url: &Url) -> bool {
    url.scheme() == "https"
        && url.has_host()
        && url.path() == "/"
        && url.username().is_empty()
        && [url.password(), url.query(), url.fragment()].iter().all(Option::is_none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(WebhookSettings::default().validate(), []);
    }

    #[test]
    fn every_mistake_is_told_with_its_path() {
        let settings = WebhookSettings {
            log_level: String::new(),
            namespace: Some("a/b".into()),
            service: String::new(),
            configuration: "A".into(),
            probe_interval: Duration::from_millis(1),
            timeout: Duration::from_secs(6),
            max_request_bytes: ByteSize::from_bytes(10),
            certificates: Certificates {
                secret: "-".into(),
                lifetime: Duration::from_secs(2),
                authority_lifetime: Duration::from_secs(7),
                overlap: Duration::from_secs(3),
                ..Certificates::default()
            },
            ..WebhookSettings::default()
        };
        let paths: Vec<_> = settings.validate().into_iter().map(|error| error.path).collect();
        assert_eq!(
            paths,
            [
                "log_level",
                "namespace",
                "service",
                "configuration",
                "probe_interval",
                "timeout",
                "max_request_bytes",
                "certificates.secret",
                "certificates.lifetime",
                "certificates.authority_lifetime",
                "certificates.overlap",
            ]
        );
    }

    #[test]
    fn a_url_is_https_with_nothing_behind_the_port() {
        let paths = |url: &str| {
            let settings = WebhookSettings { url: Some(url.into()), ..WebhookSettings::default() };
            settings.validate().into_iter().map(|error| error.path).collect::<Vec<_>>()
        };
        for good in ["https://127.0.0.1:8443", "https://[::1]:8443/", "https://webhook.example"] {
            assert_eq!(paths(good), [""; 0], "{good}");
        }
        for bad in
            ["http://a", "https://a/b", "https://u@a", "https://u:p@a", "https://a?b", "https://a#b", "a"]
        {
            assert_eq!(paths(bad), ["url"], "{bad}");
        }
    }
}
