//! What goes wrong. Each fault is one entry of [`FAULTS`].

use std::time::Duration;

use anyhow::Result;
use futures::future::LocalBoxFuture;

use super::stage::Stage;
use crate::chaos::check::Suffered;
use crate::proxy::Link;

/// Something that goes wrong, and how it is put right.
pub(super) struct Fault {
    pub(super) name: &'static str,
    /// Two faults of one part do not go together.
    pub(super) part: Part,
    /// What it excuses.
    pub(super) suffered: Suffered,
    /// Begins it. While it lasts, writers go on.
    pub(super) inject: Act,
    /// Ends it.
    pub(super) heal: Act,
}

type Act = for<'a> fn(&'a mut Stage) -> LocalBoxFuture<'a, Result<()>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Bridge,
    ApiServer,
    Broker,
    Network,
    Disk,
    Subscription,
}

const UNHARMED: Suffered = Suffered { lost_history: false, forgot: false, edited: false, killed: false };
/// The API server answers 410 to who was watching.
const LOST_HISTORY: Suffered = Suffered { lost_history: true, ..UNHARMED };
/// The Subscription that changes begins with what exists.
const FORGOT: Suffered = Suffered { forgot: true, ..UNHARMED };
/// It selects less for some time.
const EDITED: Suffered = Suffered { edited: true, ..UNHARMED };

/// What the bridge was about to tell is in doubt.
const KILLED: Suffered = Suffered { killed: true, ..UNHARMED };

/// It is over as soon as it is done.
const OVER: Act = |_| Box::pin(async { Ok(()) });

/// All there are, in the order in which the first faults of rounds take turns.
pub(super) const FAULTS: [Fault; 17] = [
    Fault {
        name: "bridge killed",
        part: Part::Bridge,
        suffered: KILLED,
        inject: |stage| Box::pin(async { stage.bridge.kill() }),
        heal: |stage| Box::pin(stage.bridge.start_again()),
    },
    Fault {
        name: "broker killed",
        part: Part::Broker,
        suffered: UNHARMED,
        inject: |stage| Box::pin(stage.broker.kill()),
        heal: |stage| Box::pin(stage.broker.restart()),
    },
    Fault {
        name: "API server killed",
        part: Part::ApiServer,
        suffered: LOST_HISTORY,
        inject: |stage| {
            Box::pin(async {
                stage.control_plane.api_server.kill()?;
                stage.control_plane.api_server.restart().await
            })
        },
        heal: OVER,
    },
    Fault {
        name: "network cut",
        part: Part::Network,
        suffered: UNHARMED,
        inject: |stage| Box::pin(async { stage.network(Link::Cut) }),
        heal: |stage| Box::pin(async { stage.network(Link::GOOD) }),
    },
    Fault {
        name: "CRD edited",
        part: Part::ApiServer,
        suffered: LOST_HISTORY,
        inject: |stage| Box::pin(async { stage.edit_crd() }),
        heal: OVER,
    },
    Fault {
        name: "Subscription edited",
        part: Part::Subscription,
        suffered: EDITED,
        inject: |stage| Box::pin(stage.select(false)),
        heal: |stage| Box::pin(stage.select(true)),
    },
    Fault {
        name: "bridge stopped",
        part: Part::Bridge,
        suffered: UNHARMED,
        inject: |stage| Box::pin(stage.bridge.stop()),
        heal: |stage| Box::pin(stage.bridge.start_again()),
    },
    Fault {
        name: "broker paused",
        part: Part::Broker,
        suffered: UNHARMED,
        inject: |stage| Box::pin(async { stage.broker.pause() }),
        heal: |stage| Box::pin(async { stage.broker.resume() }),
    },
    Fault {
        name: "history compacted",
        part: Part::ApiServer,
        suffered: UNHARMED,
        inject: |stage| Box::pin(async { stage.control_plane.etcd.compact().await.map(drop) }),
        heal: OVER,
    },
    Fault {
        name: "network slow",
        part: Part::Network,
        suffered: UNHARMED,
        inject: |stage| Box::pin(async { stage.network(Link::delayed(Duration::from_millis(50))) }),
        heal: |stage| Box::pin(async { stage.network(Link::GOOD) }),
    },
    Fault {
        name: "history forgotten",
        part: Part::ApiServer,
        suffered: LOST_HISTORY,
        inject: |stage| Box::pin(stage.forget_history()),
        heal: OVER,
    },
    Fault {
        name: "network silent",
        part: Part::Network,
        suffered: UNHARMED,
        inject: |stage| Box::pin(async { stage.network(Link::Silent) }),
        heal: |stage| Box::pin(async { stage.network(Link::GOOD) }),
    },
    Fault {
        name: "API server restarted",
        part: Part::ApiServer,
        suffered: LOST_HISTORY,
        inject: |stage| Box::pin(stage.restart_api_server()),
        heal: OVER,
    },
    Fault {
        name: "network narrow",
        part: Part::Network,
        suffered: UNHARMED,
        inject: |stage| {
            Box::pin(async { stage.network(Link::Open { delay: Duration::ZERO, rate: Some(200_000) }) })
        },
        heal: |stage| Box::pin(async { stage.network(Link::GOOD) }),
    },
    Fault {
        name: "CRD removed",
        part: Part::ApiServer,
        suffered: LOST_HISTORY,
        inject: |stage| Box::pin(stage.remove_crd()),
        heal: OVER,
    },
    Fault {
        name: "Subscription re-created",
        part: Part::Subscription,
        suffered: FORGOT,
        inject: |stage| Box::pin(async { stage.recreate() }),
        heal: OVER,
    },
    Fault {
        name: "disk full",
        part: Part::Disk,
        suffered: UNHARMED,
        inject: |stage| Box::pin(async { stage.fill_disk() }),
        heal: |stage| Box::pin(async { stage.free_disk() }),
    },
];

/// One or two faults that go together: the first by turn, the second by chance.
pub(super) fn choose(seed: u64, random: &mut fastrand::Rng, stage: &Stage) -> Vec<&'static Fault> {
    let possible: Vec<_> =
        FAULTS.iter().filter(|fault| fault.part != Part::Disk || stage.has_disk()).collect();
    let turn = usize::try_from(seed % possible.len() as u64).unwrap_or_default();
    let mut chosen = vec![possible[turn]];
    let others: Vec<_> = possible.iter().filter(|fault| fault.part != chosen[0].part).copied().collect();
    if random.u8(..3) > 0 {
        chosen.extend(random.choice(others));
    }
    chosen
}

impl Suffered {
    /// Both happened.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            lost_history: self.lost_history || other.lost_history,
            forgot: self.forgot || other.forgot,
            edited: self.edited || other.edited,
            killed: self.killed || other.killed,
        }
    }

    /// What of it concerns those whose Subscription stays as it is.
    pub(super) fn of_others(self) -> Self {
        Self { lost_history: self.lost_history, killed: self.killed, ..UNHARMED }
    }
}
