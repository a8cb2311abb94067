//! Logs go to standard error: for people on a terminal, as JSON elsewhere.

use std::io::{self, IsTerminal};

use anyhow::Result;
use tidings_config::field_error::FieldError;
use tidings_config::process::{LogFormat, load};
use tracing_subscriber::EnvFilter;

/// What libraries say is rarely about us; `debug,kube_client=debug` brings it back. The errors that kube's builder logs are
/// also returned, and reported by whoever gets them. So is what lapin logs, which includes the content of messages that no
/// queue took.
const QUIET: &str = "kube_client::client::builder=off,kube_client=warn,kube_runtime=warn,tower=warn,hyper=warn,\
                     hyper_util=warn,rustls=warn,async_nats=warn,lapin=off";

/// Starts logging. The error is one of the settings: `level` is not a level nor a list of them.
pub(crate) fn start(level: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::builder().parse(format!("{QUIET},{level}")).map_err(|error| {
        let problem = format!("{level:?} is not a level or a list like `info,tidings_bridge=debug`: {error}");
        load::Error::Invalid(vec![FieldError::new("log_level", problem)])
    })?;
    let terminal = io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(terminal);
    match format {
        LogFormat::Pretty => logs.init(),
        LogFormat::Auto if terminal => logs.init(),
        LogFormat::Auto | LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    Ok(())
}
