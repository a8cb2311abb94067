use super::*;

const TIMES: Times = Times { authority: 100, serving: 20, overlap: 5 };

fn authority(id: &str, ends: u64, known_since: Option<u64>) -> AuthorityState {
    AuthorityState { id: id.to_owned(), ends, known_since }
}

fn serving(signer: &str, begins: u64, ends: u64) -> ServingState {
    ServingState { signer: signer.to_owned(), begins, ends }
}

fn sign(id: &str) -> Action {
    Action::Sign(id.to_owned())
}

#[test]
fn it_begins_with_an_authority_that_signs_at_once() {
    let mut state = State::default();
    assert_eq!(step(0, &TIMES, &state), [Action::Make]);
    state.authorities.push(authority("a", 100, None));
    assert_eq!(step(0, &TIMES, &state), [sign("a")]);
    state.serving = Some(serving("a", 0, 20));
    assert_eq!(step(0, &TIMES, &state), []);
}

#[test]
fn a_serving_certificate_is_replaced_when_a_third_of_its_time_is_left() {
    let state = State {
        authorities: vec![authority("a", 1000, Some(0))],
        serving: Some(serving("a", 0, 21)),
        ..State::default()
    };
    assert_eq!(step(13, &TIMES, &state), []);
    assert_eq!(wake(13, &TIMES, &state), 14);
    assert_eq!(step(14, &TIMES, &state), [sign("a")]);
}

#[test]
fn a_new_authority_signs_only_once_it_has_been_known_for_a_while() {
    let mut state = State {
        authorities: vec![authority("a", 100, Some(0))],
        serving: Some(serving("a", 50, 70)),
        trusted: ["a".to_owned()].into(),
    };
    assert_eq!(step(54, &TIMES, &state), []);
    assert_eq!(step(55, &TIMES, &state), [Action::Make]);
    state.authorities.push(authority("b", 155, None));
    assert_eq!(step(55, &TIMES, &state), []);
    state.trusted.insert("b".to_owned());
    assert_eq!(step(57, &TIMES, &state), [Action::Note("b".to_owned())]);
    state.authorities[1].known_since = Some(57);
    assert_eq!(step(61, &TIMES, &state), []);
    assert_eq!(wake(57, &TIMES, &state), 62);
    assert_eq!(step(62, &TIMES, &state), [sign("b")]);
}

#[test]
fn an_old_authority_is_known_until_it_ends() {
    let state = State {
        authorities: vec![authority("a", 100, Some(0)), authority("b", 155, Some(57))],
        serving: Some(serving("b", 90, 110)),
        ..State::default()
    };
    assert_eq!(step(99, &TIMES, &state), []);
    assert_eq!(step(100, &TIMES, &state), [Action::Drop("a".to_owned())]);
}

#[test]
fn nothing_that_was_never_known_signs_while_there_is_another() {
    let state = State {
        authorities: vec![authority("a", 100, Some(0)), authority("b", 190, None)],
        serving: Some(serving("a", 90, 100)),
        ..State::default()
    };
    assert_eq!(step(97, &TIMES, &state), [sign("a")]);
    assert_eq!(step(100, &TIMES, &state), [Action::Drop("a".to_owned()), sign("b")]);
}

#[test]
fn whoever_was_away_for_long_begins_anew() {
    let state = State {
        authorities: vec![authority("a", 100, Some(0))],
        serving: None,
        trusted: ["a".to_owned()].into(),
    };
    assert_eq!(step(5000, &TIMES, &state), [Action::Drop("a".to_owned()), Action::Make]);
}

/// A simulation of replicas that share a Secret and of an API server that knows a bundle: whatever the pace, each certificate
/// that is shown verifies at every second, against what was known some seconds ago as well as against what is known now.
mod replicas {
    use proptest::prelude::*;

    use super::*;

    /// How far an API server is behind.
    const BEHIND: u64 = 3;

    #[derive(Default)]
    struct World {
        now: u64,
        authorities: Vec<AuthorityState>,
        /// What was in the configuration, since when; the newest last.
        bundles: Vec<(u64, BTreeSet<String>)>,
        serving: Vec<Option<ServingState>>,
        made: u64,
    }

    impl World {
        /// One replica does what it has to, and writes the configuration if it is on `online`.
        fn act(&mut self, replica: usize, times: &Times, online: bool) {
            for _ in 0..5 {
                let trusted = self.bundles.last().map(|(_, bundle)| bundle.clone()).unwrap_or_default();
                let serving = self.serving[replica].clone();
                let state = State { authorities: self.authorities.clone(), serving, trusted };
                let actions = step(self.now, times, &state);
                if actions.is_empty() {
                    break;
                }
                for action in actions {
                    match action {
                        Action::Drop(id) => self.authorities.retain(|authority| authority.id != id),
                        Action::Make => {
                            self.made += 1;
                            self.authorities.push(authority(
                                &self.made.to_string(),
                                self.now + times.authority,
                                None,
                            ));
                        }
                        Action::Note(id) => {
                            let noted = self.authorities.iter_mut().filter(|authority| authority.id == id);
                            noted.for_each(|authority| authority.known_since = Some(self.now));
                        }
                        Action::Sign(id) => {
                            let signer =
                                self.authorities.iter().find(|authority| authority.id == id).unwrap();
                            let ends = (self.now + times.serving).min(signer.ends);
                            self.serving[replica] = Some(super::serving(&id, self.now, ends));
                        }
                    }
                }
            }
            if online {
                let bundle = self.authorities.iter().map(|authority| authority.id.clone()).collect();
                self.bundles.push((self.now, bundle));
            }
        }

        /// What was in the configuration then.
        fn bundle(&self, at: u64) -> &BTreeSet<String> {
            let known = self.bundles.iter().rfind(|(since, _)| *since <= at);
            &known.or(self.bundles.first()).unwrap().1
        }
    }

    proptest! {
        #[test]
        fn every_certificate_shown_is_trusted_at_every_moment(
            serving in 6u64..40,
            more in 0u64..60,
            overlap in 4u64..6,
            pace in prop::collection::vec((0usize..2, any::<bool>()), 300..600),
        ) {
            let times = Times { authority: 4 * serving + more, serving, overlap };
            let mut world = World { serving: vec![None, None], ..World::default() };
            world.act(0, &times, true);
            world.act(1, &times, true);
            world.now += BEHIND;
            for (first, both) in pace {
                world.now += 1;
                world.act(first, &times, true);
                if both {
                    world.act(1 - first, &times, true);
                }
                let (current, stale) = (world.bundle(world.now), world.bundle(world.now - BEHIND));
                for shown in world.serving.iter().flatten() {
                    // A replica that did not run for long may show an ended one: it is asked at its next turn.
                    if shown.ends <= world.now {
                        continue;
                    }
                    prop_assert!(current.contains(&shown.signer), "{shown:?} {current:?}");
                    prop_assert!(stale.contains(&shown.signer), "{shown:?} {stale:?} at {}", world.now);
                }
                prop_assert!(world.authorities.len() <= 4, "{:?}", world.authorities);
            }
            prop_assert!(world.made >= 2, "there was no rotation");
        }
    }
}
