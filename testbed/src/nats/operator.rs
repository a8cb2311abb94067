//! Who may connect to a server that believes an operator's word (`nsc` makes the same for people).
//!
//! An operator signs for accounts, an account for its users, each with its key; a user proves that it holds the key that
//! its JWT names.

use anyhow::Result;
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use nkeys::KeyPair;
use serde_json::{Value, json};

/// An operator, with one account that may use JetStream and one for the server itself.
#[derive(Debug)]
pub struct Operator {
    jwt: String,
    account: Signed,
    system: Signed,
}

/// An account, and what the operator says of it.
#[derive(Debug)]
struct Signed {
    key: KeyPair,
    jwt: String,
}

// === impl Operator ===

impl Operator {
    /// With keys of its own.
    pub fn new() -> Result<Self> {
        let key = KeyPair::new_operator();
        let system = KeyPair::new_account();
        let body = json!({"type": "operator", "version": 2, "system_account": system.public_key()});
        let jwt = sign(&key, &key, "operator", body)?;
        let account = |account: KeyPair, name: &str, jetstream: i64| -> Result<Signed> {
            let limits = json!({
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
                "leaf": -1, "mem_storage": jetstream, "disk_storage": jetstream, "streams": jetstream,
                "consumer": jetstream
            });
            let body = json!({"type": "account", "version": 2, "limits": limits});
            Ok(Signed { jwt: sign(&key, &account, name, body)?, key: account })
        };
        Ok(Self {
            account: account(KeyPair::new_account(), "tidings", -1)?,
            system: account(system, "system", 0)?,
            jwt,
        })
    }

    /// A credentials file of a user of the account.
    pub fn user(&self) -> Result<String> {
        let user = KeyPair::new_user();
        let body = json!({"type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1});
        let (jwt, seed) = (sign(&self.account.key, &user, "user", body)?, user.seed()?);
        Ok(format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        ))
    }

    /// Puts what the server has to know into its configuration.
    pub(super) fn configure(&self, config: &mut Value) {
        let Self { jwt, account, system } = self;
        config["operator"] = json!(jwt);
        config["system_account"] = json!(system.key.public_key());
        config["resolver"] = json!("MEMORY");
        config["resolver_preload"] = json!({
            account.key.public_key(): account.jwt, system.key.public_key(): system.jwt
        });
    }
}

/// What `issuer` says of `subject`.
fn sign(issuer: &KeyPair, subject: &KeyPair, name: &str, body: Value) -> Result<String> {
    let claims = json!({
        "jti": BASE32_NOPAD.encode(name.as_bytes()), "iat": 1_700_000_000, "iss": issuer.public_key(), "name": name,
        "sub": subject.public_key(), "nats": body
    });
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let [header, claims] = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
    let signed = format!("{header}.{claims}");
    let signature = BASE64URL_NOPAD.encode(&issuer.sign(signed.as_bytes())?);
    Ok(format!("{signed}.{signature}"))
}
