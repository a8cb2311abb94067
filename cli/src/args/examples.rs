//! What `--help` shows at its end.

pub(super) const EXIT_CODES: &str =
    "Exit codes: 0 it went well, 1 it failed, 2 the command line or the settings are wrong";

pub(super) const LONG_HELP: &str = "\
Examples:
  tidings watch todos.k8sasbackend.com      follow a resource on the terminal; installs nothing
  tidings crds | kubectl apply --server-side -f -
  tidings check deploy/                     what is wrong with resources in files; needs no cluster
  tidings bridge                            serve the Subscriptions of the current cluster
  tidings webhook                           refuse broken ones when they are written
  tidings state inspect                     what the bridge keeps on disk
  tidings subscription status orders        how it is doing, and what can be done
  tidings subscription retry orders         what the broker refused, once more
  tidings redrive orders                    what went to the dead letters, once more

Exit codes:
  0  it went well; a signal to stop is no failure
  1  it failed: the reason is on standard error
  2  the command line or the settings are wrong";

pub(super) const EXPLAIN_EXAMPLES: &str = "\
Examples:
  tidings explain orders.yaml --object milk.yaml
  kubectl get todo milk -o yaml | tidings explain orders.yaml --object -
  tidings explain orders.yaml --object new.yaml --old old.yaml -o json | jq .[0].message";

pub(super) const BRIDGE_EXAMPLES: &str = "\
Examples:
  tidings bridge
  tidings bridge --context staging --admin-address 127.0.0.1:8080
  TIDINGS_CLUSTER_NAME=staging tidings bridge --config tidings.yaml

A setting is taken from its flag, else from its variable, else from the file.";

pub(super) const WEBHOOK_EXAMPLES: &str = "\
Examples:
  tidings webhook                           in a pod, behind the Service tidings-webhook
  tidings webhook --url https://127.0.0.1:8443 --namespace tidings
                                            on the machine of the API server
  tidings webhook --certificates-files /etc/tidings/tls

A setting is taken from its flag, else from its variable, else from the file.";

pub(super) const WATCH_EXAMPLES: &str = "\
Examples:
  tidings watch todos                       in the namespace of the current context
  tidings watch deployments.apps -A         in all namespaces
  tidings watch pods -n kube-system -o json | jq .type";

pub(super) const CHECK_EXAMPLES: &str = "\
Examples:
  tidings check orders.yaml
  tidings check deploy/                     its .yaml, .yml and .json files
  helm template ./chart | tidings check -
  tidings check deploy/ -o json | jq -r '.resources[].errors[].message'

Exit codes:
  0  nothing is wrong; there may be warnings
  1  there is an error or, with --strict, a warning
  2  the command line is wrong, or a file cannot be read";

pub(super) const STATE_EXAMPLES: &str = "\
Examples:
  tidings state inspect --state-dir /var/lib/tidings
  tidings state export --bodies > state.jsonl
  tidings state reset                       move the state away; asks first

A state that a bridge uses is left alone: stop the bridge first.";

pub(super) const SUBSCRIPTION_EXAMPLES: &str = "\
Examples:
  tidings subscription status orders -n shop            how it is doing, and what is blocked
  tidings subscription retry orders -n shop             everything that is blocked
  tidings subscription retry orders -n shop --key shop/milk
  tidings subscription skip orders -n shop --key shop/milk

Needs the right to get the Subscription and, for retry and skip, to patch it.";

pub(super) const REDRIVE_EXAMPLES: &str = "\
Examples:
  tidings redrive orders -n shop --dry-run              what is there, and why
  tidings redrive orders -n shop --limit 1              try with one
  tidings redrive orders -n shop                        all of them
  tidings redrive orders -n shop --key shop/milk --key shop/bread
  tidings redrive orders -n shop --dry-run -o json | jq -r .error | sort | uniq -c

Needs the rights to get the Subscription, the Sinks it names and their Secrets, and a way from
here to the brokers. Consumers ignore a redriven Event by its sequence where they hold a newer one.";
