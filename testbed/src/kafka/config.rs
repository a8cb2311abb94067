//! What the broker is started with: its command and the files in its folder.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::{KafkaOptions, KafkaUser, Listener};
use crate::certificates::{Authority, write_secret};
use crate::ports::Port;
use crate::tokens::{AUDIENCE, Issuer};

/// After the ports of the listeners come the controller's, and those of the proxies.
const CONTROLLER: usize = Listener::ALL.len();
pub(super) const PROXY: usize = CONTROLLER + 1;
pub(super) const PORTS: usize = PROXY + 2;

/// Formats the folder the first time, with the users that are arguments, and becomes the broker.
const START: &str = r#"
jars=$1; shift
if [ ! -e data/meta.properties ]; then
    java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$jars/*" kafka.tools.StorageTool \
        format --cluster-id dGlkaW5ncy10ZXN0YmVkMQ --config server.properties "$@" || exit 1
fi
here=$(pwd)
exec java -Xms64m -Xmx384m -XX:+UseSerialGC -Dlog4j2.configurationFile="$here/log4j2.properties" \
    -Dorg.apache.kafka.sasl.oauthbearer.allowed.urls="file://$here/jwks.json" \
    -Dorg.apache.kafka.sasl.oauthbearer.allowed.files="$here/jwks.json" \
    -cp "$jars/*" kafka.Kafka server.properties
"#;

const LOG: &str = "\
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{HH:mm:ss.SSS} %p %c{1}: %m%n
";

/// What differs from the defaults of a broker that is one of many and runs for months.
const PROPERTIES: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAIN
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER
ssl.keystore.type=PEM
ssl.truststore.type=PEM
listener.name.mutualtls.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^CN=([^,]*).*$/$1/,DEFAULT
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
";

// === impl Listener ===

impl Listener {
    /// As the broker's configuration calls it; in the names of properties in lower case.
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Tls => "TLS",
            Self::MutualTls => "MUTUALTLS",
            Self::Sasl => "SASL",
            Self::SaslTls => "SASLTLS",
            Self::Proxied => "PROXIED",
            Self::ProxiedSaslTls => "PROXIEDSASLTLS",
        }
    }
}

/// Arguments of a shell, in the folder that [`write()`] has prepared.
pub(super) fn command(jars: &Path, users: &[KafkaUser]) -> Vec<String> {
    let mut arguments =
        vec!["-c".to_owned(), START.to_owned(), "kafka".to_owned(), jars.display().to_string()];
    for KafkaUser { name, password, .. } in users {
        let credentials = format!("SCRAM-SHA-512=[name={name},password={password}]");
        arguments.extend(["--add-scram".to_owned(), credentials]);
    }
    arguments
}

/// Writes what the broker reads. `ports` are [`PORTS`].
pub(super) fn write(
    folder: &Path,
    ports: &[Port],
    options: &KafkaOptions,
    authority: &Authority,
    issuer: &Issuer,
) -> Result<()> {
    let KafkaOptions { users, shown, properties } = options;
    let server = authority.server_showing(*shown)?;
    let [keystore, truststore, keys] = ["server.pem", "ca.crt", "jwks.json"].map(|name| folder.join(name));
    write_secret(&keystore, &(server.key + &server.certificate))?;
    fs::write(&truststore, authority.certificate())?;
    fs::write(&keys, issuer.key_set())?;
    fs::write(folder.join("log4j2.properties"), LOG)?;

    let mut text = PROPERTIES.to_owned();
    let mut set = |name: &str, value: &str| text.push_str(&format!("{name}={value}\n"));
    let number = |index: usize| ports.get(index).map_or(0, Port::number);
    let address = |name: &str, port: usize| format!("{name}://127.0.0.1:{}", number(port));
    let listen = Listener::ALL.map(|listener| address(listener.name(), listener as usize));
    set("listeners", &format!("{},{}", listen.join(","), address("CONTROLLER", CONTROLLER)));
    let advertise = Listener::ALL.map(|listener| address(listener.name(), listener.told()));
    set("advertised.listeners", &advertise.join(","));
    set("controller.quorum.voters", &format!("1@127.0.0.1:{}", number(CONTROLLER)));
    let protocols = Listener::ALL.map(|listener| format!("{}:{}", listener.name(), listener.protocol()));
    set("listener.security.protocol.map", &format!("CONTROLLER:PLAINTEXT,{}", protocols.join(",")));
    set("log.dirs", &folder.join("data").display().to_string());
    set("ssl.keystore.location", &keystore.display().to_string());
    set("ssl.truststore.location", &truststore.display().to_string());

    let mighty = users.iter().filter(|user| user.write.is_none()).map(|user| user.name.as_str());
    let mighty: Vec<_> = ["ANONYMOUS"].into_iter().chain(mighty).map(|name| format!("User:{name}")).collect();
    set("super.users", &mighty.join(";"));

    let module = "org.apache.kafka.common.security";
    let passwords: Vec<_> =
        users.iter().map(|KafkaUser { name, password, .. }| format!(" user_{name}=\"{password}\"")).collect();
    for listener in [Listener::Sasl, Listener::SaslTls, Listener::ProxiedSaslTls] {
        let prefix = format!("listener.name.{}", listener.name().to_lowercase());
        let plain = format!("{module}.plain.PlainLoginModule required{};", passwords.concat());
        set(&format!("{prefix}.plain.sasl.jaas.config"), &plain);
        let scram = format!("{module}.scram.ScramLoginModule required;");
        set(&format!("{prefix}.scram-sha-512.sasl.jaas.config"), &scram);
        let prefix = format!("{prefix}.oauthbearer.sasl");
        let bearer = format!("{module}.oauthbearer.OAuthBearerLoginModule required;");
        set(&format!("{prefix}.jaas.config"), &bearer);
        let validator = format!("{module}.oauthbearer.OAuthBearerValidatorCallbackHandler");
        set(&format!("{prefix}.server.callback.handler.class"), &validator);
        set(&format!("{prefix}.oauthbearer.jwks.endpoint.url"), &format!("file://{}", keys.display()));
        set(&format!("{prefix}.oauthbearer.expected.audience"), AUDIENCE);
    }
    for (name, value) in properties {
        set(name, value);
    }
    write_secret(&folder.join("server.properties"), &text)
}
