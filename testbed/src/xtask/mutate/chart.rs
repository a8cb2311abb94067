//! Mistakes in the chart.

use super::Mutation;

const RULES: &str = "charts/tidings/templates/_rules.tpl";
const CLUSTER_ROLES: &str = "charts/tidings/templates/bridge/clusterroles.yaml";
const STATEFUL_SET: &str = "charts/tidings/templates/bridge/statefulset.yaml";
const POD: &str = "charts/tidings/templates/_pod.tpl";

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "chart-right-missing",
        breaks: "the bridge has every right that it needs",
        file: RULES,
        find: "resources: [subscriptions/status, sinks/status]",
        put: "resources: [subscriptions/status]",
        test: "-p tidings-e2e --test rights the_chart_gives_the_bridge_every_right_that_it_needs",
    },
    Mutation {
        name: "chart-right-too-many",
        breaks: "the bridge has no right that it does not need",
        file: RULES,
        find: "  verbs: [create, patch]",
        put: "  verbs: [create, patch, get]",
        test: "-p tidings-e2e --test rights without_any_one_of_its_rights_the_bridge_is_refused_something",
    },
    Mutation {
        name: "chart-sources-taken-away",
        breaks: "an upgrade leaves what others have added to the sources",
        file: CLUSTER_ROLES,
        find: "aggregationRule:",
        put: "rules: []\naggregationRule:",
        test: "-p tidings-e2e --test install a_release_is_installed_upgraded_and_uninstalled",
    },
    Mutation {
        name: "chart-stuck-bridge",
        breaks: "a bridge that never gets ready gives way to another",
        file: STATEFUL_SET,
        find: "podManagementPolicy: Parallel",
        put: "podManagementPolicy: OrderedReady",
        test: "-p tidings-e2e --test install a_release_is_installed_upgraded_and_uninstalled",
    },
    Mutation {
        name: "chart-old-settings",
        breaks: "other settings make other pods",
        file: POD,
        find: "{{ include (printf \"tidings.%s.settings\" .component) .root | sha256sum }}",
        put: "same",
        test: "-p tidings-e2e --test chart another_setting_makes_another_pod_and_nothing_else_does",
    },
    Mutation {
        name: "chart-not-restricted",
        breaks: "pods satisfy the Pod Security Standard restricted",
        file: POD,
        find: "  {{- toYaml $values.securityContext | nindent 2 }}",
        put: "  privileged: false",
        test: "-p tidings-e2e --test chart the_pods_satisfy_the_restricted_standard",
    },
];
