//! Filters, in the words of the CloudEvents Subscriptions API, and CEL.
//!
//! A definition cannot contain itself, so filters can be in each other three deep.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is in a filter, whatever its depth.
#[derive(Default)]
pub struct Parts<'a> {
    /// Attributes with their values.
    pub exact: Option<&'a BTreeMap<String, String>>,
    /// Attributes with how their values begin.
    pub prefix: Option<&'a BTreeMap<String, String>>,
    /// Attributes with how their values end.
    pub suffix: Option<&'a BTreeMap<String, String>>,
    /// An expression.
    pub cel: Option<&'a str>,
    /// All of these.
    pub all: Option<Vec<&'a dyn Dialects>>,
    /// At least one of these.
    pub any: Option<Vec<&'a dyn Dialects>>,
    /// Not this.
    pub not: Option<&'a dyn Dialects>,
}

/// A filter of some depth.
pub trait Dialects {
    /// What is in it.
    fn parts(&self) -> Parts<'_>;
}

/// A demand on an Event: exactly one of its fields.
macro_rules! filter {
    ($name:ident $(of $inner:ident)?) => {
        /// A demand on an Event: exactly one of its fields.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", default)]
        #[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
        pub struct $name {
            /// These attributes of the Event have these values: all of them.
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schemars(extend("minProperties" = 1, "maxProperties" = 16), inner(length(max = 1024)))]
            pub exact: Option<BTreeMap<String, String>>,
            /// The values of these attributes begin with these texts.
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schemars(extend("minProperties" = 1, "maxProperties" = 16), inner(length(min = 1, max = 1024)))]
            pub prefix: Option<BTreeMap<String, String>>,
            /// The values of these attributes end with these texts.
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schemars(extend("minProperties" = 1, "maxProperties" = 16), inner(length(min = 1, max = 1024)))]
            pub suffix: Option<BTreeMap<String, String>>,
            /// An expression in CEL that gives true or false. It can look at `object` (as it is sent), `change`
            /// (`change.kind`: Snapshot, Added, Updated, Deleted or Left; `change.reason`; `change.gap`; and
            /// `change.identity`, which is true where only apiVersion, kind and metadata of the object are known) and
            /// `event` (its attributes). A change of which it cannot say, e.g. because a field is not there, is sent;
            /// `has(object.spec.field)` asks first.
            #[serde(skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 1, max = 4096))]
            pub cel: Option<String>,
            $(
                /// All of these.
                #[serde(skip_serializing_if = "Option::is_none")]
                #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
                pub all: Option<Vec<$inner>>,
                /// At least one of these.
                #[serde(skip_serializing_if = "Option::is_none")]
                #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
                pub any: Option<Vec<$inner>>,
                /// Not this.
                #[serde(skip_serializing_if = "Option::is_none")]
                pub not: Option<$inner>,
            )?
        }

        impl Dialects for $name {
            fn parts(&self) -> Parts<'_> {
                let parts = Parts {
                    exact: self.exact.as_ref(),
                    prefix: self.prefix.as_ref(),
                    suffix: self.suffix.as_ref(),
                    cel: self.cel.as_deref(),
                    ..Parts::default()
                };
                $(
                    let parts = Parts {
                        all: self.all.as_deref().map(each::<$inner>),
                        any: self.any.as_deref().map(each::<$inner>),
                        not: self.not.as_ref().map(|inner| inner as &dyn Dialects),
                        ..parts
                    };
                )?
                parts
            }
        }
    };
}

fn each<T: Dialects>(inner: &[T]) -> Vec<&dyn Dialects> {
    inner.iter().map(|inner| inner as &dyn Dialects).collect()
}

filter!(Filter of InnerFilter);
filter!(InnerFilter of InnermostFilter);
filter!(InnermostFilter);
