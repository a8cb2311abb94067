//! `tidings watch`.

use std::io::{self, ErrorKind, IsTerminal, Write};

use anyhow::Result;
use tidings_bridge::follow::{FollowOptions, follow};
use tidings_config::process::LogFormat;
use tidings_config::sink::stdout::ValidStdout;
use tidings_sinks::stdout;
use tokio_util::sync::CancellationToken;

use crate::args::WatchArgs;
use crate::cluster::Cluster;
use crate::{logs, shutdown};

pub(crate) fn run(args: WatchArgs) -> Result<()> {
    let WatchArgs { resource, namespace, all_namespaces, output, log_level, cluster } = args;
    logs::start(&log_level, LogFormat::Pretty)?;
    shutdown::run(async {
        let shutdown = shutdown::on_signal()?;
        let cluster = Cluster::connect(&cluster).await?;
        cluster.check().await?;
        let namespace = if all_namespaces { None } else { namespace.or(Some(cluster.namespace)) };
        let format = ValidStdout { format: output.into() };
        let terminal = Terminal { output: io::stdout(), closed: shutdown.clone() };
        let target = stdout::to_writer(format, io::stdout().is_terminal(), Box::new(terminal));
        follow(cluster.client, FollowOptions { resource, namespace, target }, shutdown).await?;
        Ok(())
    })
}

/// Standard output, whose reader may go away, as `head` does: then there is nothing left to do.
struct Terminal {
    output: io::Stdout,
    closed: CancellationToken,
}

impl Terminal {
    fn noticing<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
            self.closed.cancel();
        }
        result
    }
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.output.write(bytes);
        self.noticing(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.output.flush();
        self.noticing(result)
    }
}
