//! The promise as something that can be checked: writers that remember what the API server confirmed, and the rules
//! that hold between that, what was published, and what a consumer folds from it.
//!
//! - [`record`]: every version and every end of a life that the API server confirmed
//! - [`writer`]: makes them, at random, and finds out what became of a request that got no answer
//! - [`check`]: what must hold of the events of one Subscription, round by round

pub mod check;
pub mod record;
pub mod writer;
