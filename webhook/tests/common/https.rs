//! Connections that a test makes itself, to the webhook and to its admin port.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A connection to the webhook.
pub(crate) struct Https {
    sender: SendRequest<Full<Bytes>>,
    /// The certificate that it showed.
    pub(crate) certificate: CertificateDer<'static>,
}

// === impl Https ===

impl Https {
    /// Connects to `127.0.0.1`, and verifies with `bundle` whom it finds there.
    pub(crate) async fn connect(port: u16, bundle: &str) -> Result<Self, String> {
        let secured = secure(port, bundle, &["http/1.1"]).await?;
        let certificate = secured.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        let handshake = http1::handshake(TokioIo::new(secured)).await;
        let (sender, connection) = handshake.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Self { sender, certificate })
    }

    /// Posts a body; status and body of the answer.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Response<String>, String> {
        let request = Request::post(path).header("host", "127.0.0.1").body(Full::new(body.into())).unwrap();
        self.send(request).await
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<String>, String> {
        let answer = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Response::from_parts(head, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// The status of an answer over HTTP/2 from the webhook on `port`.
pub(crate) async fn post_http2(port: u16, bundle: &str, body: &str) -> Result<u16, String> {
    let secured = secure(port, bundle, &["h2"]).await?;
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(secured)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let request = Request::post(format!("https://127.0.0.1:{port}/validate"));
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    Ok(answer.status().as_u16())
}

/// Connects to `127.0.0.1`, and verifies with `bundle` whom it finds there.
async fn secure(port: u16, bundle: &str, protocols: &[&str]) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(bundle.as_bytes()).map(Result::unwrap);
    roots.add_parsable_certificates(certificates);
    let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let secured = TlsConnector::from(Arc::new(tls)).connect(name, stream).await;
    secured.map_err(|error| error.to_string())
}

/// Gets from the admin port; an error for anything but 200.
pub(crate) async fn get_plain(port: u16, path: &str) -> Result<String, String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
    let handshake = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let request = Request::get(path).header("host", "127.0.0.1").body(Full::default()).unwrap();
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    if status == 200 { Ok(body) } else { Err(format!("{status}: {body}")) }
}
