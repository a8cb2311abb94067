//! Text with placeholders for what an Event is about, for subjects and routing keys.

use std::fmt;

use crate::nearest::nearest;

/// Text with placeholders, e.g. `todos.{namespace}.{name}.{change}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Stands for itself.
    Literal(Box<str>),
    /// Is replaced.
    Value(Placeholder),
}

/// What a template can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// The API group, `core` for the core group.
    Group,
    /// The API version, e.g. `v1`.
    Version,
    /// The kind, e.g. `Todo`.
    Kind,
    /// The resource, e.g. `todos`.
    Plural,
    /// The object's namespace, `_cluster` for a cluster-scoped one.
    Namespace,
    /// The object's name.
    Name,
    /// What happened, e.g. `added`.
    Change,
    /// The object's uid.
    Uid,
    /// The Subscription, `namespace.name`.
    Subscription,
}

/// Text that is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A name between braces that means nothing.
    #[error("`{{{name}}}` is no placeholder{}; there are {}", hint(.name), known())]
    Unknown {
        /// What stands between the braces.
        name: String,
    },
    /// A brace without its partner.
    #[error("a `{{` without its `}}`, or a `}}` without its `{{`")]
    Unbalanced,
}

// === impl Template ===

impl Template {
    /// Takes `text` apart.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (literal, brace) = rest.split_at(at);
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.into()));
            }
            let (name, after) =
                brace.strip_prefix('{').and_then(|inner| inner.split_once('}')).ok_or(Error::Unbalanced)?;
            let placeholder = Placeholder::ALL.into_iter().find(|known| known.as_str() == name);
            parts.push(Part::Value(placeholder.ok_or_else(|| Error::Unknown { name: name.to_owned() })?));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        Ok(Self { parts })
    }

    /// Its pieces in order, none of them empty.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The text that it always is, where it has no placeholders.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

/// As it was written.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Literal(literal) => f.write_str(literal),
            Part::Value(placeholder) => write!(f, "{{{}}}", placeholder.as_str()),
        })
    }
}

// === impl Placeholder ===

impl Placeholder {
    /// Every one of them.
    pub const ALL: [Self; 9] = [
        Self::Group,
        Self::Version,
        Self::Kind,
        Self::Plural,
        Self::Namespace,
        Self::Name,
        Self::Change,
        Self::Uid,
        Self::Subscription,
    ];

    /// How it is written between the braces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Version => "version",
            Self::Kind => "kind",
            Self::Plural => "plural",
            Self::Namespace => "namespace",
            Self::Name => "name",
            Self::Change => "change",
            Self::Uid => "uid",
            Self::Subscription => "subscription",
        }
    }
}

/// Which one was meant, where that can be guessed.
fn hint(written: &str) -> String {
    let near = nearest(written.trim(), Placeholder::ALL.map(Placeholder::as_str));
    near.map(|near| format!(" (did you mean `{{{near}}}`?)")).unwrap_or_default()
}

/// The placeholders as a sentence lists them.
fn known() -> String {
    Placeholder::ALL.map(|placeholder| format!("{{{}}}", placeholder.as_str())).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_prints_as_it_was_written() {
        for text in ["", "plain", "{name}", "a.{namespace}.{name}.{change}", "{group}{version}-{kind}.{uid}"]
        {
            assert_eq!(Template::parse(text).unwrap().to_string(), text);
        }
        for placeholder in Placeholder::ALL {
            let text = format!("{{{}}}", placeholder.as_str());
            assert_eq!(Template::parse(&text).unwrap().parts(), [Part::Value(placeholder)]);
        }
    }

    #[test]
    fn only_a_template_without_placeholders_is_a_literal() {
        for (text, literal) in [("", Some("")), ("a.b", Some("a.b")), ("a.{name}", None), ("{name}", None)] {
            assert_eq!(Template::parse(text).unwrap().as_literal(), literal, "{text}");
        }
    }

    #[test]
    fn an_unknown_placeholder_is_named_beside_the_known_ones() {
        let error = Template::parse("todos.{nmae}").unwrap_err().to_string();
        assert!(
            error.starts_with(
                "`{nmae}` is no placeholder (did you mean `{name}`?); there are {group} {version}"
            ),
            "{error}"
        );
    }

    #[test]
    fn a_brace_needs_its_partner() {
        for text in ["{name", "name}", "}{", "{na{me}}"] {
            let error = Template::parse(text).unwrap_err();
            assert!(matches!(error, Error::Unbalanced | Error::Unknown { .. }), "{text}: {error}");
        }
        assert_eq!(Template::parse("a}b"), Err(Error::Unbalanced));
        assert_eq!(Template::parse("a{b"), Err(Error::Unbalanced));
    }
}
