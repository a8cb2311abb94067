//! What was found: lines for people, or one JSON document for programs (`docs/reference/check.md` says what is in it).

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use super::{Findings, Resource};
use crate::args::TextOrJson;
use crate::output::Style;

/// All that was found, in order of files and lines.
#[derive(Serialize)]
pub(super) struct Report {
    files: usize,
    /// How many errors there are.
    errors: usize,
    /// How many warnings there are.
    warnings: usize,
    /// How many resources are of other kinds than ours.
    skipped: usize,
    resources: Vec<Described>,
    unreadable: Vec<Finding>,
}

/// A resource of ours.
#[derive(Serialize)]
struct Described {
    file: String,
    document: usize,
    line: u64,
    kind: String,
    namespace: String,
    name: String,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
}

/// One thing to be said.
#[derive(Serialize)]
struct Finding {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    message: String,
}

// === impl Report ===

impl Report {
    pub(super) fn new(findings: Findings) -> Self {
        let Findings { files, resources, unreadable, skipped } = findings;
        let resources: Vec<_> = resources.into_iter().map(Described::of).collect();
        let unreadable: Vec<_> = unreadable
            .into_iter()
            .map(|found| Finding {
                file: Some(found.file),
                line: found.line,
                path: None,
                message: found.message,
            })
            .collect();
        let errors = resources.iter().map(|resource| resource.errors.len()).sum::<usize>() + unreadable.len();
        let warnings = resources.iter().map(|resource| resource.warnings.len()).sum();
        Self { files, errors, warnings, skipped, resources, unreadable }
    }

    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    pub(super) fn warnings(&self) -> usize {
        self.warnings
    }

    pub(super) fn render(&self, output: TextOrJson) -> Result<String> {
        match output {
            TextOrJson::Json => Ok(serde_json::to_string_pretty(self)? + "\n"),
            TextOrJson::Text => Ok(self.text(Style::of_stdout())),
        }
    }

    fn text(&self, style: Style) -> String {
        let Style { red, yellow, plain, .. } = style;
        let mut text = String::new();
        // Writing to a String cannot fail.
        for Finding { file, line, message, .. } in &self.unreadable {
            let file = file.as_deref().unwrap_or_default();
            let _ = writeln!(text, "{file}:{line}: {red}error{plain}: {message}");
        }
        for resource in &self.resources {
            let Described { file, kind, namespace, name, .. } = resource;
            let name = if name.is_empty() { "without a name" } else { name };
            let findings = resource.errors.iter().map(|finding| (red, "error", finding));
            let findings =
                findings.chain(resource.warnings.iter().map(|finding| (yellow, "warning", finding)));
            for (colour, level, Finding { line, path, message, .. }) in findings {
                let path = path.as_deref().map(|path| format!("{path}: ")).unwrap_or_default();
                let _ = writeln!(
                    text,
                    "{file}:{line}: {colour}{level}{plain}: {kind} {namespace}/{name}: {path}{message}"
                );
            }
        }
        text + &self.summary() + "\n"
    }

    fn summary(&self) -> String {
        let Self { files, errors, warnings, skipped, resources, unreadable: _ } = self;
        let mut summary = format!(
            "{} in {}: {}, {}",
            count(resources.len(), "resource"),
            count(*files, "file"),
            count(*errors, "error"),
            count(*warnings, "warning")
        );
        if *skipped > 0 {
            let _ = write!(summary, "; {skipped} of other kinds skipped");
        }
        summary
    }
}

// === impl Described ===

impl Described {
    fn of(resource: Resource) -> Self {
        let Resource { file, document, checked } = resource;
        let finding = |path: String, message: String| {
            let line = document.line_of(&path);
            Finding { file: None, line, path: Some(path), message }
        };
        let mut errors: Vec<_> =
            checked.errors.into_iter().map(|error| finding(error.path, error.problem)).collect();
        errors.sort_by_key(|finding| finding.line);
        let mut warnings: Vec<_> =
            checked.warnings.into_iter().map(|warning| finding(warning.path, warning.message)).collect();
        warnings.sort_by_key(|finding| finding.line);
        Self {
            document: document.number,
            line: document.line,
            file,
            kind: checked.kind,
            namespace: checked.namespace,
            name: checked.name,
            errors,
            warnings,
        }
    }
}

fn count(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
