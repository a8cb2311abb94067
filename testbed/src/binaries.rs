//! The components' programs: built once per version from pinned Go modules, kept in the cache.
//!
//! Versions have one source, the `go.mod` files under `testbed/go`; changing one there is all an upgrade takes.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::cache;

mod build;
pub mod tools;

/// A program of the testbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// The store behind the API server.
    Etcd,
    /// The Kubernetes API.
    KubeApiserver,
    /// For people, and for scripts of tests.
    Kubectl,
    /// The NATS broker with JetStream.
    NatsServer,
}

/// How to build a program, and how long that takes at most on two cores with nothing cached.
struct Recipe {
    name: &'static str,
    module: Module,
    requirement: &'static str,
    package: &'static str,
    seconds: u32,
}

/// A Go module of this crate that only lists what to build.
#[derive(Clone, Copy)]
struct Module {
    folder: &'static str,
    file: &'static str,
}

const KUBERNETES: Module = Module { folder: "go/kubernetes", file: include_str!("../go/kubernetes/go.mod") };
const NATS: Module = Module { folder: "go/nats", file: include_str!("../go/nats/go.mod") };

// === impl Binary ===

impl Binary {
    /// Every program, in the order that builds fastest: the first ones compile what the later ones share.
    pub const ALL: [Self; 4] = [Self::KubeApiserver, Self::Etcd, Self::Kubectl, Self::NatsServer];

    /// The program's file name without version, such as `kube-apiserver`.
    pub fn name(self) -> &'static str {
        self.recipe().name
    }

    /// The version in use, without a leading `v`, such as `1.36.3`.
    pub fn version(self) -> &'static str {
        let Recipe { module, requirement, .. } = self.recipe();
        module.version_of(requirement)
    }

    /// Where the program is, or will be once [built](Self::ensure).
    pub fn path(self) -> Result<PathBuf> {
        // A folder per version, so that the program keeps its name, in `ps` and in a PATH.
        Ok(cache::folder("bin")?.join(format!("{}-{}", self.name(), self.version())).join(self.name()))
    }

    /// The program, built now if the cache does not have it: minutes the first time, nothing later. Blocks; progress goes
    /// to stderr. Two processes that ask at once do not build twice.
    pub fn ensure(self) -> Result<PathBuf> {
        let path = self.path()?;
        if !path.exists() {
            let lock = cache::root()?.join("build.lock");
            let _lock =
                cache::lock(&lock, Some("another run is building the testbed's programs: waiting for it"))?;
            if !path.exists() {
                tools::require(&tools::BUILD)?;
                build::build(&self.recipe(), &path)?;
            }
        }
        Ok(path)
    }

    /// [`ensure`](Self::ensure) without holding up an async runtime.
    pub async fn ensure_async(self) -> Result<PathBuf> {
        tokio::task::spawn_blocking(move || self.ensure()).await.context("building was interrupted")?
    }

    fn recipe(self) -> Recipe {
        let kubernetes = |name, package, seconds| Recipe {
            name,
            module: KUBERNETES,
            requirement: "k8s.io/kubernetes",
            package,
            seconds,
        };
        match self {
            Self::KubeApiserver => kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", 240),
            Self::Kubectl => kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl", 60),
            Self::Etcd => Recipe {
                name: "etcd",
                module: KUBERNETES,
                requirement: "go.etcd.io/etcd/server/v3",
                package: "go.etcd.io/etcd/server/v3",
                seconds: 60,
            },
            Self::NatsServer => Recipe {
                name: "nats-server",
                module: NATS,
                requirement: "github.com/nats-io/nats-server/v2",
                package: "github.com/nats-io/nats-server/v2",
                seconds: 40,
            },
        }
    }
}

/// Builds every program that is missing; see [`Binary::ensure`].
pub fn ensure_all() -> Result<()> {
    Binary::ALL.into_iter().try_for_each(|binary| binary.ensure().map(drop))
}

// === impl Module ===

impl Module {
    /// The pinned version of `requirement`, without `v`. Empty when `go.mod` does not name it, which a test excludes.
    fn version_of(self, requirement: &str) -> &'static str {
        let words = |line: &'static str| {
            let mut words = line.trim_start_matches("require").split_whitespace();
            (words.next(), words.next())
        };
        self.file
            .lines()
            .find_map(|line| match words(line) {
                (Some(name), Some(version)) if name == requirement => version.strip_prefix('v'),
                _ => None,
            })
            .unwrap_or_default()
    }

    /// Where the module lies in the checkout this crate was compiled in.
    fn path(self) -> Result<PathBuf> {
        let path = crate::root()?.join("testbed").join(self.folder);
        if !fs::exists(path.join("go.mod"))? {
            bail!("{} is gone: has the checkout moved since this program was compiled?", path.display());
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_a_version_pinned_in_its_go_module() {
        for binary in Binary::ALL {
            assert!(
                binary.version().split('.').count() == 3,
                "{binary:?} has version {:?}",
                binary.version()
            );
        }
    }
}
