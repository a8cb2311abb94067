//! The Secret in which replicas share their authorities. Whoever writes says which version it has read, so that of two who
//! write at once one does, and the other reads what that wrote.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use super::authority::Authority;

/// Where the authorities are in the Secret, as JSON.
const AUTHORITIES: &str = "authorities.json";
/// Their certificates, for people.
const BUNDLE: &str = "ca.crt";

/// What became of a write.
pub(super) enum Written {
    /// It is so now.
    Stored(Box<Secret>),
    /// Somebody else was faster.
    Outdated,
}

/// The authorities in a Secret, the oldest first. What cannot be understood counts as nothing: new ones are made.
pub(super) fn read(secret: &Secret) -> Vec<Authority> {
    let Some(ByteString(json)) = secret.data.as_ref().and_then(|data| data.get(AUTHORITIES)) else {
        return Vec::new();
    };
    let authorities: Vec<Authority> = match serde_json::from_slice(json) {
        Ok(authorities) => authorities,
        // Not the error's own words: they may quote what they stumbled over.
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            tracing::error!(line, column, "the authorities in the Secret cannot be read; making new ones");
            return Vec::new();
        }
    };
    let (good, bad): (Vec<_>, Vec<_>) =
        authorities.into_iter().partition(|authority| authority.ends().is_ok());
    if !bad.is_empty() {
        tracing::error!(count = bad.len(), "authorities in the Secret are not certificates; left out");
    }
    good
}

/// Writes the authorities in the place of `before`; creates the Secret where there is none.
pub(super) async fn write(
    secrets: &Api<Secret>,
    name: &str,
    before: Option<&Secret>,
    authorities: &[Authority],
) -> Result<Written, kube::Error> {
    let mut secret = before.cloned().unwrap_or_else(|| Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([
                ("app.kubernetes.io/name".to_owned(), "tidings".to_owned()),
                ("app.kubernetes.io/component".to_owned(), "webhook".to_owned()),
            ])),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    });
    let json = serde_json::to_vec(authorities).map_err(kube::Error::SerdeError)?;
    let bundle: String = authorities.iter().map(|authority| authority.certificate.as_str()).collect();
    let data = secret.data.get_or_insert_default();
    data.insert(AUTHORITIES.to_owned(), ByteString(json));
    data.insert(BUNDLE.to_owned(), ByteString(bundle.into_bytes()));
    let written = match before {
        Some(_) => secrets.replace(name, &PostParams::default(), &secret).await,
        None => secrets.create(&PostParams::default(), &secret).await,
    };
    match written {
        Ok(secret) => Ok(Written::Stored(Box::new(secret))),
        // 404: it was deleted meanwhile.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Written::Outdated),
        Err(error) => Err(error),
    }
}
