//! The groups of system calls by which units name many at once: sets here.

use crate::sets::Set;

/// The group of that name, such as `@file-system`.
pub(super) fn from_name(name: &str) -> Option<&'static Set> {
    Set::of_systemd().find(|set| set.systemd_name() == Some(name))
}

/// The names of every group.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    Set::of_systemd().filter_map(Set::systemd_name)
}

/// The names of a group's calls, of which some may be no calls that are known here.
pub(super) fn calls(name: &str) -> Vec<&'static str> {
    from_name(name).into_iter().flat_map(Set::names).collect()
}
