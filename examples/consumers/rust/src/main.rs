//! What an application that hears Events looks like, for each broker: it folds them, and acknowledges what it has folded.
//! `README.md` beside this crate says how to run it.

mod consumer;
mod fold;
mod http;
mod kafka;
mod nats;
mod rabbitmq;
mod wire;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::consumer::{Consumer, Options};

/// Folds the Events of a broker.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    from: From,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum From {
    /// A topic of Kafka
    Kafka(kafka::Kafka),
    /// A queue of RabbitMQ
    Rabbitmq(rabbitmq::Rabbitmq),
    /// A stream of NATS JetStream
    Nats(nats::Nats),
    /// What is posted to it
    Http(http::Http),
}

#[tokio::main]
async fn main() -> ExitCode {
    // Only for connections by TLS; an error says that one is installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        // Who restarts the consumer has lost nothing, since only what is folded was acknowledged.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(Cli { from, options }: Cli) -> Result<()> {
    let consumer = Consumer::start(options)?;
    match from {
        From::Kafka(kafka) => kafka::consume(&consumer, kafka).await?,
        From::Rabbitmq(rabbitmq) => rabbitmq::consume(&consumer, rabbitmq).await?,
        From::Nats(nats) => nats::consume(&consumer, nats).await?,
        From::Http(http) => return http::consume(consumer, http).await,
    }
    consumer.finish()
}
