//! What can be done to a broker. A receiver of HTTP has no stored data; what it heard stays.

use anyhow::{Context as _, Result};

use super::Security;
use super::broker::{Broker, Server};

// === impl Broker ===

impl Broker {
    /// Ends it as a crash does: connections end, and what it had not said that it holds may be lost.
    pub async fn kill(&mut self) -> Result<()> {
        match &mut self.0 {
            Server::Nats { plain, secured } => {
                plain.kill()?;
                secured.as_mut().map_or(Ok(()), |nats| nats.kill())
            }
            Server::Kafka(kafka) => kafka.kill(),
            Server::Rabbitmq(rabbitmq) => rabbitmq.kill(),
            Server::Http(endpoint) => {
                endpoint.kill().await;
                Ok(())
            }
        }
    }

    /// Starts it again with what it had. One that runs is stopped first, politely.
    pub async fn restart(&mut self) -> Result<()> {
        match &mut self.0 {
            Server::Nats { plain, secured } => {
                plain.restart().await?;
                match secured {
                    Some(nats) => nats.restart().await,
                    None => Ok(()),
                }
            }
            Server::Kafka(kafka) => kafka.restart().await,
            Server::Rabbitmq(rabbitmq) => rabbitmq.restart().await,
            Server::Http(endpoint) => endpoint.restart().await,
        }
    }

    /// Connections stay, and nothing answers.
    pub fn pause(&mut self) -> Result<()> {
        match &mut self.0 {
            Server::Nats { plain, secured } => {
                plain.pause()?;
                secured.as_mut().map_or(Ok(()), |nats| nats.pause())
            }
            Server::Kafka(kafka) => kafka.pause(),
            Server::Rabbitmq(rabbitmq) => rabbitmq.pause(),
            Server::Http(endpoint) => {
                endpoint.pause();
                Ok(())
            }
        }
    }

    /// Ends a pause.
    pub fn resume(&mut self) -> Result<()> {
        match &mut self.0 {
            Server::Nats { plain, secured } => {
                plain.resume()?;
                secured.as_mut().map_or(Ok(()), |nats| nats.resume())
            }
            Server::Kafka(kafka) => kafka.resume(),
            Server::Rabbitmq(rabbitmq) => rabbitmq.resume(),
            Server::Http(endpoint) => {
                endpoint.resume();
                Ok(())
            }
        }
    }

    /// From now on `user` has this password, where passwords are asked for, and the old one is good for nothing new.
    pub async fn set_password(&mut self, user: &str, password: &str) -> Result<()> {
        match &mut self.0 {
            Server::Nats { secured, .. } => {
                secured.as_mut().context("nobody is asked for a password")?.set_password(user, password).await
            }
            Server::Kafka(kafka) => kafka.set_password(user, password).await,
            Server::Rabbitmq(rabbitmq) => rabbitmq.set_password(user, password).await,
            Server::Http(endpoint) => {
                endpoint.set_user(user, password, true);
                Ok(())
            }
        }
    }

    /// Whether a receiver of HTTP refuses for good what it is told at `place` of the object `namespace/name`. The others
    /// refuse nothing but what is too large.
    pub fn reject(&self, place: &str, key: &str, rejects: bool) -> Result<()> {
        match &self.0 {
            Server::Http(endpoint) => {
                endpoint.reject(place, &format!("/{key}"), rejects);
                Ok(())
            }
            _ => anyhow::bail!("only a receiver of HTTP refuses what it is told"),
        }
    }

    /// Where an application of its own can hear the same as the plain way in: arguments of the consumers in
    /// `examples/consumers`. Nothing for HTTP, which only one hears.
    pub fn consumer(&self, place: &str) -> Option<String> {
        let server = self.url(Security::Plain).ok()?;
        match &self.0 {
            Server::Nats { .. } => Some(format!("nats --server {server} --stream {place}")),
            Server::Kafka(_) => Some(format!("kafka --server {server} --topic {place}")),
            Server::Rabbitmq(_) => Some(format!("rabbitmq --server {server} --exchange {place}")),
            Server::Http(_) => None,
        }
    }
}
