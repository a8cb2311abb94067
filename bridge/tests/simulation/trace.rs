//! What happened in one schedule: lines for people, counts of faults, and the first broken promise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

/// Everything that is done to the bridge on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    ConnectionRefused,
    TooManyRequests,
    ServerError,
    RequestHangs,
    TornList,
    StreamEnds,
    StreamBreaks,
    TornLine,
    StreamSilent,
    StreamStalls,
    SlowWatcher,
    StreamRefused,
    StreamNotUnderstood,
    WatchExpired,
    ContinueExpired,
    WindowShrinks,
    Compaction,
    ApiServerRestart,
    CrdEdited,
    CrdRemoved,
    Rewind,
    BrokerRefuses,
    BrokerRejects,
    BrokerSlow,
    AckLost,
    BrokerDown,
    CheckFails,
    DiskFull,
    DiskSlow,
    ToldLogFails,
    Crash,
    CrashBetweenStoreAndAck,
    CrashAtTheEdge,
    CrashBeforeAnswer,
    CrashAfterAnswer,
    PowerLoss,
    GracefulRestart,
    Join,
    Edit,
    Leave,
    Recreate,
    Retarget,
}

impl Fault {
    /// Every one of them.
    pub(crate) const ALL: [Self; 42] = [
        Self::ConnectionRefused,
        Self::TooManyRequests,
        Self::ServerError,
        Self::RequestHangs,
        Self::TornList,
        Self::StreamEnds,
        Self::StreamBreaks,
        Self::TornLine,
        Self::StreamSilent,
        Self::StreamStalls,
        Self::SlowWatcher,
        Self::StreamRefused,
        Self::StreamNotUnderstood,
        Self::WatchExpired,
        Self::ContinueExpired,
        Self::WindowShrinks,
        Self::Compaction,
        Self::ApiServerRestart,
        Self::CrdEdited,
        Self::CrdRemoved,
        Self::Rewind,
        Self::BrokerRefuses,
        Self::BrokerRejects,
        Self::BrokerSlow,
        Self::AckLost,
        Self::BrokerDown,
        Self::CheckFails,
        Self::DiskFull,
        Self::DiskSlow,
        Self::ToldLogFails,
        Self::Crash,
        Self::CrashBetweenStoreAndAck,
        Self::CrashAtTheEdge,
        Self::CrashBeforeAnswer,
        Self::CrashAfterAnswer,
        Self::PowerLoss,
        Self::GracefulRestart,
        Self::Join,
        Self::Edit,
        Self::Leave,
        Self::Recreate,
        Self::Retarget,
    ];
}

/// How often what was done.
pub(crate) type Counts = BTreeMap<Fault, u64>;

/// The record of one schedule. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Trace {
    start: Instant,
    recorded: Arc<Mutex<Recorded>>,
}

#[derive(Default)]
struct Recorded {
    /// None where nobody is going to read them.
    lines: Option<Vec<String>>,
    counts: Counts,
    written: u64,
    delivered: u64,
    /// The newest epoch that was stored, by the group of the kind.
    epochs: BTreeMap<String, u64>,
    broken: Option<String>,
}

/// What is left of a schedule.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) lines: Vec<String>,
    pub(crate) counts: Counts,
    pub(crate) written: u64,
    pub(crate) delivered: u64,
    pub(crate) broken: Option<String>,
}

// === impl Trace ===

impl Trace {
    /// Begins now. Lines are kept only where they are wanted: they cost more than the rest.
    pub(crate) fn new(lines: bool) -> Self {
        let recorded = Recorded { lines: lines.then(Vec::new), ..Recorded::default() };
        Self { start: Instant::now(), recorded: Arc::new(Mutex::new(recorded)) }
    }

    /// Writes a line, with the time.
    pub(crate) fn say(&self, line: impl FnOnce() -> String) {
        let mut recorded = self.recorded.lock().unwrap();
        if let Some(lines) = &mut recorded.lines {
            lines.push(format!("{:>9.3}  {}", self.start.elapsed().as_secs_f64(), line()));
        }
    }

    /// Counts a fault, and says so.
    pub(crate) fn fault(&self, fault: Fault, detail: impl FnOnce() -> String) {
        *self.recorded.lock().unwrap().counts.entry(fault).or_default() += 1;
        self.say(|| format!("FAULT {fault:?} {}", detail()));
    }

    /// Counts a version that was committed.
    pub(crate) fn written(&self) {
        self.recorded.lock().unwrap().written += 1;
    }

    /// It is stored that `group` has this epoch.
    pub(crate) fn keep_epoch(&self, group: &str, epoch: u64) {
        let epochs = &mut self.recorded.lock().unwrap().epochs;
        let kept = epochs.entry(group.to_owned()).or_default();
        *kept = epoch.max(*kept);
    }

    /// The newest epoch of `group` that was stored.
    pub(crate) fn kept_epoch(&self, group: &str) -> u64 {
        self.recorded.lock().unwrap().epochs.get(group).copied().unwrap_or_default()
    }

    /// Counts an event that was stored.
    pub(crate) fn delivered(&self) {
        self.recorded.lock().unwrap().delivered += 1;
    }

    /// A promise is broken. Only the first one counts: what follows may follow from it.
    pub(crate) fn complain(&self, complaint: String) {
        self.say(|| format!("BROKEN {complaint}"));
        self.recorded.lock().unwrap().broken.get_or_insert(complaint);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.recorded.lock().unwrap().broken.is_some()
    }

    /// Time since the beginning.
    pub(crate) fn elapsed(&self) -> std::time::Duration {
        self.start.elapsed()
    }

    pub(crate) fn into_outcome(self) -> Outcome {
        let recorded = std::mem::take(&mut *self.recorded.lock().unwrap());
        let Recorded { lines, counts, written, delivered, epochs: _, broken } = recorded;
        Outcome { lines: lines.unwrap_or_default(), counts, written, delivered, broken }
    }
}
