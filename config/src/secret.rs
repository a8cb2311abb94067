//! Credentials: where they are written down, and what they are once somebody has read them.
//!
//! Settings only name a key of a Secret; nothing in a Subscription or a Sink is a credential. Whoever connects is handed
//! the values. They are wiped from memory when nobody holds them any more, and never printed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::field_error::{FieldError, FieldErrors};

/// The longest name of a Secret, and the longest key in one (Kubernetes' own limits).
const MAX_NAME: usize = 253;

/// One key of a Secret in the namespace of the resource that names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// What is under a key of a Secret. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Arc<Zeroizing<Vec<u8>>>);

/// The values that a connection needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<SecretKeyRef, SecretValue>);

/// Why a credential cannot be used. Says where it is, never what it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody handed it over.
    #[error("the Secret {} with the key {} was not read", .0.name, .0.key)]
    Missing(SecretKeyRef),
    /// It should be text.
    #[error("the key {} of the Secret {} is not UTF-8 text", .0.key, .0.name)]
    NotText(SecretKeyRef),
}

// === impl SecretKeyRef ===

impl SecretKeyRef {
    /// `key` of the Secret `name`.
    pub fn new(name: impl Into<String>, key: impl Into<String>) -> Self {
        Self { name: name.into(), key: key.into() }
    }

    /// Adds what is wrong with it, at `path`.
    pub fn check(&self, path: &str, errors: &mut FieldErrors) {
        let Self { name, key } = self;
        check_name(name, &format!("{path}.name"), errors);
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if key.is_empty() || key.len() > MAX_NAME || !key.bytes().all(legal) {
            let problem =
                format!("a key of a Secret has 1 to {MAX_NAME} letters, digits, and any of `-`, `_` and `.`");
            errors.push(FieldError::new(format!("{path}.key"), problem));
        }
    }
}

/// Adds what is wrong with the name of a Secret, at `path`.
pub fn check_name(name: &str, path: &str, errors: &mut FieldErrors) {
    let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    let bounded = |text: &str| text.starts_with(['-', '.']) || text.ends_with(['-', '.']);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(legal) || bounded(name) {
        let problem = format!(
            "the name of a Secret has 1 to {MAX_NAME} lower-case letters, digits, `-` and `.`, and begins and ends with a \
             letter or digit"
        );
        errors.push(FieldError::new(path, problem));
    }
}

// === impl SecretValue ===

impl SecretValue {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

// === impl Secrets ===

impl Secrets {
    /// These.
    pub fn new(values: impl IntoIterator<Item = (SecretKeyRef, SecretValue)>) -> Self {
        Self(values.into_iter().collect())
    }

    /// The bytes under a key.
    pub fn bytes(&self, key: &SecretKeyRef) -> Result<&[u8], Error> {
        self.0.get(key).map(SecretValue::bytes).ok_or_else(|| Error::Missing(key.clone()))
    }

    /// The text under a key. One line break at its end, which editors put there, is left out.
    pub fn text(&self, key: &SecretKeyRef) -> Result<&str, Error> {
        let text = std::str::from_utf8(self.bytes(key)?).map_err(|_| Error::NotText(key.clone()))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        Ok(text.strip_suffix('\r').unwrap_or(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(name: &str, key: &str) -> Vec<String> {
        let mut errors = FieldErrors::new();
        SecretKeyRef::new(name, key).check("auth", &mut errors);
        errors.into_iter().map(|error| error.path).collect()
    }

    #[test]
    fn names_and_keys_are_those_of_kubernetes() {
        assert_eq!(problems("broker.users-1", "tls.KEY_1"), [""; 0]);
        for name in ["", "Broker", "a_b", "-a", "a.", "../a", "a/b"] {
            assert_eq!(problems(name, "password"), ["auth.name"], "{name}");
        }
        for key in ["", "a/b", "a b", "ä"] {
            assert_eq!(problems("broker", key), ["auth.key"], "{key}");
        }
    }

    #[test]
    fn a_value_is_text_without_the_last_line_break_and_is_never_printed() {
        let key = SecretKeyRef::new("broker", "password");
        let secrets = |bytes: &[u8]| Secrets::new([(key.clone(), SecretValue::new(bytes.to_vec()))]);
        assert_eq!(secrets(b"hunter2\n").text(&key), Ok("hunter2"));
        assert_eq!(secrets(b"hunter2\r\n").text(&key), Ok("hunter2"));
        assert_eq!(secrets(b"hunter2\n\n").text(&key), Ok("hunter2\n"));
        assert_eq!(secrets(b"\xff").text(&key), Err(Error::NotText(key.clone())));
        assert_eq!(Secrets::default().text(&key), Err(Error::Missing(key.clone())));
        assert!(!format!("{:?}", secrets(b"hunter2")).contains("hunter2"));
    }
}
