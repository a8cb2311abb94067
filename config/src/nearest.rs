//! What somebody meant who wrote something else.

/// As far as a slip of the hand goes.
const MAX_DISTANCE: usize = 3;

/// The one of `known` that `written` is nearest to, where it is near enough to be what was meant.
pub fn nearest<T: AsRef<str>>(written: &str, known: impl IntoIterator<Item = T>) -> Option<T> {
    let limit = MAX_DISTANCE.min(written.chars().count() / 2);
    // Nothing of an absurd length is near, and it would take as long to find out.
    let length = written.len();
    let near = known.into_iter().filter(|known| length.abs_diff(known.as_ref().len()) <= 4 * MAX_DISTANCE);
    let distances = near.map(|known| {
        let (left, right) = (written.to_lowercase(), known.as_ref().to_lowercase());
        (strsim::osa_distance(&left, &right), known)
    });
    distances
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let known = ["sources", "sink", "suspend", "on"];
        assert_eq!(nearest("source", known), Some("sources"));
        assert_eq!(nearest("snik", known), Some("sink"));
        assert_eq!(nearest("Sink", known), Some("sink"));
        for other in ["filters", "a", "", "x".repeat(10_000_000).as_str()] {
            assert_eq!(nearest(other, known), None);
        }
    }
}
