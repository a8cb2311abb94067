//! A Sink: whoever writes one must be allowed to read the Secrets that it names.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use tidings_config::field_error::FieldErrors;
use tidings_config::sink::valid::ValidConnection;
use tidings_crds::sink::{Sink, ValidSinkSpec};
use tidings_crds::{validate, warnings};

use super::{Case, Need, Target, Who};

/// A Sink that makes sense.
#[derive(Debug)]
pub struct SinkCase {
    namespace: String,
    valid: ValidSinkSpec,
}

pub(super) fn begin(object: &DynamicObject) -> Result<Case, FieldErrors> {
    let sink: Sink = validate::read(object)?;
    let valid = sink.spec.validate()?;
    Ok(Case::Sink(SinkCase { namespace: sink.namespace().unwrap_or_default(), valid }))
}

// === impl SinkCase ===

impl SinkCase {
    pub(super) fn needs(&self) -> Vec<Need> {
        let Self { namespace, valid } = self;
        secrets(&valid.connection, namespace, "spec", &[Who::User])
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        warnings::of_sink(&self.valid).iter().map(ToString::to_string).collect()
    }
}

/// That all of `who` may read each Secret of the connection at `path`.
pub(super) fn secrets(connection: &ValidConnection, namespace: &str, path: &str, who: &[Who]) -> Vec<Need> {
    let names: BTreeSet<_> = connection.secrets().into_iter().map(|key| key.name).collect();
    let need = |(name, who): (&String, &Who)| Need {
        path: path.to_owned(),
        who: who.clone(),
        target: Target::secret(namespace, name),
        verb: "get",
    };
    names.iter().flat_map(|name| who.iter().map(move |who| need((name, who)))).collect()
}
