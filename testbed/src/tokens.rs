//! An authority for OAuth 2.0 tokens: it signs them, and gives them out at an endpoint by the client-credentials grant.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Whom the tokens are for.
pub const AUDIENCE: &str = "tidings-testbed";

/// A key that signs tokens.
#[derive(Clone)]
pub struct Issuer {
    key: EncodingKey,
    key_set: String,
}

/// A token endpoint on loopback. Dropping it ends it; what it has signed holds until it expires.
#[derive(Debug)]
pub struct TokenEndpoint {
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    issuer: Issuer,
    /// Secrets by client id.
    clients: BTreeMap<String, String>,
    lifetime: Mutex<Duration>,
    broken: AtomicBool,
    given: AtomicU64,
}

/// A refusal, with the code that RFC 6749 has for it.
type Refusal = (StatusCode, &'static str);

const KEY_ID: &str = "testbed";

// === impl Issuer ===

impl Issuer {
    /// One with a new key.
    pub fn new() -> Result<Self> {
        let pair = KeyPair::generate()?;
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).context("make a public key")?;
        public.common.key_id = Some(KEY_ID.to_owned());
        let key_set = serde_json::to_string(&JwkSet { keys: vec![public] })?;
        Ok(Self { key, key_set })
    }

    /// The public keys, as a JSON Web Key Set.
    pub fn key_set(&self) -> &str {
        &self.key_set
    }

    /// A token that says its bearer is `subject`, for `lifetime` from now on.
    pub fn token(&self, subject: &str, lifetime: Duration) -> Result<String> {
        let now = jsonwebtoken::get_current_timestamp();
        let claims = json!({
            "iss": "tidings-testbed",
            "sub": subject,
            "aud": AUDIENCE,
            "scope": "broker",
            "iat": now,
            "exp": now + lifetime.as_secs(),
        });
        let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &self.key).context("sign a token")
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Issuer").field("key_set", &self.key_set).finish_non_exhaustive()
    }
}

// === impl TokenEndpoint ===

impl TokenEndpoint {
    /// One that knows `clients` by id and secret, and gives tokens for an hour.
    pub async fn start(issuer: Issuer, clients: Vec<(String, String)>) -> Result<Self> {
        let shared = Arc::new(Shared {
            issuer,
            clients: clients.into_iter().collect(),
            lifetime: Mutex::new(Duration::from_hours(1)),
            broken: AtomicBool::new(false),
            given: AtomicU64::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for the token endpoint")?;
        let url = format!("http://{}/token", listener.local_addr()?);
        let router = Router::new().route("/token", post(answer)).with_state(shared.clone());
        let task = tokio::spawn(async move {
            // Ends only with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url, shared, task })
    }

    /// Where clients ask for a token.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How long the tokens hold that are given from now on.
    pub fn set_lifetime(&self, lifetime: Duration) {
        *self.shared.lifetime.lock().unwrap_or_else(PoisonError::into_inner) = lifetime;
    }

    /// While it is broken, it answers everybody 503.
    pub fn set_broken(&self, broken: bool) {
        self.shared.broken.store(broken, Ordering::Relaxed);
    }

    /// How many tokens it has given.
    pub fn given(&self) -> u64 {
        self.shared.given.load(Ordering::Relaxed)
    }
}

impl Drop for TokenEndpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Shared ===

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Shared {
    fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Result<String, Refusal> {
        if self.broken.load(Ordering::Relaxed) {
            return Err((StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"));
        }
        let form: BTreeMap<_, _> = url::form_urlencoded::parse(body).into_owned().collect();
        if form.get("grant_type").map(String::as_str) != Some("client_credentials") {
            return Err((StatusCode::BAD_REQUEST, "unsupported_grant_type"));
        }
        let in_body = || Some((form.get("client_id")?.clone(), form.get("client_secret")?.clone()));
        let client = basic(headers).or_else(in_body);
        let known = client.filter(|(id, secret)| self.clients.get(id) == Some(secret));
        let (id, _) = known.ok_or((StatusCode::UNAUTHORIZED, "invalid_client"))?;
        let lifetime = *self.lifetime.lock().unwrap_or_else(PoisonError::into_inner);
        let token = self.issuer.token(&id, lifetime);
        let token = token.map_err(|_| (StatusCode::INTERNAL_SERVER_ERROR, "server_error"))?;
        self.given.fetch_add(1, Ordering::Relaxed);
        let answer =
            json!({ "access_token": token, "token_type": "Bearer", "expires_in": lifetime.as_secs() });
        Ok(answer.to_string())
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> (StatusCode, [(header::HeaderName, &'static str); 1], String) {
    let (status, body) = match shared.answer(&headers, &body) {
        Ok(body) => (StatusCode::OK, body),
        Err((status, code)) => (status, json!({ "error": code }).to_string()),
    };
    (status, [(header::CONTENT_TYPE, "application/json")], body)
}

/// Id and secret of HTTP's basic authentication, encoded as RFC 6749 wants them.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let encoded = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let plain = |text: &str| {
        url::form_urlencoded::parse(format!("x={text}").as_bytes()).next().map(|(_, text)| text.into_owned())
    };
    Some((plain(id)?, plain(secret)?))
}
