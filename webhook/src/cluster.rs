//! What is asked of the cluster about an object: how kinds are served, who may read what, and whether Sinks are there.
//!
//! What somebody may do is believed for a few seconds, so that an API server under load is not asked the same again and
//! again; what somebody may not do is always asked anew, since people try again as soon as they have got the right.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIResource, APIResourceList, LabelSelector};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::{Selector, SelectorExt as _};
use tidings_core::route::{Kind, Resource};
use tidings_crds::sink::Sink;
use tidings_crds::validate;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::review::{Need, Resources, SinkFound, SinkName, Target, Who};
use tidings_config::chain::chain;

/// What was found out is believed for so long.
const BELIEVED: Duration = Duration::from_secs(5);
/// So much is remembered of each kind; then everything is forgotten.
const REMEMBERED: usize = 10_000;
/// So many questions are asked at once for one request.
const AT_ONCE: usize = 16;

/// Asks an API server.
pub(crate) struct Cluster {
    client: kube::Client,
    metrics: Metrics,
    served: Mutex<HashMap<String, (Instant, Arc<APIResourceList>)>>,
    allowed: Mutex<HashMap<Allowed, Instant>>,
}

/// Somebody who may do something.
#[derive(PartialEq, Eq, Hash)]
struct Allowed {
    who: Arc<str>,
    verb: &'static str,
    target: Target,
}

/// Why it cannot be said whether an object may be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the API server does not say what it serves of {group_version}: {problem}")]
    Discovery { group_version: String, problem: String },
    #[error("the API server does not say who may {verb} what: {problem}")]
    Access { verb: &'static str, problem: String },
}

// === impl Cluster ===

impl Cluster {
    pub(crate) fn new(client: kube::Client, metrics: Metrics) -> Self {
        Self { client, metrics, served: Mutex::default(), allowed: Mutex::default() }
    }

    /// How each of `kinds` is served.
    pub(crate) async fn find(&self, kinds: Vec<Kind>) -> Result<Resources, Error> {
        let found = stream::iter(kinds).map(|kind| async {
            let resource = self.find_one(&kind).await?;
            Ok((kind, resource))
        });
        found.buffer_unordered(AT_ONCE).try_collect::<BTreeMap<_, _>>().await
    }

    /// The rights of `needs` that are lacking, in their order; `user` is who asks.
    pub(crate) async fn denied(&self, needs: Vec<Need>, user: &UserInfo) -> Result<Vec<Need>, Error> {
        let user_key: Arc<str> = key(user);
        let answers = stream::iter(needs).map(|need| {
            let who = match &need.who {
                Who::User => user_key.clone(),
                Who::Account { namespace, name } => format!("account {namespace}/{name}").into(),
            };
            let allowed = Allowed { who, verb: need.verb, target: need.target.clone() };
            async move { Ok((self.may(allowed, &need, user).await?, need)) }
        });
        let answers: Vec<_> = answers.buffered(AT_ONCE).try_collect().await?;
        Ok(answers.into_iter().filter(|(may, _)| !may).map(|(_, need)| need).collect())
    }

    /// Whether `names` are there and let Subscriptions of `namespace` in. Only for warnings: what cannot be found out is no
    /// error.
    pub(crate) async fn sinks(
        &self,
        (namespace, names): (&str, Vec<SinkName>),
    ) -> Vec<(SinkName, SinkFound)> {
        let found = stream::iter(names).map(|name| async {
            let found = self.sink(namespace, &name).await.unwrap_or_else(|error| {
                tracing::debug!(sink = ?name, error = chain(&error), "unable to look at a Sink");
                SinkFound::Unclear
            });
            (name, found)
        });
        found.buffered(AT_ONCE).collect().await
    }

    async fn find_one(&self, kind: &Kind) -> Result<Option<Resource>, Error> {
        let group_version = kind.api_version();
        if let Some((asked, list)) = lock(&self.served).get(&group_version)
            && asked.elapsed() < BELIEVED
            && let Some(resource) = in_list(list, kind)
        {
            return Ok(Some(resource));
        }
        let asked = if kind.group.is_empty() {
            self.client.list_core_api_resources(&kind.version).await
        } else {
            self.client.list_api_group_resources(&group_version).await
        };
        let list = match asked {
            Ok(list) => Arc::new(list),
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => return Err(Error::Discovery { group_version, problem: chain(&error) }),
        };
        let resource = in_list(&list, kind);
        remember(&self.served, group_version, (Instant::now(), list));
        Ok(resource)
    }

    async fn may(&self, allowed: Allowed, need: &Need, user: &UserInfo) -> Result<bool, Error> {
        if lock(&self.allowed).get(&allowed).is_some_and(|asked| asked.elapsed() < BELIEVED) {
            self.metrics.access("remembered");
            return Ok(true);
        }
        let review = SubjectAccessReview { spec: spec(need, user), ..SubjectAccessReview::default() };
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let status = match reviews.create(&PostParams::default(), &review).await {
            Ok(review) => review.status.unwrap_or_default(),
            Err(error) => return Err(Error::Access { verb: need.verb, problem: chain(&error) }),
        };
        if status.allowed {
            remember(&self.allowed, allowed, Instant::now());
        }
        self.metrics.access(if status.allowed { "allowed" } else { "denied" });
        Ok(status.allowed)
    }

    async fn sink(&self, from: &str, (namespace, name): &SinkName) -> Result<SinkFound, kube::Error> {
        // As a newer definition may have it: what cannot be read here is for the bridge to say.
        let resource = ApiResource::erase::<Sink>(&());
        let sinks = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &resource);
        let Some(object) = sinks.get_opt(name).await? else { return Ok(SinkFound::Missing) };
        let Ok(sink) = validate::read::<Sink>(&object) else { return Ok(SinkFound::Unclear) };
        let allowed = sink.spec.allowed_namespaces.unwrap_or_default();
        let open = match allowed.allows(namespace, from) {
            Some(open) => open,
            None => self.is_selected(from, allowed.selector.unwrap_or_default()).await?,
        };
        Ok(if open { SinkFound::Open } else { SinkFound::Closed })
    }

    async fn is_selected(&self, namespace: &str, selector: LabelSelector) -> Result<bool, kube::Error> {
        let Ok(selector) = Selector::try_from(selector) else { return Ok(false) };
        let namespace = Api::<Namespace>::all(self.client.clone()).get_metadata(namespace).await?;
        Ok(selector.matches(&namespace.metadata.labels.unwrap_or_default()))
    }
}

/// The question whether somebody has the right.
fn spec(need: &Need, user: &UserInfo) -> SubjectAccessReviewSpec {
    let Need { path: _, who, target, verb } = need;
    let Target { group, version, plural, namespace, name } = target.clone();
    let attributes = ResourceAttributes {
        group: Some(group),
        version: Some(version),
        resource: Some(plural),
        namespace,
        name,
        verb: Some((*verb).to_owned()),
        ..ResourceAttributes::default()
    };
    let (user, groups, extra, uid) = match who {
        Who::User => {
            let UserInfo { username, groups, extra, uid } = user.clone();
            (username, groups, extra, uid)
        }
        // As the API server itself sees a service account.
        Who::Account { namespace, name } => {
            let groups = vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ];
            (Some(format!("system:serviceaccount:{namespace}:{name}")), Some(groups), None, None)
        }
    };
    SubjectAccessReviewSpec {
        user,
        groups,
        extra,
        uid,
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    }
}

/// Everything that a decision about this user can rest on.
fn key(user: &UserInfo) -> Arc<str> {
    let UserInfo { username, groups, extra, uid } = user;
    format!("user {username:?} {groups:?} {extra:?} {uid:?}").into()
}

fn in_list(list: &APIResourceList, kind: &Kind) -> Option<Resource> {
    // Subresources have a slash; some resources can only be created.
    let can_be_watched = |resource: &&APIResource| {
        let has = |verb: &str| resource.verbs.iter().any(|has| has == verb);
        resource.kind == kind.kind && !resource.name.contains('/') && has("list") && has("watch")
    };
    let resource = list.resources.iter().find(can_be_watched)?;
    Some(Resource {
        group: kind.group.clone(),
        version: kind.version.clone(),
        kind: kind.kind.clone(),
        plural: resource.name.clone(),
        namespaced: resource.namespaced,
    })
}

fn remember<K: Eq + std::hash::Hash, V>(memory: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut memory = lock(memory);
    if memory.len() >= REMEMBERED {
        memory.clear();
    }
    memory.insert(key, value);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
