//! What is unwise in a connection. Certificates are always verified, so there is no option to warn of that would leave it out.

use tidings_config::sink::http::ValidHttpConnection;
use tidings_config::sink::kafka::ValidKafkaConnection;
use tidings_config::sink::kafka::sasl::{KafkaMechanism, ValidKafkaSasl};
use tidings_config::sink::nats::ValidNatsConnection;
use tidings_config::sink::rabbitmq::{ValidRabbitmqAuth, ValidRabbitmqConnection};
use tidings_config::sink::valid::ValidConnection;

use super::Warning;

/// Adds what is unwise, with paths that start with `path`, e.g. `spec.sink.kafka` or, of a Sink, `spec`.
pub(super) fn check(connection: &ValidConnection, path: &str, warnings: &mut Vec<Warning>) {
    let within = |field: &str| if path == "spec" { format!("{path}.{field}") } else { path.to_owned() };
    match connection {
        ValidConnection::Kafka(kafka) => check_kafka(kafka, &within("kafka"), warnings),
        ValidConnection::Nats(nats) => check_nats(nats, &within("nats"), warnings),
        ValidConnection::Rabbitmq(rabbitmq) => check_rabbitmq(rabbitmq, &within("rabbitmq"), warnings),
        ValidConnection::Http(http) => check_http(http, &within("http"), warnings),
        ValidConnection::Stdout => {}
    }
}

fn check_kafka(kafka: &ValidKafkaConnection, path: &str, warnings: &mut Vec<Warning>) {
    let Some(sasl) = &kafka.sasl else { return };
    if kafka.tls.is_some() || kafka.brokers.iter().all(|broker| is_here(broker)) {
        return;
    }
    let message = match sasl {
        ValidKafkaSasl::Password { mechanism: KafkaMechanism::Plain, .. } => {
            "without `tls`, whoever is on the way reads the password"
        }
        ValidKafkaSasl::Oauth(_) => "without `tls`, whoever is on the way reads the token",
        ValidKafkaSasl::Password { .. } => {
            "without `tls`, whoever is on the way reads the Events, and may guess the password from what it hears"
        }
    };
    warnings.push(Warning::new(format!("{path}.sasl"), message));
}

fn check_nats(nats: &ValidNatsConnection, path: &str, warnings: &mut Vec<Warning>) {
    if nats.auth.is_none() || nats.tls.is_some() {
        return;
    }
    for (index, server) in nats.servers.iter().enumerate() {
        if server.scheme() == "nats" && !server.host_str().is_some_and(is_here) {
            let message = "`nats://` does not insist on TLS: whoever is on the way may read what proves who the bridge is; \
                           `tls://` does";
            warnings.push(Warning::new(format!("{path}.servers[{index}]"), message));
        }
    }
}

fn check_rabbitmq(rabbitmq: &ValidRabbitmqConnection, path: &str, warnings: &mut Vec<Warning>) {
    for (index, server) in rabbitmq.servers.iter().enumerate() {
        if server.scheme() == "amqps" || server.host_str().is_some_and(is_here) {
            continue;
        }
        let message = match rabbitmq.auth {
            ValidRabbitmqAuth::Password { .. } => {
                "by `amqp://`, whoever is on the way reads the password; `amqps://` is encrypted"
            }
            ValidRabbitmqAuth::External => {
                "by `amqp://`, no certificate is shown, so it says nothing of who the bridge is"
            }
        };
        warnings.push(Warning::new(format!("{path}.servers[{index}]"), message));
    }
}

fn check_http(http: &ValidHttpConnection, path: &str, warnings: &mut Vec<Warning>) {
    let secret = http.auth.is_some() || !http.headers.is_empty();
    if secret && http.url.scheme() == "http" && !http.url.host_str().is_some_and(is_here) {
        let message = "by `http://`, whoever is on the way reads the credentials; `https://` is encrypted";
        warnings.push(Warning::new(format!("{path}.url"), message));
    }
}

/// Whether a host, or a host and a port, is the machine itself.
fn is_here(host: &str) -> bool {
    let name = host.trim_start_matches('[');
    ["localhost", "127.", "::1"].iter().any(|here| name.starts_with(here))
}
