use super::*;
use crate::byte_size::ByteSize;
use crate::duration::Duration;
use crate::process::webhook::WebhookSettings;
use crate::process::{BridgeSettings, LogFormat};

/// As the bridge does.
fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    flags: impl IntoIterator<Item = (String, String)>,
) -> Result<BridgeSettings, Error> {
    super::load(file, environment, flags)
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn flags(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn file(name: &str, content: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

fn refused(result: Result<BridgeSettings, Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn nothing_given_means_the_defaults() {
    assert_eq!(load(None, [], []).unwrap(), BridgeSettings::default());
}

#[test]
fn flags_go_before_the_environment_before_the_file() {
    let (_folder, path) = file(
        "tidings.yaml",
        "cluster_name: file\nlog_level: warn\njournal_bytes: 128Mi\nring_bytes: 65536\nretry_backoff:\n  first: 1s\n",
    );
    let environment = variables(&[
        ("TIDINGS_CLUSTER_NAME", "environment"),
        ("TIDINGS_LOG_LEVEL", "debug"),
        ("HOME", "/root"),
    ]);
    let settings = load(Some(&path), environment, flags(&[("cluster_name", "flag")])).unwrap();
    assert_eq!(settings.cluster_name.as_deref(), Some("flag"));
    assert_eq!(settings.log_level, "debug");
    assert_eq!(settings.journal_bytes, ByteSize::from_mebibytes(128));
    assert_eq!(settings.ring_bytes, ByteSize::from_bytes(65536));
    assert_eq!(settings.retry_backoff.first, Duration::from_secs(1));
    assert_eq!(settings.retry_backoff.max, Duration::from_secs(30), "its neighbour keeps its default");
}

#[test]
fn toml_is_read_too() {
    let (_folder, path) = file(
        "tidings.toml",
        "admin_address = \"127.0.0.1:9090\"\nlog_format = \"json\"\nlist_page_size = 50\n[retry_backoff]\nmax = \"1m\"\n",
    );
    let settings = load(Some(&path), [], []).unwrap();
    assert_eq!(settings.admin_address.to_string(), "127.0.0.1:9090");
    assert_eq!(settings.log_format, LogFormat::Json);
    assert_eq!(settings.list_page_size.get(), 50);
    assert_eq!(settings.retry_backoff.max, Duration::from_secs(60));
}

#[test]
fn every_setting_can_be_given_in_the_environment() {
    fn defaults<S: Settings>() -> impl Iterator<Item = (OsString, OsString)> {
        S::settings().iter().filter_map(|setting| {
            Some((setting.environment.as_str().into(), setting.default.clone()?.into()))
        })
    }
    assert_eq!(load(None, defaults::<BridgeSettings>(), []).unwrap(), BridgeSettings::default());
    let webhook: WebhookSettings = super::load(None, defaults::<WebhookSettings>(), []).unwrap();
    assert_eq!(webhook, WebhookSettings::default());
}

#[test]
fn a_setting_of_another_process_is_unknown() {
    let environment = variables(&[("TIDINGS_JOURNAL_BYTES", "1Mi")]);
    let error = super::load::<WebhookSettings>(None, environment, []).unwrap_err().to_string();
    assert!(error.contains("`tidings webhook --help` lists them"), "{error}");
}

#[test]
fn unknown_names_are_refused_with_their_path_and_a_hint() {
    let (_folder, path) = file("tidings.yaml", "retry_backof:\n  first: 1s\nretry_backoff:\n  frist: 1s\n");
    let environment = variables(&[("TIDINGS_RING_BYTE", "1"), ("TIDINGS_NOTHING_LIKE_IT", "1")]);
    let error = refused(load(Some(&path), environment, []));
    let origin = path.display();
    for part in [
        &format!("  retry_backof (in {origin}): there is no such setting"),
        &format!(
            "  retry_backoff.frist (in {origin}): there is no such setting; did you mean `retry_backoff.first`?"
        ),
        "  TIDINGS_RING_BYTE (in the environment): there is no such setting; did you mean `TIDINGS_RING_BYTES`?",
        "  TIDINGS_NOTHING_LIKE_IT (in the environment): there is no such setting; `tidings bridge --help` lists them",
    ] {
        assert!(error.contains(part), "{part}\nis not in\n{error}");
    }
}

#[test]
fn every_bad_value_is_told_with_its_path_and_origin() {
    let (_folder, path) = file("tidings.yaml", "watch_timeout: soon\nlist_page_size: 0\nlog_level: [a]\n");
    let environment = variables(&[("TIDINGS_JOURNAL_BYTES", "many"), ("TIDINGS_ADMIN_ADDRESS", "8080")]);
    let error = refused(load(Some(&path), environment, flags(&[("log_format", "xml")])));
    for part in [
        "watch_timeout (in ",
        "\"soon\" is not a duration like `30s`",
        "list_page_size (in ",
        "log_level (in ",
        "journal_bytes (TIDINGS_JOURNAL_BYTES): \"many\" is not a size like `64Mi`",
        "admin_address (TIDINGS_ADMIN_ADDRESS): ",
        "log_format (--log-format): ",
    ] {
        assert!(error.contains(part), "{part}\nis not in\n{error}");
    }
    assert_eq!(error.lines().count(), 7, "{error}");
}

#[test]
fn values_that_make_no_sense_are_told_with_their_origin() {
    let error = refused(load(None, variables(&[("TIDINGS_LIST_BACKOFF_FIRST", "0s")]), []));
    assert!(
        error.contains("list_backoff.first (TIDINGS_LIST_BACKOFF_FIRST): must be at least 1ms"),
        "{error}"
    );
}

#[test]
fn a_group_given_as_a_value_is_refused() {
    let (_folder, path) = file("tidings.yaml", "retry_backoff: 1s\n");
    assert!(refused(load(Some(&path), [], [])).contains("retry_backoff (in "));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.yaml");
    let error = refused(load(Some(&missing), [], []));
    assert!(error.contains(&missing.display().to_string()), "{error}");
    let (_folder, path) = file("tidings.yaml", "a: [");
    let error = refused(load(Some(&path), [], []));
    assert!(error.starts_with(&format!("failed to read the settings in {}: ", path.display())), "{error}");
}

#[test]
fn variables_that_kubernetes_adds_for_services_are_left_alone() {
    let environment = variables(&[
        ("TIDINGS_SERVICE_HOST", "10.0.0.1"),
        ("TIDINGS_ADMIN_SERVICE_PORT", "8080"),
        ("TIDINGS_ADMIN_SERVICE_PORT_HTTP", "8080"),
        ("TIDINGS_PORT", "tcp://10.0.0.1:8080"),
        ("TIDINGS_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("TIDINGS_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("TIDINGS_CACHE", "/var/cache"),
        ("TIDINGS_CONFIG", "tidings.yaml"),
    ]);
    assert_eq!(load(None, environment, []).unwrap(), BridgeSettings::default());
}
