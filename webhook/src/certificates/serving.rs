//! The certificate that is shown. Another one takes its place without anybody's connection noticing.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::authority::Signed;

/// What every new connection is shown; nothing at first.
#[derive(Default)]
pub struct Shown(RwLock<Option<Arc<CertifiedKey>>>);

/// Why a certificate cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody has said which TLS is used.
    #[error("no TLS provider is installed")]
    Provider,
    /// The key is none, or is that of another certificate.
    #[error("its key does not fit")]
    Key(#[from] rustls::Error),
}

// === impl Shown ===

impl Shown {
    /// From now on this is shown.
    pub fn show(&self, signed: Signed) -> Result<(), Error> {
        let provider = CryptoProvider::get_default().ok_or(Error::Provider)?;
        let key = CertifiedKey::from_der(signed.chain, signed.key, provider)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key));
        Ok(())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}
