//! The object with the programs and maps, and the same for kernels that know one thing by another name.

/// The object, aligned as an ELF reader wants it.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/recorder.bpf.o");

/// How a pointer into the kernel that a map may keep is marked since Linux 6.4, and before (its commit
/// 03b77e17aeb2 renamed it). A kernel keeps what has a mark that it does not know, and refuses the program
/// that follows it.
const KEPT: &[u8] = b"\0kptr_untrusted\0";
const KEPT_BEFORE: &[u8] = b"\0kptr\0";

/// The object for kernels before Linux 6.4.
pub(super) fn for_older_kernels() -> Vec<u8> {
    let mut object = OBJECT.to_vec();
    if let Some(at) = OBJECT.windows(KEPT.len()).position(|bytes| bytes == KEPT)
        && let Some(name) = object.get_mut(at..at + KEPT_BEFORE.len())
    {
        // A name ends at its NUL, wherever the next one begins.
        name.copy_from_slice(KEPT_BEFORE);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_there_once_and_is_one_that_older_kernels_know() {
        let marks = |object: &[u8], name: &[u8]| {
            object.windows(name.len()).filter(|at| *at == name).count()
        };
        let older = for_older_kernels();
        assert_eq!((marks(OBJECT, KEPT), marks(OBJECT, KEPT_BEFORE)), (1, 0));
        assert_eq!((marks(&older, KEPT), marks(&older, KEPT_BEFORE)), (0, 1));
        assert_eq!(older.len(), OBJECT.len());
    }
}
