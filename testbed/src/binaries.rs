//! The components' programs: built or fetched once per version and kept in the cache, or found on the machine.
//!
//! Versions have one source, the `go.mod` files under `testbed/go`, the `pom.xml` under `testbed/java` and the
//! `requirements.txt` of the examples; changing one there is all an upgrade takes. RabbitMQ alone is the machine's, since it
//! comes only as a package of a distribution.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cache;

mod build;
mod installed;
mod maven;
mod python;
pub mod tools;

use installed::Installed;
use maven::Project;
use python::Environment;

/// A program of the testbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// The store behind the API server.
    Etcd,
    /// The Kubernetes API.
    KubeApiserver,
    /// What makes objects of other objects, and takes them away: roles that are put together of others, service accounts,
    /// pods, what is left when an owner goes.
    KubeControllerManager,
    /// For people, and for scripts of tests.
    Kubectl,
    /// Installs the chart.
    Helm,
    /// The NATS broker with JetStream.
    NatsServer,
    /// The Kafka broker: a folder of jars, which Java runs.
    Kafka,
    /// The RabbitMQ broker: a script that becomes the Erlang machine.
    Rabbitmq,
    /// A Python with what the consumers of the examples need.
    Python,
}

/// How one comes by a program.
enum Source {
    /// Built from a Go module.
    Go(Recipe),
    /// Jars fetched with Maven.
    Maven(Project),
    /// Packages fetched with pip.
    Python(Environment),
    /// Installed by somebody.
    Installed(fn() -> Option<Installed>, tools::Tool),
}

/// How to build a program, and how long that takes at most on two cores with nothing cached.
struct Recipe {
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
const HELM: Module = Module { folder: "go/helm", file: include_str!("../go/helm/go.mod") };
const NATS: Module = Module { folder: "go/nats", file: include_str!("../go/nats/go.mod") };
const KAFKA: Project = Project {
    folder: "java/kafka",
    file: include_str!("../java/kafka/pom.xml"),
    version: "kafka.version",
    seconds: 120,
};
const PYTHON: Environment = Environment {
    list: "examples/consumers/python/requirements.txt",
    text: include_str!("../../examples/consumers/python/requirements.txt"),
    package: "cloudevents",
    seconds: 60,
};

// === impl Binary ===

impl Binary {
    /// What the demo, `cargo xtask up` and most tests run, in the order that builds fastest: the first ones compile what
    /// the later ones share.
    pub const USUAL: [Self; 4] = [Self::KubeApiserver, Self::Etcd, Self::Kubectl, Self::NatsServer];

    /// The program's file name without version, such as `kube-apiserver`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
            Self::NatsServer => "nats-server",
            Self::Kafka => "kafka",
            Self::Rabbitmq => "rabbitmq-server",
            Self::Python => "python",
        }
    }

    /// The version in use, without a leading `v`, such as `1.36.3`; of Python, that of its packages. Empty for one that
    /// somebody has to install first.
    pub fn version(self) -> String {
        match self.source() {
            Source::Go(Recipe { module, requirement, .. }) => module.version_of(requirement).to_owned(),
            Source::Maven(project) => project.version().to_owned(),
            Source::Python(environment) => environment.version(),
            Source::Installed(find, _) => find().map(|installed| installed.version).unwrap_or_default(),
        }
    }

    /// Where the program is, or will be once it is [there](Self::ensure).
    pub fn path(self) -> Result<PathBuf> {
        if let Source::Installed(find, tool) = self.source() {
            tools::require(&[tool])?;
            return Ok(find().with_context(|| format!("{} is gone", tool.name))?.program);
        }
        // A folder per version, so that the program keeps its name, in `ps` and in a PATH.
        let folder = cache::folder("bin")?.join(format!("{}-{}", self.name(), self.version()));
        Ok(match self.source() {
            Source::Python(_) => Environment::interpreter(&folder),
            _ => folder.join(self.name()),
        })
    }

    /// The program, built or fetched now if the cache does not have it: minutes the first time, nothing later. Blocks;
    /// progress goes to stderr. Two processes that ask at once do not do it twice.
    pub fn ensure(self) -> Result<PathBuf> {
        let path = self.path()?;
        match self.source() {
            Source::Maven(_) => tools::require(&[tools::JAVA])?,
            Source::Python(_) => tools::require(&[tools::PYTHON])?,
            _ => {}
        }
        if !path.exists() {
            let lock = cache::root()?.join("build.lock");
            let _lock =
                cache::lock(&lock, Some("another run is building the testbed's programs: waiting for it"))?;
            if !path.exists() {
                self.make(&path)?;
            }
        }
        Ok(path)
    }

    /// [`ensure`](Self::ensure) without holding up an async runtime.
    pub async fn ensure_async(self) -> Result<PathBuf> {
        tokio::task::spawn_blocking(move || self.ensure()).await.context("building was interrupted")?
    }

    fn make(self, path: &Path) -> Result<()> {
        match self.source() {
            Source::Go(recipe) => {
                tools::require(&tools::BUILD)?;
                build::build(self.name(), &recipe, path)
            }
            Source::Maven(project) => {
                tools::require(&tools::KAFKA)?;
                project.fetch(self.name(), path)
            }
            Source::Python(environment) => environment.make(path),
            Source::Installed(_, tool) => bail!("{} is gone from {}", tool.name, path.display()),
        }
    }

    fn source(self) -> Source {
        let go = |module, requirement, package, seconds| {
            Source::Go(Recipe { module, requirement, package, seconds })
        };
        let kubernetes = |package, seconds| go(KUBERNETES, "k8s.io/kubernetes", package, seconds);
        match self {
            Self::KubeApiserver => kubernetes("k8s.io/kubernetes/cmd/kube-apiserver", 240),
            Self::KubeControllerManager => kubernetes("k8s.io/kubernetes/cmd/kube-controller-manager", 90),
            Self::Kubectl => kubernetes("k8s.io/kubernetes/cmd/kubectl", 60),
            Self::Helm => go(HELM, "helm.sh/helm/v4", "helm.sh/helm/v4/cmd/helm", 260),
            Self::Etcd => go(KUBERNETES, "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", 60),
            Self::NatsServer => {
                go(NATS, "github.com/nats-io/nats-server/v2", "github.com/nats-io/nats-server/v2", 40)
            }
            Self::Kafka => Source::Maven(KAFKA),
            Self::Rabbitmq => Source::Installed(installed::rabbitmq, tools::RABBITMQ),
            Self::Python => Source::Python(PYTHON),
        }
    }
}

/// Makes sure of every one of [`Binary::USUAL`]; see [`Binary::ensure`].
pub fn ensure_usual() -> Result<()> {
    Binary::USUAL.into_iter().try_for_each(|binary| binary.ensure().map(drop))
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
        pinned(self.folder, "go.mod")
    }
}

/// The file of the checkout that pins versions.
fn pinned_file(file: &str) -> Result<PathBuf> {
    let path = crate::root()?.join(file);
    if !fs::exists(&path)? {
        bail!("{} is gone: has the checkout moved since this program was compiled?", path.display());
    }
    Ok(path)
}

/// The `folder` of this crate in which `file` pins a version.
fn pinned(folder: &str, file: &str) -> Result<PathBuf> {
    let file = pinned_file(&format!("testbed/{folder}/{file}"))?;
    Ok(file.parent().context("a file without a folder")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_we_make_has_a_version_pinned_in_the_checkout() {
        let others = [Binary::KubeControllerManager, Binary::Helm, Binary::Kafka, Binary::Python];
        for binary in Binary::USUAL.into_iter().chain(others) {
            assert!(
                binary.version().split('.').count() == 3,
                "{binary:?} has version {:?}",
                binary.version()
            );
        }
    }
}
