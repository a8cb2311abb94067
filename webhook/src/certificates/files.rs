//! A certificate that somebody else makes, e.g. cert-manager, in a folder.

use std::fs;
use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::authority::{self, Signed};

/// Why there is no certificate in a folder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("unable to read {0}")]
    Read(String, #[source] std::io::Error),
    /// Its content is not what its name says.
    #[error("{0} is no PEM of a certificate and its chain, or of a key")]
    Pem(String, #[source] rustls::pki_types::pem::Error),
    /// There is no certificate in it.
    #[error("{0} holds no certificate")]
    Empty(String),
    /// The certificate cannot be understood.
    #[error("unable to understand the certificate")]
    Certificate(#[from] authority::Error),
}

/// What is in a folder: compared as a whole, to see whether it changed.
#[derive(PartialEq, Eq)]
pub struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Reads `tls.crt` and `tls.key`.
pub fn read(folder: &Path) -> Result<Files, Error> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|error| Error::Read(path.display().to_string(), error))
    };
    Ok(Files { certificate: read("tls.crt")?, key: read("tls.key")? })
}

// === impl Files ===

impl Files {
    /// The certificate in them.
    pub fn signed(&self) -> Result<Signed, Error> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| Error::Pem("tls.crt".to_owned(), error))?;
        let first = chain.first().ok_or_else(|| Error::Empty("tls.crt".to_owned()))?;
        let ends = authority::ends(first)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| Error::Pem("tls.key".to_owned(), error))?;
        Ok(Signed { chain, key, begins: 0, ends })
    }
}
