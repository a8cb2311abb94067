//! What the node is started with: its environment and the files in its folder.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::{RabbitmqOptions, RabbitmqUser};
use crate::certificates::{Authority, write_secret};

/// Each node has a port mapper of its own, so all may have one name.
pub(super) const NODE: &str = "testbed@localhost";
/// What Erlang nodes know each other by. Nodes listen on loopback only.
pub(super) const COOKIE: &str = "tidings-testbed";

const SETTINGS: &str = "\
auth_mechanisms.1 = EXTERNAL
auth_mechanisms.2 = PLAIN
ssl_cert_login_from = common_name
ssl_options.verify = verify_peer
distribution.listener.interface = 127.0.0.1
definitions.import_backend = local_filesystem
definitions.skip_if_unchanged = true
log.console = true
log.console.level = info
log.file = false
";

/// Writes what the node reads. `ports` take AMQP in clear and through TLS.
pub(super) fn write(
    folder: &Path,
    ports: [u16; 2],
    options: &RabbitmqOptions,
    authority: &Authority,
) -> Result<()> {
    let RabbitmqOptions { users, client_certificates, shown, settings } = options;
    let [ca, certificate, key, definitions] =
        ["ca.crt", "tls.crt", "tls.key", "definitions.json"].map(|name| folder.join(name));
    fs::write(&ca, authority.certificate())?;
    authority.server_showing(*shown)?.write(&certificate, &key)?;
    write_secret(&definitions, &json_of(users).to_string())?;
    write_secret(&folder.join(".erlang.cookie"), COOKIE)?;
    fs::write(folder.join("plugins"), "[rabbitmq_auth_mechanism_ssl].\n")?;

    let [plain, tls] = ports;
    let mut text = SETTINGS.to_owned();
    let mut set = |name: &str, value: &str| text.push_str(&format!("{name} = {value}\n"));
    set("listeners.tcp.1", &format!("127.0.0.1:{plain}"));
    set("listeners.ssl.1", &format!("127.0.0.1:{tls}"));
    set("ssl_options.cacertfile", &ca.display().to_string());
    set("ssl_options.certfile", &certificate.display().to_string());
    set("ssl_options.keyfile", &key.display().to_string());
    set("ssl_options.fail_if_no_peer_cert", &client_certificates.to_string());
    set("definitions.local.path", &definitions.display().to_string());
    for (name, value) in settings {
        set(name, value);
    }
    fs::write(folder.join("rabbitmq.conf"), text)?;
    Ok(())
}

/// Variables that keep the node in `folder`, on its own ports, and away from the system's configuration.
pub(super) fn environment(folder: &Path, mapper: u16, distribution: u16) -> Vec<String> {
    let in_folder = |name: &str, path: &str| format!("{name}={}", folder.join(path).display());
    vec![
        format!("HOME={}", folder.display()),
        "LANG=C.UTF-8".to_owned(),
        // Then the script becomes the Erlang machine instead of waiting for it.
        "RUNNING_UNDER_SYSTEMD=true".to_owned(),
        format!("RABBITMQ_NODENAME={NODE}"),
        in_folder("RABBITMQ_MNESIA_BASE", "data"),
        in_folder("RABBITMQ_LOG_BASE", "logs"),
        "RABBITMQ_LOGS=-".to_owned(),
        in_folder("RABBITMQ_CONFIG_FILE", "rabbitmq"),
        in_folder("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
        "RABBITMQ_CONF_ENV_FILE=/dev/null".to_owned(),
        in_folder("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
        in_folder("RABBITMQ_PID_FILE", "pid"),
        format!("RABBITMQ_DIST_PORT={distribution}"),
        format!("ERL_EPMD_PORT={mapper}"),
        "ERL_EPMD_ADDRESS=127.0.0.1".to_owned(),
    ]
}

fn json_of(users: &[RabbitmqUser]) -> Value {
    let user = |user: &RabbitmqUser| json!({ "name": user.name, "password": user.password, "tags": [] });
    let rights = |user: &RabbitmqUser| {
        let [configure, write, read] = match &user.publish {
            None => [".*"; 3].map(str::to_owned),
            Some(exchanges) => ["^$".to_owned(), format!("^({})$", exchanges.join("|")), "^$".to_owned()],
        };
        json!({ "user": user.name, "vhost": "/", "configure": configure, "write": write, "read": read })
    };
    json!({
        "vhosts": [{ "name": "/" }],
        "users": users.iter().map(user).collect::<Vec<_>>(),
        "permissions": users.iter().map(rights).collect::<Vec<_>>(),
    })
}
