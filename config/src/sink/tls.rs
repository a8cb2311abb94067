//! How both sides of a connection prove who they are: the same for every kind of sink.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field_error::FieldErrors;
use crate::secret::{self, SecretKeyRef};

/// TLS with the broker. Its certificate is always verified, and so is the name in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsSettings {
    /// The PEM certificates of the only authorities to trust. Without it, those that the bridge's system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// The name of a Secret of the type `kubernetes.io/tls`, with the certificate (`tls.crt`) and the key (`tls.key`) by
    /// which the bridge proves who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub certificate_secret_name: Option<String>,
}

/// TLS that can be set up once its Secrets are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidTls {
    /// PEM certificates; the system's authorities without it.
    pub ca: Option<SecretKeyRef>,
    /// PEM certificate chain and PEM private key.
    pub certificate: Option<ValidCertificate>,
}

/// By which the bridge proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidCertificate {
    /// The PEM chain, its own certificate first.
    pub chain: SecretKeyRef,
    /// The PEM private key.
    pub key: SecretKeyRef,
}

// === impl TlsSettings ===

impl TlsSettings {
    /// What can be set up; adds every mistake to `errors`, with paths that start with `path`, e.g. `spec.sink.nats.tls`.
    pub fn validate(&self, path: &str, errors: &mut FieldErrors) -> ValidTls {
        let Self { ca_secret_ref, certificate_secret_name } = self;
        if let Some(ca) = ca_secret_ref {
            ca.check(&format!("{path}.caSecretRef"), errors);
        }
        if let Some(name) = certificate_secret_name {
            secret::check_name(name, &format!("{path}.certificateSecretName"), errors);
        }
        let certificate = certificate_secret_name.as_ref().map(|name| ValidCertificate {
            chain: SecretKeyRef::new(name, "tls.crt"),
            key: SecretKeyRef::new(name, "tls.key"),
        });
        ValidTls { ca: ca_secret_ref.clone(), certificate }
    }
}

// === impl ValidTls ===

impl ValidTls {
    /// What has to be read before a connection can be made.
    pub fn secrets(&self) -> Vec<SecretKeyRef> {
        let Self { ca, certificate } = self;
        let certificate = certificate.iter().flat_map(|certificate| [&certificate.chain, &certificate.key]);
        ca.iter().chain(certificate).cloned().collect()
    }
}
