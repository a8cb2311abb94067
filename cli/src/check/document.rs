//! A document of a file: its value, and in which line each part of it begins.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::Spanned;

/// Words that YAML 1.1 takes for true or false where they have no quotes, as kubectl does, and YAML 1.2 does not.
const YAML_1_1: [&str; 6] = ["on", "off", "yes", "no", "y", "n"];

/// One resource as it is written.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// The how manieth it is in its file, from 1.
    pub(super) number: usize,
    /// The line where it begins, from 1.
    pub(super) line: u64,
    node: Node,
    misread: Vec<String>,
}

/// A value, whose parts know where they are.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Value),
    List(Vec<(u64, Node)>),
    Map(Vec<(Key, Node)>),
}

/// The name of a field, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Key {
    name: String,
    line: u64,
    column: u64,
}

// === impl Document ===

impl Document {
    /// The resources in a document that begins at `line` of `text`: itself, or the items of a list.
    pub(super) fn all(number: usize, line: u64, node: Node, text: &[&str]) -> Vec<Self> {
        let kind = node.get("kind").and_then(Node::as_str).unwrap_or_default();
        let is_list = kind.ends_with("List");
        match node {
            Node::Map(fields) if is_list => {
                let items = fields.into_iter().find_map(|(key, node)| match node {
                    Node::List(items) if key.name == "items" => Some(items),
                    _ => None,
                });
                let items = items.unwrap_or_default().into_iter();
                items.flat_map(|(line, node)| Self::all(number, line, node, text)).collect()
            }
            Node::Leaf(Value::Null) => Vec::new(),
            node => {
                let mut misread = Vec::new();
                node.find_misread("", text, &mut misread);
                vec![Self { number, line, node, misread }]
            }
        }
    }

    /// What it holds.
    pub(super) fn value(&self) -> Value {
        self.node.value()
    }

    /// The paths of keys that kubectl reads as something else than they look like.
    pub(super) fn misread_keys(&self) -> &[String] {
        &self.misread
    }

    /// The line of the field at `path`, or else of what it would be in.
    pub(super) fn line_of(&self, path: &str) -> u64 {
        let (mut line, mut node) = (self.line, &self.node);
        for segment in segments(path) {
            let Some(found) = node.child(&segment) else { break };
            (line, node) = found;
        }
        line
    }
}

// === impl Node ===

impl Node {
    fn get(&self, name: &str) -> Option<&Self> {
        self.child(name).map(|(_, node)| node)
    }

    fn as_str(&self) -> Option<&str> {
        match self {
            Self::Leaf(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    fn child(&self, segment: &str) -> Option<(u64, &Self)> {
        match self {
            Self::Map(fields) => {
                fields.iter().find(|(key, _)| key.name == segment).map(|(key, node)| (key.line, node))
            }
            Self::List(items) => items.get(segment.parse::<usize>().ok()?).map(|(line, node)| (*line, node)),
            Self::Leaf(_) => None,
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Leaf(value) => value.clone(),
            Self::List(items) => items.iter().map(|(_, node)| node.value()).collect(),
            Self::Map(fields) => fields.iter().map(|(key, node)| (key.name.clone(), node.value())).collect(),
        }
    }

    fn find_misread(&self, path: &str, text: &[&str], misread: &mut Vec<String>) {
        match self {
            Self::Leaf(_) => {}
            Self::List(items) => {
                for (index, (_, node)) in items.iter().enumerate() {
                    node.find_misread(&format!("{path}[{index}]"), text, misread);
                }
            }
            Self::Map(fields) => {
                for (key, node) in fields {
                    let path =
                        if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
                    if YAML_1_1.contains(&&*key.name.to_ascii_lowercase()) && !key.is_quoted(text) {
                        misread.push(path.clone());
                    }
                    node.find_misread(&path, text, misread);
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

// === impl Key ===

impl Key {
    fn is_quoted(&self, text: &[&str]) -> bool {
        let at = |line: u64| usize::try_from(line).ok()?.checked_sub(1);
        let line = at(self.line).and_then(|line| text.get(line));
        let first = line.zip(at(self.column)).and_then(|(line, column)| line.chars().nth(column));
        matches!(first, Some('"' | '\''))
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    #[allow(clippy::cast_precision_loss, reason = "so does kubectl")]
    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Node, E> {
        self.visit_f64(value as f64)
    }

    #[allow(clippy::cast_precision_loss, reason = "so does kubectl")]
    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Node, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        let number =
            Number::from_f64(value).ok_or_else(|| E::custom(format!("{value} is no number of JSON")))?;
        Ok(Node::Leaf(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(Spanned { value, referenced, .. }) = items.next_element::<Spanned<Node>>()? {
            nodes.push((referenced.line(), value));
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(Spanned { value: name, referenced, .. }) = fields.next_key::<Spanned<String>>()? {
            let key = Key { name, line: referenced.line(), column: referenced.column() };
            nodes.push((key, fields.next_value()?));
        }
        Ok(Node::Map(nodes))
    }
}

/// The names and indices of a path such as `spec.sources[0].kind` or `config["a b"]`.
fn segments(path: &str) -> Vec<String> {
    let mut segments = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (segment, after) = match rest.strip_prefix('[') {
            Some(inside) => match inside.strip_prefix('"') {
                Some(quoted) => quoted.split_once("\"]").unwrap_or((quoted, "")),
                None => inside.split_once(']').unwrap_or((inside, "")),
            },
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        segments.push(segment.to_owned());
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Vec<Document> {
        let lines: Vec<_> = text.lines().collect();
        let nodes: Vec<Spanned<Node>> = serde_saphyr::from_multiple(text).unwrap();
        let numbered = nodes.into_iter().enumerate();
        numbered
            .flat_map(|(index, node)| Document::all(index + 1, node.referenced.line(), node.value, &lines))
            .collect()
    }

    #[test]
    fn a_path_leads_to_the_line_of_its_field() {
        let text = "\
# first
a: 1
spec:
  sources:
  - kind: Todo
  - apiVersion: v1
    kind: Pod
  config: {\"x.y\": 1, z: [1,
    2]}
";
        let all = documents(text);
        for (path, line) in [
            ("", 2),
            ("spec", 3),
            ("spec.sources", 4),
            ("spec.sources[0].kind", 5),
            ("spec.sources[1]", 6),
            ("spec.sources[1].kind", 7),
            ("spec.sources[1].missing", 6),
            ("spec.config[\"x.y\"]", 8),
            ("spec.config.z[1]", 9),
            ("spec.config.z[7]", 8),
        ] {
            assert_eq!(all[0].line_of(path), line, "{path}");
        }
    }

    #[test]
    fn items_of_a_list_are_resources() {
        let all = documents("kind: List\nitems:\n- kind: A\n- kind: B\n---\nkind: C\n---\n");
        let found: Vec<_> = all
            .iter()
            .map(|document| (document.number, document.line, document.value()["kind"].clone()))
            .collect();
        assert_eq!(found, [(1, 3, "A".into()), (1, 4, "B".into()), (2, 6, "C".into())]);
    }

    #[test]
    fn words_of_yaml_1_1_are_found_unless_they_are_quoted() {
        let text = "on: 1\n'off': 1\na: {Yes: 1, \"no\": 2, online: 3}\nb:\n- {n: 1}\n";
        assert_eq!(documents(text)[0].misread_keys(), ["on", "a.Yes", "b[0].n"]);
    }

    #[test]
    fn json_is_read_as_it_is() {
        let text = r#"{"a": [null, true, -1, 1.5, "x"], "b": {"c": 18446744073709551615}, "on": {}}"#;
        let document = &documents(text)[0];
        assert_eq!(document.value(), serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(document.misread_keys(), [""; 0]);
    }
}
