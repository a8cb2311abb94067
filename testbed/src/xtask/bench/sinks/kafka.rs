//! Kafka: the moment that counts is when the broker appended the record, which it notes in milliseconds. They are taken as
//! the end of that millisecond.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::broker::{Holdings, PASSWORD, USER, key};
use super::load::{Load, rate};
use crate::component::Home;
use crate::folder::Folder;
use crate::kafka::{Kafka, KafkaOptions, KafkaUser, Listener, Record};
use crate::replay::write_todos;
use crate::xtask::bench::account::Account;
use crate::xtask::bench::progress::run_to_end;

/// Of each topic.
const PARTITIONS: i32 = 3;
/// Before anything is measured: a Java program is slow until it knows what it does most.
const WARM_UP: u64 = 150_000;

pub(super) struct KafkaBroker {
    kafka: Kafka,
    listener: Listener,
}

// === impl KafkaBroker ===

impl KafkaBroker {
    pub(super) async fn start(secured: bool) -> Result<Self> {
        let users = if secured { vec![KafkaUser::new(USER, PASSWORD)] } else { Vec::new() };
        let options = KafkaOptions { users, ..KafkaOptions::default() };
        let kafka = Kafka::start_with(&Home::Temporary, options).await?;
        let listener = if secured { Listener::SaslTls } else { Listener::Plain };
        let broker = Self { kafka, listener };
        broker.warm_up().await?;
        Ok(broker)
    }

    async fn warm_up(&self) -> Result<()> {
        let place = "warm-up";
        self.make(place).await?;
        let folder = Folder::temporary("load")?;
        let payloads = folder.path().join("payloads");
        write_todos(&payloads, 1000, 1024)?;
        let settings = self.settings();
        let program = self.kafka.load_program(place, WARM_UP, &payloads, &settings, folder.path())?;
        let (output, _) = run_to_end(&program).await?;
        rate(&output, WARM_UP).with_context(|| format!("the load tool said:\n{output}"))?;
        self.remove(place).await
    }

    pub(super) fn pid(&self) -> u32 {
        self.kafka.process().pid
    }

    pub(super) fn certificate(&self) -> &str {
        self.kafka.authority().certificate()
    }

    pub(super) async fn make(&self, place: &str) -> Result<()> {
        let settings = [("message.timestamp.type", "LogAppendTime")];
        self.kafka.create_topic(place, PARTITIONS, &settings).await
    }

    pub(super) async fn remove(&self, place: &str) -> Result<()> {
        self.kafka.delete_topic(place).await
    }

    pub(super) fn sink(&self, place: &str) -> Value {
        let mut sink = json!({"brokers": [self.kafka.address(self.listener)], "topic": place});
        if self.listener == Listener::SaslTls {
            sink["tls"] = json!({"caSecretRef": key("ca")});
            sink["sasl"] = json!({"scramSha512": {"user": USER, "passwordSecretRef": key("password")}});
        }
        sink
    }

    pub(super) async fn count(&self, place: &str) -> Result<u64> {
        self.kafka.count(place).await
    }

    pub(super) async fn holdings(&self, place: &str, events: u64, objects: u64) -> Result<Holdings> {
        let state = (Account::new(events, objects)?, 0, 0, Ok(()));
        let visited = self.kafka.visit(place, state, |(account, bytes, count, result), record| {
            *bytes += size(&record);
            *count += 1;
            if result.is_ok() {
                *result = take(account, &record);
            }
        });
        let (account, bytes, count, result) = visited.await?;
        result?;
        Ok(Holdings { account, bytes: bytes / u64::max(count, 1) })
    }

    pub(super) fn load(&self, place: &str) -> Load {
        Load::Kafka { place: place.to_owned(), settings: self.settings() }
    }

    /// Has the load tool.
    pub(super) fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// What the bridge's producer does, in the words of the Java client.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("bootstrap.servers", self.kafka.address(self.listener)),
            ("acks", "all".to_owned()),
            ("enable.idempotence", "true".to_owned()),
            ("compression.type", "lz4".to_owned()),
            ("linger.ms", "5".to_owned()),
            ("batch.size", "1000000".to_owned()),
            ("buffer.memory", (64 << 20).to_string()),
        ];
        if self.listener == Listener::SaslTls {
            let login = "org.apache.kafka.common.security.scram.ScramLoginModule";
            let login = format!("{login} required username=\"{USER}\" password=\"{PASSWORD}\";");
            settings.extend([
                ("security.protocol", "SASL_SSL".to_owned()),
                ("sasl.mechanism", "SCRAM-SHA-512".to_owned()),
                ("sasl.jaas.config", login),
                ("ssl.truststore.type", "PEM".to_owned()),
                ("ssl.truststore.location", self.kafka.folder().join("ca.crt").display().to_string()),
            ]);
        }
        settings
    }
}

fn take(account: &mut Account, record: &Record) -> Result<()> {
    let sequence = record.header("ce_sequence").context("no sequence")?;
    let millis = u64::try_from(record.timestamp.context("no time stamp")?)?;
    account.take(sequence, millis * 1_000_000 + 999_999)
}

fn size(record: &Record) -> u64 {
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let headers = record.headers.iter().map(|(name, value)| name.len() + length(value));
    (length(&record.key) + length(&record.value) + headers.sum::<usize>()) as u64
}
