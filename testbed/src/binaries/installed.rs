//! Programs that a distribution's package has put where it likes.

use std::fs;
use std::path::{Path, PathBuf};

/// A program that is there, in some version.
pub(super) struct Installed {
    pub(super) program: PathBuf,
    pub(super) version: String,
}

/// Where packages keep RabbitMQ, in a folder with its version.
const RABBITMQ: [&str; 2] = ["/usr/lib/rabbitmq/lib", "/opt/rabbitmq/lib"];

/// The newest RabbitMQ. Its own script, not the one in the PATH, which insists on the system's node and user.
pub(super) fn rabbitmq() -> Option<Installed> {
    let folders =
        RABBITMQ.iter().filter_map(|folder| fs::read_dir(Path::new(folder)).ok()).flatten().flatten();
    let installed = folders.filter_map(|folder| {
        let version = folder.file_name().to_str()?.strip_prefix("rabbitmq_server-")?.to_owned();
        let program = folder.path().join("sbin/rabbitmq-server");
        program.exists().then_some(Installed { program, version })
    });
    installed.max_by_key(|installed| super::tools::parse(&installed.version))
}
