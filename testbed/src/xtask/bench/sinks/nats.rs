//! NATS: the moment that counts is the stream's own time stamp.

use anyhow::{Context, Result};
use async_nats::jetstream;
use serde_json::{Value, json};

use super::broker::{Holdings, PASSWORD, USER, key};
use super::load::{Load, Target};
use crate::component::Home;
use crate::consumer;
use crate::nats::{Nats, NatsOptions, NatsUser};
use crate::receiver::Kind;
use crate::xtask::bench::stream::{account, find};

pub(super) struct NatsBroker {
    nats: Nats,
    client: async_nats::Client,
    ca: Option<String>,
}

// === impl NatsBroker ===

impl NatsBroker {
    pub(super) async fn start(secured: bool) -> Result<Self> {
        let users = if secured { vec![NatsUser::new(USER, PASSWORD)] } else { Vec::new() };
        let options = NatsOptions { users, tls: secured, ..NatsOptions::default() };
        let nats = Nats::start_with(&Home::Temporary, options).await?;
        let client = nats.client().await?;
        let ca = nats.ca_path().map(std::fs::read_to_string).transpose().context("read the certificate")?;
        Ok(Self { nats, client, ca })
    }

    pub(super) fn pid(&self) -> u32 {
        self.nats.process().pid
    }

    pub(super) fn certificate(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    pub(super) async fn make(&self, place: &str) -> Result<()> {
        consumer::create_stream(&self.client, place).await
    }

    pub(super) async fn remove(&self, place: &str) -> Result<()> {
        jetstream::new(self.client.clone()).delete_stream(place).await?;
        Ok(())
    }

    pub(super) fn sink(&self, place: &str) -> Value {
        let subject = format!("{place}.{{namespace}}.{{name}}.{{change}}");
        let mut sink = json!({"servers": [self.nats.url()], "subject": subject});
        if self.ca.is_some() {
            sink["tls"] = json!({"caSecretRef": key("ca")});
            sink["auth"] = json!({"user": USER, "passwordSecretRef": key("password")});
        }
        sink
    }

    pub(super) async fn count(&self, place: &str) -> Result<u64> {
        Ok(find(&self.client, place).await?.info().await?.state.messages)
    }

    pub(super) async fn holdings(&self, place: &str, events: u64, objects: u64) -> Result<Holdings> {
        let mut stream = find(&self.client, place).await?;
        let state = &stream.info().await?.state;
        let bytes = state.bytes / state.messages.max(1);
        Ok(Holdings { account: account(&self.client, place, events, objects).await?, bytes })
    }

    pub(super) fn load(&self, place: &str) -> Load {
        let user = self.ca.is_some().then(|| (USER.to_owned(), PASSWORD.to_owned()));
        Load::Own(Target {
            kind: Kind::Nats,
            url: self.nats.url(),
            place: place.to_owned(),
            user,
            ca: self.ca.clone(),
        })
    }
}
