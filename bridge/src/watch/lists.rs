//! The LIST that brings a Subscription what exists already while its Watch runs.

use std::collections::BTreeMap;
use std::time::Duration;

use tidings_core::known::Slot;
use tidings_core::object::ResourceVersion;
use tidings_core::watch::Input;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::WatchSettings;
use super::decode::Decoded;
use super::reader::Pages;
use super::request::{Endpoint, Trouble};
use super::scan::TypeMeta;
use crate::clock;

/// The LISTs that are under way, one per slot at most.
pub(super) struct Lists {
    sender: mpsc::Sender<Vec<Input>>,
    running: BTreeMap<Slot, AbortHandle>,
}

// === impl Lists ===

impl Lists {
    /// None under way. Pages come out of the receiver, which holds back the next ones while it is not read.
    pub(super) fn new() -> (Self, mpsc::Receiver<Vec<Input>>) {
        let (sender, receiver) = mpsc::channel(2);
        (Self { sender, running: BTreeMap::new() }, receiver)
    }

    /// Begins the LIST `list` for `slot`, in the place of one that may be under way.
    pub(super) fn start(
        &mut self,
        slot: Slot,
        list: u32,
        endpoint: Endpoint,
        type_meta: TypeMeta,
        settings: WatchSettings,
    ) {
        self.stop(slot);
        let sender = self.sender.clone();
        let task = tokio::spawn(async move {
            let mut failures = 0;
            while let Err(trouble) = read(slot, list, &endpoint, &type_meta, &settings, &sender).await {
                failures += 1;
                tracing::warn!(%trouble, slot = slot.0, "unable to list for a new subscription");
                let wait = settings.relist.delay(failures, clock::jitter());
                tokio::time::sleep(wait.max(trouble.after().unwrap_or(Duration::ZERO))).await;
            }
        });
        self.running.insert(slot, task.abort_handle());
    }

    /// Ends the LIST for `slot`, if one is under way.
    pub(super) fn stop(&mut self, slot: Slot) {
        if let Some(task) = self.running.remove(&slot) {
            task.abort();
        }
    }
}

impl Drop for Lists {
    fn drop(&mut self) {
        self.running.values().for_each(AbortHandle::abort);
    }
}

/// Reads all pages. A LIST that is begun again is of a newer version; the core knows what it told already.
async fn read(
    slot: Slot,
    list: u32,
    endpoint: &Endpoint,
    type_meta: &TypeMeta,
    settings: &WatchSettings,
    sender: &mpsc::Sender<Vec<Input>>,
) -> Result<(), Trouble> {
    let mut pages = Pages::new(endpoint, settings);
    loop {
        let answer = tokio::time::timeout(settings.silence_limit, pages.next(type_meta)).await;
        let Some(page) = answer.unwrap_or(Err(Trouble::Silent(settings.silence_limit)))? else {
            return Ok(());
        };
        let mut inputs: Vec<_> =
            page.items.into_iter().filter_map(|item| listed(slot, list, page.version, item)).collect();
        if page.next.is_none() {
            inputs.push(Input::ListComplete { slot, list, version: page.version });
        }
        if sender.send(inputs).await.is_err() {
            return Ok(());
        }
    }
}

/// What cannot be decoded here is reported by the Watch itself, which has the same object.
fn listed(slot: Slot, list: u32, version: ResourceVersion, item: Decoded) -> Option<Input> {
    match item {
        Decoded::Input(Input::Present(object)) => Some(Input::Listed { slot, list, version, object }),
        _ => None,
    }
}
