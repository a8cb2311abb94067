//! What the files of the chart, the image and the scripts say of one another, for which no server is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use expect_test::expect_file;
use serde_json::Value;

/// Where the table of the values stands in the chart's README.
const TABLE: [&str; 2] = ["<!-- values -->\n", "<!-- end of values -->\n"];
/// What Helm itself may give a chart.
const HELMS_OWN: &str = "global";

fn root() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no parent folder")?.to_owned())
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(root()?.join(path)).with_context(|| path.to_owned())
}

fn yaml(path: &str) -> Result<Value> {
    serde_saphyr::from_str(&read(path)?).with_context(|| path.to_owned())
}

fn schema() -> Result<Value> {
    Ok(serde_json::from_str(&read("charts/tidings/values.schema.json")?)?)
}

/// The descriptions in values.yaml: what stands before a value and begins with `# -- `.
fn descriptions(text: &str) -> Vec<(String, String)> {
    let mut described = Vec::new();
    let mut path: Vec<(usize, &str)> = Vec::new();
    let mut words: Option<String> = None;
    for line in text.lines() {
        let (trimmed, indent) = (line.trim_start(), line.len() - line.trim_start().len());
        if let Some(begin) = trimmed.strip_prefix("# -- ") {
            words = Some(begin.to_owned());
        } else if let Some(more) = trimmed.strip_prefix("# ") {
            words = words.map(|words| format!("{words} {more}"));
        } else if let Some((key, _)) = trimmed.split_once(':').filter(|_| !trimmed.starts_with('-')) {
            path.retain(|(of, _)| *of < indent);
            path.push((indent, key));
            if let Some(words) = words.take() {
                let keys: Vec<_> = path.iter().map(|(_, key)| *key).collect();
                described.push((keys.join("."), words));
            }
        } else {
            words = None;
        }
    }
    described
}

/// Puts every path of a value that is `at` it, and has a description or nothing below it.
fn leaves(at: &str, value: &Value, described: &BTreeMap<String, String>, paths: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) if !members.is_empty() && !described.contains_key(at) => {
            for (name, value) in members {
                let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                leaves(&path, value, described, paths);
            }
        }
        _ => {
            paths.insert(at.to_owned());
        }
    }
}

fn value_at<'a>(values: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(values, |value, name| &value[name])
}

/// The README with the table made anew.
fn readme() -> Result<String> {
    let (text, values) = (read("charts/tidings/README.md")?, yaml("charts/tidings/values.yaml")?);
    let [begin, end] = TABLE;
    let (before, rest) = text.split_once(begin).context("no table of values")?;
    let (_, after) = rest.split_once(end).context("no end of the table of values")?;
    let mut table = "| value | | default |\n|---|---|---|\n".to_owned();
    for (path, words) in descriptions(&read("charts/tidings/values.yaml")?) {
        table.push_str(&format!("| `{path}` | {words} | `{}` |\n", value_at(&values, &path)));
    }
    Ok(format!("{before}{begin}{table}{end}{after}"))
}

#[test]
fn every_value_is_described_and_the_readme_says_the_same() -> Result<()> {
    let described: BTreeMap<_, _> = descriptions(&read("charts/tidings/values.yaml")?).into_iter().collect();
    let mut paths = BTreeSet::new();
    leaves("", &yaml("charts/tidings/values.yaml")?, &described, &mut paths);
    let described = described.keys().cloned().collect::<BTreeSet<_>>();
    assert!(described.len() > 50, "these are hardly all values: {described:#?}");
    assert_eq!(paths, described, "left: the values, right: those with a description");
    // To bring it up to date: UPDATE_EXPECT=1 cargo test -p tidings-testbed --test chart
    expect_file![root()?.join("charts/tidings/README.md")].assert_eq(&readme()?);
    Ok(())
}

/// Tells what one of both has and the other has not, below what both have.
fn compare(at: &str, values: &Value, schema: &Value, differences: &mut Vec<String>) {
    let Value::Object(known) = &schema["properties"] else { return };
    let nothing = serde_json::Map::new();
    let given = values.as_object().unwrap_or(&nothing);
    if schema["additionalProperties"] != Value::Bool(false) {
        differences.push(format!("the schema takes anything below {at:?}"));
    }
    for name in given.keys().filter(|name| !known.contains_key(*name)) {
        differences.push(format!("the schema has no {at}{name}"));
    }
    for (name, schema) in known {
        let path = format!("{at}{name}");
        match given.get(name) {
            // What the settings are is compared with the settings.
            _ if [HELMS_OWN, "bridge.settings", "webhook.settings"].contains(&&*path) => {}
            Some(values) => compare(&format!("{path}."), values, schema, differences),
            None if at.is_empty() || !path.starts_with("sources.") => {
                differences.push(format!("values.yaml has no {path}"));
            }
            None => {}
        }
    }
}

#[test]
fn the_schema_has_exactly_the_values_that_there_are() -> Result<()> {
    let mut differences = Vec::new();
    compare("", &yaml("charts/tidings/values.yaml")?, &schema()?, &mut differences);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

/// The settings of a process, as the page about them has them, which is made of the types.
fn settings(page: &str) -> Result<BTreeSet<String>> {
    let text = read(page)?;
    let headings = text.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'));
    Ok(headings.map(ToOwned::to_owned).collect())
}

/// Every setting below `schema`.
fn settings_of(at: &str, schema: &Value, paths: &mut BTreeSet<String>) {
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{at}{name}");
        if schema["properties"].is_object() {
            settings_of(&format!("{path}."), schema, paths);
        } else {
            paths.insert(path);
        }
    }
}

#[test]
fn the_schema_has_exactly_the_settings_that_there_are() -> Result<()> {
    let values = &schema()?["properties"];
    for (component, page) in
        [("bridge", "docs/reference/settings.md"), ("webhook", "docs/reference/webhook-settings.md")]
    {
        // The page about the webhook comes with the webhook (issue 6).
        if component == "webhook" && !root()?.join(page).exists() {
            continue;
        }
        let mut known = BTreeSet::new();
        settings_of("", &values[component]["properties"]["settings"], &mut known);
        assert_eq!(known, settings(page)?, "left: values.schema.json, right: {page}");
    }
    Ok(())
}

#[test]
fn the_chart_installs_the_version_of_this_checkout() -> Result<()> {
    let chart = yaml("charts/tidings/Chart.yaml")?;
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"), "appVersion is the workspace's version");
    Ok(())
}

#[test]
fn the_image_is_made_with_the_pinned_compiler_for_a_user_who_is_not_root() -> Result<()> {
    let file = read("Containerfile")?;
    let images: Vec<_> = file.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert_eq!(images.len(), 2, "{images:?}");
    for image in &images {
        let name = image.split_whitespace().next().unwrap_or_default();
        let tag = name.rsplit_once(':').map(|(_, tag)| tag).unwrap_or_default();
        assert!(!tag.is_empty() && tag != "latest", "{name} is not pinned by a tag");
    }
    let toolchain = read("rust-toolchain.toml")?;
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).context("no channel")?;
    let compiler = format!("rust:{}-", channel.trim_matches('"'));
    assert!(images[0].contains(&compiler), "{} is not {compiler}", images[0]);

    let values = yaml("charts/tidings/values.yaml")?;
    let user = values["bridge"]["podSecurityContext"]["runAsUser"].as_u64().context("no runAsUser")?;
    assert_ne!(user, 0);
    assert_eq!(values["webhook"]["podSecurityContext"]["runAsUser"], user);
    assert!(file.lines().any(|line| line == format!("USER {user}:{user}")), "the image has another user");
    Ok(())
}
