//! The ways to install it.

use serde_json::{Value, json};

/// Every way to install it that makes other objects, in these namespaces.
pub(crate) fn ways(namespace: &str) -> Vec<(&'static str, Value)> {
    let sources = json!([{"apiGroups": ["k8sasbackend.com"], "resources": ["todos"]}, {"apiGroups": [""], "resources": ["pods"]}]);
    vec![
        ("defaults", json!({})),
        ("no webhook", json!({"webhook": {"enabled": false}})),
        ("one webhook", json!({"webhook": {"replicas": 1}})),
        ("sources", json!({ "sources": sources })),
        ("some Secrets", json!({"secrets": {"namespaces": [namespace]}})),
        (
            "namespaces",
            json!({"namespaces": [namespace], "clusterName": "east", "sources": sources, "webhook": {"enabled": false}}),
        ),
        ("no volume", json!({"bridge": {"persistence": {"enabled": false}}})),
        ("a claim that exists", json!({"bridge": {"persistence": {"existingClaim": "mine"}}})),
        (
            "accounts that exist",
            json!({
                "rbac": {"create": false},
                "bridge": {"serviceAccount": {"create": false, "name": "mine"}},
                "webhook": {"serviceAccount": {"create": false}}
            }),
        ),
        ("everything", everything()),
    ]
}

/// Every value that is passed on as it is.
pub(crate) fn everything() -> Value {
    let pod = json!({
        "extraArgs": ["--log-level=debug"],
        "extraEnv": [{"name": "SSL_CERT_FILE", "value": "/extra/ca.pem"}],
        "extraVolumes": [{"name": "extra", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
        "podAnnotations": {"example.com/a": "b"},
        "podLabels": {"example.com/c": "d"},
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "a", "operator": "Exists"}]}
        ]}}},
        "serviceAccount": {"name": "another", "annotations": {"example.com/role": "x"}}
    });
    let mut values = json!({
        "nameOverride": "news", "fullnameOverride": "town-crier", "commonLabels": {"team": "platform"},
        "image": {"repository": "registry.example/tidings", "tag": "1", "digest": format!("sha256:{}", "a".repeat(64))},
        "imagePullSecrets": [{"name": "registry"}],
        "clusterName": "east.example",
        "bridge": pod, "webhook": pod,
        "podMonitor": {"enabled": true, "labels": {"release": "prometheus"}, "interval": "30s"},
        "networkPolicy": {
            "enabled": true, "apiServers": [{"ipBlock": {"cidr": "10.0.0.0/24"}}], "egress": [{"ports": [{"port": 443}]}]
        }
    });
    values["bridge"]["settings"] = json!({"journal_bytes": 134_217_728, "retry_backoff": {"first": "1s"}});
    values["bridge"]["persistence"] =
        json!({"storageClass": "fast", "size": "20Gi", "annotations": {"a": "b"}});
    values["webhook"]["settings"] = json!({"certificates": {"lifetime": "240h"}});
    values["webhook"]["annotations"] = json!({"cert-manager.io/inject-ca-from": "tidings/webhook"});
    values["webhook"]["topologySpreadConstraints"] = json!([{
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"a": "b"}}
    }]);
    values
}
