//! Which resource the cluster serves for a kind, or for a name as `kubectl` takes it.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIResource, APIResourceList};
use tidings_core::route::{Kind, Resource};

use tidings_config::chain::chain;

/// What the cluster says about a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It serves it.
    Resource(Resource),
    /// It does not, and this is what to do about it.
    NotServed(String),
}

/// Why a kind or a name could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer, or not well.
    #[error("unable to ask the API server what it serves: {0}")]
    Api(String),
    /// It did not answer.
    #[error("the API server did not say within {0:?} what it serves")]
    Silent(Duration),
    /// No resource has that name.
    #[error("the cluster serves no resource called {0:?}; `kubectl api-resources` lists what there is")]
    Unknown(String),
    /// Several have it.
    #[error("{name:?} may be any of {candidates}; name it in full")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// The full names of what it may be.
        candidates: String,
    },
}

/// The resource of `kind`.
pub async fn find(client: &kube::Client, kind: &Kind) -> Result<Found, Error> {
    let list = match group_version(client, &kind.group, &kind.version).await {
        Ok(list) => list,
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(not_served(kind)),
        Err(error) => return Err(Error::Api(chain(&error))),
    };
    let resource =
        list.resources.iter().find(|resource| resource.kind == kind.kind && can_be_watched(resource));
    Ok(match resource {
        Some(resource) => Found::Resource(to_resource(resource, &kind.group, &kind.version)),
        None => not_served(kind),
    })
}

/// The resource a person means by `name`: `todos.v1.k8sasbackend.com`, `todos.k8sasbackend.com`, `todos`,
/// `Todo` or a short name.
pub async fn resolve(client: &kube::Client, name: &str) -> Result<Resource, Error> {
    let api = |error: kube::Error| Error::Api(chain(&error));
    let groups = client.list_api_groups().await.map_err(api)?;
    let mut group_versions = vec![(String::new(), "v1".to_owned())];
    for group in groups.groups {
        // The preferred version first: without a version in the name, it is the one that is meant.
        let preferred = group.preferred_version.map(|version| version.version);
        let others = group.versions.into_iter().map(|version| version.version);
        let mut versions: Vec<_> = preferred.into_iter().collect();
        for version in others {
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        group_versions.extend(versions.into_iter().map(|version| (group.name.clone(), version)));
    }
    let mut candidates: Vec<Resource> = Vec::new();
    for (group, version) in group_versions.iter().filter(|(group, version)| may_be(name, group, version)) {
        // A group whose server is down must not hide the others.
        let Ok(list) = group_version(client, group, version).await else { continue };
        for resource in list.resources.iter().filter(|resource| can_be_watched(resource)) {
            let found = to_resource(resource, group, version);
            if names(resource, &found, name) && !candidates.iter().any(|other| same_resource(other, &found)) {
                candidates.push(found);
            }
        }
    }
    match candidates.len() {
        0 => Err(Error::Unknown(name.to_owned())),
        1 => Ok(candidates.remove(0)),
        _ => {
            let candidates: Vec<_> = candidates.iter().map(ToString::to_string).collect();
            Err(Error::Ambiguous { name: name.to_owned(), candidates: candidates.join(", ") })
        }
    }
}

async fn group_version(
    client: &kube::Client,
    group: &str,
    version: &str,
) -> Result<APIResourceList, kube::Error> {
    if group.is_empty() {
        client.list_core_api_resources(version).await
    } else {
        client.list_api_group_resources(&format!("{group}/{version}")).await
    }
}

fn not_served(kind: &Kind) -> Found {
    Found::NotServed(format!(
        "the cluster does not serve the kind {} of {}; is its CRD installed?",
        kind.kind,
        kind.api_version()
    ))
}

/// Subresources have a slash; some resources can only be created.
fn can_be_watched(resource: &APIResource) -> bool {
    let has = |verb: &str| resource.verbs.iter().any(|has| has == verb);
    !resource.name.contains('/') && has("list") && has("watch")
}

fn to_resource(resource: &APIResource, group: &str, version: &str) -> Resource {
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: resource.kind.clone(),
        plural: resource.name.clone(),
        namespaced: resource.namespaced,
    }
}

/// Saves asking for groups that the name excludes.
fn may_be(name: &str, group: &str, version: &str) -> bool {
    match name.split_once('.') {
        None => true,
        Some((_, rest)) => {
            rest == group || rest == version && group.is_empty() || rest == format!("{version}.{group}")
        }
    }
}

fn names(resource: &APIResource, found: &Resource, name: &str) -> bool {
    let plain = name.split_once('.').map_or(name, |(plain, _)| plain);
    let short = resource.short_names.iter().flatten().any(|short| short == plain);
    plain == found.plural
        || plain.eq_ignore_ascii_case(&found.kind)
        || plain == resource.singular_name && !plain.is_empty()
        || short
}

fn same_resource(left: &Resource, right: &Resource) -> bool {
    (&left.group, &left.plural) == (&right.group, &right.plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn todos() -> APIResource {
        APIResource {
            name: "todos".into(),
            singular_name: "todo".into(),
            kind: "Todo".into(),
            namespaced: true,
            short_names: Some(vec!["td".into()]),
            verbs: vec!["list".into(), "watch".into()],
            ..APIResource::default()
        }
    }

    #[test]
    fn a_resource_goes_by_all_its_names() {
        let found = to_resource(&todos(), "k8sasbackend.com", "v1");
        for name in ["todos", "todo", "Todo", "td", "todos.k8sasbackend.com", "todos.v1.k8sasbackend.com"] {
            assert!(names(&todos(), &found, name) && may_be(name, "k8sasbackend.com", "v1"), "{name}");
        }
        for name in ["tod", "todos.v2.k8sasbackend.com", "todos.example.com", "todos.v1"] {
            assert!(!(names(&todos(), &found, name) && may_be(name, "k8sasbackend.com", "v1")), "{name}");
        }
        assert!(may_be("pods.v1", "", "v1"));
    }

    #[test]
    fn what_cannot_be_watched_is_not_found() {
        assert!(can_be_watched(&todos()));
        assert!(!can_be_watched(&APIResource { name: "todos/status".into(), ..todos() }));
        assert!(!can_be_watched(&APIResource { verbs: vec!["create".into()], ..todos() }));
    }
}
