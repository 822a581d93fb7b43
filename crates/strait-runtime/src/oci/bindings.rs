//! Which images are confined by which policy: the file `bindings` in the policy folder.
//!
//! A line a binding: `IMAGE POLICY [MODE] [record] [overridable]`, apart by blanks. `IMAGE` is a digest
//! (`sha256:…`), a name, or the beginning of one with `*` at its end. `POLICY` is a policy's name, or `-`
//! for what the engine gives. With `record` the containers are recorded as well, with `overridable` their
//! annotations may choose what permits more. `#` begins a comment. A digest is more specific than a name,
//! that than a pattern, and a longer pattern than a shorter one.

use super::bind::{Mode, PolicyName};
use super::image::{Image, is_digest, spellings};

/// What stands in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings(Vec<Binding>);

/// What the containers of some images are confined by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The line, from 1 on.
    pub line: usize,
    /// Which images.
    pub images: Images,
    /// The policy; none where the engine's own profile stays.
    pub policy: Option<PolicyName>,
    /// How it is enforced.
    pub mode: Mode,
    /// Whether they are recorded, each into a file that is named by its id.
    pub record: bool,
    /// Whether annotations may choose a policy that permits more, and the mode `log`.
    pub overridable: bool,
}

/// Some images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Images {
    /// Those with a name that begins so; all, if it is empty.
    Prefix(String),
    /// Those with this name.
    Name(String),
    /// The one with this digest.
    Digest(String),
}

/// What is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindingsError {
    /// A line is no binding.
    #[error("line {line}: {wrong}; write IMAGE POLICY [enforce|log] [record] [overridable]")]
    Line {
        /// Which.
        line: usize,
        /// What is wrong.
        wrong: String,
    },
    /// Several lines match alike.
    #[error("lines {0} and {1} match this image alike: remove one, or name the image's digest")]
    Tie(usize, usize),
    /// A line is by digest, and the engine does not tell all digests of the image.
    #[error(
        "line {0} is by a digest, and whether this image has it cannot be told: its engine tells its name, and \
         not all of its digests: bind it by name"
    )]
    UnknownDigest(usize),
}

impl Bindings {
    /// What this text says.
    ///
    /// # Errors
    /// For a line that is no binding.
    pub fn parse(text: &str) -> Result<Bindings, BindingsError> {
        let mut bindings = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let wrong = |wrong: String| BindingsError::Line { line, wrong };
            let text = text.split('#').next().unwrap_or_default();
            let words: Vec<&str> = text.split_whitespace().collect();
            let (mut words, mut record, mut overridable) = (words.as_slice(), false, false);
            while let Some((last, rest)) = words.split_last() {
                match *last {
                    "record" => record = true,
                    "overridable" => overridable = true,
                    _ => break,
                }
                words = rest;
            }
            let &[images, policy, ref rest @ ..] = words else {
                if words.is_empty() && !record && !overridable {
                    continue;
                }
                return Err(wrong("there is no policy".to_owned()));
            };
            let mode = match *rest {
                [] => Mode::Enforce,
                [mode] => mode.parse().map_err(|error| wrong(format!("{error}")))?,
                [_, more, ..] => return Err(wrong(format!("`{more}` is one word too many"))),
            };
            bindings.push(Binding {
                line,
                images: Images::parse(images).map_err(wrong)?,
                policy: match policy {
                    "-" => None,
                    name => Some(name.parse().map_err(|error| wrong(format!("{error}")))?),
                },
                mode,
                record,
                overridable,
            });
        }
        Ok(Bindings(bindings))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether they are the same for all images.
    pub fn are_for_all(&self) -> bool {
        self.0.iter().all(|binding| binding.images == Images::Prefix(String::new()))
    }

    /// The most specific binding that matches an image.
    ///
    /// # Errors
    /// If two are, of which neither is more specific; or one is by a digest, and not all digests of the image
    /// are known.
    pub fn choose(&self, image: &Image) -> Result<Option<&Binding>, BindingsError> {
        let matching = || self.0.iter().filter(|binding| binding.images.match_image(image));
        let most = matching().map(|binding| binding.images.rank()).max();
        let is_digest = |binding: &&Binding| matches!(binding.images, Images::Digest(_));
        let is_told = image.all_digests || image.is_unknown();
        if let Some(by_digest) = self.0.iter().find(is_digest)
            && !is_told
            && most.is_none_or(|most| most < by_digest.images.rank())
        {
            return Err(BindingsError::UnknownDigest(by_digest.line));
        }
        let Some(most) = most else { return Ok(None) };
        let mut best = matching().filter(|binding| binding.images.rank() == most);
        match (best.next(), best.next()) {
            (Some(one), Some(other)) => Err(BindingsError::Tie(one.line, other.line)),
            (one, _) => Ok(one),
        }
    }
}

impl Images {
    fn parse(text: &str) -> Result<Images, String> {
        if text.starts_with("sha256:") {
            return match is_digest(text) {
                true => Ok(Images::Digest(text.to_owned())),
                false => Err(format!("`{text}` is no digest, which has 64 digits of 0-9a-f")),
            };
        }
        match text.strip_suffix('*') {
            Some(prefix) if !prefix.contains('*') => Ok(Images::Prefix(prefix.to_owned())),
            None if !text.contains('*') => Ok(Images::Name(text.to_owned())),
            _ => Err(format!("`{text}` has a `*` that is not at its end")),
        }
    }

    fn match_image(&self, image: &Image) -> bool {
        match self {
            Images::Digest(digest) => image.digests.contains(digest),
            Images::Name(name) => {
                spellings(name, true).iter().any(|spelling| image.names.contains(spelling))
            }
            Images::Prefix(prefix) => {
                prefix.is_empty() || image.names.iter().any(|name| name.starts_with(prefix))
            }
        }
    }

    /// How specific it is.
    fn rank(&self) -> (u8, usize) {
        match self {
            Images::Prefix(prefix) => (0, prefix.len()),
            Images::Name(_) => (1, 0),
            Images::Digest(_) => (2, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(digests: &[&str], names: &[&str]) -> Image {
        Image {
            digests: digests.iter().map(|&one| one.to_owned()).collect(),
            names: names.iter().flat_map(|name| spellings(name, true)).collect(),
            all_digests: true,
            is_part: false,
        }
    }

    /// As containerd's CRI tells it: by the name that is in the pod's manifest.
    #[test]
    fn a_digest_that_is_not_told_may_be_the_one_that_is_bound() {
        let (digest, other) =
            (format!("sha256:{}", "0".repeat(64)), format!("sha256:{}", "1".repeat(64)));
        let bindings = Bindings::parse(&format!("* base\nweb web\n{digest} exact\n")).unwrap();
        let choose = |digests: &[&str], names: &[&str]| {
            let image = Image { all_digests: false, ..image(digests, names) };
            let chosen = bindings.choose(&image)?;
            Ok(chosen.and_then(|one| one.policy.as_ref()).map(|name| name.as_str().to_owned()))
        };
        for (digests, name) in [(&[][..], "web"), (&[], "other"), (&[other.as_str()], "web")] {
            assert_eq!(choose(digests, &[name]), Err(BindingsError::UnknownDigest(3)), "{name}");
        }
        assert_eq!(choose(&[&digest], &["web"]), Ok(Some("exact".to_owned())));
        // Where nothing is told, that is what the line is for.
        assert_eq!(choose(&[], &[]), Ok(Some("base".to_owned())));
    }

    #[test]
    fn a_name_is_bound_however_it_is_written() {
        for (bound, written, is_bound) in [
            ("docker.io/library/web:latest", "web", true),
            ("web", "docker.io/library/web:latest", true),
            ("docker.io/library/web*", "web:1", true),
            ("web*", "docker.io/library/web:1", true),
            ("registry.local/*", "REGISTRY.local/web", true),
            ("web", "web:1", false),
            ("web*", "registry.local/web", false),
        ] {
            let bindings = Bindings::parse(&format!("{bound} x\n")).unwrap();
            let chosen = bindings.choose(&image(&[], &[written])).unwrap();
            assert_eq!(chosen.is_some(), is_bound, "{bound} {written}");
        }
    }

    #[test]
    fn the_most_specific_binding_wins_and_ties_are_errors() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let text = format!(
            "# which\n* base log\nregistry/* registry\nregistry/web* web # all\n\
             registry/web:1 one log overridable\n{digest} exact\nother - record\nalias one \
             overridable record\n"
        );
        let bindings = Bindings::parse(&text).unwrap();
        let chosen = |digests: &[&str], names: &[&str]| {
            let binding = bindings.choose(&image(digests, names)).unwrap().unwrap();
            (binding.policy.as_ref().map_or("-", |name| name.as_str()).to_owned(), binding.mode)
        };
        let is = |name: &str, mode| (name.to_owned(), mode);
        assert_eq!(chosen(&[], &[]), is("base", Mode::Log));
        assert_eq!(chosen(&[], &["registry/db:1"]), is("registry", Mode::Enforce));
        assert_eq!(chosen(&[], &["registry/web:2"]), is("web", Mode::Enforce));
        assert_eq!(chosen(&[], &["registry/web:1"]), is("one", Mode::Log));
        assert_eq!(chosen(&[&digest], &["registry/web:1"]), is("exact", Mode::Enforce));
        assert_eq!(chosen(&[], &["other"]), is("-", Mode::Enforce));
        let lines = |is: fn(&&Binding) -> bool| {
            bindings.0.iter().filter(is).map(|binding| binding.line).collect::<Vec<_>>()
        };
        assert_eq!(lines(|binding| binding.record), [7, 8]);
        assert_eq!(lines(|binding| binding.overridable), [5, 8]);
        let tie = bindings.choose(&image(&[], &["registry/web:1", "alias"]));
        assert_eq!(tie, Err(BindingsError::Tie(5, 8)));
        let none = Bindings::parse("x y\n").unwrap();
        assert_eq!(none.choose(&image(&[], &["z"])), Ok(None));
    }

    #[test]
    fn lines_that_are_none_are_named() {
        for (text, part) in [
            ("web", "line 1: there is no policy"),
            ("\nweb x log y", "line 2: `y` is one word too many"),
            ("web record", "line 1: there is no policy"),
            ("overridable", "line 1: there is no policy"),
            ("sha256:12 x", "is no digest"),
            ("a*b x", "not at its end"),
            ("web ../x", "no name of a policy"),
            ("web x audit", "`audit` is no mode"),
        ] {
            let error = Bindings::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
