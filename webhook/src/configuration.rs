//! The `ValidatingWebhookConfiguration`: what has to be in it, and where it differs. The webhook owns all of its `webhooks`; the
//! rest of the object, such as labels and annotations, is whoever's who made it.
//!
//! `failurePolicy` is `Fail` only while the address in the configuration answers, over TLS that is verified with the
//! `caBundle` in the configuration: while the API server would have to refuse everything, it refuses nothing.

pub(crate) mod controller;
mod probe;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    RuleWithOperations, ServiceReference, ValidatingWebhook, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use tidings_config::process::webhook::WebhookSettings;
use url::{Host, Url};

use crate::review::GROUP;

/// The name of the webhook, as the API server says it in every refusal.
pub const NAME: &str = "webhook.tidings.dev";
/// Where it is asked.
pub const PATH: &str = "/validate";
/// A header of every answer: which replica it is from.
pub(crate) const REPLICA: &str = "tidings-replica";
/// The port of the Service.
const PORT: u16 = 443;

/// Where the API server reaches the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Through a Service.
    Service {
        /// The namespace it is in.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// At an address.
    Url(Url),
}

/// There is no host in the URL.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not `https://`, a host and a port")]
pub struct NoEndpoint(String);

/// What is said about a configuration beforehand.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The name of the configuration.
    pub(crate) name: String,
    namespace: String,
    endpoint: Endpoint,
    timeout_seconds: i32,
}

/// What the API server does when it gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// It refuses.
    Fail,
    /// It accepts.
    Ignore,
}

// === impl Endpoint ===

impl Endpoint {
    /// As the settings say.
    pub fn of(settings: &WebhookSettings, namespace: &str) -> Result<Self, NoEndpoint> {
        let Some(text) = &settings.url else {
            return Ok(Self::Service { namespace: namespace.to_owned(), name: settings.service.clone() });
        };
        let mut url = Url::parse(text).map_err(|_| NoEndpoint(text.clone()))?;
        if url.host().is_none() {
            return Err(NoEndpoint(text.clone()));
        }
        url.set_path(PATH);
        Ok(Self::Url(url))
    }

    /// What the certificate has to be for. The first is what the API server asks for.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Service { namespace, name } => ["svc", "svc.cluster.local"]
                .map(|end| format!("{name}.{namespace}.{end}"))
                .into_iter()
                .chain([format!("{name}.{namespace}"), name.clone()])
                .collect(),
            Self::Url(_) => vec![self.host()],
        }
    }

    /// Where it is, without brackets around an address of IPv6.
    pub(crate) fn host(&self) -> String {
        match self {
            Self::Service { namespace, name } => format!("{name}.{namespace}.svc"),
            Self::Url(url) => match url.host() {
                Some(Host::Domain(name)) => name.to_owned(),
                Some(Host::Ipv4(address)) => address.to_string(),
                Some(Host::Ipv6(address)) => address.to_string(),
                None => String::new(),
            },
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Service { .. } => PORT,
            Self::Url(url) => url.port_or_known_default().unwrap_or(PORT),
        }
    }
}

// === impl Wanted ===

impl Wanted {
    pub(crate) fn new(settings: &WebhookSettings, namespace: String, endpoint: Endpoint) -> Self {
        let timeout_seconds = i32::try_from(settings.timeout.get().as_secs()).unwrap_or(i32::MAX);
        Self { name: settings.configuration.clone(), namespace, endpoint, timeout_seconds }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What has to be in the configuration. Everything that the API server would fill in is said, so that it compares.
    pub(crate) fn webhook(&self, ca_bundle: Option<Vec<u8>>, policy: Policy) -> ValidatingWebhook {
        let (service, url) = match &self.endpoint {
            Endpoint::Service { namespace, name } => {
                let service = ServiceReference {
                    name: name.clone(),
                    namespace: namespace.clone(),
                    path: Some(PATH.to_owned()),
                    port: Some(i32::from(PORT)),
                };
                (Some(service), None)
            }
            Endpoint::Url(url) => (None, Some(url.to_string())),
        };
        let own = LabelSelectorRequirement {
            key: "kubernetes.io/metadata.name".to_owned(),
            operator: "NotIn".to_owned(),
            values: Some(vec![self.namespace.clone()]),
        };
        let words = |words: &[&str]| Some(words.iter().map(ToString::to_string).collect());
        ValidatingWebhook {
            name: NAME.to_owned(),
            admission_review_versions: vec!["v1".to_owned()],
            client_config: WebhookClientConfig { ca_bundle: ca_bundle.map(ByteString), service, url },
            failure_policy: Some(policy.name().to_owned()),
            match_conditions: None,
            match_policy: Some("Equivalent".to_owned()),
            namespace_selector: Some(LabelSelector {
                match_expressions: Some(vec![own]),
                match_labels: None,
            }),
            object_selector: Some(LabelSelector::default()),
            rules: Some(vec![RuleWithOperations {
                api_groups: words(&[GROUP]),
                api_versions: words(&["v1alpha1"]),
                operations: words(&["CREATE", "UPDATE"]),
                resources: words(&["subscriptions", "sinks"]),
                scope: Some("Namespaced".to_owned()),
            }]),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(self.timeout_seconds),
        }
    }
}

// === impl Policy ===

impl Policy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fail => "Fail",
            Self::Ignore => "Ignore",
        }
    }
}

/// The fields in which what is there is not what has to be.
pub(crate) fn differences(present: &[ValidatingWebhook], wanted: &ValidatingWebhook) -> Vec<&'static str> {
    let [present] = present else { return vec!["webhooks"] };
    let ValidatingWebhook {
        name,
        admission_review_versions,
        client_config: WebhookClientConfig { ca_bundle, service, url },
        failure_policy,
        match_conditions,
        match_policy,
        namespace_selector,
        object_selector,
        rules,
        side_effects,
        timeout_seconds,
    } = present;
    let fields = [
        ("name", *name == wanted.name),
        ("admissionReviewVersions", *admission_review_versions == wanted.admission_review_versions),
        ("caBundle", *ca_bundle == wanted.client_config.ca_bundle),
        ("clientConfig", *service == wanted.client_config.service && *url == wanted.client_config.url),
        ("failurePolicy", *failure_policy == wanted.failure_policy),
        ("matchConditions", match_conditions.as_ref().is_none_or(Vec::is_empty)),
        ("matchPolicy", *match_policy == wanted.match_policy),
        ("namespaceSelector", *namespace_selector == wanted.namespace_selector),
        ("objectSelector", *object_selector == wanted.object_selector),
        ("rules", *rules == wanted.rules),
        ("sideEffects", *side_effects == wanted.side_effects),
        ("timeoutSeconds", *timeout_seconds == wanted.timeout_seconds),
    ];
    fields.iter().filter(|(_, same)| !same).map(|(field, _)| *field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(url: Option<&str>) -> Wanted {
        let settings = WebhookSettings { url: url.map(ToOwned::to_owned), ..WebhookSettings::default() };
        let endpoint = Endpoint::of(&settings, "ops").unwrap();
        Wanted::new(&settings, "ops".to_owned(), endpoint)
    }

    #[test]
    fn the_names_of_a_certificate_are_those_of_the_address() {
        let service = wanted(None);
        assert_eq!(service.endpoint.names()[0], "tidings-webhook.ops.svc");
        assert_eq!(
            (service.endpoint.host().as_str(), service.endpoint.port()),
            ("tidings-webhook.ops.svc", 443)
        );
        let url = wanted(Some("https://[::1]:8443"));
        assert_eq!(url.endpoint.names(), ["::1"]);
        assert_eq!(url.endpoint.port(), 8443);
        let config = url.webhook(None, Policy::Fail).client_config;
        assert_eq!(config.url.as_deref(), Some("https://[::1]:8443/validate"));
        assert_eq!(config.service, None);
    }

    #[test]
    fn what_differs_is_told_by_its_field() {
        let wanted = wanted(None).webhook(Some(b"ca".to_vec()), Policy::Fail);
        assert_eq!(differences(std::slice::from_ref(&wanted), &wanted), [""; 0]);
        assert_eq!(differences(&[], &wanted), ["webhooks"]);
        assert_eq!(differences(&[wanted.clone(), wanted.clone()], &wanted), ["webhooks"]);
        let mut edited = wanted.clone();
        edited.client_config.ca_bundle = None;
        edited.failure_policy = Some("Ignore".to_owned());
        edited.rules = None;
        assert_eq!(differences(&[edited], &wanted), ["caBundle", "failurePolicy", "rules"]);
    }
}
