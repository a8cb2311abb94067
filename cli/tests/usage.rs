//! What can be said of the command line without a cluster.

mod support;

use std::fs;
use std::io::{self, Read};
use std::process::Stdio;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use support::{stderr, stdout, tidings};
use tidings_config::process::webhook::WebhookSettings;
use tidings_config::process::{BridgeSettings, Settings as _};

/// Nobody listens on the first port (tcpmux).
const NOBODY: &str = "https://127.0.0.1:1";

fn kubeconfig(folder: &tempfile::TempDir) -> io::Result<String> {
    let path = folder.path().join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
         clusters: [{{name: c, cluster: {{server: \"{NOBODY}\"}}}}]\n\
         users: [{{name: u, user: {{token: t}}}}]\n\
         contexts: [{{name: here, context: {{cluster: c, user: u}}}}]\n"
    );
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}

#[test]
fn help_shows_commands_examples_and_exit_codes() {
    let output = tidings(["--help"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let help = stdout(&output);
    for part in [
        "bridge",
        "webhook",
        "watch",
        "check",
        "state",
        "redrive",
        "crds",
        "completions",
        "Examples:",
        "Exit codes:",
    ] {
        assert!(help.contains(part), "{part} is not in\n{help}");
    }
    for command in ["bridge", "webhook", "watch", "check", "state", "redrive", "crds", "completions"] {
        let output = tidings([command, "--help"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(stdout(&output).contains("Example"), "{command} --help has no example");
    }
}

#[test]
fn help_of_a_process_shows_every_setting_with_variable_and_default() {
    for (command, settings) in
        [("bridge", BridgeSettings::settings()), ("webhook", WebhookSettings::settings())]
    {
        let output = tidings([command, "--help"]).env("COLUMNS", "500").output().unwrap();
        let help = stdout(&output);
        for setting in settings {
            assert!(help.contains(&format!("--{} <", setting.flag)), "{setting:?} is not in\n{help}");
            assert!(
                help.contains(&format!("[env: {}]", setting.environment)),
                "{setting:?} is not in\n{help}"
            );
        }
    }
}

#[test]
fn version_names_program_and_version() {
    let output = tidings(["--version"]).output().unwrap();
    assert_eq!(stdout(&output), concat!("tidings ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn crds_are_yaml_that_an_api_server_takes() {
    let output = tidings(["crds"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let definitions: Vec<CustomResourceDefinition> = serde_saphyr::from_multiple(&stdout(&output)).unwrap();
    let names: Vec<_> = definitions.into_iter().filter_map(|definition| definition.metadata.name).collect();
    assert_eq!(names, ["subscriptions.tidings.dev", "sinks.tidings.dev"]);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = tidings(["crds"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    assert_eq!(said, "");
}

#[test]
fn every_shell_gets_completions_that_know_the_settings() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = tidings(["completions", shell]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(stdout(&output).contains("retry-backoff-first"), "{shell}");
        assert!(stdout(&output).contains("bodies"), "{shell}");
    }
}

#[test]
fn a_wrong_command_line_is_told_and_ends_with_2() {
    let cases: [(&[&str], &str); 7] = [
        (&[], "Usage: tidings"),
        (&["brigde"], "a similar subcommand exists: 'bridge'"),
        (&["bridge", "--ring-byte", "1"], "a similar argument exists: '--ring-bytes'"),
        (&["bridge", "--log-format", "xml"], "possible values: auto, pretty, json"),
        (&["watch"], "<RESOURCE>"),
        (&["watch", "pods", "-A", "-n", "shop"], "cannot be used with"),
        (&["watch", "pods", "-o", "yaml"], "possible values: summary, json, object"),
    ];
    for (arguments, part) in cases {
        let output = tidings(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(part), "{part} is not in\n{}", stderr(&output));
    }
}

#[test]
fn wrong_settings_are_all_told_with_their_path_and_end_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidings.yaml");
    fs::write(&file, "retry_backoff:\n  frist: 1s\n").unwrap();
    let output = tidings(["bridge", "--journal-bytes", "lots", "--config"])
        .arg(&file)
        .env("TIDINGS_WATCH_TIMEOUT", "soon")
        .env("TIDINGS_RING_BYTE", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    for part in [
        "did you mean `retry_backoff.first`?",
        "journal_bytes (--journal-bytes): \"lots\" is not a size",
        "watch_timeout (TIDINGS_WATCH_TIMEOUT): \"soon\" is not a duration",
        "TIDINGS_RING_BYTE (in the environment): there is no such setting",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
}

#[test]
fn a_log_level_that_is_none_is_a_wrong_setting() {
    for arguments in [["bridge", "--log-level", "a=b"].as_slice(), &["watch", "pods", "--log-level", "a=b"]] {
        let output = tidings(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("log_level: \"a=b\" is not a level"), "{}", stderr(&output));
    }
}

#[test]
fn without_any_kubeconfig_it_says_how_to_give_one() {
    let output = tidings(["watch", "pods"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    assert!(told.starts_with("error: there is no kubeconfig ("), "{told}");
    assert!(told.contains("--kubeconfig") && told.contains("KUBECONFIG"), "{told}");
}

#[test]
fn a_kubeconfig_that_does_not_work_is_named_with_its_context() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing").display().to_string();
    let broken = folder.path().join("broken").display().to_string();
    fs::write(&broken, "clusters: [").unwrap();
    let good = kubeconfig(&folder).unwrap();
    let cases: [(&[&str], String); 3] = [
        (&["--kubeconfig", &missing], format!("error: failed to use kubeconfig {missing}: ")),
        (&["--kubeconfig", &broken], format!("error: failed to use kubeconfig {broken}: ")),
        (
            &["--kubeconfig", &good, "--context", "there"],
            format!("error: failed to use context \"there\" of kubeconfig {good}: "),
        ),
    ];
    for (flags, start) in &cases {
        for command in [["watch", "pods"].as_slice(), &["bridge"]] {
            let output = tidings(command).args(*flags).output().unwrap();
            assert_eq!(output.status.code(), Some(1));
            let told = stderr(&output);
            assert!(told.starts_with(start) && told.contains("\n  help: "), "{start} does not start\n{told}");
        }
    }
    let output = tidings(["watch", "pods"]).env("KUBECONFIG", &missing).output().unwrap();
    assert!(stderr(&output).contains(&missing), "{}", stderr(&output));
}

#[test]
fn an_api_server_that_does_not_answer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = kubeconfig(&folder).unwrap();
    let output = tidings(["watch", "pods", "--kubeconfig", &file]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    let start = format!("error: failed to reach the API server {NOBODY} of kubeconfig {file}: ");
    assert!(told.starts_with(&start) && told.contains("\n  help: "), "{told}");
}
