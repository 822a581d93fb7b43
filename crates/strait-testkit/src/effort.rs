//! How hard randomised tests try.

/// `tries`, times the whole number in the environment variable `STRAIT_EFFORT`, if there is one.
///
/// The least that shows that nothing is badly wrong is the default; before a release, or after a
/// change to what is tested, run with more.
pub fn effort(tries: usize) -> usize {
    let factor = std::env::var("STRAIT_EFFORT").ok().and_then(|factor| factor.parse().ok());
    tries.saturating_mul(factor.unwrap_or(1))
}
