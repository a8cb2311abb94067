//! What is told of objects more than once: by the answer to a write, and by the watch.

use kube::api::ObjectMeta;

/// Whether `told` is an earlier version of the object that is known as `known`.
pub(crate) fn is_older(told: &ObjectMeta, known: &ObjectMeta) -> bool {
    let number = |metadata: &ObjectMeta| metadata.resource_version.as_ref()?.parse::<u64>().ok();
    told.uid == known.uid && number(told) < number(known)
}
