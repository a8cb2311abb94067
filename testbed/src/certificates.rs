//! A private certificate authority, for TLS that is verified like anywhere else.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// A host that none of our servers is.
const ELSEWHERE: &str = "elsewhere.example";

/// Signs certificates for servers on loopback and for their clients.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate and its key, in PEM.
#[derive(Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub key: String,
}

/// The certificate a server shows to its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// One that holds: for `127.0.0.1` and `localhost`.
    #[default]
    Valid,
    /// One that held until some years ago.
    Expired,
    /// One that holds, for another host.
    OtherHost,
}

// === impl Authority ===

impl Authority {
    /// A new authority with a key of its own.
    pub fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = distinguished_name(name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// The authority's own certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// For a server reached as `127.0.0.1` or `localhost`.
    pub fn server(&self) -> Result<Identity> {
        self.server_showing(Shown::Valid)
    }

    /// For a server on loopback, and good for it or not.
    pub fn server_showing(&self, shown: Shown) -> Result<Identity> {
        let hosts = match shown {
            Shown::Valid | Shown::Expired => vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
            Shown::OtherHost => vec![ELSEWHERE.to_owned()],
        };
        let name = distinguished_name(hosts.last().map_or(ELSEWHERE, String::as_str), None);
        let mut params = CertificateParams::new(hosts)?;
        if shown == Shown::Expired {
            expire(&mut params);
        }
        self.issue(params, name, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For a client; Kubernetes takes `user` and `group` from it, brokers take `user`.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<Identity> {
        let params = CertificateParams::new(Vec::new())?;
        self.issue(params, distinguished_name(user, group), ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// The same, and it held until some years ago.
    pub fn expired_client(&self, user: &str) -> Result<Identity> {
        let mut params = CertificateParams::new(Vec::new())?;
        expire(&mut params);
        self.issue(params, distinguished_name(user, None), ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        name: DistinguishedName,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity> {
        let key = KeyPair::generate()?;
        params.distinguished_name = name;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }
}

// === impl Identity ===

impl Identity {
    /// Writes both to files that only the owner may read.
    pub fn write(&self, certificate: &Path, key: &Path) -> Result<()> {
        fs::write(certificate, &self.certificate)
            .with_context(|| format!("write {}", certificate.display()))?;
        write_secret(key, &self.key)
    }
}

/// Writes a file that only its owner may read.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut options = fs::File::options();
    options.create(true).write(true).truncate(true).mode(0o600);
    let describe = || format!("write {}", path.display());
    options.open(path).and_then(|mut file| file.write_all(text.as_bytes())).with_context(describe)
}

fn expire(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 2, 1);
}

fn distinguished_name(user: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, user);
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name
}
