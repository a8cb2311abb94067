//! TLS settings and their Secrets, as the libraries want them.
//!
//! Before: sinks/src/lib.rs

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};
use tidings_config::secret::{SecretKeyRef, Secrets};
use tidings_config::sink::tls::{ValidCertificate, ValidTls};

use crate::sink::NotReady;

/// What a client of rustls needs: whom it trusts, and who it is.
pub(crate) fn client_config(tls: &ValidTls, secrets: &Secrets) -> Result<ClientConfig, NotReady> {
    let ValidTls { ca, certificate } = tls;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| NotReady::new("TlsFailed", format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots(ca.as_ref(), secrets)?);
    let Some(ValidCertificate { chain, key }) = certificate else {
        return Ok(builder.with_no_client_auth());
    };
    let certificates = certificates(chain, secrets)?;
    let private = PrivateKeyDer::from_pem_slice(secrets.bytes(key)?)
        .map_err(|_| invalid(key, "has no private key in PEM"))?;
    builder
        .with_client_auth_cert(certificates, private)
        .map_err(|error| invalid(key, &format!("does not go with the certificate beside it: {error}")))
}

fn roots(ca: Option<&SecretKeyRef>, secrets: &Secrets) -> Result<RootCertStore, NotReady> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(ca) => {
            for certificate in certificates(ca, secrets)? {
                roots.add(certificate).map_err(|error| {
                    invalid(ca, &format!("has a certificate that cannot be used: {error}"))
                })?;
            }
        }
        None => {
            // Some of them may be unreadable; the others still count.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

/// At least one.
fn certificates(key: &SecretKeyRef, secrets: &Secrets) -> Result<Vec<CertificateDer<'static>>, NotReady> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(secrets.bytes(key)?).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(invalid(key, "has no certificate in PEM")),
    }
}

/// A Secret that is there, and is not what it should be.
pub(crate) fn invalid(key: &SecretKeyRef, what: &str) -> NotReady {
    let message = format!("the key {} of the Secret {} {what}", key.key, key.name);
    NotReady::new("InvalidCredentials", message)
}

/// Why there is no TLS with `server`.
pub(crate) fn refused(error: &rustls::Error, server: &str) -> NotReady {
    let (reason, what) = match error {
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            ("CertificateExpired", "the certificate has expired")
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => ("WrongHostName", "the certificate is for another host"),
        Error::InvalidCertificate(_) => ("CertificateUntrusted", "the certificate is not trusted"),
        // Only our own certificate, or that we show none, can be what the other side does not like.
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired,
        ) => ("CertificateRefused", "the bridge's certificate, or that it shows none, is not accepted"),
        _ => ("TlsFailed", "the handshake failed"),
    };
    NotReady::new(reason, format!("no TLS with {server}: {what}: {error}"))
}

/// The error of TLS that clients pass on as one of I/O.
pub(crate) fn inside(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// A Secret that cannot be used.
impl From<tidings_config::secret::Error> for NotReady {
    fn from(error: tidings_config::secret::Error) -> Self {
        Self::new("InvalidCredentials", error.to_string())
    }
}
