//! What Subscriptions want of a Watch that runs.
//!
//! Before: bridge/src/pipeline.rs
//! Next: core/src/watch.rs

use tidings_core::change::ChangeKinds;
use tidings_core::known::Slot;
use tidings_core::selection::Selection;
use tidings_core::watch::{Effect, Input};

use super::{Driver, Over};
use crate::watch::Command;
use crate::watch::followers::Leaving;
use crate::watch::keeper::Keeper;

// === impl Driver ===

impl Driver {
    /// Carries out a command; what the machine wants done is for who has the connection.
    pub(super) async fn command(&mut self, command: Command) -> Result<Vec<Effect>, Over> {
        let now = self.context.clock.unix_seconds();
        if let Some(keeper) = &mut self.keeper {
            keeper.note();
        }
        let input = match command {
            Command::Join { lane, route, place, selection, on } => {
                let slot = self.followers.slot_of(&route.uid);
                let slot = match slot.filter(|slot| self.followers.is_at(*slot, &place)) {
                    Some(slot) if self.followers.follows(slot) => {
                        // It was there before the process began, or is about to part and stays.
                        self.followers
                            .attach(slot, lane, route, on, &self.journal, &self.context.metrics)
                            .await;
                        return Ok(self.machine.step(Input::Edit { slot, selection, on }, now));
                    }
                    Some(slot) => {
                        // It comes back before everything it was told last is settled: that still comes first.
                        self.followers.set_leaving(slot, Leaving::No);
                        self.followers.set_joined(slot, false);
                        slot
                    }
                    None => {
                        if let Some(slot) = slot {
                            self.leave(slot);
                        }
                        self.followers.add(route.uid.clone(), place)
                    }
                };
                self.followers.attach(slot, lane, route, on, &self.journal, &self.context.metrics).await;
                self.must_store();
                Input::Join { slot, selection, on }
            }
            Command::Edit { lane, route, selection, on } => {
                let Some(slot) = self.followers.slot_of(&route.uid) else { return Ok(Vec::new()) };
                self.followers.attach(slot, lane, route, on, &self.journal, &self.context.metrics).await;
                Input::Edit { slot, selection, on }
            }
            Command::Part { lane, route } => {
                let Some(slot) = self.followers.slot_of(&route.uid) else { return Ok(Vec::new()) };
                let on = route.on;
                self.followers.attach(slot, lane, route, on, &self.journal, &self.context.metrics).await;
                if !self.followers.follows(slot) {
                    return Ok(Vec::new());
                }
                self.followers.set_leaving(slot, Leaving::Parting);
                Input::Edit { slot, selection: Selection::NOTHING, on: ChangeKinds::ALL }
            }
            Command::Leave { uid } => {
                let Some(slot) = self.followers.slot_of(&uid) else { return Ok(Vec::new()) };
                self.leave(slot);
                return Ok(Vec::new());
            }
            Command::Close => {
                self.closing = true;
                return Ok(Vec::new());
            }
            Command::Finish(done) => {
                self.finish().await;
                // Who asked does not have to wait for the answer.
                let _ = done.send(());
                return Err(Over);
            }
            Command::Forget(done) => {
                if let Some(keeper) = self.keeper.take()
                    && let Err(error) = keeper.forget().await
                {
                    tracing::error!(kind = %self.name.kind, %error, "unable to remove the state of a watch");
                }
                self.journal.forget();
                let _ = done.send(());
                return Err(Over);
            }
        };
        Ok(self.machine.step(input, now))
    }

    /// Stores everything, once.
    async fn finish(&mut self) {
        self.hand_over();
        if self.outbox.is_empty()
            && let Some(keeper) = &mut self.keeper
        {
            keeper.must_store();
            keeper.go_on(&self.journal, &self.followers);
            while self.keeper.as_ref().is_some_and(Keeper::is_busy) {
                let kept = Keeper::event(&mut self.keeper).await;
                self.kept(kept);
            }
            self.flush(true);
            let kept = Keeper::event(&mut self.keeper).await;
            self.kept(kept);
        }
    }

    /// Who leaves is told nothing, so there is nothing to do.
    fn leave(&mut self, slot: Slot) {
        self.machine.step(Input::Leave(slot), self.context.clock.unix_seconds());
        self.followers.remove(slot);
        self.journal.leave(slot);
        // Whoever gets the slot next is not told what was decided for this one.
        for record in &mut self.outbox {
            record.to.retain(|to| to.slot != slot);
        }
        self.must_store();
    }

    /// Who has been told everything either follows from now on or, if nothing is selected any more, leaves when
    /// that is settled.
    pub(super) fn joined(&mut self, slot: Slot) {
        self.followers.set_joined(slot, true);
        if self.followers.is_parting(slot) {
            self.machine.step(Input::Leave(slot), self.context.clock.unix_seconds());
            self.followers.set_leaving(slot, Leaving::Draining);
        }
    }
}
