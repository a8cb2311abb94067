//! Who the bridge is to a server of NATS.
//!
//! Before: sinks/src/nats/connection.rs

use async_nats::{Auth, AuthError};
use nkeys::KeyPair;
use tidings_config::secret::{SecretKeyRef, Secrets};
use tidings_config::sink::nats::ValidNatsAuth;

use crate::sink::NotReady;
use crate::tls::invalid;

/// Answers what a server asks whoever connects.
pub(super) struct Identity {
    auth: Auth,
    /// Signs what the server sends.
    key: Option<KeyPair>,
}

// === impl Identity ===

impl Identity {
    /// Reads what is needed of `secrets`.
    pub(super) fn new(valid: Option<&ValidNatsAuth>, secrets: &Secrets) -> Result<Self, NotReady> {
        let mut auth = Auth::new();
        let mut key = None;
        match valid {
            None => {}
            Some(ValidNatsAuth::Password { user, password }) => {
                auth.username = Some(user.clone());
                auth.password = Some(secrets.text(password)?.to_owned());
            }
            Some(ValidNatsAuth::Token(token)) => auth.token = Some(secrets.text(token)?.to_owned()),
            Some(ValidNatsAuth::Nkey(seed)) => {
                let pair = key_pair(secrets.text(seed)?.trim(), seed)?;
                auth.nkey = Some(pair.public_key());
                key = Some(pair);
            }
            Some(ValidNatsAuth::Creds(creds)) => {
                let text = secrets.text(creds)?;
                let part = |name: &str| {
                    part(text, name).ok_or_else(|| {
                        invalid(
                            creds,
                            "is no credentials file: it has no \"NATS USER JWT\" and \"USER NKEY SEED\"",
                        )
                    })
                };
                auth.jwt = Some(part("NATS USER JWT")?.to_owned());
                key = Some(key_pair(part("USER NKEY SEED")?, creds)?);
            }
        }
        Ok(Self { auth, key })
    }

    /// What is sent to a server that has sent `nonce`.
    pub(super) fn answer(&self, nonce: &[u8]) -> Result<Auth, AuthError> {
        let mut auth = self.auth.clone();
        if let Some(key) = &self.key {
            auth.signature = Some(key.sign(nonce).map_err(AuthError::new)?);
        }
        Ok(auth)
    }
}

fn key_pair(seed: &str, at: &SecretKeyRef) -> Result<KeyPair, NotReady> {
    KeyPair::from_seed(seed).map_err(|_| invalid(at, "has no seed of an nkey, which begins with `SU`"))
}

/// What is between `-----BEGIN name-----` and the line that ends it, which some tools begin with a dash more.
fn part<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let begin = format!("BEGIN {name}-----");
    let rest = &text[text.find(&begin)? + begin.len()..];
    let content = rest[..rest.find("-----")?].trim().trim_end_matches('-').trim();
    (!content.is_empty()).then_some(content)
}
