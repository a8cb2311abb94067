//! A look at whether the API server can reach the webhook: a connection of its own to where the configuration says, over TLS
//! that is verified with the `caBundle` of the configuration, and a question on it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Endpoint, PATH, REPLICA};
use crate::review::GROUP;

/// Longer than any answer to a probe.
const MAX_ANSWER: usize = 64 * 1024;

/// Why the webhook cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("there is no caBundle in the configuration")]
    NoBundle,
    #[error("the caBundle in the configuration holds no certificates")]
    Bundle,
    #[error("{0:?} is no host")]
    Host(String),
    #[error("unable to connect to {0}")]
    Connect(String, #[source] std::io::Error),
    #[error("no TLS came to be with {0}")]
    Tls(String, #[source] std::io::Error),
    #[error("no answer from {0}")]
    Http(String, #[source] hyper::Error),
    #[error("{0} does not answer as a webhook does: {1}")]
    Answer(String, String),
    #[error("{0} does not answer within {1:?}")]
    Late(String, Duration),
}

/// Asks whoever answers at the endpoint; which replica that is.
pub(super) async fn probe(
    endpoint: &Endpoint,
    bundle: Option<&[u8]>,
    patience: Duration,
) -> Result<String, Error> {
    let address = format!("{}:{}", endpoint.host(), endpoint.port());
    let asked = tokio::time::timeout(patience, ask(endpoint, &address, bundle)).await;
    asked.unwrap_or(Err(Error::Late(address, patience)))
}

/// The certificates in a `caBundle`; none where it is malformed.
pub(super) fn certificates(bundle: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(bundle).filter_map(Result::ok).collect()
}

async fn ask(endpoint: &Endpoint, address: &str, bundle: Option<&[u8]>) -> Result<String, Error> {
    let certificates = certificates(bundle.filter(|bundle| !bundle.is_empty()).ok_or(Error::NoBundle)?);
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(certificates).0 == 0 {
        return Err(Error::Bundle);
    }
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let host = endpoint.host();
    let name = ServerName::try_from(host.clone()).map_err(|_| Error::Host(host.clone()))?;
    let connect = |error| Error::Connect(address.to_owned(), error);
    let stream = TcpStream::connect((host.as_str(), endpoint.port())).await.map_err(connect)?;
    let secured = TlsConnector::from(Arc::new(tls)).connect(name, stream).await;
    let secured = secured.map_err(|error| Error::Tls(address.to_owned(), error))?;

    let http = |error| Error::Http(address.to_owned(), error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(secured)).await.map_err(http)?;
    let uid = format!("probe-{:016x}", fastrand::u64(..));
    let unlike = |problem: String| Error::Answer(address.to_owned(), problem);
    let request = Request::post(PATH)
        .header(HOST, address)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(question(&uid)))
        .map_err(|error| unlike(error.to_string()))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(http)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| unlike(error.to_string()))?.to_bytes();
        if head.status != StatusCode::OK {
            return Err(unlike(head.status.to_string()));
        }
        let review: Value = serde_json::from_slice(&body).map_err(|error| unlike(error.to_string()))?;
        if review["response"]["uid"] != uid || review["response"]["allowed"] != true {
            return Err(unlike("it says no to a probe".to_owned()));
        }
        let replica = head.headers.get(REPLICA).and_then(|replica| replica.to_str().ok());
        Ok(replica.unwrap_or_default().to_owned())
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => return answer,
        // Who is about to stop answers, and hangs up.
        _ = connection => {}
    }
    exchange.await
}

/// Something that every webhook of ours says yes to.
fn question(uid: &str) -> Bytes {
    let question = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": uid, "operation": "CONNECT",
            "kind": {"group": GROUP, "version": "v1alpha1", "kind": "Probe"},
        },
    });
    question.to_string().into()
}
