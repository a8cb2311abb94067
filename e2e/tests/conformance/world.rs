//! What the cases of one kind share: its broker, which some of them break.

#![allow(dead_code, reason = "each test file uses its part")]

use std::ops::Deref;

use anyhow::{Context as _, Result};
use tidings_testbed::control_plane::ControlPlane;
use tidings_testbed::receiver::broker::{Broker, BrokerOptions};
use tidings_testbed::receiver::{Kind, Security};
use tidings_testbed::shared;
use tidings_testbed::tidings::Bridge;
use tokio::sync::{Mutex, MutexGuard, OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::support::{Cluster, Stage, program, stage_with};

/// A broker, and who uses it.
pub(crate) struct World {
    kind: Kind,
    broker: OnceCell<RwLock<Broker>>,
    /// One case at a time can make the network bad, where there is only one; by security.
    networks: [Mutex<()>; 2],
}

/// What a case does to others that use the same broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Nothing.
    Calm,
    /// It breaks the broker, and has it alone.
    Upsetting,
    /// It ends the bridge, and has one of its own, with a cluster that others of its kind have had before.
    Closing,
}

/// The bridge while a case uses it.
pub(crate) enum Running {
    Shared(&'static Bridge),
    Own { bridge: Box<Bridge>, _turn: MutexGuard<'static, ()> },
}

/// A broker while a case uses it.
pub(crate) enum Held {
    Shared(RwLockReadGuard<'static, Broker>),
    Alone(RwLockWriteGuard<'static, Broker>),
}

/// Everything is logged, so that a credential that should not be is found.
const ARGUMENTS: [&str; 1] = ["--log-level=debug"];

static WORLDS: [World; 4] =
    [World::new(Kind::Nats), World::new(Kind::Kafka), World::new(Kind::Rabbitmq), World::new(Kind::Http)];

// === impl World ===

impl World {
    const fn new(kind: Kind) -> Self {
        let networks = [const { Mutex::const_new(()) }; 2];
        Self { kind, broker: OnceCell::const_new(), networks }
    }

    pub(crate) fn of(kind: Kind) -> &'static Self {
        WORLDS.iter().find(|world| world.kind == kind).expect("there is one of each kind")
    }

    /// The broker, for a case that does this to it.
    pub(crate) async fn broker(&'static self, manner: Manner) -> Result<Held> {
        let start = || async {
            let options = BrokerOptions { secured: true, ..BrokerOptions::default() };
            anyhow::Ok(RwLock::new(Broker::start_with(self.kind, options).await?))
        };
        let broker = self.broker.get_or_try_init(start).await?;
        Ok(match manner {
            Manner::Calm | Manner::Closing => Held::Shared(broker.read().await),
            Manner::Upsetting => Held::Alone(broker.write().await),
        })
    }

    /// The right to make the network bad.
    pub(crate) async fn network(&'static self, security: Security) -> MutexGuard<'static, ()> {
        self.networks[security as usize].lock().await
    }
}

// === impl Running ===

impl Running {
    /// A namespace, and the bridge that serves it.
    pub(crate) async fn on_stage(manner: Manner, prefix: &str) -> Result<(Stage, Self)> {
        static CLOSING: OnceCell<ControlPlane> = OnceCell::const_new();
        static TURN: Mutex<()> = Mutex::const_new(());
        if manner != Manner::Closing {
            let (stage, bridge) = stage_with(prefix, &ARGUMENTS).await;
            return Ok((stage, Self::Shared(bridge)));
        }
        // Two bridges would serve all Subscriptions of a cluster.
        let turn = TURN.lock().await;
        let control_plane = CLOSING.get_or_try_init(ControlPlane::start).await?;
        let cluster = Cluster::install(control_plane).await;
        let bridge = Bridge::start(program().await, cluster.bridge(), &ARGUMENTS).await?;
        let testbed = shared::testbed().await?;
        let stage = Stage::set(cluster, &testbed.nats, prefix).await;
        Ok((stage, Self::Own { bridge: Box::new(bridge), _turn: turn }))
    }

    pub(crate) fn own(&mut self) -> Result<&mut Bridge> {
        match self {
            Self::Shared(_) => None,
            Self::Own { bridge, .. } => Some(&mut **bridge),
        }
        .context("only a closing case may end the bridge")
    }
}

impl Deref for Running {
    type Target = Bridge;

    fn deref(&self) -> &Bridge {
        match self {
            Self::Shared(bridge) => bridge,
            Self::Own { bridge, .. } => bridge,
        }
    }
}

// === impl Held ===

impl Held {
    /// To do something to it.
    pub(crate) fn alone(&mut self) -> Result<&mut Broker> {
        match self {
            Self::Shared(_) => None,
            Self::Alone(broker) => Some(&mut **broker),
        }
        .context("only an upsetting case may break the broker")
    }
}

impl Deref for Held {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        match self {
            Self::Shared(broker) => broker,
            Self::Alone(broker) => broker,
        }
    }
}
