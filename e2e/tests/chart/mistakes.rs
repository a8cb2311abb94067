//! Mistakes in values, and what Helm says of them.

use serde_json::{Value, json};

/// Values that are refused, and with what words.
pub(crate) fn mistakes() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"replicas": 3}), "at '': additional properties 'replicas' not allowed"),
        (json!({"bridge": {"replicas": 3}}), "at '/bridge': additional properties 'replicas' not allowed"),
        (json!({"webhook": {"replicas": "two"}}), "at '/webhook/replicas': got string, want integer"),
        (json!({"webhook": {"replicas": 0}}), "at '/webhook/replicas': minimum: got 0, want 1"),
        (json!({"webhook": {"enabled": "yes"}}), "at '/webhook/enabled': got string, want boolean"),
        (json!({"clusterName": 7}), "at '/clusterName': got number, want string"),
        (
            json!({"clusterName": "a b"}),
            "at '/clusterName': 'a b' does not match pattern '^[A-Za-z0-9._-]{0,63}$'",
        ),
        (
            json!({"image": {"pullPolicy": "Sometimes"}}),
            "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'",
        ),
        (json!({"sources": ["todos"]}), "at '/sources/0': got string, want object"),
        (json!({"sources": [{"resources": ["todos"]}]}), "at '/sources/0': missing property 'apiGroups'"),
        (
            json!({"sources": [{"apiGroups": ["*"], "resources": ["todos"]}]}),
            "at '/sources/0/apiGroups/0': '*' does not match pattern '^[a-z0-9.-]*$'",
        ),
        (
            json!({"sources": [{"apiGroups": [""], "resources": ["*"]}]}),
            "at '/sources/0/resources/0': '*' does not match pattern '^[a-z0-9]+$'",
        ),
        (
            json!({"namespaces": ["A b"]}),
            "at '/namespaces/0': 'A b' does not match pattern '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'",
        ),
        (
            json!({"bridge": {"settings": {"flush_intervall": "1s"}}}),
            "at '/bridge/settings': additional properties 'flush_intervall' not allowed",
        ),
        (
            json!({"bridge": {"settings": {"create_topics": "yes"}}}),
            "at '/bridge/settings/create_topics': got string, want boolean",
        ),
        (
            json!({"bridge": {"settings": {"cluster_name": "a"}}}),
            "bridge.settings.cluster_name: give clusterName in its place",
        ),
        (
            json!({"bridge": {"settings": {"state_dir": "/a"}}}),
            "bridge.settings.state_dir: the chart sets it, because its volumes",
        ),
        (
            json!({"webhook": {"settings": {"address": "a"}}}),
            "webhook.settings.address: the chart sets it, because its objects",
        ),
        (
            json!({"webhook": {"settings": {"certificates": {"secret": "a"}}}}),
            "webhook.settings.certificates.secret: the chart sets it, because its rights",
        ),
        (
            json!({"namespaces": ["a"]}),
            "clusterName: required with namespaces, because the uid of kube-system cannot be read",
        ),
        (
            json!({"namespaces": ["a"], "clusterName": "east"}),
            "webhook.enabled: must be false with namespaces, because a webhook is one for the whole cluster",
        ),
        (
            json!({"namespaces": ["a"], "clusterName": "a", "webhook": {"enabled": false}, "secrets": {"namespaces": ["a"]}}),
            "secrets.namespaces: has no meaning with namespaces, where only those are read",
        ),
    ]
}
