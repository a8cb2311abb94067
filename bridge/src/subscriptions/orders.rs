//! What a person orders for what is blocked, as it stands at a Subscription.

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use tidings_core::object::ObjectKey;
use tidings_crds::subscription::orders;

use crate::deliver::{Orders, RetryOrder};

/// What is ordered.
pub(super) fn of(object: &DynamicObject) -> Orders {
    let annotations = object.annotations();
    let retry = orders::retry(annotations).map(|(token, key)| RetryOrder {
        token: token.to_owned(),
        key: key.map(|key| match key.split_once('/') {
            Some((namespace, name)) => ObjectKey::new(Some(namespace), name),
            None => ObjectKey::new(None, key),
        }),
    });
    Orders { retry, skip: orders::skip(annotations).into_iter().map(str::to_owned).collect() }
}
