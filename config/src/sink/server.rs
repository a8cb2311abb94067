//! Servers, as people write them: as URLs without credentials.

use url::Url;

/// How a server of one kind is written.
pub(super) struct Form {
    /// The scheme without TLS.
    pub(super) plain: &'static str,
    /// The scheme with TLS.
    pub(super) encrypted: &'static str,
    pub(super) example: &'static str,
}

// === impl Form ===

impl Form {
    /// Reads one. With `tls` only the scheme that has it will do. The text itself is never repeated: where people put
    /// credentials by mistake, they must not spread.
    pub(super) fn parse(&self, text: &str, tls: bool) -> Result<Url, String> {
        let Self { plain, encrypted, example } = self;
        let url: Url = text.parse().map_err(|error| format!("no URL like `{example}`: {error}"))?;
        let scheme = url.scheme();
        if scheme != *plain && scheme != *encrypted {
            return Err(format!("the scheme is `{plain}://` or `{encrypted}://`"));
        }
        if tls && scheme == *plain {
            return Err(format!("with `tls`, the scheme is `{encrypted}://`: `{plain}://` is not encrypted"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("credentials do not belong in a URL; `auth` names a Secret for them".to_owned());
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(format!("no host; it is written like `{example}`"));
        }
        Ok(url)
    }
}

/// Whether nothing follows the host and the port.
pub(super) fn is_bare(url: &Url) -> bool {
    matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none()
}
