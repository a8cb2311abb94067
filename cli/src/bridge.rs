//! `tidings bridge`.

use anyhow::Result;
use tidings_config::chain::chain;
use tidings_config::process::{BridgeSettings, load};

use crate::args::ProcessArgs;
use crate::cluster::{Cluster, Error};
use crate::{logs, shutdown};

pub(crate) fn run(args: ProcessArgs<BridgeSettings>) -> Result<()> {
    let ProcessArgs { cluster, config, settings } = args;
    let settings: BridgeSettings = load::load(config.as_deref(), std::env::vars_os(), settings.0)?;
    logs::start(&settings.log_level, settings.log_format)?;
    shutdown::run(async {
        let shutdown = shutdown::on_signal()?;
        let cluster = Cluster::connect(&cluster).await?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), cluster = %cluster, "starting the bridge");
        match cluster.check().await {
            // Waiting does not mend credentials; for everything else the bridge waits and says so.
            Err(error @ Error::Unauthorized { .. }) => return Err(error.into()),
            Err(error) => {
                let (reason, advice) = (chain(&error), error.advice());
                tracing::warn!(error = reason, advice, "unable to use the cluster, will retry");
            }
            Ok(()) => {}
        }
        Box::pin(tidings_bridge::run(cluster.client, settings, shutdown)).await?;
        Ok(())
    })
}
