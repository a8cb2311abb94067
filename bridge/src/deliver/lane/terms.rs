//! What becomes of Events that cannot be delivered, by the Subscription's word.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::delivery::{Policy, Rejection, Resort};

use super::Opened;
use crate::deliver::DeliverySettings;

/// What is done about Events that cannot be delivered.
pub(super) struct Terms {
    pub(super) settings: DeliverySettings,
    /// In milliseconds since 1970.
    pub(super) now: u64,
    /// How many were made smaller.
    pub(super) shrunk: u64,
}

// === impl Terms ===

impl Policy<Arc<Opened>> for Terms {
    fn gives_up(&mut self, entry: &Arc<Opened>, failures: u32, reason: &str) -> Option<Rejection> {
        let age = Duration::from_millis(self.now.saturating_sub(entry.record.decided));
        if self.settings.max_attempts.is_some_and(|most| failures >= most) {
            return Some(Rejection::GivenUp(format!(
                "{failures} attempts failed, the last because {reason}"
            )));
        }
        let old = self.settings.max_age.is_some_and(|most| age >= most);
        old.then(|| Rejection::GivenUp(format!("it is {} s old: {reason}", age.as_secs())))
    }

    fn resort(&mut self, entry: &Arc<Opened>, reason: &Rejection) -> Resort<Arc<Opened>> {
        match reason {
            Rejection::TooLarge { .. } if self.settings.shrink_oversize && !entry.as_reference => {
                self.shrunk += 1;
                let Opened { record, watch, generation, .. } = &**entry;
                let (record, watch, generation) = (record.clone(), *watch, *generation);
                Resort::Instead(Arc::new(Opened { record, watch, generation, as_reference: true }))
            }
            _ if self.settings.drop_rejected => Resort::Drop,
            _ => Resort::Block,
        }
    }
}
