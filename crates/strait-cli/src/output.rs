//! Where results go: files that are whole or not there at all, and standard output.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use strait_kernel::command::Stream;
use strait_kernel::streams::was_closed;

/// Writes `bytes` to `target`, or to standard output where it is `-` or absent.
pub fn write(target: Option<&Path>, bytes: &[u8]) -> Result<()> {
    match target.filter(|path| *path != Path::new("-")) {
        None => print(bytes),
        Some(path) => {
            write_file(path, bytes).with_context(|| format!("cannot write {}", path.display()))
        }
    }
}

/// Whether a file could be written at `target`, so that an expensive result is not made for
/// nothing. Nothing is written.
pub fn check(target: &Path) -> Result<()> {
    if target == Path::new("-") {
        return stdout_is_open();
    }
    try_place(target).with_context(|| format!("cannot write {}", target.display()))
}

fn try_place(target: &Path) -> io::Result<()> {
    match Place::of(target)? {
        Place::Written => OpenOptions::new().write(true).open(target).map(drop),
        Place::Replaced(path, _) => {
            let (partial, _) = create_beside(&path)?;
            fs::remove_file(partial)
        }
    }
}

/// Writes to standard output; a reader that went away is no error of ours, but ends us.
pub fn print(bytes: &[u8]) -> Result<()> {
    stdout_is_open()?;
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// Data that is written where nothing was open would be lost without a word.
fn stdout_is_open() -> Result<()> {
    if was_closed(Stream::Stdout) {
        bail!("cannot write to standard output: it was closed when strait was started");
    }
    Ok(())
}

/// Says something on standard error. Where that cannot be written nobody listens, and what is done
/// goes on all the same.
pub fn say(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Writes text with colours to standard output, without them where it is no terminal or `NO_COLOR`
/// is set.
pub fn print_styled(text: &str) -> Result<()> {
    stdout_is_open()?;
    match write!(anstream::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// A name that a workload chose, so that it neither looks like lines of ours nor moves a terminal.
pub fn printable(name: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    name.chars().map(shown).collect()
}

/// A table with these headings and rows of [`printable`] cells, without lines, as wide as the terminal at
/// most; as wide as it needs to be where standard output is no terminal.
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(headings);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let stdout = io::stdout();
    if let Ok(size) = rustix::termios::tcgetwinsize(&stdout)
        && size.ws_col >= 40
    {
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
        table.set_width(size.ws_col);
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    table.trim_fmt()
}

/// How a path is written.
enum Place {
    /// It is no regular file, and is opened as it is.
    Written,
    /// The file at this path is replaced, which is there already if there is metadata.
    Replaced(PathBuf, Option<Metadata>),
}

impl Place {
    /// A symbolic link stays one: what it names is replaced, and is to be there.
    fn of(path: &Path) -> io::Result<Place> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) if !metadata.is_file() => Ok(Place::Written),
            Ok(metadata) => Ok(Place::Replaced(fs::canonicalize(path)?, Some(metadata))),
            Err(error) if fs::symlink_metadata(path).is_ok() => Err(error),
            Err(_) => Ok(Place::Replaced(path.to_path_buf(), None)),
        }
    }
}

/// Replaces the file at `path` as a whole: written beside it, synced, then renamed, so that a
/// good file is never replaced by half of one. What is no regular file (a pipe, /dev/null) is
/// written to directly.
fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (path, metadata) = match Place::of(path)? {
        Place::Written => return OpenOptions::new().write(true).open(path)?.write_all(bytes),
        Place::Replaced(path, metadata) => (path, metadata),
    };
    let (partial, mut file) = create_beside(&path)?;
    let written = (|| {
        if let Some(metadata) = metadata {
            file.set_permissions(metadata.permissions())?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, &path)
    })();
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&partial);
        return written;
    }
    // The rename is durable once its folder is; not every file system can sync a folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// A new file in the folder of `path`, which nobody else has.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
    for attempt in 0..100_u32 {
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.{attempt}", std::process::id()));
        let partial = path.with_file_name(hidden);
        match OpenOptions::new().write(true).create_new(true).mode(0o666).open(&partial) {
            Ok(file) => return Ok((partial, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_workload_chose_stay_names() {
        assert_eq!(printable("a b\nstrait: fine\x1b[2J"), "a b\\nstrait: fine\\u{1b}[2J");
        let table = table(&["NAME"], [vec!["a\nb\x1b[2J".to_owned()]]);
        assert_eq!(table, "NAME\na\\nb\\u{1b}[2J");
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("policy.yaml");
        write(Some(&path), b"one")?;
        write(Some(&path), b"two")?;
        assert_eq!(fs::read(&path)?, b"two");
        assert_eq!(fs::read_dir(dir.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn a_good_file_survives_a_failed_write() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("dir-in-the-way");
        fs::create_dir(&path)?;
        assert!(write(Some(&path), b"x").is_err());
        assert!(write(Some(&dir.path().join("no/such/folder")), b"x").is_err());
        assert_eq!(fs::read_dir(dir.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn a_link_stays_a_link_and_permissions_stay() -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir()?;
        let real = dir.path().join("real");
        let link = dir.path().join("link");
        fs::write(&real, b"one")?;
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640))?;
        std::os::unix::fs::symlink("real", &link)?;
        write(Some(&link), b"two")?;
        assert!(fs::symlink_metadata(&link)?.is_symlink());
        assert_eq!(fs::read(&real)?, b"two");
        assert_eq!(fs::metadata(&real)?.permissions().mode() & 0o777, 0o640);
        Ok(())
    }

    #[test]
    fn devices_are_written_to_not_replaced() -> Result<()> {
        write(Some(Path::new("/dev/null")), b"x")?;
        use std::os::unix::fs::FileTypeExt;
        assert!(fs::metadata("/dev/null")?.file_type().is_char_device());
        Ok(())
    }
}
