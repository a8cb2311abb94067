//! What the API server answers: discovery, watches, and refusals. LISTs are next door.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use axum::body::Body as AnyBody;
use http::{Request, Response, Uri};
use kube::client::Body as Asked;
use tokio::time::Instant;
use tower::BoxError;

use super::body::Body;
use super::streams::{Line, replay};
use super::{ApiServer, Inner, Streaming};
use crate::etcd::{KINDS, Kind};
use crate::fence::{Edge, Fence};
use crate::trace::Fault;

/// What a request asks for.
pub(super) struct Question {
    pub(super) kind: usize,
    pub(super) namespace: Option<String>,
    parameters: BTreeMap<String, String>,
}

/// An answer before it has a body that streams.
pub(super) enum Answer {
    Whole {
        code: u16,
        text: String,
        retry_after: Option<u32>,
    },
    /// A body that breaks off after so many bytes.
    Torn {
        text: String,
        after: usize,
    },
    /// The stream with this number.
    Stream(u64),
    /// There is none.
    Nothing(BoxError),
    /// It never comes.
    Never,
}

// === impl ApiServer ===

impl ApiServer {
    /// The way of one process to the API server.
    pub(crate) fn client(&self, fence: &Fence) -> kube::Client {
        let (server, fence) = (self.clone(), fence.clone());
        let service = tower::service_fn(move |request: Request<Asked>| {
            let (server, fence) = (server.clone(), fence.clone());
            async move { server.answer(fence, request.uri().clone()).await }
        });
        kube::Client::new(service, "default")
    }

    async fn answer(self, fence: Fence, uri: Uri) -> Result<Response<AnyBody>, BoxError> {
        fence.passage(Edge::Any).await;
        let (latency, rewinds) = {
            let inner = &mut *self.lock();
            (inner.latency(), inner.etcd.rewinds())
        };
        tokio::time::sleep(latency).await;
        if fence.is_closed() {
            std::future::pending::<()>().await;
        }
        let (answer, line) = {
            let inner = &mut *self.lock();
            let query = uri.query().unwrap_or_default();
            // Connections do not outlive the server that etcd was restored under.
            let answer =
                if rewinds == inner.etcd.rewinds() { inner.ask(uri.path(), query) } else { refused() };
            let line = match &answer {
                Answer::Whole { code, .. } => format!("{code}"),
                Answer::Torn { .. } => "torn".to_owned(),
                Answer::Stream(id) => format!("stream {id}"),
                Answer::Nothing(error) => error.to_string(),
                Answer::Never => "never".to_owned(),
            };
            (answer, line)
        };
        self.lock().trace.say(|| format!("GET {uri} -> {line}"));
        let builder = Response::builder().header("content-type", "application/json");
        Ok(match answer {
            Answer::Whole { code, text, retry_after } => {
                let builder = match retry_after {
                    Some(seconds) => builder.header("retry-after", seconds),
                    None => builder,
                };
                builder.status(code).body(AnyBody::from(text))?
            }
            Answer::Torn { text, after } => {
                let half = Ok(bytes::Bytes::copy_from_slice(&text.as_bytes()[..after]));
                let end = Err(io::Error::new(io::ErrorKind::UnexpectedEof, "torn by the simulation"));
                builder.body(AnyBody::from_stream(futures::stream::iter([half, end])))?
            }
            Answer::Stream(id) => builder.body(AnyBody::from_stream(Body::new(self, fence, id)))?,
            Answer::Nothing(error) => return Err(error),
            Answer::Never => std::future::pending().await,
        })
    }
}

// === impl Inner ===

impl Inner {
    fn latency(&mut self) -> Duration {
        let most = if self.weather.rate > 0.0 && self.rng.u32(0..10) == 0 { 400 } else { 15 };
        Duration::from_millis(self.rng.u64(1..most))
    }

    fn ask(&mut self, path: &str, query: &str) -> Answer {
        let parts: Vec<_> = path.trim_matches('/').split('/').collect();
        if self.weather.down {
            return refused();
        }
        if self.strikes() {
            let discovers = parts.len() == 3;
            if let Some(answer) = self.strike(discovers) {
                return answer;
            }
        }
        let of = |plural: &str| KINDS.iter().position(|kind| kind.group == parts[1] && kind.plural == plural);
        let question = |kind, namespace: Option<&str>| Question {
            kind,
            namespace: namespace.map(ToOwned::to_owned),
            parameters: parameters(query),
        };
        match parts.as_slice() {
            ["apis", group, "v1"] => self.discovery(group),
            ["apis", _, "v1", "namespaces", namespace, plural] => match of(plural) {
                Some(kind) => self.resource(&question(kind, Some(namespace))),
                None => status(404, "NotFound", "the server could not find the requested resource"),
            },
            ["apis", _, "v1", plural] => match of(plural) {
                Some(kind) => self.resource(&question(kind, None)),
                None => status(404, "NotFound", "the server could not find the requested resource"),
            },
            _ => status(404, "NotFound", "the server could not find the requested resource"),
        }
    }

    /// Bad weather for one request. Discovery has no limit of time of its own in the bridge (the client of a process has
    /// one, this one has not), so it is always answered.
    fn strike(&mut self, discovers: bool) -> Option<Answer> {
        match self.rng.u32(0..8) {
            0..2 => {
                self.trace.fault(Fault::ConnectionRefused, String::new);
                Some(refused())
            }
            2..4 => {
                self.trace.fault(Fault::TooManyRequests, String::new);
                Some(too_many())
            }
            4..6 => {
                self.trace.fault(Fault::ServerError, String::new);
                Some(status(500, "InternalError", "the server had an error"))
            }
            6 if !discovers => {
                self.trace.fault(Fault::RequestHangs, String::new);
                Some(Answer::Never)
            }
            _ => None,
        }
    }

    fn discovery(&mut self, group: &str) -> Answer {
        let served =
            KINDS.iter().position(|kind| kind.group == group).filter(|kind| self.caches[*kind].served);
        let Some(Kind { group, name, plural }) = served.map(|kind| &KINDS[kind]) else {
            return status(404, "NotFound", "the server could not find the requested resource");
        };
        whole(format!(
            "{{\"kind\":\"APIResourceList\",\"apiVersion\":\"v1\",\"groupVersion\":\"{group}/v1\",\"resources\":[\
             {{\"name\":\"{plural}\",\"singularName\":\"\",\"namespaced\":true,\"kind\":\"{name}\",\
             \"verbs\":[\"list\",\"watch\"]}}]}}"
        ))
    }

    fn resource(&mut self, question: &Question) -> Answer {
        if !self.caches[question.kind].served {
            self.caches[question.kind].shown.lost();
            return status(404, "NotFound", "the server could not find the requested resource");
        }
        if self.weather.unready_until > Instant::now() {
            self.trace.fault(Fault::TooManyRequests, || "the cache is being filled".to_owned());
            return too_many();
        }
        match question.get("watch") {
            Some("true") => self.watch(question),
            _ => self.list(question),
        }
    }

    fn watch(&mut self, question: &Question) -> Answer {
        let Question { kind, namespace, .. } = question;
        let (kind, namespace, revision) = (*kind, namespace.as_deref(), self.etcd.revision);
        let timeout = Duration::from_secs(question.number("timeoutSeconds").unwrap_or(1800));
        let initial = question.get("sendInitialEvents") == Some("true");
        if initial {
            if self.caches[kind].shown.snapshot(revision, true) {
                self.trace.complain(format!(
                    "the bridge asks for the whole state of kind {kind} although it could have gone on"
                ));
            }
            if self.weather.streaming == Streaming::Refused {
                self.trace.fault(Fault::StreamRefused, String::new);
                return status(422, "Invalid", "sendInitialEvents is forbidden");
            }
        }
        if initial || question.number("resourceVersion").is_none() {
            let objects = self.etcd.objects.iter().filter(|((of, _), _)| *of == kind);
            let objects = objects.filter(|(_, object)| namespace.is_none_or(|name| name == object.namespace));
            let mut lines: VecDeque<_> =
                objects.map(|(_, object)| Line::object("ADDED", object).early(false)).collect();
            if self.weather.streaming == Streaming::Done {
                lines.push_back(Line::bookmark(kind, revision, true));
            } else {
                self.trace.fault(Fault::StreamNotUnderstood, String::new);
            }
            return Answer::Stream(self.open(kind, namespace, revision, lines, timeout, false));
        }
        let after = question.number("resourceVersion").unwrap_or_default();
        if after < self.caches[kind].floor {
            self.trace.fault(Fault::WatchExpired, || format!("{after} < {}", self.caches[kind].floor));
            self.caches[kind].shown.expired(after);
            // K6: the answer is fine, its first line is not.
            let expired = error(410, "Expired", &format!("too old resource version: {after}"));
            return whole(format!("{{\"type\":\"ERROR\",\"object\":{expired}}}\n"));
        }
        if after > revision {
            self.trace.complain(format!(
                "the bridge watches kind {kind} from {after}, and the newest is {revision}: K7"
            ));
        }
        self.caches[kind].shown.resumed(after);
        let lines = replay(&self.etcd.log, kind, after);
        Answer::Stream(self.open(kind, namespace, after, lines, timeout, true))
    }
}

// === impl Question ===

impl Question {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}

fn parameters(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.replace("%3D", "="))).collect()
}

pub(super) fn whole(text: String) -> Answer {
    Answer::Whole { code: 200, text, retry_after: None }
}

pub(super) fn status(code: u16, reason: &str, message: &str) -> Answer {
    Answer::Whole { code, text: error(code, reason, message), retry_after: None }
}

fn error(code: u16, reason: &str, message: &str) -> String {
    format!(
        "{{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{{}},\"status\":\"Failure\",\
         \"message\":\"{message}\",\"reason\":\"{reason}\",\"code\":{code}}}"
    )
}

fn too_many() -> Answer {
    let text = error(429, "TooManyRequests", "storage is (re)initializing");
    Answer::Whole { code: 429, text, retry_after: Some(1) }
}

fn refused() -> Answer {
    Answer::Nothing(io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused").into())
}
