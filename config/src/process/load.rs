//! Puts the settings together from where they are given: flags before the environment before the file before the
//! defaults.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use config::{Config, ConfigError, File, Map, Source, Value, ValueKind};

use super::Settings;
use super::reference::{ENVIRONMENT_PREFIX, Setting};
use crate::field_error::{FieldError, FieldErrors};
use crate::nearest::nearest;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read, or is neither TOML nor YAML.
    #[error("failed to read the settings in {}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Unknown names and bad values, all of them.
    #[error("the settings are not valid:\n{}", lines(.0))]
    Invalid(FieldErrors),
}

/// A value, and where it comes from in words.
struct Given {
    value: Value,
    origin: String,
}

/// What a process can be told.
struct Known {
    settings: &'static [Setting],
    command: &'static str,
}

/// Variables of our other programs, and the one that names the file.
const NOT_SETTINGS: [&str; 2] = ["TIDINGS_CONFIG", "TIDINGS_CACHE"];

/// The settings of this process. `environment` is all of it, `flags` are pairs of a setting's path and its value.
/// Every unknown name and every bad value is in the error.
pub fn load<S: Settings>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    flags: impl IntoIterator<Item = (String, String)>,
) -> Result<S, Error> {
    let mut given = BTreeMap::new();
    let mut errors = FieldErrors::new();
    let known = Known { settings: S::settings(), command: S::COMMAND };
    if let Some(path) = file {
        let tree = File::from(path).collect();
        let tree = tree.map_err(|error| Error::File { path: path.to_owned(), problem: problem(&error) })?;
        known.take_tree("", tree, &format!("in {}", path.display()), &mut given, &mut errors);
    }
    for (name, value) in environment {
        known.take_variable(&name, &value, &mut given, &mut errors);
    }
    for setting in flags {
        let origin = format!("--{}", setting.0.replace(['.', '_'], "-"));
        given.insert(setting.0, Given { value: setting.1.into(), origin });
    }

    // One by one, so that one bad value does not hide another.
    for (path, Given { value, origin }) in &given {
        if let Err(error) = build::<S>([(path, value)]) {
            errors.push(FieldError::new(format!("{path} ({origin})"), problem(&error)));
        }
    }
    if !errors.is_empty() {
        return Err(Error::Invalid(errors));
    }
    let settings = build::<S>(given.iter().map(|(path, given)| (path, &given.value)))
        .map_err(|error| Error::Invalid(vec![FieldError::new("settings", problem(&error))]))?;
    let errors: FieldErrors = settings
        .validate()
        .into_iter()
        .map(|error| match given.get(&error.path) {
            Some(Given { origin, .. }) => FieldError { path: format!("{} ({origin})", error.path), ..error },
            None => error,
        })
        .collect();
    if errors.is_empty() { Ok(settings) } else { Err(Error::Invalid(errors)) }
}

/// Whether a variable has the form of those that Kubernetes adds to a container for each Service of its namespace
/// (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>). A Service called
/// `tidings-admin` makes `TIDINGS_ADMIN_PORT`, which nobody wrote as a setting.
pub(super) fn is_service_link(name: &str) -> bool {
    let ends = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"].iter().any(|end| name.ends_with(end));
    let named_port = name.contains("_SERVICE_PORT_");
    let address = name.split_once("_PORT_").is_some_and(|(_, rest)| {
        let mut parts = rest.split('_');
        parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
            && parts.next().is_some_and(|protocol| matches!(protocol, "TCP" | "UDP" | "SCTP"))
    });
    ends || named_port || address
}

fn build<'a, S: Settings>(
    values: impl IntoIterator<Item = (&'a String, &'a Value)>,
) -> Result<S, ConfigError> {
    let mut builder = Config::builder().add_source(Config::try_from(&S::default())?);
    for (path, value) in values {
        builder = builder.set_override(path, value.clone())?;
    }
    builder.build()?.try_deserialize()
}

// === impl Known ===

impl Known {
    /// Takes the leaves of a file that are settings, and reports the others.
    fn take_tree(
        &self,
        parent: &str,
        tree: Map<String, Value>,
        origin: &str,
        given: &mut BTreeMap<String, Given>,
        errors: &mut FieldErrors,
    ) {
        let mut entries: Vec<_> = tree.into_iter().collect();
        entries.sort_by(|left, right| left.0.cmp(&right.0));
        for (name, value) in entries {
            let path = if parent.is_empty() { name } else { format!("{parent}.{name}") };
            if self.settings.iter().any(|setting| setting.path == path) {
                given.insert(path, Given { value, origin: origin.to_owned() });
                continue;
            }
            let is_group = self.settings.iter().any(|setting| setting.path.starts_with(&format!("{path}.")));
            match value.kind {
                ValueKind::Table(tree) if is_group => self.take_tree(&path, tree, origin, given, errors),
                _ if is_group => errors.push(FieldError::new(
                    format!("{path} ({origin})"),
                    "holds settings and is none itself; see the reference for the names below it",
                )),
                _ => errors.push(self.unknown(&path, origin, |setting| &setting.path)),
            }
        }
    }

    fn take_variable(
        &self,
        name: &OsStr,
        value: &OsStr,
        given: &mut BTreeMap<String, Given>,
        errors: &mut FieldErrors,
    ) {
        // A name that is not Unicode is not one of ours.
        let Some(name) = name.to_str().filter(|name| name.starts_with(ENVIRONMENT_PREFIX)) else { return };
        if NOT_SETTINGS.contains(&name) || is_service_link(name) {
            return;
        }
        let origin = "in the environment";
        match (self.settings.iter().find(|setting| setting.environment == name), value.to_str()) {
            (Some(setting), Some(value)) => {
                given.insert(setting.path.clone(), Given { value: value.into(), origin: name.to_owned() });
            }
            (Some(_), None) => errors.push(FieldError::new(name, "is not UTF-8")),
            (None, _) => errors.push(self.unknown(name, origin, |setting| &setting.environment)),
        }
    }

    fn unknown(&self, name: &str, origin: &str, known: impl Fn(&Setting) -> &str) -> FieldError {
        let hint = match nearest(name, self.settings.iter().map(known)) {
            Some(known) => format!("; did you mean `{known}`?"),
            None => format!("; `tidings {} --help` lists them", self.command),
        };
        FieldError::new(format!("{name} ({origin})"), format!("there is no such setting{hint}"))
    }
}

/// Without key and origin, which the path of the error has already.
fn problem(error: &ConfigError) -> String {
    match error {
        ConfigError::At { error, .. } => problem(error),
        ConfigError::Type { unexpected, expected, .. } => format!("{unexpected} is not {expected}"),
        ConfigError::FileParse { cause, .. } | ConfigError::Foreign(cause) => cause.to_string(),
        other => other.to_string(),
    }
}

fn lines(errors: &FieldErrors) -> String {
    errors.iter().map(|error| format!("  {error}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
#[path = "load/tests.rs"]
mod tests;
