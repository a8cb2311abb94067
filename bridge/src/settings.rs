//! The settings of the process as the parts of the bridge take them.

use std::sync::Arc;

use tidings_config::process::{Backfill, Backoff, BridgeSettings};
use tidings_core::delivery;

use crate::clock::Clock;
use crate::journal::Memory;
use crate::metrics::Metrics;
use crate::state::State;
use crate::watch::{BackfillSettings, WatchContext, WatchSettings};

/// What every Watch shares.
pub(crate) fn watch_context(
    client: kube::Client,
    cluster: Arc<str>,
    metrics: Metrics,
    clock: Clock,
    state: Option<State>,
    settings: &BridgeSettings,
) -> WatchContext {
    WatchContext {
        client,
        cluster,
        memory: Memory::new(settings.journal_bytes.get()),
        state,
        metrics,
        clock,
        settings: WatchSettings {
            ring_bytes: settings.ring_bytes.get(),
            max_object_bytes: settings.max_object_bytes.get(),
            page_size: settings.list_page_size.get(),
            watch_timeout: settings.watch_timeout.get(),
            silence_limit: settings.silence_limit.get(),
            reconnect: backoff(settings.reconnect_backoff),
            relist: backoff(settings.list_backoff),
            backfill: backfill(settings.backfill),
        },
        namespace: None,
    }
}

fn backfill(backfill: Backfill) -> BackfillSettings {
    let Backfill { requests, at_once, rate, timeout, bytes } = backfill;
    BackfillSettings {
        requests,
        at_once: usize::try_from(at_once.get()).unwrap_or(usize::MAX),
        per_second: rate.get(),
        time: timeout.get(),
        bytes: bytes.get(),
    }
}

/// The same backoff, for the core.
pub(crate) fn backoff(backoff: Backoff) -> delivery::Backoff {
    let Backoff { first, max } = backoff;
    delivery::Backoff { first: first.get(), max: max.get() }
}
