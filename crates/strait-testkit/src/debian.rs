//! Programs of Debian's archive that are newer than the machine's: fetched once, and unpacked below `target/`, never into
//! the system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::engine::{in_path, succeed};

/// The folder into which these packages of a suite are unpacked, together, by this name.
///
/// # Errors
/// If they are not to be had, or are not what the archive's list says.
pub(crate) fn unpacked(suite: &str, name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let engines = target().join("engines");
    let unpacked = engines.join(name);
    let failed = |error: std::io::Error| error.to_string();
    if unpacked.exists() {
        return unpacked.canonicalize().map_err(failed);
    }
    if std::env::consts::ARCH != "x86_64" {
        return Err(format!("{name} is fetched for x86_64 alone"));
    }
    for program in ["curl", "dpkg-deb", "xz", "sha256sum"] {
        if !in_path(program) {
            return Err(format!("{program} is not installed"));
        }
    }
    fs::create_dir_all(&engines).map_err(failed)?;
    let folder = TempDir::new_in(&engines).map_err(failed)?;
    let archive = mirror()?;
    let fetch = |what: &str, name: &str| {
        let file = folder.path().join(name);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--location", "--max-time", "120"]);
        succeed(curl.arg("--output").arg(&file).arg(format!("{archive}/{what}"))).map(|_| file)
    };
    let list = format!("dists/{suite}/main/binary-amd64/Packages.xz");
    let list = fetch(&list, "Packages.xz").map_err(|error| format!("not to be had: {error}"))?;
    let list = succeed(Command::new("xz").args(["--decompress", "--stdout"]).arg(list))?;
    let fresh = folder.path().join("unpacked");
    for package in packages {
        let begin = format!("Package: {package}\n");
        let entry = list.split("\n\n").find(|entry| entry.starts_with(&begin));
        let entry = entry.ok_or_else(|| format!("{suite} has no {package}"))?;
        let field = |name: &str| {
            let value = entry.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.ok_or_else(|| format!("{suite} does not tell the {name} of {package}"))
        };
        let file = fetch(field("Filename")?, "package.deb")?;
        if digest(&file)? != field("SHA256")? {
            return Err(format!("what was fetched of {package} is not what {suite} lists"));
        }
        succeed(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&fresh))?;
    }
    // Another test may have been first, and its is as good.
    let _ = fs::rename(&fresh, &unpacked);
    unpacked.canonicalize().map_err(failed)
}

/// Where what is fetched and built is kept.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from)
}

/// The mirror that this machine has Debian's packages from, as apt knows it.
fn mirror() -> Result<String, String> {
    let mut apt = Command::new("apt-get");
    let sites = succeed(apt.args(["indextargets", "--format", "$(SITE)", "Label: Debian"]))?;
    let site = sites.lines().find(|site| !site.is_empty()).map(str::to_owned);
    site.ok_or_else(|| "apt knows no mirror of Debian".to_owned())
}

/// The SHA-256 digest of a file.
pub(crate) fn digest(file: &Path) -> Result<String, String> {
    let said = succeed(Command::new("sha256sum").arg(file))?;
    said.split_whitespace().next().map(str::to_owned).ok_or_else(|| "no digest".to_owned())
}
