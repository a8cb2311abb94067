//! One process of the bridge: the real pipeline, what it is told to serve, and how it dies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidings_bridge::clock::Clock;
use tidings_bridge::deliver::{DeliverySettings, Orders, RetryOrder};
use tidings_bridge::journal::Memory;
use tidings_bridge::metrics::Metrics;
use tidings_bridge::pipeline::{Pipeline, Report};
use tidings_bridge::watch::{BackfillSettings, WatchContext, WatchSettings};
use tidings_core::delivery::Backoff;
use tidings_core::route::Route;
use tidings_sinks::Target;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::api_server::ApiServer;
use crate::disk::Disk;
use crate::etcd::KINDS;
use crate::fence::Fence;
use crate::trace::Trace;

/// The sizes of one schedule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) journal: usize,
    pub(crate) ring: usize,
    pub(crate) page: u32,
    pub(crate) window: usize,
    /// What may wait until it is known what lies in a gap, for each Watch.
    pub(crate) waiting: usize,
    /// Requests about what lies in a gap.
    pub(crate) requests: u32,
    /// How long they may take.
    pub(crate) patience: Duration,
}

/// What one read may bring, in bytes.
const ONE_READ: usize = 48 << 10;

/// A person looks so rarely at what was rejected, in rounds of the owner.
const PATIENCE: u64 = 8;

/// What the process is to serve from now on.
pub(crate) enum Order {
    Add(Route, Target),
    Edit(Route, Option<Target>),
    Remove(Arc<str>),
    ShutDown,
}

pub(crate) struct Process {
    pub(crate) fence: Fence,
    pub(crate) memory: Memory,
    orders: mpsc::Sender<Order>,
    reports: Arc<Mutex<Reports>>,
    task: JoinHandle<()>,
}

/// The task that owns the pipeline, as the controller of Subscriptions does.
struct Owner {
    pipeline: Pipeline,
    window: usize,
    waiting: usize,
    orders: mpsc::Receiver<Order>,
    /// Subscriptions that existed when it began.
    exist: BTreeSet<Arc<str>>,
    served: Vec<Arc<str>>,
    trace: Trace,
    memory: Memory,
    reports: Arc<Mutex<Reports>>,
}

/// How everything is doing, as it was said last.
#[derive(Default)]
struct Reports {
    subscriptions: BTreeMap<Arc<str>, Report>,
    watches: usize,
}

// === impl Process ===

impl Process {
    /// Starts one with what an earlier one left behind, while these Subscriptions exist.
    pub(crate) fn start(
        server: &ApiServer,
        disk: &Disk,
        sizes: Sizes,
        unix_millis: u64,
        exist: BTreeSet<Arc<str>>,
        trace: Trace,
    ) -> Self {
        let fence = Fence::default();
        let memory = Memory::new(sizes.journal);
        let backoff = |most| Backoff { first: Duration::from_millis(25), max: Duration::from_millis(most) };
        let settings = WatchSettings {
            ring_bytes: sizes.ring,
            max_object_bytes: 1 << 20,
            page_size: sizes.page,
            watch_timeout: Duration::from_secs(20),
            silence_limit: Duration::from_secs(4),
            reconnect: backoff(500),
            relist: backoff(2000),
            backfill: BackfillSettings {
                requests: sizes.requests,
                at_once: 4,
                per_second: 50,
                time: sizes.patience,
                bytes: sizes.waiting,
            },
        };
        let context = WatchContext {
            client: server.client(&fence),
            cluster: "simulated".into(),
            memory: memory.clone(),
            state: Some(disk.open(&fence)),
            metrics: Metrics::default(),
            clock: Clock::starting_at(unix_millis),
            settings,
            namespace: None,
        };
        let (orders, receiver) = mpsc::channel(64);
        let reports = Arc::new(Mutex::new(Reports::default()));
        let (pipeline, window) = (Pipeline::new(context), sizes.window);
        let owner = Owner {
            pipeline,
            window,
            waiting: sizes.waiting,
            orders: receiver,
            exist,
            served: Vec::new(),
            trace,
            memory: memory.clone(),
            reports: reports.clone(),
        };
        let task = tokio::spawn(owner.run());
        Self { fence, memory, orders, reports, task }
    }

    /// Gives an order; it is carried out in its turn.
    pub(crate) fn order(&self, order: Order) {
        // A process that is dead takes none.
        let _ = self.orders.try_send(order);
    }

    /// How it said last that the Subscription is doing.
    pub(crate) fn report(&self, uid: &str) -> Option<Report> {
        self.reports.lock().unwrap().subscriptions.get(uid).cloned()
    }

    /// How many Watches ran when it said so last.
    pub(crate) fn watches(&self) -> usize {
        self.reports.lock().unwrap().watches
    }

    /// Kills it, wherever it is.
    pub(crate) fn kill(self) {
        self.fence.close();
        self.task.abort();
    }

    /// Ends it in good order; it may be killed while it does. Says whether it was not.
    pub(crate) async fn shut_down(mut self) -> bool {
        self.order(Order::ShutDown);
        let clean = tokio::select! {
            biased;
            () = self.fence.closed() => false,
            _ = &mut self.task => true,
        };
        self.kill();
        clean
    }
}

// === impl Owner ===

impl Owner {
    async fn run(mut self) {
        if let Err(error) = self.pipeline.restore(|uid| self.exist.contains(uid).then(Arc::default)).await {
            return self.trace.complain(format!("the state cannot be gone on with: {error:?}"));
        }
        for round in 0_u64.. {
            if round.is_multiple_of(PATIENCE) {
                self.retry_blocked(round);
            }
            let order = tokio::time::timeout(Duration::from_millis(200), self.orders.recv()).await;
            match order {
                Ok(Some(Order::Add(route, target))) => {
                    self.served.push(route.uid.clone());
                    self.pipeline.add(route, target, "simulated".into(), self.delivery()).await;
                }
                Ok(Some(Order::Edit(route, target))) => {
                    self.pipeline.edit(route, target.map(Into::into), self.delivery()).await;
                }
                Ok(Some(Order::Remove(uid))) => {
                    self.served.retain(|served| *served != uid);
                    self.pipeline.remove(&uid, Duration::from_secs(1)).await;
                }
                Ok(Some(Order::ShutDown)) => {
                    self.pipeline.shut_down(Duration::from_secs(2)).await;
                    return;
                }
                Ok(None) => return,
                Err(_) => self.pipeline.drop_unused().await,
            }
            // One read of each Watch may go beyond it, and what it brings may be told to each in its own way; and what waited
            // for what lay in a gap comes all at once.
            let beyond = ONE_READ + self.waiting * KINDS.len();
            if self.memory.used() > self.memory.capacity() + beyond {
                self.trace.complain(format!("the Journals hold {} bytes in memory", self.memory.used()));
            }
            let subscriptions =
                self.served.iter().filter_map(|uid| Some((uid.clone(), self.pipeline.report(uid)?)));
            *self.reports.lock().unwrap() =
                Reports { subscriptions: subscriptions.collect(), watches: self.pipeline.watches() };
        }
    }

    /// A person wants what was rejected to be tried again.
    fn retry_blocked(&self, round: u64) {
        for uid in &self.served {
            let retry = RetryOrder { token: round.to_string(), key: None };
            self.pipeline.order(uid, Orders { retry: Some(retry), ..Orders::default() });
        }
    }

    fn delivery(&self) -> DeliverySettings {
        let backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_secs(1) };
        DeliverySettings::new(self.window, backoff)
    }
}
