//! Mistakes in what the API server is told.

use super::Mutation;

const CERTIFICATES: &str = "webhook/src/certificates.rs";
const KEEPER: &str = "webhook/src/certificates/keeper.rs";
const CONTROLLER: &str = "webhook/src/configuration/controller.rs";
const PROBE: &str = "webhook/src/configuration/probe.rs";
const REVIEW: &str = "webhook/src/review.rs";
const SUBSCRIPTION: &str = "webhook/src/review/subscription.rs";
const CLUSTER: &str = "webhook/src/cluster.rs";
const SERVER: &str = "webhook/src/server.rs";

const UNIT: &str = "-p tidings-webhook --lib";
const ADMISSION: &str = "-p tidings-webhook --test admission nobody";
const CONFIGURATION: &str = "-p tidings-webhook --test configuration";

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "webhook-authority-leaves-early",
        breaks: "an authority is known until everything that it signed has ended",
        file: CERTIFICATES,
        find: "|authority: &&AuthorityState| authority.ends <= now;",
        put: "|authority: &&AuthorityState| authority.ends <= now + times.serving;",
        test: UNIT,
    },
    Mutation {
        name: "webhook-authority-signs-at-once",
        breaks: "API servers know an authority for a while before it signs",
        file: CERTIFICATES,
        find: "since + times.overlap <= now)",
        put: "since <= now)",
        test: UNIT,
    },
    Mutation {
        name: "webhook-holds-finalizers",
        breaks: "what is being deleted is not looked at",
        file: REVIEW,
        find: "if leaving || request.operation",
        put: "if request.operation",
        test: UNIT,
    },
    Mutation {
        name: "webhook-forgets-the-account",
        breaks: "the service account of a Subscription must be allowed to read its sources",
        file: SUBSCRIPTION,
        find: "let everybody = [Who::User, account];",
        put: "let everybody = [Who::User, account]; let everybody = [everybody[0].clone()];",
        test: UNIT,
    },
    Mutation {
        name: "webhook-remembers-for-everybody",
        breaks: "a right that somebody has is not another's",
        file: CLUSTER,
        find: "Who::User => user_key.clone(),",
        put: "Who::User => \"somebody\".into(),",
        test: ADMISSION,
    },
    Mutation {
        name: "webhook-refuses-unreachable",
        breaks: "nobody is refused while the webhook cannot be reached",
        file: CONTROLLER,
        find: "                Policy::Ignore\n            }\n        };",
        put: "                Policy::Fail\n            }\n        };",
        test: CONFIGURATION,
    },
    Mutation {
        name: "webhook-mistakes-a-farewell",
        breaks: "a replica that is about to stop and answers is no reason to accept unasked",
        file: PROBE,
        find: "        _ = connection => {}\n",
        put: "        _ = connection => return Err(unlike(String::new())),\n",
        test: CONFIGURATION,
    },
    Mutation {
        name: "webhook-leaves-the-door-shut",
        breaks: "the last one who leaves sees to it that nobody is refused",
        file: CONTROLLER,
        find: "if !refuses || self.others_answer().await {",
        put: "if !refuses || true {",
        test: CONFIGURATION,
    },
    Mutation {
        name: "webhook-forgets-its-authority",
        breaks: "a Secret that is deleted is written anew",
        file: KEEPER,
        find: "self.lost = stored.is_empty() && !self.authorities.is_empty();",
        put: "self.lost = false;",
        test: CONFIGURATION,
    },
    Mutation {
        name: "webhook-hangs-up",
        breaks: "who stops says so in every answer, and hangs up on nobody",
        file: SERVER,
        find: "if persistent && server.0.draining.load(Ordering::Relaxed) {",
        put: "if persistent && false {",
        test: CONFIGURATION,
    },
];
