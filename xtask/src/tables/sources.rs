//! Where the tables come from: Debian packages of one version each, fetched into
//! `target/tables` with an apt state of their own, so that the system's suites stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::root;

/// The packages, at the version that the checked-in tables were made from. To move the tables to
/// a newer kernel, change the versions here and run `cargo xtask tables`.
pub(super) const PACKAGES: &[Package] = &[
    Package { name: "linux-libc-dev", version: "7.3.4-1~bpo13+1" },
    Package { name: "linux-source-7.3", version: "7.3.4-1~bpo13+1" },
    Package { name: "manpages-dev", version: "6.20-2" },
];

/// The suites that have them.
const SUITES: &[&str] = &["trixie-backports", "sid"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The mirror that this machine has Debian's packages from, as apt knows it.
fn mirror() -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(SITE)", "Label: Debian"])
        .output()
        .context("apt-get tells no mirror; this needs a Debian machine")?;
    let sites = String::from_utf8_lossy(&output.stdout);
    let site = sites.lines().find(|site| !site.is_empty()).map(str::to_owned);
    site.context("apt knows no mirror of Debian: run `apt-get update` once")
}

/// A Debian package at one version.
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
}

impl Package {
    pub(super) fn with_version(&self) -> String {
        format!("{} {}", self.name, self.version)
    }
}

/// The unpacked packages.
pub(super) struct Sources {
    folder: PathBuf,
}

impl Sources {
    /// Fetches and unpacks what is not yet in `target/tables`.
    pub(super) fn obtain() -> Result<Sources> {
        let sources = Sources { folder: root().join("target/tables") };
        let missing = |package: &&Package| !sources.unpacked(package).exists();
        let missing: Vec<&Package> = PACKAGES.iter().filter(missing).collect();
        if missing.iter().any(|package| !sources.archive(package).exists()) {
            sources.download(&missing)?;
        }
        for package in missing {
            let (archive, unpacked) = (sources.archive(package), sources.unpacked(package));
            let partial = unpacked.with_extension("partial");
            if partial.exists() {
                fs::remove_dir_all(&partial)?;
            }
            fs::create_dir_all(&partial)?;
            if package.name.starts_with("linux-source") {
                unpack_kernel(package, &archive, &partial)?;
            } else {
                run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&partial))?;
            }
            fs::rename(&partial, &unpacked)?;
        }
        Ok(sources)
    }

    /// `usr/include` with the headers that the kernel gives to user space, of every arch.
    pub(super) fn headers(&self) -> PathBuf {
        self.unpacked(&PACKAGES[0]).join("usr/include")
    }

    /// The kernel's source tree, without drivers.
    pub(super) fn kernel(&self) -> PathBuf {
        self.unpacked(&PACKAGES[1])
    }

    /// The folder of the manual's section 2.
    pub(super) fn manual(&self) -> PathBuf {
        self.unpacked(&PACKAGES[2]).join("usr/share/man/man2")
    }

    /// A folder for generated C files.
    pub(super) fn scratch(&self) -> Result<PathBuf> {
        let folder = self.folder.join("scratch");
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn unpacked(&self, package: &Package) -> PathBuf {
        self.folder.join(format!("{}-{}", package.name, package.version))
    }

    /// Where apt leaves the package; it writes a version's colon as `%3a`.
    fn archive(&self, package: &Package) -> PathBuf {
        let version = package.version.replace(':', "%3a");
        self.folder.join("download").join(format!("{}_{version}_all.deb", package.name))
    }

    /// Has apt download packages, which checks their signatures.
    fn download(&self, packages: &[&Package]) -> Result<()> {
        let apt = self.apt()?;
        let download = self.folder.join("download");
        fs::create_dir_all(&download)?;
        for package in packages.iter().filter(|package| !self.archive(package).exists()) {
            eprintln!("tables: fetching {}", package.with_version());
            let exact = format!("{}={}", package.name, package.version);
            let outcome = run(apt_get(&apt).args(["download", &exact]).current_dir(&download));
            outcome.with_context(|| {
                format!(
                    "{} cannot be downloaded from Debian {}. Either there is no network, or the \
                     archive has moved on: then put the newer version into \
                     xtask/src/tables/sources.rs, run `cargo xtask tables` and review the \
                     difference",
                    package.with_version(),
                    SUITES.join(" and "),
                )
            })?;
            let archive = self.archive(package);
            if !archive.exists() {
                bail!("apt-get download did not leave {}", archive.display());
            }
        }
        Ok(())
    }

    /// An apt configuration that knows only [`SUITES`] and writes only below `target/tables`,
    /// with the lists as they are now.
    fn apt(&self) -> Result<PathBuf> {
        if !Path::new(KEYRING).exists() {
            bail!(
                "regenerating the tables needs apt and {KEYRING}, that is, a Debian system (or \
                 one with the package debian-archive-keyring)"
            );
        }
        let apt = self.folder.join("apt");
        for folder in ["lists/partial", "cache/archives/partial", "sources.d"] {
            fs::create_dir_all(apt.join(folder))?;
        }
        let mirror = mirror()?;
        let suites: String = SUITES
            .iter()
            .map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
            .collect();
        fs::write(apt.join("sources.list"), suites)?;
        fs::write(apt.join("status"), "")?;
        let at = apt.display();
        let configuration = apt.join("apt.conf");
        fs::write(
            &configuration,
            format!(
                "Dir::Etc::sourcelist \"{at}/sources.list\";\n\
                 Dir::Etc::sourceparts \"{at}/sources.d\";\n\
                 Dir::State::Lists \"{at}/lists\";\n\
                 Dir::State::status \"{at}/status\";\n\
                 Dir::Cache \"{at}/cache\";\n\
                 APT::Architecture \"amd64\";\n"
            ),
        )?;
        let outcome = run(apt_get(&configuration).arg("update"));
        outcome.context("the lists of Debian's packages cannot be fetched")?;
        Ok(configuration)
    }
}

fn apt_get(configuration: &Path) -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("APT_CONFIG", configuration).arg("-q=2");
    apt
}

/// What the signatures are read from: C files, tables and headers, without the drivers.
fn unpack_kernel(package: &Package, archive: &Path, to: &Path) -> Result<()> {
    let tarball = to.with_extension("tar.xz");
    let script = "dpkg-deb --fsys-tarfile \"$1\" \
        | tar xO --wildcards './usr/src/linux-source-*.tar.xz' > \"$2\" && \
        tar xJf \"$2\" -C \"$3\" --strip-components=1 --wildcards \
            --exclude=\"$4/drivers/[!c]*\" --exclude=\"$4/sound\" --exclude=\"$4/tools\" \
            --exclude=\"$4/Documentation\" '*.c' '*/include/linux/*.h' '*/syscall*.tbl' '*/Kconfig'";
    let mut shell = Command::new("sh");
    shell.args(["-ec", script, "sh"]).args([archive, &tarball, to]).arg(package.name);
    let outcome = run(&mut shell);
    if tarball.exists() {
        fs::remove_file(&tarball)?;
    }
    outcome
}

/// Runs a command that must succeed, and returns what it printed.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("`{name}` cannot be run; regenerating the tables needs it"))?;
    if !output.status.success() {
        bail!("`{name}` failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{name}` printed no UTF-8"))
}

fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}
