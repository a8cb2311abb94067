//! The requests a Watch makes, and what answers mean for it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use serde::Deserialize;
use tidings_core::object::{ObjectKey, ResourceVersion};
use tidings_core::route::Resource;

use tidings_config::chain::chain;

/// An error answer is a small JSON object; more is not read.
const MOST_OF_AN_ERROR: usize = 64 * 1024;

/// Why a stream or a LIST did not go on. What to do about it follows from the variant, never from the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// 410: the version asked for is not in the history any more.
    #[error("the history after the position is gone")]
    Expired,
    /// 404: the resource is not served.
    #[error("the resource is not served: {reason}")]
    NotFound {
        /// The server's words.
        reason: String,
    },
    /// 401 or 403.
    #[error("access refused: {reason}")]
    Forbidden {
        /// The server's words.
        reason: String,
    },
    /// 400 or 422: the server does not know a parameter.
    #[error("request refused: {reason}")]
    Refused {
        /// The server's words.
        reason: String,
    },
    /// 429, 5xx, or any other answer that may be better later.
    #[error("the API server is not ready: {reason}")]
    Unavailable {
        /// The server's words.
        reason: String,
        /// `Retry-After`.
        after: Option<Duration>,
    },
    /// No answer.
    #[error("unable to reach the API server: {reason}")]
    Unreachable {
        /// What failed.
        reason: String,
    },
    /// The connection broke, or what came is not what the protocol says.
    #[error("the stream broke: {reason}")]
    Broken {
        /// What failed.
        reason: String,
    },
    /// Nothing came for longer than it should.
    #[error("nothing came for {0:?}")]
    Silent(Duration),
    /// The bridge itself could not take in more, and will go on from the last position.
    #[error("the bridge could not keep up")]
    Full,
    /// The server ended the stream in good order, as it does every few minutes.
    #[error("the stream ended")]
    Ended,
    /// A page is larger than the bridge reads at once.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The most that is read.
        limit: usize,
    },
}

/// The parts of a `metav1.Status` that decide.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    pub(super) code: u16,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) details: Option<StatusDetails>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusDetails {
    #[serde(default)]
    pub(super) retry_after_seconds: Option<u64>,
}

/// One resource, in one namespace or all of them.
#[derive(Clone)]
pub(super) struct Endpoint {
    client: kube::Client,
    /// Of the group and version.
    root: String,
    plural: String,
    /// Of the collection that is watched.
    path: String,
}

// === impl Trouble ===

impl Trouble {
    /// For metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotFound { .. } => "not_found",
            Self::Forbidden { .. } => "forbidden",
            Self::Refused { .. } => "refused",
            Self::Unavailable { .. } => "unavailable",
            Self::Unreachable { .. } => "unreachable",
            Self::Broken { .. } => "broken",
            Self::Silent(_) => "silent",
            Self::Full => "full",
            Self::Ended => "ended",
            Self::TooLarge { .. } => "too_large",
        }
    }

    /// How long the server wants to be left alone.
    pub(super) fn after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { after, .. } => *after,
            _ => None,
        }
    }
}

// === impl Endpoint ===

impl Endpoint {
    pub(super) fn new(client: kube::Client, resource: &Resource, namespace: Option<&str>) -> Self {
        let root = if resource.group.is_empty() {
            format!("/api/{}", resource.version)
        } else {
            format!("/apis/{}/{}", resource.group, resource.version)
        };
        let plural = resource.plural.clone();
        let path = collection(&root, namespace, &plural);
        Self { client, root, plural, path }
    }

    /// A LIST of nothing but the object of this name, as it was at `version`. The path is that of its namespace: on the
    /// one of all namespaces the server would read the whole collection.
    pub(super) async fn exactly(
        &self,
        key: &ObjectKey,
        version: ResourceVersion,
        limit: usize,
    ) -> Result<Bytes, Trouble> {
        let path = collection(&self.root, key.namespace(), &self.plural);
        let name = query_escaped(&selector_escaped(key.name()));
        let query = format!(
            "fieldSelector=metadata.name%3D{name}&resourceVersionMatch=Exact&resourceVersion={version}"
        );
        collect(self.send(&path, &query).await?, limit).await
    }

    /// The newest version of the cluster, by a consistent read of next to nothing.
    pub(super) async fn probe(&self) -> Result<ResourceVersion, Trouble> {
        let text = self.get("limit=1", MOST_OF_AN_ERROR * 64).await?;
        let broken = |error: &dyn std::fmt::Display| Trouble::Broken { reason: error.to_string() };
        let list: ProbedList = serde_json::from_slice(&text).map_err(|error| broken(&error))?;
        list.metadata.resource_version.parse().map_err(|error| broken(&error))
    }

    /// One page of a LIST; the first one of the newest version, the next ones of the same.
    pub(super) async fn page(&self, size: u32, next: Option<&str>, limit: usize) -> Result<Bytes, Trouble> {
        let query = match next {
            None => format!("limit={size}"),
            Some(next) => format!("limit={size}&continue={}", query_escaped(next)),
        };
        self.get(&query, limit).await
    }

    /// A stream of changes after `version`.
    pub(super) async fn watch(&self, version: ResourceVersion, timeout: Duration) -> Result<Body, Trouble> {
        let query = format!(
            "watch=true&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={}",
            timeout.as_secs()
        );
        Ok(self.send(&self.path, &query).await?.into_body())
    }

    /// A stream of the present state, followed by changes. The empty version asks for a consistent state:
    /// "0" would allow one older than the position.
    pub(super) async fn watch_from_start(&self, timeout: Duration) -> Result<Body, Trouble> {
        let query = format!(
            "watch=true&allowWatchBookmarks=true&sendInitialEvents=true\
             &resourceVersionMatch=NotOlderThan&timeoutSeconds={}",
            timeout.as_secs()
        );
        Ok(self.send(&self.path, &query).await?.into_body())
    }

    async fn get(&self, query: &str, limit: usize) -> Result<Bytes, Trouble> {
        collect(self.send(&self.path, query).await?, limit).await
    }

    async fn send(&self, path: &str, query: &str) -> Result<Response<Body>, Trouble> {
        let request = Request::get(format!("{path}?{query}"))
            .header(header::ACCEPT, "application/json")
            // A compressed watch is one gzip member per flush from 1.37 on, of which decoders read the first.
            .header(header::ACCEPT_ENCODING, "identity")
            .body(Body::empty())
            .map_err(|error| Trouble::Refused { reason: error.to_string() })?;
        let response = match self.client.send(request).await {
            Ok(response) => response,
            Err(error) => return Err(Trouble::Unreachable { reason: chain(&error) }),
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let after = retry_after(response.headers());
        let text = Limited::new(response.into_body(), MOST_OF_AN_ERROR).collect().await;
        let text = text.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let status = serde_json::from_slice::<Status>(&text).unwrap_or_else(|_| Status {
            code,
            reason: format!("HTTP {code}"),
            message: String::new(),
            details: None,
        });
        Err(Status { code, ..status }.into_trouble(after))
    }
}

#[derive(Deserialize)]
struct ProbedList {
    metadata: ProbedMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProbedMeta {
    resource_version: String,
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

async fn collect(response: Response<Body>, limit: usize) -> Result<Bytes, Trouble> {
    match Limited::new(response.into_body(), limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Trouble::TooLarge { limit }),
        Err(error) => Err(Trouble::Broken { reason: chain(&*error) }),
    }
}

/// The path of a collection, in one namespace or all of them.
fn collection(root: &str, namespace: Option<&str>, plural: &str) -> String {
    match namespace {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}"),
        None => format!("{root}/{plural}"),
    }
}

/// Some built-in kinds allow in names what separates terms of a selector.
fn selector_escaped(name: &str) -> String {
    name.chars().fold(String::with_capacity(name.len()), |mut escaped, character| {
        if matches!(character, '\\' | ',' | '=') {
            escaped.push('\\');
        }
        escaped.push(character);
        escaped
    })
}

/// Continue tokens are URL-safe base64 today; nothing promises that.
fn query_escaped(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut escaped, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte.into()),
            _ => escaped += &format!("%{byte:02X}"),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_the_api_conventions_say() {
        let trouble = |code, details| {
            let status = Status { code, reason: "R".into(), message: "m".into(), details };
            status.into_trouble(None)
        };
        let reason = || "m".to_owned();
        assert_eq!(trouble(410, None), Trouble::Expired);
        assert_eq!(trouble(404, None), Trouble::NotFound { reason: reason() });
        assert_eq!(trouble(403, None), Trouble::Forbidden { reason: reason() });
        assert_eq!(trouble(422, None), Trouble::Refused { reason: reason() });
        assert_eq!(trouble(500, None), Trouble::Unavailable { reason: reason(), after: None });
        let details = StatusDetails { retry_after_seconds: Some(3) };
        let after = Some(Duration::from_secs(3));
        assert_eq!(trouble(429, Some(details)), Trouble::Unavailable { reason: reason(), after });
    }

    #[test]
    fn a_continue_token_survives_the_query() {
        assert_eq!(query_escaped("aZ0-_.~"), "aZ0-_.~");
        assert_eq!(query_escaped("a+/=&"), "a%2B%2F%3D%26");
    }

    #[test]
    fn a_name_is_one_term_of_a_selector() {
        assert_eq!(selector_escaped(r"system:a,b=c\d"), r"system:a\,b\=c\\d");
    }
}
