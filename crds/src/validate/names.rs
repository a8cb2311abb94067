//! What Kubernetes allows as names.

/// What Kubernetes calls a DNS subdomain (RFC 1123).
pub(crate) fn is_subdomain(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.split('.').all(is_label)
}

/// What Kubernetes calls a DNS label (RFC 1123).
pub(crate) fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// What Kubernetes calls a qualified name: `name`, or `prefix/name` with a DNS subdomain before it.
pub(crate) fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && !name.is_empty() && is_label_value(name),
        None => !text.is_empty() && is_label_value(text),
    }
}

/// The value of a label; it can be empty.
pub(crate) fn is_label_value(text: &str) -> bool {
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !text.starts_with(|c: char| !c.is_ascii_alphanumeric())
        && !text.ends_with(|c: char| !c.is_ascii_alphanumeric())
}
