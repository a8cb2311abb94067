//! What is measured of one kind of sink.

use crate::memory::TAIL;
use crate::receiver::Kind;
use crate::replay::Load;

/// Large objects have so many bytes.
const LARGE: usize = 100 << 10;
/// What may be unacknowledged at once.
const IN_FLIGHT: u64 = 1024;
/// But not more bytes than this: what the bridge holds for one Subscription.
const IN_FLIGHT_BYTES: usize = 8 << 20;
/// Events that share a request, where they do.
const BATCH: u32 = 100;
/// Steady runs have so many seconds.
const STEADY: u64 = 10;

/// One run of the bridge.
pub(super) struct Variant {
    pub(super) name: String,
    pub(super) load: Load,
    pub(super) pace: Pace,
    /// Events that may share a request, where that is not one each.
    pub(super) max_batch: Option<u32>,
    /// Microseconds of CPU that an event should cost the bridge at most.
    pub(super) budget: Option<f64>,
}

/// How events come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// As fast as they are read, of many objects.
    Full,
    /// As fast as they are read, of one object.
    OneKey,
    /// So many a second.
    Steady(u64),
}

// === impl Variant ===

impl Variant {
    /// All of them.
    pub(super) fn all(kind: Kind, secured: bool, events: u64, objects: u64, rate: u64) -> Vec<Self> {
        let budget = match kind {
            Kind::Nats | Kind::Kafka => Some(15.0),
            Kind::Rabbitmq => Some(25.0),
            Kind::Http => None,
        };
        let variant = |words: &str, pace: Pace, events: u64, objects: u64, size: usize, budget| {
            let (kind, tls) = (kind.name(), if secured { ", TLS" } else { "" });
            let events = events.max(1);
            let load = Load { events, objects: objects.clamp(1, events), size, in_flight: IN_FLIGHT };
            Self { name: format!("{kind}{tls}, {words}"), load, pace, max_batch: None, budget }
        };
        let mut all = vec![
            variant("1 KB", Pace::Full, events, objects, 1024, budget),
            variant("100 KB", Pace::Full, events / 40, objects, LARGE, None),
            variant("one key", Pace::OneKey, events / 10, 1, 1024, None),
            variant("steady", Pace::Steady(rate), rate * STEADY, objects, 1024, None),
        ];
        if kind == Kind::Http {
            let alone = variant("batches of 1 KB", Pace::Full, events, objects, 1024, None);
            all.push(Self { max_batch: Some(BATCH), ..alone });
        }
        all
    }

    /// Room for what waits in memory. Brokers are slower than the server; with much room, events would wait for more than a
    /// second, and be stored: what that costs, `outage` measures.
    pub(super) fn journal_bytes(&self) -> u64 {
        if self.load.size < LARGE { TAIL / 8 } else { TAIL }
    }

    /// What may be unacknowledged at once.
    pub(super) fn window(&self) -> usize {
        let bytes = IN_FLIGHT_BYTES / self.load.size.max(1);
        bytes.min(usize::try_from(IN_FLIGHT).unwrap_or(usize::MAX)).max(1)
    }
}

// === impl Pace ===

impl Pace {
    /// Events a second.
    pub(super) fn rate(self) -> Option<u64> {
        match self {
            Self::Full | Self::OneKey => None,
            Self::Steady(rate) => Some(rate),
        }
    }

    /// For the terminal.
    pub(super) fn words(self) -> String {
        match self {
            Self::Full => " at full speed".to_owned(),
            Self::OneKey => " of one object at full speed".to_owned(),
            Self::Steady(rate) => format!(", {rate} a second"),
        }
    }
}
