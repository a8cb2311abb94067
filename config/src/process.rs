//! Settings of the processes `tidings bridge` and `tidings webhook`: from flags, the environment, a file, or their
//! defaults.
//!
//! A setting has one name, and three ways to be given: `retry_backoff.first` in the file is
//! `TIDINGS_RETRY_BACKOFF_FIRST` in the environment and `--retry-backoff-first` as a flag.

pub mod load;
pub mod reference;
pub mod webhook;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::byte_size::ByteSize;
use crate::duration::Duration;
use crate::field_error::{FieldError, FieldErrors};
use crate::process::reference::Setting;

/// The settings of one process.
pub trait Settings: Default + Serialize + DeserializeOwned + JsonSchema {
    /// The process: what comes after `tidings`.
    const COMMAND: &'static str;
    /// A setting with a value, to show how one is given.
    const EXAMPLE: (&'static str, &'static str);

    /// Every setting, as the reference has it.
    fn settings() -> &'static [Setting];

    /// Every value that is of the right type and still makes no sense.
    fn validate(&self) -> FieldErrors;
}

// The doc comments are the text of docs/reference/settings.md and of `tidings bridge --help`.

/// Settings of the bridge process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
pub struct BridgeSettings {
    /// Name of the cluster in the `source` of every Event: 1 to 63 letters, digits, `.`, `_` and `-`. Without it,
    /// the uid of the namespace `kube-system`, which no other cluster has. Changing it changes every Event's identity.
    pub cluster_name: Option<String>,
    /// Address that `/livez`, `/readyz` and `/metrics` are served on. The default is what a container needs;
    /// `127.0.0.1:8080` keeps them on one machine.
    #[schemars(with = "String")]
    pub admin_address: SocketAddr,
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels per module such as
    /// `info,tidings_bridge=debug`.
    pub log_level: String,
    /// How it is logged: `pretty`, `json`, or `auto`, which is pretty on a terminal and JSON elsewhere.
    pub log_format: LogFormat,
    /// Directory for what survives a restart: positions, which objects were told of, and Changes that are not delivered yet
    /// with the objects they are about. An absolute path; it is made, and only its owner may read it. One bridge at a
    /// time can use it.
    #[schemars(with = "String")]
    pub state_dir: PathBuf,
    /// Time after which what changed is written to the state; up to a second later where Events of that time are not delivered
    /// yet. A crash repeats Events of about that time.
    pub flush_interval: Duration,
    /// Disk for Changes that one Subscription has not delivered. Beyond it, only the newest version of each object is kept for
    /// that Subscription, and the gap is told.
    pub state_quota: ByteSize,
    /// Go on with state that is of another cluster, as if the history of this one had been another: the `uid` of the
    /// namespace `kube-system` of the cluster that is meant. Without it, the bridge does not start on another
    /// cluster's state.
    pub adopt_cluster: Option<String>,
    /// Memory for Changes that are neither delivered nor written to the state, over all Subscriptions. When it is full,
    /// Watches wait.
    pub journal_bytes: ByteSize,
    /// Memory for what was read but not decided yet, for each Watch. When it is full, the Watch closes its stream and
    /// resumes it when there is room.
    pub ring_bytes: ByteSize,
    /// Longest object, as JSON, that is read. A longer one is skipped, counted and reported.
    pub max_object_bytes: ByteSize,
    /// Objects per page, where the initial state is read in pages.
    pub list_page_size: NonZeroU32,
    /// Time after which the API server is asked to end a watch stream, so that load spreads over its replicas;
    /// whole seconds.
    pub watch_timeout: Duration,
    /// Time in which a stream must bring an event or a bookmark, or it counts as dead. The API server sends a bookmark
    /// about every minute.
    pub silence_limit: Duration,
    /// Time to deliver what is in flight after the signal to stop.
    pub shutdown_deadline: Duration,
    /// Shortest time between two writes of one Subscription's status.
    pub status_interval: Duration,
    /// Whether topics of Kafka that are missing may be created where a Subscription describes them (`createTopic`).
    pub create_topics: bool,
    /// Whether HTTP goes only to public addresses. Otherwise whoever may create a Subscription can have the bridge post to
    /// anything that it can reach, also in its own network and on its own node.
    pub http_public_only: bool,
    /// Wait before an Event that a broker did not take is sent again.
    pub retry_backoff: Backoff,
    /// Wait before a watch stream that broke is resumed. The history it resumes from may be gone in seconds.
    pub reconnect_backoff: Backoff,
    /// Wait before the initial state is read again after a failure.
    pub list_backoff: Backoff,
    /// Recovering versions that a watch cannot bring any more, after an outage or a restart of the API server. It still
    /// has them for 5 to 10 minutes.
    pub backfill: Backfill,
}

/// What is asked of the API server to recover versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Backfill {
    /// Most requests, each for one version of one object, every time history was lost. What is not recovered is marked
    /// in Events. `0` recovers nothing.
    pub requests: u32,
    /// Most requests at the same time.
    pub at_once: NonZeroU32,
    /// Most requests per second.
    pub rate: NonZeroU32,
    /// Time after which nothing more is asked, every time history was lost. Changes of objects that are not recovered yet
    /// wait until then at the latest.
    pub timeout: Duration,
    /// Memory for objects that wait until their versions are recovered, for each Watch. What does not fit is marked.
    pub bytes: ByteSize,
}

/// A wait that doubles with each failure in a row, varied at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Backoff {
    /// The first wait; it doubles with each failure in a row.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LogFormat {
    /// `Pretty` on a terminal, `Json` elsewhere.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// One JSON object per line.
    Json,
}

// === impl BridgeSettings ===

impl Default for BridgeSettings {
    fn default() -> Self {
        Self {
            cluster_name: None,
            admin_address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            log_level: "info".to_owned(),
            log_format: LogFormat::Auto,
            state_dir: PathBuf::from("/var/lib/tidings"),
            flush_interval: Duration::from_millis(200),
            state_quota: ByteSize::from_mebibytes(4096),
            adopt_cluster: None,
            journal_bytes: ByteSize::from_mebibytes(64),
            ring_bytes: ByteSize::from_mebibytes(4),
            // etcd takes requests of 1.5 MiB by default; JSON on the wire can be larger than what is stored.
            max_object_bytes: ByteSize::from_mebibytes(8),
            list_page_size: NonZeroU32::MIN.saturating_add(499),
            watch_timeout: Duration::from_secs(290),
            silence_limit: Duration::from_secs(150),
            shutdown_deadline: Duration::from_secs(20),
            status_interval: Duration::from_secs(1),
            create_topics: false,
            http_public_only: false,
            retry_backoff: Backoff { first: Duration::from_millis(100), max: Duration::from_secs(30) },
            reconnect_backoff: Backoff { first: Duration::from_millis(25), max: Duration::from_secs(1) },
            list_backoff: Backoff { first: Duration::from_millis(500), max: Duration::from_secs(30) },
            backfill: Backfill::default(),
        }
    }
}

impl Default for Backfill {
    fn default() -> Self {
        Self {
            requests: 1000,
            at_once: NonZeroU32::MIN.saturating_add(3),
            rate: NonZeroU32::MIN.saturating_add(49),
            timeout: Duration::from_secs(30),
            bytes: ByteSize::from_mebibytes(16),
        }
    }
}

impl Settings for BridgeSettings {
    const COMMAND: &'static str = "bridge";
    const EXAMPLE: (&'static str, &'static str) = ("retry_backoff.first", "1s");

    fn settings() -> &'static [Setting] {
        static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(reference::read_off::<BridgeSettings>);
        &SETTINGS
    }

    fn validate(&self) -> FieldErrors {
        let Self {
            cluster_name,
            admin_address: _,
            log_level,
            log_format: _,
            state_dir,
            flush_interval,
            state_quota,
            adopt_cluster: _,
            journal_bytes,
            ring_bytes,
            max_object_bytes,
            list_page_size,
            watch_timeout,
            silence_limit,
            shutdown_deadline: _,
            status_interval,
            create_topics: _,
            http_public_only: _,
            retry_backoff,
            reconnect_backoff,
            list_backoff,
            backfill: Backfill { requests: _, at_once, rate, timeout, bytes: _ },
        } = self;
        let mut errors = FieldErrors::new();
        let mut require = |holds: bool, path: &str, problem: &str| {
            if !holds {
                errors.push(FieldError::new(path, problem));
            }
        };
        let second = Duration::from_secs(1);

        require(
            cluster_name.as_deref().is_none_or(is_cluster_name),
            "cluster_name",
            "must be 1 to 63 letters, digits, `.`, `_` and `-`",
        );
        require(!log_level.trim().is_empty(), "log_level", "must not be empty; `error` logs the least");
        require(state_dir.is_absolute(), "state_dir", "must be an absolute path");
        require(
            *flush_interval >= Duration::from_millis(10),
            "flush_interval",
            "must be at least 10ms, for the disk's sake",
        );
        require(
            state_quota >= max_object_bytes,
            "state_quota",
            "must be at least max_object_bytes, or the longest object never fits",
        );
        require(
            max_object_bytes.get() >= 1024,
            "max_object_bytes",
            "must be at least 1Ki, or hardly any object is read",
        );
        require(
            journal_bytes >= max_object_bytes,
            "journal_bytes",
            "must be at least max_object_bytes, or the longest object never fits",
        );
        require(ring_bytes.get() >= 4096, "ring_bytes", "must be at least 4Ki");
        require(list_page_size.get() <= 10_000, "list_page_size", "must be at most 10000");
        require(
            *watch_timeout >= second && watch_timeout.get().subsec_nanos() == 0,
            "watch_timeout",
            "must be whole seconds and at least 1s: the API server counts in seconds",
        );
        require(*silence_limit >= second, "silence_limit", "must be at least 1s");
        require(
            *status_interval >= Duration::from_millis(100),
            "status_interval",
            "must be at least 100ms, for the API server's sake",
        );
        require(at_once.get() <= 100, "backfill.at_once", "must be at most 100, for the API server's sake");
        require(rate.get() <= 1000, "backfill.rate", "must be at most 1000, for the API server's sake");
        require(
            *timeout <= Duration::from_secs(600),
            "backfill.timeout",
            "must be at most 10m: no server has versions longer, and changes wait",
        );
        for (path, backoff) in [
            ("retry_backoff", retry_backoff),
            ("reconnect_backoff", reconnect_backoff),
            ("list_backoff", list_backoff),
        ] {
            let Backoff { first, max } = backoff;
            let shortest = Duration::from_millis(1);
            require(*first >= shortest, &format!("{path}.first"), "must be at least 1ms, or retries spin");
            require(first <= max, &format!("{path}.max"), "must be at least `first`");
        }
        errors
    }
}

/// It becomes a part of `source`, which encoders write as it is.
fn is_cluster_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(BridgeSettings::default().validate(), []);
    }

    #[test]
    fn every_mistake_is_told_with_its_path() {
        let settings = BridgeSettings {
            cluster_name: Some("a b".into()),
            log_level: " ".into(),
            state_dir: "state".into(),
            flush_interval: Duration::from_millis(9),
            state_quota: ByteSize::from_bytes(10),
            journal_bytes: ByteSize::from_bytes(10),
            ring_bytes: ByteSize::from_bytes(10),
            max_object_bytes: ByteSize::from_bytes(100),
            list_page_size: NonZeroU32::MAX,
            watch_timeout: Duration::from_millis(1500),
            silence_limit: Duration::from_secs(0),
            status_interval: Duration::from_millis(1),
            retry_backoff: Backoff { first: Duration::from_secs(0), max: Duration::from_secs(1) },
            list_backoff: Backoff { first: Duration::from_secs(2), max: Duration::from_secs(1) },
            ..BridgeSettings::default()
        };
        let paths: Vec<_> = settings.validate().into_iter().map(|error| error.path).collect();
        assert_eq!(
            paths,
            [
                "cluster_name",
                "log_level",
                "state_dir",
                "flush_interval",
                "state_quota",
                "max_object_bytes",
                "journal_bytes",
                "ring_bytes",
                "list_page_size",
                "watch_timeout",
                "silence_limit",
                "status_interval",
                "retry_backoff.first",
                "list_backoff.max",
            ]
        );
    }
}
