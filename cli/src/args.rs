//! The command line.

mod examples;

use std::marker::PhantomData;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use tidings_config::process::reference::ValueForm;
use tidings_config::process::webhook::WebhookSettings;
use tidings_config::process::{BridgeSettings, Settings};
use tidings_config::sink::stdout::StdoutFormat;

use self::examples::{
    BRIDGE_EXAMPLES, CHECK_EXAMPLES, EXIT_CODES, EXPLAIN_EXAMPLES, LONG_HELP, REDRIVE_EXAMPLES,
    STATE_EXAMPLES, SUBSCRIPTION_EXAMPLES, WATCH_EXAMPLES, WEBHOOK_EXAMPLES,
};

/// Kubernetes changes as CloudEvents, none lost
///
/// Tidings watches Kubernetes resources and turns each change into a CloudEvent, which it delivers to a broker, as
/// Subscriptions say.
#[derive(Debug, Parser)]
#[command(name = "tidings", version, after_help = EXIT_CODES, after_long_help = LONG_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the Subscriptions of a cluster
    ///
    /// Runs until SIGINT or SIGTERM, then delivers what is under way; a second signal ends it at once. Logs go to
    /// standard error.
    #[command(after_long_help = BRIDGE_EXAMPLES)]
    Bridge(ProcessArgs<BridgeSettings>),
    /// Tell about mistakes in Subscriptions and Sinks when they are written
    ///
    /// A validating admission webhook: the API server asks it about each Subscription and Sink. Makes its certificates and its
    /// `ValidatingWebhookConfiguration` by itself. Runs until SIGINT or SIGTERM; a second signal ends it at once. Logs go to
    /// standard error.
    #[command(after_long_help = WEBHOOK_EXAMPLES)]
    Webhook(ProcessArgs<WebhookSettings>),
    /// Show the changes of a resource as CloudEvents on the terminal
    ///
    /// Starts with what exists, then follows until SIGINT. Needs the rights to list and watch the resource, and installs
    /// nothing in the cluster.
    #[command(after_long_help = WATCH_EXAMPLES)]
    Watch(WatchArgs),
    /// Check Subscriptions and Sinks in files; needs no cluster
    ///
    /// Says every mistake and warning with file, line and path, as an API server with strict validation and the bridge would.
    /// Resources of other kinds are skipped. Resources are also checked against one another: names that are there twice, a
    /// Sink that does not let a Subscription in, two Subscriptions that share a target. A Sink that is in none of the files is
    /// no mistake.
    #[command(after_long_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Show what a Subscription in a file makes of an object, without a cluster
    ///
    /// Which sources select it and why others do not, which filters let it pass, and the exact message with key, headers and
    /// body. The object is taken as new, unless --old says what it was before.
    #[command(after_long_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Look at what a bridge keeps on disk, save it, or begin anew
    #[command(after_long_help = STATE_EXAMPLES)]
    State(StateArgs),
    /// See how a Subscription is doing, and bring on the objects whose Events a broker refuses
    #[command(after_long_help = SUBSCRIPTION_EXAMPLES)]
    Subscription(SubscriptionArgs),
    /// Send the dead letters of a Subscription again
    ///
    /// Reads them where spec.delivery.deadLetter says (a stream of NATS, a topic of Kafka, a queue of RabbitMQ), and sends each
    /// to the Subscription's own sink as the Event it was: with its id, and without the attributes deadletter…. It is consumed
    /// only when the sink has it. What is refused again stays and is listed; the exit code is 1 then. Ends when all that were
    /// there at the start have been read.
    #[command(after_long_help = REDRIVE_EXAMPLES)]
    Redrive(RedriveArgs),
    /// Print the definitions of the tidings.dev resources as YAML
    #[command(after_long_help = "Example:\n  tidings crds | kubectl apply --server-side -f -")]
    Crds,
    /// Print a completion script for a shell
    #[command(
        after_long_help = "Example:\n  tidings completions bash > ~/.local/share/bash-completion/completions/tidings"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Of a command that is a process with settings.
#[derive(Debug, Args)]
pub(crate) struct ProcessArgs<S: Settings + Send + Sync + 'static> {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// File with settings, as TOML (.toml) or YAML (.yaml, .yml)
    #[arg(long, value_name = "FILE", env = "TIDINGS_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: SettingFlags<S>,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The resource, as kubectl takes it: todos, Todo, todos.k8sasbackend.com, todos.v1.k8sasbackend.com, or a short name
    pub(crate) resource: String,
    /// Only in this namespace, instead of the current context's
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// In all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// What a line shows
    #[arg(short, long, value_enum, default_value_t = Output::Summary)]
    pub(crate) output: Output,
    /// What is logged to standard error: error, warn, info, debug, trace, or levels per module
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub(crate) log_level: String,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// File with the Subscription, and the Sink that it names: YAML or JSON, or - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// File with the object
    #[arg(long, value_name = "OBJECT")]
    pub(crate) object: PathBuf,
    /// File with the object as it was before
    #[arg(long, value_name = "OBJECT")]
    pub(crate) old: Option<PathBuf>,
    /// The object is deleted
    #[arg(long)]
    pub(crate) deleted: bool,
    /// Only the Subscription of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) subscription: Option<String>,
    /// The namespace of whatever names none
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,
    /// The name of the cluster in the `source` of the Event
    #[arg(long, value_name = "NAME", default_value = "cluster")]
    pub(crate) cluster_name: String,
    /// The resource in the `source` of the Event, such as todos: guessed from the kind unless given
    #[arg(long, value_name = "PLURAL")]
    pub(crate) plural: Option<String>,
    /// Lines for people, or one JSON document
    #[arg(short, long, value_enum, default_value_t = TextOrJson::Text)]
    pub(crate) output: TextOrJson,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Files of YAML or JSON, folders of such files, or - for standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The namespace they would be applied to, where they name none
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,
    /// Warnings count as errors
    #[arg(long)]
    pub(crate) strict: bool,
    /// Lines for people, or one JSON document
    #[arg(short, long, value_enum, default_value_t = TextOrJson::Text)]
    pub(crate) output: TextOrJson,
}

/// For whom it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TextOrJson {
    /// For people
    Text,
    /// One document for programs
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    #[command(subcommand)]
    pub(crate) command: StateCommand,
}

/// What to do with the state.
#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Show what is in it
    ///
    /// Positions, how many objects are known, and what each Subscription has not settled. Changes nothing, and shows of a
    /// damaged state what can be read; the exit code is 1 then.
    Inspect {
        #[command(flatten)]
        folder: StateFolder,
    },
    /// Print all of it as JSON, one object a line
    ///
    /// Changes nothing, and prints of a damaged state what can be read; the exit code is 1 then.
    Export {
        #[command(flatten)]
        folder: StateFolder,
        /// With the objects that Changes are about, as they were; there may be Secrets among them
        #[arg(long)]
        bodies: bool,
    },
    /// Move it away, so that the bridge begins anew
    ///
    /// Nothing is deleted: the files are moved to a folder with the date in its name. Every Subscription then gets a new
    /// snapshot.
    Reset {
        #[command(flatten)]
        folder: StateFolder,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SubscriptionArgs {
    #[command(subcommand)]
    pub(crate) command: SubscriptionCommand,
}

/// What to do with a Subscription.
#[derive(Debug, Subcommand)]
pub(crate) enum SubscriptionCommand {
    /// Show how it is doing, and what can be done about what is wrong
    ///
    /// Its conditions, what is still to be done, what is blocked and the way out, the last gap and the last error. The exit code
    /// is 0 when it delivers (the condition Delivering is True), else 1.
    Status(StatusArgs),
    /// Try again what the broker refused
    ///
    /// Waits for what comes of it, and says it per object; the exit code is 1 when something is refused again.
    Retry {
        #[command(flatten)]
        subscription: NamedSubscription,
        /// Only this object: namespace/name, or name of a cluster-scoped one
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
    /// Leave out the Event that blocks an object, and go on with what follows
    ///
    /// Consumers never get that Event. It is logged and counted.
    Skip {
        #[command(flatten)]
        subscription: NamedSubscription,
        /// The object: namespace/name, or name of a cluster-scoped one
        #[arg(long, value_name = "KEY")]
        key: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Its name
    #[arg(value_name = "SUBSCRIPTION")]
    pub(crate) name: String,
    /// Its namespace, instead of the current context's
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// A page for people, or one JSON document
    #[arg(short, long, value_enum, default_value_t = TextOrJson::Text)]
    pub(crate) output: TextOrJson,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// Which Subscription.
#[derive(Debug, Args)]
pub(crate) struct NamedSubscription {
    /// Its name
    #[arg(value_name = "SUBSCRIPTION")]
    pub(crate) name: String,
    /// Its namespace, instead of the current context's
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// How long to wait for the bridge, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RedriveArgs {
    /// The Subscription
    #[arg(value_name = "SUBSCRIPTION")]
    pub(crate) name: String,
    /// Its namespace, instead of the current context's
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Only list what would be sent; consumes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Only the Event with this id; may be given several times
    #[arg(long = "id", value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Only Events of this object: namespace/name, or name of a cluster-scoped one; may be given several times
    #[arg(long = "key", value_name = "KEY")]
    pub(crate) keys: Vec<String>,
    /// The durable consumer of NATS that keeps what was consumed [default: tidings-redrive-NAMESPACE_SUBSCRIPTION]
    #[arg(long, value_name = "NAME")]
    pub(crate) consumer: Option<String>,
    /// The group of Kafka that keeps what was consumed [default: tidings-redrive-NAMESPACE_SUBSCRIPTION]
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// The queue of RabbitMQ they are in, where deadLetter names an exchange
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<String>,
    /// What a line shows
    #[arg(short, long, value_enum, default_value_t = RedriveOutput::Table)]
    pub(crate) output: RedriveOutput,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// How dead letters are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RedriveOutput {
    /// Lines for people
    Table,
    /// A JSON object for each
    Json,
}

/// Where the state is.
#[derive(Debug, Args)]
pub(crate) struct StateFolder {
    /// Directory of the state: the setting `state_dir` of the bridge
    #[arg(
        long,
        value_name = "DIR",
        env = "TIDINGS_STATE_DIR",
        default_value_os_t = BridgeSettings::default().state_dir
    )]
    pub(crate) state_dir: PathBuf,
}

/// Which cluster.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Kubeconfig file, instead of the variable KUBECONFIG, ~/.kube/config, or the service account of the pod
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig, instead of its current one
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

/// What a line shows.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Output {
    /// Time, change, resource, object, reason and id
    Summary,
    /// The CloudEvent as JSON
    Json,
    /// Only its data: the object as JSON
    Object,
}

/// A flag for each setting of a process, made from their reference. Pairs of a setting's path and what was given.
#[derive(Debug)]
pub(crate) struct SettingFlags<S>(pub(crate) Vec<(String, String)>, PhantomData<fn() -> S>);

// === impl Output ===

impl From<Output> for StdoutFormat {
    fn from(output: Output) -> Self {
        match output {
            Output::Summary => Self::Summary,
            Output::Json => Self::Json,
            Output::Object => Self::Object,
        }
    }
}

// === impl SettingFlags ===

impl<S: Settings> Args for SettingFlags<S> {
    fn augment_args(command: clap::Command) -> clap::Command {
        S::settings().iter().fold(command.next_help_heading("Settings"), |command, setting| {
            let default =
                setting.default.as_ref().map(|text| format!(" [default: {text}]")).unwrap_or_default();
            let help = format!("{} [env: {}]{default}", setting.description, setting.environment);
            let arg = Arg::new(setting.path.as_str()).long(setting.flag.as_str()).help(help);
            command.arg(match &setting.value {
                ValueForm::Free(name) => arg.value_name(name),
                ValueForm::Words(words) => arg
                    .value_name("WORD")
                    .value_parser(PossibleValuesParser::new(words.iter().map(String::as_str))),
            })
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl<S: Settings> FromArgMatches for SettingFlags<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = S::settings().iter().filter_map(|setting| {
            let value = matches.get_one::<String>(&setting.path)?;
            Some((setting.path.clone(), value.clone()))
        });
        Ok(Self(given.collect(), PhantomData))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_flag_is_the_setting_of_its_path() {
        let cli =
            Cli::parse_from(["tidings", "bridge", "--retry-backoff-first", "2s", "--log-format", "json"]);
        let Command::Bridge(args) = cli.command else { panic!("{cli:?}") };
        let expected = [("log_format", "json"), ("retry_backoff.first", "2s")];
        assert_eq!(args.settings.0, expected.map(|(path, value)| (path.to_owned(), value.to_owned())));
    }
}
