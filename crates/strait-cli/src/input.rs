//! Where documents come from: files and standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Context;

use crate::failure::Failure;

/// No document of ours is larger, in bytes; what is, is refused before it is read whole.
const LIMIT: u64 = 64 << 20;

/// Reads a file whole, or standard input where the path is `-`.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(LIMIT + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("cannot read {}", name(path))).map_err(Failure::bad_input)?;
    if bytes.len() as u64 > LIMIT {
        let error = anyhow::anyhow!("{} is larger than {} MiB", name(path), LIMIT >> 20);
        return Err(Failure::bad_input(error));
    }
    Ok(bytes)
}

/// How a path is called in messages.
pub fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}
