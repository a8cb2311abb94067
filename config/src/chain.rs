//! Errors as people read them.

use std::error::Error;

/// An error and its causes in one line, each said once: some libraries repeat a cause in their own text.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let words = source.to_string();
        if !text.contains(&words) {
            text += &format!(": {words}");
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_is_repeated_is_said_once() {
        let error =
            anyhow::anyhow!("refused").context("unable to connect: refused").context("failed to start");
        assert_eq!(chain(error.as_ref()), "failed to start: unable to connect: refused");
    }
}
