//! The Subscriptions on one Watch: their slots, their lanes, and what is stored of them.
//!
//! Before: bridge/src/watch/driver.rs

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::change::{Change, ChangeKind, ChangeKinds};
use tidings_core::event::{Event, EventContext};
use tidings_core::filter::{Facts, Filter};
use tidings_core::known::Slot;
use tidings_core::route::{Resource, Route};

use crate::deliver::{LaneSender, Source, SourceChange};
use crate::journal::Journal;
use crate::metrics::{DeliveryMetrics, Metrics};
use crate::state::Chunks;
use crate::state::record::{Recipient, SubscriptionRecord};

/// How often it is looked whether a Subscription that leaves has settled everything.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Who follows one Watch.
pub(super) struct Followers {
    /// Tells the Watch from others of its process.
    watch: u64,
    /// What the kind was last served as.
    pub(super) resource: Option<Resource>,
    cluster: Arc<str>,
    chunks: Option<Chunks>,
    by_slot: BTreeMap<Slot, Follower>,
}

/// A Subscription on this Watch.
struct Follower {
    uid: Arc<str>,
    subscription: Arc<str>,
    place: Arc<str>,
    generation: u64,
    on: ChangeKinds,
    filter: Arc<Filter>,
    /// Nothing until it is known what the kind is served as.
    context: Option<Arc<EventContext>>,
    filtered: Filtered,
    metrics: Option<DeliveryMetrics>,
    /// Nothing as long as the Subscription is known only from what was stored.
    lane: Option<LaneSender>,
    joined: bool,
    leaving: Leaving,
}

/// What filters did since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filtered {
    /// Changes that were left out.
    pub left_out: u64,
    /// Changes of which a filter could not say whether they are wanted, and that were told.
    pub failed: u64,
    /// When and why the last time, in Unix seconds and words.
    pub last_failure: Option<(u64, String)>,
}

/// Whether a Subscription is about to leave the Watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It stays.
    No,
    /// It is being told of everything that is not selected any more.
    Parting,
    /// It was told, and has that to settle.
    Draining,
}

// === impl Followers ===

impl Followers {
    /// Those that were stored. Who does not follow in the machine any more has only something to settle.
    pub(super) fn restore(
        watch: u64,
        cluster: Arc<str>,
        chunks: Option<Chunks>,
        resource: Option<Resource>,
        stored: &[SubscriptionRecord],
        follows: impl Fn(Slot) -> Option<ChangeKinds>,
    ) -> Self {
        let follower = |record: &SubscriptionRecord| {
            let SubscriptionRecord { slot, uid, subscription, place, generation, cursor: _ } = record;
            let on = follows(*slot);
            let leaving = if on.is_some() { Leaving::No } else { Leaving::Draining };
            let follower = Follower {
                uid: uid.clone(),
                subscription: subscription.clone(),
                place: place.as_str().into(),
                generation: *generation,
                on: on.unwrap_or_default(),
                filter: Arc::default(),
                context: None,
                filtered: Filtered::default(),
                metrics: None,
                lane: None,
                joined: true,
                leaving,
            };
            (*slot, follower)
        };
        let by_slot = stored.iter().map(follower).collect();
        Self { watch, resource, cluster, chunks, by_slot }
    }

    /// What the filters of those are that were stored: what happens until they are attached goes through them.
    pub(super) fn set_filters(&mut self, filter: impl Fn(&str) -> Option<Arc<Filter>>) {
        for follower in self.by_slot.values_mut() {
            follower.filter = filter(&follower.uid).unwrap_or_default();
        }
        self.describe();
    }

    /// Says of everybody what their Events have in common.
    fn describe(&mut self) {
        let Some(resource) = &self.resource else { return };
        for follower in self.by_slot.values_mut() {
            let context = EventContext::new(&self.cluster, &follower.subscription, &follower.uid, resource);
            follower.context = Some(Arc::new(context));
        }
    }

    pub(super) fn watch(&self) -> u64 {
        self.watch
    }

    pub(super) fn len(&self) -> usize {
        self.by_slot.len()
    }

    /// The uids of all.
    pub(super) fn uids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_slot.values().map(|follower| &follower.uid)
    }

    pub(super) fn slot_of(&self, uid: &str) -> Option<Slot> {
        self.by_slot.iter().find(|(_, follower)| &*follower.uid == uid).map(|(slot, _)| *slot)
    }

    /// `namespace/name`.
    pub(super) fn name(&self, slot: Slot) -> Option<&str> {
        self.by_slot.get(&slot).map(|follower| &*follower.subscription)
    }

    /// Whether its Events go to this place.
    pub(super) fn is_at(&self, slot: Slot, place: &str) -> bool {
        self.by_slot.get(&slot).is_some_and(|follower| &*follower.place == place)
    }

    /// Whether it is told what happens.
    pub(super) fn follows(&self, slot: Slot) -> bool {
        self.by_slot.get(&slot).is_some_and(|follower| follower.leaving != Leaving::Draining)
    }

    /// A slot for a Subscription that is new here.
    pub(super) fn add(&mut self, uid: Arc<str>, place: Arc<str>) -> Slot {
        let free = (0..=self.by_slot.len()).map(Slot).find(|slot| !self.by_slot.contains_key(slot));
        let slot = free.unwrap_or(Slot(self.by_slot.len()));
        let follower = Follower {
            uid,
            subscription: "".into(),
            place,
            generation: 0,
            on: ChangeKinds::ALL,
            filter: Arc::default(),
            context: None,
            filtered: Filtered::default(),
            metrics: None,
            lane: None,
            joined: false,
            leaving: Leaving::No,
        };
        self.by_slot.insert(slot, follower);
        slot
    }

    /// Its lane takes from the Journal from now on, and it is served as `route` says.
    pub(super) async fn attach(
        &mut self,
        slot: Slot,
        lane: LaneSender,
        route: Arc<Route>,
        on: ChangeKinds,
        journal: &Journal,
        metrics: &Metrics,
    ) {
        let Some(follower) = self.by_slot.get_mut(&slot) else { return };
        follower.subscription.clone_from(&route.subscription);
        (follower.generation, follower.on) = (route.generation, on);
        follower.filter.clone_from(&route.filter);
        follower.metrics = Some(metrics.delivery(&route.subscription));
        follower.context = self.resource.as_ref().map(|resource| {
            Arc::new(EventContext::new(&self.cluster, &follower.subscription, &follower.uid, resource))
        });
        let source = self.source(slot, journal);
        let Some(follower) = self.by_slot.get_mut(&slot) else { return };
        if follower.leaving == Leaving::Parting {
            follower.leaving = Leaving::No;
        }
        journal.follow(slot, lane.wake());
        if let Some(source) = source {
            lane.source(SourceChange::Follow(source)).await;
        }
        follower.lane = Some(lane);
    }

    /// What the kind is served as; every lane hears of it.
    pub(super) async fn served_as(&mut self, journal: &Journal, resource: &Resource) {
        self.resource = Some(resource.clone());
        self.describe();
        for (slot, follower) in &self.by_slot {
            if let Some(lane) = &follower.lane
                && let Some(source) = self.source(*slot, journal)
            {
                lane.source(SourceChange::Follow(source)).await;
            }
        }
    }

    fn source(&self, slot: Slot, journal: &Journal) -> Option<Arc<Source>> {
        let context = self.by_slot.get(&slot)?.context.clone()?;
        let (watch, journal, chunks) = (self.watch, journal.clone(), self.chunks.clone());
        Some(Arc::new(Source { watch, journal, slot, context, chunks }))
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.by_slot.remove(&slot);
    }

    /// Comes back after a while if somebody has still to settle what it was told last.
    pub(super) async fn draining(&self) {
        if self.by_slot.values().any(|follower| follower.leaving == Leaving::Draining) {
            tokio::time::sleep(LOOK_AGAIN).await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    /// Lets those go that have settled the last they were told. Says whether there were any.
    pub(super) async fn take_drained(&mut self, journal: &Journal) -> bool {
        let drained = |(slot, follower): (&Slot, &Follower)| {
            let done = follower.leaving == Leaving::Draining && journal.standing(*slot).open == 0;
            done.then_some(*slot)
        };
        let drained: Vec<_> = self.by_slot.iter().filter_map(drained).collect();
        for slot in &drained {
            journal.leave(*slot);
            if let Some(Follower { lane: Some(lane), .. }) = self.by_slot.remove(slot) {
                lane.source(SourceChange::Leave(self.watch)).await;
            }
        }
        !drained.is_empty()
    }

    pub(super) fn set_joined(&mut self, slot: Slot, joined: bool) {
        if let Some(follower) = self.by_slot.get_mut(&slot) {
            follower.joined = joined;
        }
    }

    pub(super) fn set_leaving(&mut self, slot: Slot, leaving: Leaving) {
        if let Some(follower) = self.by_slot.get_mut(&slot) {
            follower.leaving = leaving;
        }
    }

    pub(super) fn is_parting(&self, slot: Slot) -> bool {
        self.by_slot.get(&slot).is_some_and(|follower| follower.leaving == Leaving::Parting)
    }

    /// The lanes of those who are still being told what exists.
    pub(super) fn joining(&self) -> Vec<u64> {
        let joining = self.by_slot.values().filter(|follower| !follower.joined);
        joining.filter_map(|follower| follower.lane.as_ref()).map(LaneSender::id).collect()
    }

    /// Who of `slots` is told of the Change: whose filters let it pass, each with its present generation. A Change of which a
    /// filter cannot say whether it is wanted passes: one too many is better than one too few.
    pub(super) fn recipients(&mut self, change: &Change, slots: &[Slot], now: u64) -> Vec<Recipient> {
        let facts = Facts::default();
        let recipient = |slot: &Slot| {
            let Some(follower) = self.by_slot.get_mut(slot) else {
                return Some(Recipient { slot: *slot, generation: 0 });
            };
            let generation = follower.generation;
            follower.hears(change, &facts, now).then_some(Recipient { slot: *slot, generation })
        };
        slots.iter().filter_map(recipient).collect()
    }

    /// What the filters of each lane did.
    pub(super) fn filtered(&self) -> impl Iterator<Item = (u64, &Filtered)> {
        let filtering = self.by_slot.values().filter(|follower| follower.filtered != Filtered::default());
        filtering.filter_map(|follower| Some((follower.lane.as_ref()?.id(), &follower.filtered)))
    }

    /// Whether a Change of this kind may be the first that `slot` hears of an object, or the last.
    pub(super) fn enters_or_leaves(&self, slot: Slot, kind: ChangeKind) -> bool {
        match kind {
            ChangeKind::Snapshot | ChangeKind::Added | ChangeKind::Left => true,
            ChangeKind::Deleted => false,
            // Who does not want to hear that objects appear hears of them when they change.
            ChangeKind::Updated => self.by_slot.get(&slot).is_some_and(|follower| {
                let appears =
                    follower.on.contains(ChangeKind::Added) && follower.on.contains(ChangeKind::Snapshot);
                !appears || !follower.filter.is_empty()
            }),
        }
    }

    /// What is to be stored.
    pub(super) fn records(&self, journal: &Journal) -> Vec<SubscriptionRecord> {
        let record = |(slot, follower): (&Slot, &Follower)| SubscriptionRecord {
            slot: *slot,
            uid: follower.uid.clone(),
            subscription: follower.subscription.clone(),
            place: follower.place.to_string(),
            generation: follower.generation,
            cursor: journal.cursor(*slot),
        };
        self.by_slot.iter().map(record).collect()
    }
}

// === impl Follower ===

impl Follower {
    fn hears(&mut self, change: &Change, facts: &Facts, now: u64) -> bool {
        let Some(context) = self.context.as_ref().filter(|_| !self.filter.is_empty()) else { return true };
        let event = Event::new(context, self.generation, change);
        match self.filter.passes(&event, change, facts) {
            Ok(true) => true,
            Ok(false) => {
                self.filtered.left_out += 1;
                if let Some(metrics) = &self.metrics {
                    metrics.filtered.inc();
                }
                false
            }
            Err(error) => {
                self.filtered.failed += 1;
                self.filtered.last_failure = Some((now, error.to_string()));
                if let Some(metrics) = &self.metrics {
                    metrics.filter_failures.inc();
                }
                true
            }
        }
    }
}
