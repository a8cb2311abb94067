//! The store behind the API server, and what forgets its history.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::binaries::Binary;
use crate::component::{Component, Home, Ready, Setup};
use crate::folder::Folder;
use crate::http;
use crate::ports::Port;

/// One etcd, on loopback without TLS.
#[derive(Debug)]
pub struct Etcd(Component);

/// Everything an etcd held at one time.
#[derive(Debug)]
pub struct Backup(Folder);

/// Where it keeps what it holds, in its folder.
const DATA: &str = "data";

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
                format!("--data-dir={}", folder.join(DATA).display()),
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

    /// What it holds now. It is away for a moment.
    pub async fn back_up(&mut self) -> Result<Backup> {
        self.stop().await?;
        let folder = Folder::temporary("backup")?;
        copy(&self.folder().join(DATA), &folder.path().join(DATA))?;
        self.restart().await?;
        Ok(Backup(folder))
    }

    /// Back to what it held then, as operators do with a backup: nobody may use it meanwhile.
    pub async fn restore(&mut self, backup: &Backup) -> Result<()> {
        self.stop().await?;
        let data = self.folder().join(DATA);
        fs::remove_dir_all(&data).with_context(|| format!("remove {}", data.display()))?;
        copy(&backup.0.path().join(DATA), &data)?;
        self.restart().await
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

/// Copies a folder with everything in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).with_context(|| format!("create folder {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        }
    }
    Ok(())
}
