//! `tidings check`: what is wrong with resources in files, before any cluster sees them.
//!
//! What is a rule is in `tidings-crds`; here files become values, and findings get a file and a line.

mod document;
mod read;
mod report;

use std::path::Path;

use anyhow::{Result, bail};
use serde_json::Value;
use tidings_config::field_error::FieldError;
use tidings_crds::check::{Checked, check, together};

use self::document::Document;
pub(crate) use self::read::Error;
use self::read::{Content, Unreadable, read};
use self::report::Report;
use crate::args::CheckArgs;
use crate::output;

/// A resource of ours, where it is, and what is to be said of it.
struct Resource {
    file: String,
    document: Document,
    checked: Checked,
}

/// What was looked at.
struct Findings {
    files: usize,
    resources: Vec<Resource>,
    unreadable: Vec<Unreadable>,
    /// How many are of other kinds.
    skipped: usize,
}

pub(crate) fn run(args: CheckArgs) -> Result<()> {
    let CheckArgs { files, namespace, strict, output } = args;
    let findings = Findings::of(&files, &namespace)?;
    let report = Report::new(findings);
    output::print(report.render(output)?.as_bytes())?;
    if report.errors() > 0 || strict && report.warnings() > 0 { Err(output::Told.into()) } else { Ok(()) }
}

/// What is in a file, or on standard input: YAML or JSON.
///
/// # Errors
///
/// When it cannot be read, or is neither.
pub(crate) fn documents(file: &Path) -> Result<Vec<Value>> {
    let mut values = Vec::new();
    for Content { name, documents, unreadable } in read(&[file.to_owned()])? {
        if let Some(Unreadable { line, message, .. }) = unreadable.first() {
            bail!("failed to read {name}: line {line}: {message}");
        }
        values.extend(documents.iter().map(Document::value));
    }
    Ok(values)
}

// === impl Findings ===

impl Findings {
    fn of(arguments: &[std::path::PathBuf], namespace: &str) -> Result<Self, Error> {
        let mut findings = Self { files: 0, resources: Vec::new(), unreadable: Vec::new(), skipped: 0 };
        for file in read(arguments)? {
            findings.files += 1;
            findings.unreadable.extend(file.unreadable);
            for document in file.documents {
                match check(document.value(), namespace) {
                    Some(checked) => findings.take(file.name.clone(), document, checked),
                    None => findings.skipped += 1,
                }
            }
        }
        let mut checked: Vec<_> =
            findings.resources.iter().map(|resource| resource.checked.clone()).collect();
        together(&mut checked);
        for (resource, checked) in findings.resources.iter_mut().zip(checked) {
            resource.checked = checked;
        }
        Ok(findings)
    }

    fn take(&mut self, file: String, document: Document, mut checked: Checked) {
        for key in document.misread_keys() {
            let problem =
                "kubectl and helm read this key as true or false, as YAML 1.1 does: put it in quotes";
            checked.errors.push(FieldError::new(key, problem));
            checked.meaning = None;
        }
        self.resources.push(Resource { file, document, checked });
    }
}
