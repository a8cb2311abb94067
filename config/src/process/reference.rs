//! What settings there are, read off the types: for the loader, for `--help` and for
//! `docs/reference/settings.md` and `docs/reference/webhook-settings.md`.

use std::fmt::Write as _;

use serde_json::Value;

use super::Settings;

/// One setting of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name in a file, with a `.` between levels, e.g. `retry_backoff.first`.
    pub path: String,
    /// Its name in the environment, e.g. `TIDINGS_RETRY_BACKOFF_FIRST`.
    pub environment: String,
    /// Its flag without the hyphens in front, e.g. `retry-backoff-first`.
    pub flag: String,
    /// What it means.
    pub description: String,
    /// What a value looks like.
    pub value: ValueForm,
    /// What it is when nobody says anything; nothing where that is "none".
    pub default: Option<String>,
}

/// What a value looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueForm {
    /// Free text, a number, ...: the name of the form, e.g. `DURATION`.
    Free(&'static str),
    /// One of these words.
    Words(Vec<String>),
}

/// The names in the environment start like this.
pub const ENVIRONMENT_PREFIX: &str = "TIDINGS_";

/// Every setting in `S`, in the order of its fields.
pub(super) fn read_off<S: Settings>() -> Vec<Setting> {
    let schema = schemars::schema_for!(S).to_value();
    let defaults = serde_json::to_value(S::default()).unwrap_or_default();
    let mut settings = Vec::new();
    collect("", "", &schema, &defaults, &mut settings);
    settings
}

/// The page of the reference about them.
pub fn page<S: Settings>() -> String {
    let mut page = format!(
        "\
# Settings of `tidings {command}`

Generated from the types; `cargo test -p tidings-config` checks it, and `UPDATE_EXPECT=1 cargo test -p tidings-config`
writes it anew.

A setting can be given in three ways, and the first one that is given counts:

1. as a flag: `tidings {command} --{flag} {value}`
2. in the environment: `{environment}={value}`
3. in a file, named by `--config FILE` or `TIDINGS_CONFIG`, as TOML (`.toml`) or YAML (`.yaml`, `.yml`):

   ```yaml
{file}
   ```

A name that is not in this list is refused, wherever it is given: nothing you write is ignored. (Variables that Kubernetes
adds for Services, such as `TIDINGS_SERVICE_HOST`, are left alone.) Durations are written `100ms`, `30s`, `1h30m`; sizes
`64Mi`, `500k` or a number of bytes.

",
        command = S::COMMAND,
        flag = S::EXAMPLE.0.replace(['.', '_'], "-"),
        environment = environment(S::EXAMPLE.0),
        value = S::EXAMPLE.1,
        file = in_a_file(S::EXAMPLE),
    );
    for setting in S::settings() {
        let Setting { path, environment, flag, description, value, default } = setting;
        let default = default.as_ref().map_or("none".to_owned(), |default| format!("`{default}`"));
        let value = match value {
            ValueForm::Free(name) => (*name).to_owned(),
            ValueForm::Words(words) => {
                words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
            }
        };
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "## `{path}`\n\n{description}\n\n| environment | flag | value | default |\n|---|---|---|---|\n\
             | `{environment}` | `--{flag}` | {value} | {default} |\n\n"
        );
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn environment(path: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", path.replace('.', "_").to_uppercase())
}

/// A setting as a YAML file has it, one level deeper for each `.`.
fn in_a_file((path, value): (&str, &str)) -> String {
    let names: Vec<_> = path.split('.').collect();
    let line = |(depth, name): (usize, &&str)| {
        let value = if depth + 1 == names.len() { format!(" {value}") } else { String::new() };
        format!("{:indent$}{name}:{value}", "", indent = 3 + 2 * depth)
    };
    names.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// Settings that have fields of their own are not settings themselves; their description starts their fields'.
fn collect(path: &str, description: &str, schema: &Value, default: &Value, settings: &mut Vec<Setting>) {
    let own = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
    let Some(properties) = schema["properties"].as_object() else {
        let description = [description, &own].into_iter().filter(|text| !text.is_empty());
        settings.push(Setting {
            path: path.to_owned(),
            environment: environment(path),
            flag: path.replace(['.', '_'], "-"),
            description: description.collect::<Vec<_>>().join(" "),
            value: value(schema),
            default: match default {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            },
        });
        return;
    };
    for (name, property) in properties {
        let (path, description) =
            if path.is_empty() { (name.clone(), "") } else { (format!("{path}.{name}"), &*own) };
        collect(&path, description, property, &default[name], settings);
    }
}

fn value(schema: &Value) -> ValueForm {
    let words: Vec<_> = schema["enum"]
        .as_array()
        .into_iter()
        .chain(schema["oneOf"].as_array())
        .flatten()
        .filter_map(|word| word.as_str().or(word["const"].as_str()).map(ToOwned::to_owned))
        .collect();
    if !words.is_empty() {
        return ValueForm::Words(words);
    }
    ValueForm::Free(match (schema["format"].as_str(), schema["type"].as_str()) {
        (Some("duration"), _) => "DURATION",
        (Some("size"), _) => "SIZE",
        (_, Some("integer")) => "NUMBER",
        _ => "TEXT",
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use expect_test::expect_file;

    use super::super::load::is_service_link;
    use super::super::webhook::WebhookSettings;
    use super::super::{BridgeSettings, Settings};
    use super::*;

    #[test]
    fn the_pages_are_up_to_date() {
        expect_file!["../../../docs/reference/settings.md"].assert_eq(&page::<BridgeSettings>());
        expect_file!["../../../docs/reference/webhook-settings.md"].assert_eq(&page::<WebhookSettings>());
    }

    #[test]
    fn every_setting_is_described_and_has_names_of_its_own() {
        for settings in [BridgeSettings::settings(), WebhookSettings::settings()] {
            let mut names = BTreeSet::new();
            for setting in settings {
                assert!(setting.description.ends_with('.'), "{setting:?}");
                assert!(names.insert(&setting.environment) && names.insert(&setting.flag), "{setting:?}");
                assert!(!is_service_link(&setting.environment), "Kubernetes may set {setting:?} by itself");
            }
        }
    }

    #[test]
    fn fields_of_fields_are_settings() {
        let setting =
            BridgeSettings::settings().iter().find(|setting| setting.path == "retry_backoff.first").unwrap();
        assert_eq!(setting.environment, "TIDINGS_RETRY_BACKOFF_FIRST");
        assert_eq!(setting.flag, "retry-backoff-first");
        assert_eq!(setting.value, ValueForm::Free("DURATION"));
        assert_eq!(setting.default.as_deref(), Some("100ms"));
        assert!(setting.description.contains("doubles with each failure"), "{}", setting.description);
    }
}
