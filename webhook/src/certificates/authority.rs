//! An authority of our own: made, kept as text, and signing.

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A certificate that signs others, with its key. Its key is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authority {
    /// The certificate, as PEM.
    pub certificate: String,
    key: String,
    /// API servers know it since then, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_since: Option<u64>,
}

/// A certificate to show, with its key and what is above it.
pub struct Signed {
    /// The certificate, and those above it but for the authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first.
    pub key: PrivateKeyDer<'static>,
    /// From when it holds, in seconds since 1970. (The certificate says some minutes earlier, for clocks that are behind.)
    pub begins: u64,
    /// Until when.
    pub ends: u64,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be made.
    #[error("unable to make a certificate")]
    Make(#[from] rcgen::Error),
    /// It is none.
    #[error("it is not a certificate as PEM: {0}")]
    Certificate(String),
    /// It is out of time.
    #[error("{0} seconds since 1970 are no date of a certificate")]
    Date(u64),
}

/// Certificates are valid since this long before they are made: other machines' clocks may be behind.
const BEHIND: u64 = 5 * 60;

// === impl Authority ===

impl Authority {
    /// A new one, with a key of its own, that holds from `now` on for `seconds`.
    pub fn make(name: &str, now: u64, seconds: u64) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(Vec::new(), name, now, now + seconds)?;
        // It signs serving certificates, and no further authorities.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, key: key.serialize_pem(), known_since: None })
    }

    /// Its certificate: what tells it from others.
    pub fn der(&self) -> Result<CertificateDer<'static>, Error> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .map_err(|error| Error::Certificate(error.to_string()))
    }

    /// Until when it holds, in seconds since 1970.
    pub fn ends(&self) -> Result<u64, Error> {
        ends(&self.der()?)
    }

    /// A certificate for a server of these names, from `now` on for `seconds`, and no longer than this authority holds.
    pub fn sign(&self, names: &[String], now: u64, seconds: u64) -> Result<Signed, Error> {
        let ends = (now + seconds).min(self.ends()?);
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let name = names.first().map_or("tidings-webhook", String::as_str);
        // Longer ones are no common names.
        let mut params = params(names.to_vec(), &name[..name.len().min(64)], now, ends)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Signed {
            chain: vec![certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            begins: now,
            ends,
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("known_since", &self.known_since).finish_non_exhaustive()
    }
}

/// Until when a certificate holds, in seconds since 1970.
pub fn ends(certificate: &CertificateDer<'_>) -> Result<u64, Error> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| Error::Certificate(error.to_string()))?;
    Ok(u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default())
}

fn params(names: Vec<String>, name: &str, from: u64, until: u64) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(names)?;
    params.not_before = date(from.saturating_sub(BEHIND))?;
    params.not_after = date(until)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn date(unix_seconds: u64) -> Result<OffsetDateTime, Error> {
    let seconds = i64::try_from(unix_seconds).map_err(|_| Error::Date(unix_seconds))?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| Error::Date(unix_seconds))
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn what_an_authority_signed_is_trusted_by_whoever_knows_it_and_no_longer_than_it_holds() {
        let made = Authority::make("ours", NOW, 1000).unwrap();
        // As it comes back from the Secret.
        let authority: Authority = serde_json::from_str(&serde_json::to_string(&made).unwrap()).unwrap();
        assert_eq!(authority, made);
        assert_eq!(authority.ends().unwrap(), NOW + 1000);
        let names = ["tidings-webhook.tidings.svc".to_owned(), "127.0.0.1".to_owned()];
        let signed = authority.sign(&names, NOW + 100, 5000).unwrap();
        assert_eq!((signed.begins, signed.ends), (NOW + 100, NOW + 1000));
        assert_eq!(ends(&signed.chain[0]).unwrap(), NOW + 1000);

        let verify = |authority: &Authority, name: &str, at: u64| {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().unwrap()).unwrap();
            let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let verifier =
                WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at));
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let verified = rustls::client::danger::ServerCertVerifier::verify_server_cert(
                &*verifier,
                &signed.chain[0],
                &[],
                &name,
                &[],
                at,
            );
            verified.map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(verify(&authority, &names[0], NOW + 200), Ok(()));
        assert_eq!(verify(&authority, &names[1], NOW + 200), Ok(()));
        let refused = |name: &str, at: u64| verify(&authority, name, at).unwrap_err();
        assert!(
            refused("other.tidings.svc", NOW + 200).contains("not valid for name"),
            "{}",
            refused("other.tidings.svc", NOW)
        );
        assert!(refused(&names[0], NOW + 1001).contains("expired"), "{}", refused(&names[0], NOW + 1001));
        let other = Authority::make("ours", NOW, 1000).unwrap();
        assert!(verify(&other, &names[0], NOW + 200).is_err());
    }

    #[test]
    fn a_key_is_never_printed() {
        let authority = Authority::make("ours", NOW, 1000).unwrap();
        let key = authority.key.lines().nth(1).unwrap();
        assert!(!format!("{authority:?}").contains(key));
    }
}
