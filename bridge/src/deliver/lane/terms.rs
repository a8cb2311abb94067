//! What becomes of Events that cannot be delivered, by the Subscription's word.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::delivery::{Policy, Rejection, Resort};
use tidings_crds::subscription::{OnReject, Oversize};

use super::Opened;
use crate::deliver::DeliverySettings;

/// What is done about Events that the sink does not take.
pub(super) struct Terms {
    pub(super) settings: DeliverySettings,
    /// In milliseconds since 1970.
    pub(super) now: u64,
    /// How many were made smaller.
    pub(super) shrunk: u64,
}

/// What is done about dead letters that their sink does not take: they are the last resort, so they wait.
pub(super) struct LastTerms;

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
        let DeliverySettings { oversize, on_reject, .. } = self.settings;
        match (reason, oversize) {
            (Rejection::TooLarge { .. }, Oversize::Reference) if !entry.as_reference => {
                self.shrunk += 1;
                return Resort::Instead(Arc::new(entry.to_reference()));
            }
            (Rejection::TooLarge { .. }, Oversize::DeadLetter) => return Resort::Aside,
            _ => {}
        }
        match on_reject {
            OnReject::Block => Resort::Withdraw,
            OnReject::Drop => Resort::Drop,
            OnReject::DeadLetter => Resort::Aside,
        }
    }
}

// === impl LastTerms ===

impl Policy<Arc<Opened>> for LastTerms {
    fn gives_up(&mut self, _: &Arc<Opened>, _: u32, _: &str) -> Option<Rejection> {
        None
    }

    fn resort(&mut self, entry: &Arc<Opened>, reason: &Rejection) -> Resort<Arc<Opened>> {
        match reason {
            Rejection::TooLarge { .. } if !entry.as_reference => {
                Resort::Instead(Arc::new(entry.to_reference()))
            }
            _ => Resort::Block,
        }
    }
}
