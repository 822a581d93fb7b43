//! What a program file tells of itself: which language runtime is linked into it.

use std::fs::File;
use std::path::Path;

use object::read::ReadCache;
use object::{Object, ObjectSection};
use strait_policy::recording::Runtime;

/// The section with the build id that Go's linker writes into every ELF file
/// (`cmd/link/internal/ld/elf.go`); it stays in stripped files.
const GO_BUILD_ID: &str = ".note.go.buildid";

/// The runtime in the file at `path`; `None` also where the file is gone or no program.
pub(super) fn runtime(path: &Path) -> Option<Runtime> {
    let cache = ReadCache::new(File::open(path).ok().filter(is_regular)?);
    let file = object::File::parse(&cache).ok()?;
    let go = file.sections().any(|section| section.name() == Ok(GO_BUILD_ID));
    go.then_some(Runtime::Go)
}

/// A FIFO or device in the place of the file could keep us waiting.
fn is_regular(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_program_is_told_from_others() {
        assert_eq!(runtime(Path::new("/bin/true")), None);
        assert_eq!(runtime(Path::new("/nonexistent")), None);
        assert_eq!(runtime(Path::new("/dev/null")), None);
        let fzf = Path::new("/usr/bin/fzf");
        if fzf.exists() {
            assert_eq!(runtime(fzf), Some(Runtime::Go));
        } else {
            strait_testkit::skip("a_go_program_is_told_from_others", "fzf is not installed");
        }
    }
}
