//! Tokens of an OAuth 2.0 server, by the grant for client credentials (RFC 6749, 4.4).
//!
//! Before: sinks/src/kafka/keeper.rs
//! Next: sinks/src/kafka/events.rs

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tidings_config::secret::Secrets;
use tidings_config::sink::kafka::sasl::ValidKafkaOauth;
use tidings_config::sink::tls::ValidTls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::sink::NotReady;
use crate::tls;

/// For a token, from the connection on.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most that an answer may have.
const MAX_ANSWER: usize = 256 << 10;
/// Of an answer that does not say how long its token holds.
const LIFETIME: Duration = Duration::from_mins(5);

/// What a broker is shown.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) text: Zeroizing<String>,
    /// Whom it is for, as far as we know.
    pub(super) principal: String,
    /// In milliseconds since 1970, as librdkafka wants it.
    pub(super) expires_millis: i64,
    /// From its making on.
    pub(super) lifetime: Duration,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<u64>,
}

/// The codes of RFC 6749, 5.2. Whatever else an answer says is not repeated.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// Why an answer has no token.
#[derive(Debug, PartialEq, Eq)]
enum Unusable {
    /// Because of what was asked.
    Refused(String),
    /// Because of the server.
    Broken(String),
}

/// A token, or why there is none.
pub(super) async fn fetch(valid: &ValidKafkaOauth, secrets: &Secrets) -> Result<Token, NotReady> {
    let ValidKafkaOauth { token_endpoint: endpoint, client_id, client_secret, scope, ca } = valid;
    let form = form(client_id, secrets.text(client_secret)?, scope.as_deref());
    let unreachable =
        |why: String| NotReady::new("TokenEndpointUnreachable", format!("{endpoint} gives no token: {why}"));
    let authority = endpoint.authority().to_owned();
    let path = &endpoint[url::Position::BeforePath..url::Position::AfterQuery];
    let request = Request::post(path)
        .header(HOST, authority)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .body(Full::new(Bytes::from(form)))
        .map_err(|error| unreachable(error.to_string()))?;

    let exchange = async {
        let (host, port) = (endpoint.host_str().unwrap_or_default(), endpoint.port_or_known_default());
        let address = (host.trim_matches(['[', ']']), port.unwrap_or_default());
        let stream = TcpStream::connect(address).await.map_err(|error| unreachable(error.to_string()))?;
        if endpoint.scheme() == "http" {
            return send(request, stream).await.map_err(unreachable);
        }
        let trusted = ValidTls { ca: ca.clone(), certificate: None };
        let config = Arc::new(tls::client_config(&trusted, secrets)?);
        let name =
            ServerName::try_from(address.0.to_owned()).map_err(|error| unreachable(error.to_string()))?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        let stream = stream.map_err(|error| {
            NotReady::new("TokenEndpointTlsFailed", format!("no TLS with {endpoint}: {error}"))
        })?;
        send(request, stream).await.map_err(unreachable)
    };
    let (status, body) = timeout(TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| Err(unreachable("no answer in time".to_owned())))?;
    read(status, &body, client_id).map_err(|why| match why {
        Unusable::Refused(why) => {
            NotReady::new("TokenRefused", format!("{endpoint} refuses the client {client_id}: {why}"))
        }
        Unusable::Broken(why) => unreachable(why),
    })
}

fn form(client_id: &str, client_secret: &str, scope: Option<&str>) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    form.append_pair("client_id", client_id).append_pair("client_secret", client_secret);
    if let Some(scope) = scope {
        form.append_pair("scope", scope);
    }
    form.finish()
}

fn read(status: StatusCode, body: &[u8], client_id: &str) -> Result<Token, Unusable> {
    if status.is_client_error() {
        let code =
            serde_json::from_slice(body).map_or_else(|_| status.to_string(), |Refusal { error }| error);
        let is_code = code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        return Err(Unusable::Refused(if is_code { code } else { status.to_string() }));
    }
    if status != StatusCode::OK {
        return Err(Unusable::Broken(format!("it answers {status}")));
    }
    let Answer { access_token, expires_in } = serde_json::from_slice(body)
        .map_err(|_| Unusable::Broken("its answer has no access_token".to_owned()))?;
    let lifetime = expires_in.map_or(LIFETIME, Duration::from_secs);
    // librdkafka compares it with the system's clock.
    #[allow(clippy::disallowed_methods)]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // As far away as librdkafka can count in microseconds.
    let lifetime = lifetime.min(Duration::from_hours(24 * 365));
    let expires = i64::try_from((now + lifetime).as_millis()).unwrap_or(i64::MAX / 1_000);
    let text = Zeroizing::new(access_token);
    Ok(Token { text, principal: client_id.to_owned(), expires_millis: expires, lifetime })
}

/// One request, one answer, and the end of the connection.
async fn send<S>(request: Request<Full<Bytes>>, stream: S) -> Result<(StatusCode, Bytes), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response: Response<_> = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The connection may end before the last of the answer was looked at.
        _ = connection => exchange.await,
    }
}

#[cfg(test)]
#[path = "token/tests.rs"]
mod tests;
