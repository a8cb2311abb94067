//! Real etcd, kube-apiserver, NATS, Kafka and RabbitMQ for tests, the demo and benchmarks: started, broken and cleaned up as child
//! processes on loopback ports. No container, no image, no service from outside.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use tidings_testbed::shared;
//!
//! let testbed = shared::testbed().await?;
//! let client = testbed.control_plane.client().await?;
//! let namespace = shared::namespace(&client, "orders").await?;
//! # Ok(()) }
//! ```
//!
//! In the order one meets them:
//!
//! - [`cache`]: the folder outside the checkout that holds binaries, running components and downloaded tools
//! - [`binaries`]: builds or fetches each component once per version, as pinned in `testbed/go` and `testbed/java`
//! - [`folder`], [`ports`], [`process`]: what a component needs, and what makes it go away whatever happens
//! - [`component`]: one running server: start, stop, kill, pause, resume, restart
//! - [`certificates`]: a private authority for TLS
//! - [`etcd`], [`api_server`], [`controller_manager`], [`control_plane`]: a Kubernetes API
//! - [`nats`], [`kafka`], [`rabbitmq`]: brokers; [`tokens`]: who gives tokens for one; [`proxy`]: a network before one,
//!   which can be made bad
//! - [`disk`]: a disk that can be full
//! - [`tidings`]: our own program on them; [`helm`]: our chart; [`kubectl`] and [`consumer`]: what people and applications do
//! - [`receiver`]: a broker of each kind with an application that hears what arrives
//! - [`replay`]: an API server made for measuring; [`usage`]: what a process takes, and [`memory`]: what it may take
//! - [`chaos`]: writers that remember what was confirmed, and the rules that hold of what was published
//! - [`shared`]: one of each per test process
//! - [`wait`]: conditions with a deadline, instead of sleeping
//! - [`xtask`]: the commands of `cargo xtask`

pub mod api_server;
pub mod binaries;
pub mod cache;
pub mod certificates;
pub mod chaos;
pub mod component;
pub mod consumer;
pub mod control_plane;
pub mod controller_manager;
pub mod disk;
pub mod etcd;
pub mod folder;
pub mod helm;
mod http;
pub mod kafka;
pub mod kubectl;
pub mod memory;
pub mod nats;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod rabbitmq;
pub mod receiver;
pub mod replay;
pub mod shared;
pub mod tidings;
pub mod tokens;
pub mod usage;
pub mod wait;
pub mod xtask;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// The root of the checkout. Cargo says at run time where the crate lies; what was true when it was compiled may be
/// another checkout that shares the folder of build results.
pub(crate) fn root() -> Result<PathBuf> {
    let crate_folder =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = PathBuf::from(crate_folder).parent().map(ToOwned::to_owned);
    root.context("the checkout has no root folder")
}
