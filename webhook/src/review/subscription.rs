//! A Subscription: whoever writes one, and the service account that it acts as, must be allowed to read what it reads.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use tidings_config::field_error::FieldErrors;
use tidings_config::sink::valid::Via;
use tidings_core::route::Kind;
use tidings_core::selection::Namespaces;
use tidings_crds::subscription::Subscription;
use tidings_crds::validate::{self, ValidSubscription};
use tidings_crds::warnings::warnings;

use super::{Case, Need, Resources, SinkFound, SinkName, Target, Who, sink};

/// A Subscription that makes sense.
#[derive(Debug)]
pub struct SubscriptionCase {
    namespace: String,
    valid: ValidSubscription,
    /// The kinds of its sources, in the order in which they are written.
    sources: Vec<Kind>,
}

/// What a source is read with.
const VERBS: [&str; 2] = ["list", "watch"];

pub(super) fn begin(object: &DynamicObject) -> Result<Case, FieldErrors> {
    let subscription: Subscription = validate::read(object)?;
    let valid = validate::validate(&subscription)?;
    let sources = subscription.spec.sources.iter();
    let sources = sources.map(|source| Kind::new(&source.api_version, &source.kind)).collect();
    let namespace = subscription.namespace().unwrap_or_default();
    Ok(Case::Subscription(SubscriptionCase { namespace, valid, sources }))
}

// === impl SubscriptionCase ===

impl SubscriptionCase {
    pub(super) fn kinds(&self) -> Vec<Kind> {
        self.valid.route.selections.keys().cloned().collect()
    }

    pub(super) fn sinks(&self) -> (&str, Vec<SinkName>) {
        let mut names: Vec<_> =
            self.valid.sinks().map(|(namespace, name)| (namespace.to_owned(), name.to_owned())).collect();
        names.sort();
        names.dedup();
        (&self.namespace, names)
    }

    pub(super) fn needs(&self, resources: &Resources) -> Vec<Need> {
        let account =
            Who::Account { namespace: self.namespace.clone(), name: self.valid.service_account.clone() };
        let everybody = [Who::User, account];
        let mut needs = Vec::new();
        for (kind, selection) in &self.valid.route.selections {
            let Some(Some(resource)) = resources.get(kind) else { continue };
            // Names and labels are picked out by the bridge, which reads all of them.
            let mut scopes: BTreeSet<Option<&String>> = BTreeSet::new();
            for scope in selection.scopes() {
                match &scope.namespaces {
                    Namespaces::Only(names) if resource.namespaced => scopes.extend(names.iter().map(Some)),
                    Namespaces::Only(_) | Namespaces::All => drop(scopes.insert(None)),
                }
            }
            for namespace in scopes {
                let target = Target {
                    group: resource.group.clone(),
                    version: resource.version.clone(),
                    plural: resource.plural.clone(),
                    namespace: namespace.cloned(),
                    name: None,
                };
                for (who, verb) in everybody.iter().flat_map(|who| VERBS.map(|verb| (who, verb))) {
                    let (path, who, target) = (self.path(kind), who.clone(), target.clone());
                    needs.push(Need { path, who, target, verb });
                }
            }
        }
        let sinks = [
            ("spec.sink", Some(&self.valid.sink)),
            ("spec.delivery.deadLetter", self.valid.dead_letter.as_ref()),
        ];
        for (path, sink) in sinks {
            // The Secrets of a Sink were looked at when that was written.
            if let Some(Via::Inline(connection)) = sink.map(|sink| &sink.via) {
                needs.extend(sink::secrets(connection, &self.namespace, path, &everybody));
            }
        }
        needs
    }

    pub(super) fn warnings(&self, resources: &Resources, sinks: &[(SinkName, SinkFound)]) -> Vec<String> {
        let unserved = resources.iter().filter(|(_, resource)| resource.is_none()).map(|(kind, _)| {
            format!(
                "{}: the cluster does not serve the kind {} of {}: nothing comes from it until its CRD is installed",
                self.path(kind),
                kind.kind,
                kind.api_version()
            )
        });
        // Of what lies in other namespaces nobody is told whether it exists.
        let sinks = sinks.iter().filter_map(|((namespace, name), found)| match found {
            SinkFound::Missing if *namespace == self.namespace => {
                Some(format!("spec.sink.ref: there is no Sink {name}: Events wait until there is one"))
            }
            SinkFound::Missing | SinkFound::Closed => Some(format!(
                "spec.sink.ref: there is no Sink {namespace}/{name} that allows this namespace: Events wait until there is one"
            )),
            SinkFound::Open | SinkFound::Unclear => None,
        });
        let unwise = warnings(&self.valid).into_iter().map(|warning| warning.to_string());
        unserved.chain(sinks).chain(unwise).collect()
    }

    /// Where the kind is written.
    fn path(&self, kind: &Kind) -> String {
        match self.sources.iter().position(|source| source == kind) {
            Some(index) => format!("spec.sources[{index}]"),
            None => "spec.sources".to_owned(),
        }
    }
}
