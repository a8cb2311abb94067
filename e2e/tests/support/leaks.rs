//! Credentials, and the search for them where they must not be: in the log, in what our resources say of themselves, in
//! Kubernetes Events and in metrics.

#![allow(dead_code, reason = "each test file uses its part")]

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use tidings_crds::sink::Sink;
use tidings_crds::subscription::Subscription;
use tidings_testbed::receiver::way::Way;
use tidings_testbed::tidings::Bridge;

use crate::support::Stage;

/// Shorter ones would be found by accident.
const SHORTEST: usize = 8;

/// Everything in a Secret that proves who one is, also in the forms in which it travels.
pub(crate) fn credentials_of(way: &Way) -> Vec<String> {
    let user = ["auth", "sasl"].iter().find_map(|field| user_of(&way.connection[*field]));
    let mut found = Vec::new();
    for (key, value) in &way.credentials {
        match *key {
            // They are shown to everybody who connects.
            "ca" | "tls.crt" => {}
            // Each line of a private key is enough to find it.
            "tls.key" => found.extend(value.lines().filter(|line| !line.starts_with('-')).map(str::to_owned)),
            _ => {
                found.push(value.clone());
                found.push(BASE64_STANDARD.encode(value));
                let basic = user.as_ref().map(|user| BASE64_STANDARD.encode(format!("{user}:{value}")));
                found.extend(basic);
            }
        }
    }
    found.retain(|credential| credential.len() >= SHORTEST);
    found
}

fn user_of(auth: &Value) -> Option<String> {
    let own = auth["user"].as_str();
    own.or_else(|| auth.as_object()?.values().find_map(|way| way["user"].as_str())).map(str::to_owned)
}

/// Fails where one of `credentials` can be read.
pub(crate) async fn search(stage: &Stage, bridge: &Bridge, credentials: &[String]) -> Result<()> {
    let client = &stage.cluster.client;
    let everywhere = ListParams::default();
    let subscriptions = Api::<Subscription>::all(client.clone()).list(&everywhere).await?.items;
    let sinks = Api::<Sink>::all(client.clone()).list(&everywhere).await?.items;
    let events = stage.cluster.api(&stage.namespace, "events.k8s.io", "v1", "Event", "events");
    let events = events.list(&everywhere).await?.items;
    let places = [
        ("the log", bridge.log()),
        ("Subscriptions", json!(subscriptions).to_string()),
        ("Sinks", json!(sinks).to_string()),
        ("Kubernetes Events", json!(events).to_string()),
        ("the metrics", bridge.metrics().await?),
    ];
    // What is searched is what this case has filled.
    let [log, subscriptions, ..] = &places;
    ensure!(log.1.contains(&stage.namespace), "the log says nothing of {}", stage.namespace);
    ensure!(subscriptions.1.contains(&stage.namespace), "no Subscription is in {}", stage.namespace);
    for (place, text) in places {
        for credential in credentials {
            // The credential itself is not said here either.
            let around = text.lines().find(|line| line.contains(credential.as_str()));
            let around = around.map(|line| line.replace(credential.as_str(), "***"));
            ensure!(around.is_none(), "a credential is in {place}: {}", around.unwrap_or_default());
        }
    }
    Ok(())
}
