//! The store behind the API server, and what forgets its history.

use std::ops::{Deref, DerefMut};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::binaries::Binary;
use crate::component::{Component, Home, Ready, Setup};
use crate::http;
use crate::ports::Port;

/// One etcd, on loopback without TLS.
#[derive(Debug)]
pub struct Etcd(Component);

// === impl Etcd ===

impl Etcd {
    /// Starts one with an empty store (or the one left in a [`Home::Detached`] folder).
    pub async fn start(home: &Home) -> Result<Self> {
        let component = Component::start(Binary::Etcd, home, |folder| {
            let (client, peer) = (Port::reserve()?, Port::reserve()?);
            let [client_url, peer_url] =
                [&client, &peer].map(|port| format!("http://127.0.0.1:{}", port.number()));
            let arguments = [
                "--name=testbed".to_owned(),
                format!("--data-dir={}", folder.join("data").display()),
                format!("--listen-client-urls={client_url}"),
                format!("--advertise-client-urls={client_url}"),
                format!("--listen-peer-urls={peer_url}"),
                format!("--initial-advertise-peer-urls={peer_url}"),
                format!("--initial-cluster=testbed={peer_url}"),
                // Nothing here has to survive a power cut, and a SIGKILL loses no page of the kernel.
                "--unsafe-no-fsync".to_owned(),
            ];
            let ready = Ready::Http { port: client.number(), path: "/health" };
            Ok(Setup { arguments: arguments.into(), ports: vec![client, peer], ready })
        });
        Ok(Self(component.await.context("start etcd")?))
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port(0))
    }

    /// The present revision, which Kubernetes shows as resourceVersion.
    pub async fn revision(&self) -> Result<i64> {
        // Any read tells it; "AA==" is the key of one zero byte.
        let answer = http::post(self.port(0), "/v3/kv/range", &json!({ "key": "AA==" })).await;
        revision_of(&answer.context("ask etcd for its revision")?)
    }

    /// Forgets everything before the present revision, and answers that. The API server forgets only when it restarts too.
    pub async fn compact(&self) -> Result<i64> {
        let revision = self.revision().await?;
        let request = json!({ "revision": revision.to_string(), "physical": true });
        http::post(self.port(0), "/v3/kv/compaction", &request).await.context("compact etcd")?;
        Ok(revision)
    }
}

impl Deref for Etcd {
    type Target = Component;

    fn deref(&self) -> &Component {
        &self.0
    }
}

impl DerefMut for Etcd {
    fn deref_mut(&mut self) -> &mut Component {
        &mut self.0
    }
}

fn revision_of(answer: &Value) -> Result<i64> {
    let revision = answer["header"]["revision"].as_str().and_then(|text| text.parse().ok());
    revision.with_context(|| format!("no revision in etcd's answer {answer}"))
}
