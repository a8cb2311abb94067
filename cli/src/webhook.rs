//! `tidings webhook`.

use anyhow::Result;
use tidings_config::process::load;
use tidings_config::process::webhook::WebhookSettings;

use crate::args::ProcessArgs;
use crate::cluster::{Cluster, Error};
use crate::{logs, shutdown};

pub(crate) fn run(args: ProcessArgs<WebhookSettings>) -> Result<()> {
    let ProcessArgs { cluster, config, settings } = args;
    let mut settings: WebhookSettings = load::load(config.as_deref(), std::env::vars_os(), settings.0)?;
    logs::start(&settings.log_level, settings.log_format)?;
    shutdown::run(async {
        let shutdown = shutdown::on_signal()?;
        let cluster = Cluster::connect(&cluster).await?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), cluster = %cluster, "starting the webhook");
        // Waiting does not mend credentials; everything else is waited for.
        if let Err(error @ Error::Unauthorized { .. }) = cluster.check().await {
            return Err(error.into());
        }
        settings.namespace.get_or_insert(cluster.namespace);
        Box::pin(tidings_webhook::run(cluster.client, settings, shutdown)).await?;
        Ok(())
    })
}
