//! The authority that API servers trust, and the certificate that this replica shows them.
//!
//! An authority signs serving certificates that end no later than itself. The next one is made while the present one has time
//! for two of them left; it signs nothing before API servers have known it for a while, and the old one stays known until it
//! ends. So at every moment each replica shows a certificate that is trusted, whichever of the authorities it knows. What is
//! done when is decided by [`step`]; `keeper` does it.
//!
//! ```text
//! first authority   ├──────────── signs ────────────┤ ─ ─ known until it ends ─ ─ ┤
//! second                                   ├ known ─┼──────────── signs ────────────┤ ─ ─ …
//!                                          made     overlap
//! ```

pub mod authority;
pub mod files;
mod keeper;
pub mod serving;
mod store;

use std::collections::BTreeSet;

pub(crate) use self::keeper::Keeper;

/// How long things last, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// An authority.
    pub authority: u64,
    /// A serving certificate.
    pub serving: u64,
    /// What an authority is known before it signs.
    pub overlap: u64,
}

/// What is known of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityState {
    /// Tells it from others.
    pub id: String,
    /// It holds until then.
    pub ends: u64,
    /// API servers know it since then, if they do.
    pub known_since: Option<u64>,
}

/// What is known of the certificate that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServingState {
    /// The authority that signed it.
    pub signer: String,
    /// When.
    pub begins: u64,
    /// It holds until then.
    pub ends: u64,
}

/// Everything that a decision rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The oldest first.
    pub authorities: Vec<AuthorityState>,
    /// Nothing before one is shown.
    pub serving: Option<ServingState>,
    /// The authorities that are in the configuration's `caBundle`.
    pub trusted: BTreeSet<String>,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Forget an authority that has ended, and with it every certificate it signed.
    Drop(String),
    /// Make a new authority.
    Make,
    /// Write down that API servers know an authority from now on.
    Note(String),
    /// Show a new certificate, signed by this authority.
    Sign(String),
}

/// What to do now. Once it is done, there may be more.
pub fn step(now: u64, times: &Times, state: &State) -> Vec<Action> {
    let State { authorities, serving, trusted } = state;
    let ended = |authority: &&AuthorityState| authority.ends <= now;
    let mut actions: Vec<_> =
        authorities.iter().filter(ended).map(|authority| Action::Drop(authority.id.clone())).collect();
    let lasting: Vec<_> = authorities.iter().filter(|authority| !ended(authority)).collect();

    if lasting.last().is_none_or(|newest| newest.ends <= now + successor_due(times)) {
        actions.push(Action::Make);
    }
    let unnoted = lasting.iter().filter(|one| one.known_since.is_none() && trusted.contains(&one.id));
    actions.extend(unnoted.map(|authority| Action::Note(authority.id.clone())));

    if let Some(signer) = signer(now, times, &lasting)
        && serving.as_ref().is_none_or(|serving| serving.signer != signer.id || is_due(now, serving))
    {
        actions.push(Action::Sign(signer.id.clone()));
    }
    actions
}

/// When to look again, if nothing happens before.
pub fn wake(now: u64, times: &Times, state: &State) -> u64 {
    let State { authorities, serving, trusted: _ } = state;
    let ends = authorities.iter().map(|authority| authority.ends);
    let successors = authorities.last().map(|newest| newest.ends.saturating_sub(successor_due(times)));
    let signs = authorities.iter().filter_map(|authority| Some(authority.known_since? + times.overlap));
    let renews = serving.as_ref().map(|serving| serving.ends - (serving.ends - serving.begins) / 3);
    let moments = ends.chain(successors).chain(signs).chain(renews);
    moments.filter(|moment| *moment > now).min().unwrap_or(now + times.serving)
}

/// The newest authority that API servers have known for long enough. If there is none, the oldest: nothing better is known to
/// be trusted.
fn signer<'a>(now: u64, times: &Times, lasting: &[&'a AuthorityState]) -> Option<&'a AuthorityState> {
    let known = |one: &&&AuthorityState| one.known_since.is_some_and(|since| since + times.overlap <= now);
    lasting.iter().rfind(known).or(lasting.first()).copied()
}

/// So long before an authority ends, there has to be another.
fn successor_due(times: &Times) -> u64 {
    2 * times.serving + times.overlap
}

/// A third of its time is left, or less.
fn is_due(now: u64, serving: &ServingState) -> bool {
    let left = serving.ends.saturating_sub(now);
    left == 0 || 3 * left <= serving.ends.saturating_sub(serving.begins)
}

#[cfg(test)]
#[path = "certificates/tests.rs"]
mod tests;
