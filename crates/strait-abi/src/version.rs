//! Kernel versions, as precise as the history of system calls is: `MAJOR.MINOR`.

use std::fmt;
use std::str::FromStr;

/// A mainline kernel release such as 6.18. Stable updates (6.18.44) add no system calls, so they
/// are not told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    major: u8,
    minor: u8,
}

/// A text that is no kernel version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidKernelVersion(
    /// The text as it was given.
    pub String,
);

impl fmt::Display for InvalidKernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no kernel version; write it as MAJOR.MINOR, like 6.18", self.0)
    }
}

impl std::error::Error for InvalidKernelVersion {}

impl KernelVersion {
    /// The release `major.minor`.
    pub const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }

    /// The first number of the release.
    pub const fn major(self) -> u8 {
        self.major
    }

    /// The second number of the release.
    pub const fn minor(self) -> u8 {
        self.minor
    }

    /// Reads what `uname -r` prints, such as `6.18.44-cloud-amd64`: the first two numbers count,
    /// and what follows is the distribution's.
    ///
    /// # Errors
    /// When the text does not start with two numbers, of at most 255 each, joined by a dot.
    pub fn from_release(release: &str) -> Result<Self, InvalidKernelVersion> {
        let invalid = || InvalidKernelVersion(release.to_owned());
        let (major, rest) = release.split_once('.').ok_or_else(invalid)?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = |digits: &str| {
            let canonical = digits == "0" || !digits.starts_with('0');
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            if canonical && plain { digits.parse().ok() } else { None }
        };
        match (number(major), number(&rest[..end])) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for KernelVersion {
    type Err = InvalidKernelVersion;

    /// Reads `MAJOR.MINOR` and nothing else.
    fn from_str(text: &str) -> Result<Self, InvalidKernelVersion> {
        let version = Self::from_release(text)?;
        if version.to_string() == text {
            Ok(version)
        } else {
            Err(InvalidKernelVersion(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_releases_are() {
        assert!(KernelVersion::new(6, 9) < KernelVersion::new(6, 18));
        assert!(KernelVersion::new(6, 19) < KernelVersion::new(7, 0));
    }

    #[test]
    fn only_major_and_minor_are_a_version() {
        assert_eq!("6.18".parse(), Ok(KernelVersion::new(6, 18)));
        for text in ["", "6", "6.", ".18", "6.18.0", "6.18-rc1", "06.18", "6.018", "+6.1", "6.256"]
        {
            assert!(text.parse::<KernelVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_release_is_cut_to_its_version() {
        let cut = KernelVersion::from_release("6.18.44-fc-v669");
        assert_eq!(cut, Ok(KernelVersion::new(6, 18)));
        assert_eq!(KernelVersion::from_release("7.2-rc1"), Ok(KernelVersion::new(7, 2)));
        assert!(KernelVersion::from_release("x.y").is_err());
    }
}
