//! What each tier of `test` does.

use clap::ValueEnum;

use crate::binaries::Binary;
use crate::receiver::Kind;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Tier {
    /// Format, clippy with warnings denied, dependencies, scripts
    Lint,
    /// The documentation builds without a warning
    Doc,
    /// Tests beside the code, examples in the documentation, and those that need no server
    Unit,
    /// The core against a naive model
    Model,
    /// Sinks against real brokers
    Broker,
    /// The resources, the bridge, the webhook and the command line against a real kube-apiserver
    Api,
    /// Everything together, and the demo
    E2e,
    /// Everything real broken at random while writers run, and nothing lost
    Chaos,
}

/// One thing a tier does.
pub(super) enum Step {
    /// A cargo command that is one check.
    Check(&'static str, Vec<&'static str>),
    /// `cargo test` with these arguments.
    Tests(Vec<&'static str>),
    /// `cargo test` of integration tests: all of the crate in a folder, or those named.
    Integration(&'static str, &'static [&'static str]),
    /// The same, but for those named.
    Others(&'static str, &'static [&'static str]),
    /// The same, with programs that not every machine has: skipped where one is missing, but for CI.
    With(&'static [Binary], &'static str, &'static [&'static str]),
    /// cargo-deny.
    Deny,
    /// shellcheck.
    Scripts,
    /// `cargo xtask demo --once`.
    Demo,
    /// Rounds of chaos.
    Chaos,
}

// === impl Tier ===

impl Tier {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lint => "lint",
            Self::Doc => "doc",
            Self::Unit => "unit",
            Self::Model => "model",
            Self::Broker => "broker",
            Self::Api => "api",
            Self::E2e => "e2e",
            Self::Chaos => "chaos",
        }
    }

    /// With a `sink`, only what that one is held to.
    pub(super) fn steps(self, sink: Option<Kind>) -> Vec<Step> {
        use Step::{Chaos, Check, Demo, Deny, Integration, Others, Scripts, Tests, With};
        match self {
            Self::Broker if sink.is_some() => sink.map_or_else(Vec::new, of_sink),
            Self::Lint => vec![
                Check("format (fix with `cargo fmt --all`)", vec!["fmt", "--all", "--check"]),
                Check("clippy", vec!["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
                Deny,
                Scripts,
            ],
            Self::Doc => vec![Check("documentation", vec!["doc", "--workspace", "--no-deps"])],
            Self::Unit => vec![
                Tests(vec!["--workspace", "--lib", "--bins"]),
                Tests(vec!["--workspace", "--doc"]),
                Integration("config", &[]),
                Integration("testbed", &["architecture", "chart", "guarantees"]),
            ],
            Self::Model => vec![Integration("core", &[])],
            Self::Broker => vec![
                Integration("testbed", &["nats", "cleanup"]),
                With(&[Binary::Kafka], "testbed", &["kafka"]),
                With(&[Binary::Rabbitmq], "testbed", &["rabbitmq"]),
                Integration("sinks", &[]),
            ],
            Self::Api => vec![
                Integration("testbed", &["kubernetes"]),
                Integration("crds", &[]),
                Integration("bridge", &[]),
                Integration("webhook", &[]),
                Integration("cli", &[]),
                With(&[Binary::Helm], "e2e", &["chart"]),
            ],
            Self::E2e => vec![
                Others(
                    "e2e",
                    &["chart", "install", "rights", "consumers", "interop", "conformance", "bad_sinks"],
                ),
                With(&[Binary::Helm, Binary::KubeControllerManager], "e2e", &["install", "rights"]),
                With(&[Binary::Kafka, Binary::Rabbitmq], "e2e", &["conformance", "bad_sinks"]),
                With(&[Binary::Kafka, Binary::Rabbitmq, Binary::Python], "e2e", &["consumers", "interop"]),
                Demo,
            ],
            Self::Chaos => vec![Chaos],
        }
    }

    pub(super) fn needs_servers(self) -> bool {
        matches!(self, Self::Broker | Self::Api | Self::E2e | Self::Chaos)
    }

    /// What it needs besides: the bridge of the tests of everything has the rights that the chart renders.
    pub(super) fn needs_too(self, sink: Option<Kind>) -> &'static [Binary] {
        match self {
            Self::E2e => &[Binary::Helm],
            Self::Broker if sink.is_some() => &[Binary::Helm],
            _ => &[],
        }
    }
}

/// What one kind of sink is held to: its broker, the sink by itself, and the whole way through the bridge.
fn of_sink(sink: Kind) -> Vec<Step> {
    use Step::{Integration, Tests, With};
    let whole = |test: &'static str, name: &'static str| {
        Tests(vec!["--manifest-path", "e2e/Cargo.toml", "--test", test, name])
    };
    let mut steps = match sink {
        Kind::Nats => vec![
            Integration("testbed", &["nats"]),
            Integration("sinks", &["nats", "nats_security", "nats_letters"]),
            whole("receivers", "nats_hears_everything"),
        ],
        Kind::Kafka => vec![
            With(&[Binary::Kafka], "testbed", &["kafka"]),
            With(&[Binary::Kafka], "sinks", &["kafka"]),
            whole("receivers", "kafka_hears_everything"),
        ],
        Kind::Rabbitmq => vec![
            With(&[Binary::Rabbitmq], "testbed", &["rabbitmq"]),
            With(
                &[Binary::Rabbitmq],
                "sinks",
                &["rabbitmq", "rabbitmq_connection", "rabbitmq_threads", "rabbitmq_letters"],
            ),
            whole("receivers", "rabbitmq_hears_everything"),
        ],
        Kind::Http => vec![Integration("sinks", &["http"]), whole("receivers", "http_hears_everything")],
    };
    // Their tests are called after the kind.
    let named = match sink {
        Kind::Nats => "nats::",
        Kind::Kafka => "kafka::",
        Kind::Rabbitmq => "rabbitmq::",
        Kind::Http => "http::",
    };
    steps.extend([whole("conformance", named), whole("bad_sinks", named)]);
    steps
}
