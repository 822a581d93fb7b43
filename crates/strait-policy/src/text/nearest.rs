//! The known name that an unknown one may be meant to be.

/// How many names of one document are looked for: each costs a comparison with every known one, and
/// nobody reads more.
pub(crate) const MAX_HINTS: usize = 100;

/// The name with the fewest edits from `name`, if those are few enough to be a slip of the hand.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // Names are short; a longer text is no slip of the hand, and would cost quadratic time.
    if name.len() > 64 {
        return None;
    }
    let name = name.to_lowercase();
    let length = name.chars().count();
    let limit = (length / 3).clamp(1, 3);
    known
        .into_iter()
        // Each difference in length is an edit.
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= limit)
        .map(|candidate| (edits(&name, &candidate.to_lowercase()), candidate))
        .filter(|&(count, _)| count <= limit)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// How many insertions, deletions, replacements and swaps of neighbours lead from one to the
/// other (optimal string alignment).
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_a_stranger_is_not() {
        let known = ["openat", "open", "read", "readv"];
        assert_eq!(nearest("opneat", known).as_deref(), Some("openat"));
        assert_eq!(nearest("Read", known).as_deref(), Some("read"));
        assert_eq!(nearest("reboot", known), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), known), None);
    }
}
