//! What is wrong with TLS to a broker: librdkafka only says that it failed, so we look ourselves.
//!
//! Before: sinks/src/kafka/topics.rs

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::sink::NotReady;

/// For the connection and the handshake.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// A server looks at our certificate only after we have accepted its own, and says so where we would read.
const REFUSAL: Duration = Duration::from_millis(500);

/// What is wrong with TLS to `peer` (host and port), if that is what is wrong.
pub(super) async fn tls(peer: &str, config: Arc<ClientConfig>) -> Option<NotReady> {
    let (host, _) = peer.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).ok()?;
    let handshake = async {
        let stream = TcpStream::connect(peer).await.ok()?;
        Some(TlsConnector::from(config).connect(name, stream).await)
    };
    match timeout(HANDSHAKE, handshake).await.ok()?? {
        Err(error) => Some(
            explain(&error, peer)
                .unwrap_or_else(|| NotReady::new("TlsFailed", format!("{peer} does not speak TLS: {error}"))),
        ),
        Ok(mut stream) => {
            let error = timeout(REFUSAL, stream.read_u8()).await.ok()?.err()?;
            // The reason may get lost, when the end overtakes it. A broker that is content waits for us.
            Some(explain(&error, peer).unwrap_or_else(|| refused(&error, peer)))
        }
    }
}

/// What an error of TLS means, where it is one.
fn explain(error: &io::Error, peer: &str) -> Option<NotReady> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let (reason, message) = match error {
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            ("CertificateExpired", format!("the certificate of {peer} has expired"))
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => ("WrongHostName", format!("the certificate of {peer} is for another host")),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            ("CertificateUntrusted", format!("the certificate of {peer} is of no authority that is trusted"))
        }
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => return Some(refused(error, peer)),
        Error::InvalidMessage(_) => ("TlsFailed", format!("{peer} does not speak TLS")),
        other => ("TlsFailed", format!("no TLS with {peer}: {other}")),
    };
    Some(NotReady::new(reason, message))
}

fn refused(error: &dyn std::error::Error, peer: &str) -> NotReady {
    let message = format!("{peer} does not accept the certificate of the bridge, or its absence: {error}");
    NotReady::new("CertificateRefused", message)
}
