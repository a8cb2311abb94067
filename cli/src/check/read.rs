//! Files that are named, and the documents in them.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Cursor, Read as _};
use std::path::{Path, PathBuf};

use serde_saphyr::{Localizer, Location, Spanned, UserMessageFormatter};

use super::document::{Document, Node};

/// What files of a folder are called that are looked at, as `kubectl apply -f` does it.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
/// What stands for standard input.
const STANDARD_INPUT: &str = "-";

/// A file, and what is in it.
pub(super) struct Content {
    pub(super) name: String,
    pub(super) documents: Vec<Document>,
    pub(super) unreadable: Vec<Unreadable>,
}

/// Something that is no YAML, and no JSON.
pub(super) struct Unreadable {
    pub(super) file: String,
    pub(super) line: u64,
    pub(super) message: String,
}

/// A file that cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("failed to read {file}")]
pub(crate) struct Error {
    file: String,
    source: io::Error,
}

/// How YAML that cannot be read is told of.
struct Words;

impl Localizer for Words {
    /// The line stands before the message already.
    fn attach_location<'a>(&self, base: Cow<'a, str>, _: Location) -> Cow<'a, str> {
        base
    }
}

/// What is in all of them, in the order in which they are named; the files of a folder in the order of their names.
pub(super) fn read(arguments: &[PathBuf]) -> Result<Vec<Content>, Error> {
    let mut contents = Vec::new();
    for argument in arguments {
        if argument.as_os_str() == STANDARD_INPUT {
            let mut bytes = Vec::new();
            let name = "standard input";
            io::stdin().read_to_end(&mut bytes).map_err(|source| Error { file: name.to_owned(), source })?;
            contents.push(parse(name.to_owned(), &bytes));
            continue;
        }
        let describe = |path: &Path| {
            let file = path.display().to_string();
            |source| Error { file, source }
        };
        let files = if argument.is_dir() {
            files_in(argument).map_err(describe(argument))?
        } else {
            vec![argument.clone()]
        };
        for file in files {
            let bytes = fs::read(&file).map_err(describe(&file))?;
            contents.push(parse(file.display().to_string(), &bytes));
        }
    }
    Ok(contents)
}

fn files_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_file() && extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn parse(name: String, bytes: &[u8]) -> Content {
    let mut content = Content { name, documents: Vec::new(), unreadable: Vec::new() };
    // Numbers with a leading zero as kubectl reads them. JSON is YAML.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text.lines().collect();
    let mut reader = Cursor::new(bytes);
    let documents = serde_saphyr::read_with_options::<_, Spanned<Node>>(&mut reader, options);
    for (index, document) in documents.enumerate() {
        match document {
            Ok(Spanned { value, referenced, .. }) => {
                content.documents.extend(Document::all(index + 1, referenced.line(), value, &lines));
            }
            Err(error) => content.unreadable.push(Unreadable {
                file: content.name.clone(),
                line: error.location().map_or(1, |location| location.line()),
                message: error
                    .without_snippet()
                    .render_with_formatter(&UserMessageFormatter.with_localizer(&Words)),
            }),
        }
    }
    content
}
