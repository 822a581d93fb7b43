//! Which image a container was made from: its digests and names, as far as the engine tells.
//!
//! The configuration of a container does not say. CRI engines put it into annotations; Docker and
//! Podman keep it in their own files, which are found by where the container's root and bundle are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use strait_policy::policy::FileDigest;

use super::spec::Spec;

/// What is known of a container's image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Digests of its configuration (the image's id) and of its manifests: `sha256:…`.
    pub digests: BTreeSet<String>,
    /// Its names, each in every way that it may be written.
    pub names: BTreeSet<String>,
    /// There may be more of both: the engine's record of its images is somewhere else.
    pub is_part: bool,
    /// Whether all its digests are known.
    pub all_digests: bool,
}

/// What annotations tell is contradictory: two engines would have made the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "which image the container is of cannot be told: it has the annotations of containerd and those of CRI-O, \
     and one of the two engines has not written them: do not have it pass on annotations of its users that \
     begin with `io.kubernetes.cri`"
)]
pub struct Contradiction;

/// Annotations with the name of the image, as containerd's CRI writes them.
const CONTAINERD: &[&str] = &["io.kubernetes.cri.image-name"];
/// And as CRI-O does.
const CRI_O: &[&str] =
    &["io.kubernetes.cri-o.ImageName", "io.kubernetes.cri-o.Image", "io.kubernetes.cri-o.ImageRef"];

impl Image {
    /// The image of the container with this id and bundle.
    ///
    /// Annotations can be its user's: an engine that writes its own over these lets those of another
    /// engine pass. So they count only where no engine's files tell the image, and of one engine alone.
    ///
    /// # Errors
    /// If they are those of two.
    pub fn of(spec: &Spec, bundle: &Path, id: &str) -> Result<Image, Contradiction> {
        let mut image = Image::default();
        if let Some(root) = spec.root() {
            image.add_docker(&bundle.join(root), id);
        }
        image.add_podman(bundle, id);
        if !image.is_unknown() {
            image.all_digests = true;
            return Ok(image);
        }
        Image::before_bundle(spec)
    }

    /// The image of a container that has no bundle and no id yet, as far as this configuration tells: what
    /// engines give to a `precreate` hook. The storage of Podman and CRI-O tells it by the container's root.
    ///
    /// # Errors
    /// As for [`Image::of`].
    pub fn before_bundle(spec: &Spec) -> Result<Image, Contradiction> {
        let mut image = Image::default();
        if let Some((containers, of)) = stored(spec) {
            image.add_stored(&containers, &of);
        }
        image.or_annotated(spec)
    }

    /// It, or what annotations say where nothing else does.
    fn or_annotated(self, spec: &Spec) -> Result<Image, Contradiction> {
        let mut image = self;
        if !image.is_unknown() {
            // What is only a part says so by itself.
            image.all_digests = true;
            return Ok(image);
        }
        let told = |names: &'static [&str]| {
            names.iter().filter_map(|name| spec.annotation(name).ok().flatten())
        };
        if told(CONTAINERD).next().is_some() && told(CRI_O).next().is_some() {
            return Err(Contradiction);
        }
        let (mut by_id, mut by_manifest) = (false, false);
        for text in told(CONTAINERD).chain(told(CRI_O)) {
            image.add(text);
            by_manifest |= text.contains('@');
            by_id |= is_digest(text) || is_digest(&format!("sha256:{text}"));
        }
        image.all_digests = by_id && by_manifest;
        Ok(image)
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        self.digests.is_empty() && self.names.is_empty()
    }

    /// A name, a digest, or both (`NAME@sha256:…`). An id without `sha256:` is one with it.
    fn add(&mut self, text: &str) {
        if let Some((name, digest)) = text.split_once('@') {
            self.names.extend(spellings(name, false));
            self.add(digest);
        } else if is_digest(text) {
            self.digests.insert(text.to_owned());
        } else if text.len() == 64 && is_digest(&format!("sha256:{text}")) {
            self.digests.insert(format!("sha256:{text}"));
        } else if !text.is_empty() {
            self.names.extend(spellings(text, true));
        }
    }

    /// Docker: `DATA/containers/ID/config.v2.json`, where the root is below `DATA`.
    fn add_docker(&mut self, root: &Path, id: &str) {
        let known = root.ancestors().skip(1).find_map(|data| {
            let file = data.join("containers").join(id).join("config.v2.json");
            Some((data, json(&file)?))
        });
        let Some((data, config)) = known else { return };
        if let Some(name) = config["Config"]["Image"].as_str() {
            self.add(name);
        }
        let Some(image) = config["Image"].as_str() else { return };
        self.add(image);
        // `image/DRIVER/repositories.json`: the names of each image, some with a manifest's digest.
        for driver in fs::read_dir(data.join("image")).into_iter().flatten().flatten() {
            let Some(known) = json(&driver.path().join("repositories.json")) else { continue };
            let of = known["Repositories"].as_object().into_iter().flat_map(|of| of.values());
            for (name, of) in of.filter_map(Value::as_object).flatten() {
                if of.as_str() == Some(image) {
                    self.add(name);
                }
            }
        }
    }

    /// Podman: the bundle is `STORAGE/DRIVER-containers/ID/userdata`.
    fn add_podman(&mut self, bundle: &Path, id: &str) {
        let Some(containers) = bundle.parent().and_then(Path::parent) else { return };
        if let Some(of) = container(containers, |of| of["id"].as_str() == Some(id)) {
            self.add_stored(containers, &of);
        }
    }

    /// What is stored of the image of a container, which is stored in this folder.
    fn add_stored(&mut self, containers: &Path, of: &Value) {
        let Some(image) = of["image"].as_str().filter(|image| !image.is_empty()) else { return };
        self.add(image);
        let driver = containers.file_name().and_then(|name| name.to_str());
        let Some(driver) = driver.and_then(|name| name.strip_suffix(CONTAINERS)) else { return };
        let images = containers.with_file_name(format!("{driver}-images")).join("images.json");
        let known = json(&images).unwrap_or_default();
        let of = known.as_array().into_iter().flatten();
        let mut of = of.filter(|of| of["id"].as_str() == Some(image)).peekable();
        // It is in a storage of images alone (`additionalimagestores`, `imagestore`).
        self.is_part = of.peek().is_none();
        for of in of {
            if let Some(digest) = of["digest"].as_str() {
                self.add(digest);
            }
            for name in of["names"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                self.add(name);
            }
        }
    }
}

/// How the folder ends, after the storage driver, in which Podman and CRI-O keep their containers.
const CONTAINERS: &str = "-containers";

/// The id of a container that has no bundle yet, where its storage tells that.
pub fn stored_id(spec: &Spec) -> Option<String> {
    stored(spec)?.1["id"].as_str().map(str::to_owned)
}

/// The folder of containers, and what it says of this one, whose root is a layer of the storage:
/// `STORAGE/DRIVER/…/LAYER/…`.
fn stored(spec: &Spec) -> Option<(PathBuf, Value)> {
    let root = Path::new(spec.root()?);
    let mut above = root.ancestors().skip(1);
    above.find_map(|folder| {
        let driver = folder.file_name()?.to_str()?;
        let containers = folder.with_file_name(format!("{driver}{CONTAINERS}"));
        let below = root.strip_prefix(folder).ok()?;
        let is_it = |of: &Value| {
            let layer = of["layer"].as_str().filter(|layer| !layer.is_empty());
            layer.is_some_and(|layer| below.iter().any(|part| part == layer))
        };
        let of = container(&containers, is_it)?;
        Some((containers, of))
    })
}

/// What the storage of Podman and CRI-O says of a container.
fn container(containers: &Path, is_it: impl Fn(&Value) -> bool) -> Option<Value> {
    ["containers.json", "volatile-containers.json"].iter().find_map(|file| {
        let known = json(&containers.join(file))?;
        known.as_array()?.iter().find(|of| is_it(of)).cloned()
    })
}

/// The ways in which the name of an image may be written, the full one last: an engine may tell it as its
/// user wrote it, and another as it is in full (<https://github.com/distribution/reference>). Without a tag
/// it is the `latest`, unless a digest says which.
pub(super) fn spellings(name: &str, has_latest: bool) -> Vec<String> {
    let is_host = |first: &str| {
        first.contains(['.', ':'])
            || first == "localhost"
            || first.contains(|c: char| c.is_ascii_uppercase())
    };
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if is_host(host) => (host.to_ascii_lowercase(), path),
        _ => ("docker.io".to_owned(), name),
    };
    let hub = host == "docker.io" || host == "index.docker.io";
    let host = if hub { "docker.io" } else { &host };
    // Hub's own.
    let short = path.strip_prefix("library/").filter(|rest| hub && !rest.contains('/'));
    let short = short.unwrap_or(path);
    let path = match hub && !short.contains('/') {
        true => format!("library/{short}"),
        false => short.to_owned(),
    };
    let full = format!("{host}/{path}");
    let mut all = vec![name.to_owned()];
    if hub {
        all.extend([short.to_owned(), format!("docker.io/{short}")]);
    }
    all.push(full);
    let has_tag = path.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if !has_tag && has_latest {
        all.extend(all.clone().into_iter().map(|name| format!("{name}:latest")));
    } else if has_latest {
        let without = |name: &String| name.strip_suffix(":latest").map(str::to_owned);
        all.splice(0..0, all.iter().filter_map(without).collect::<Vec<_>>());
    }
    all
}

/// Whether it is `sha256:` and 64 hexadecimal digits.
pub(super) fn is_digest(text: &str) -> bool {
    FileDigest::parse(text).is_some()
}

fn json(file: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: &Value) -> Spec {
        Spec::parse(value.to_string().as_bytes()).unwrap()
    }

    fn image(digests: &[&str], names: &[&str], all_digests: bool) -> Image {
        let digests = digests.iter().map(|&one| one.to_owned()).collect();
        let mut image = Image { digests, all_digests, ..Image::default() };
        names.iter().for_each(|name| image.add(name));
        image
    }

    #[test]
    fn a_name_is_the_same_however_it_is_written() {
        let full = |name: &str| spellings(name, true).pop().unwrap();
        for (is, names) in [
            (
                "docker.io/library/web:latest",
                &[
                    "web",
                    "web:latest",
                    "library/web",
                    "docker.io/web",
                    "index.docker.io/library/web",
                ][..],
            ),
            (
                "docker.io/shop/web:1",
                &["shop/web:1", "docker.io/shop/web:1", "Docker.io/shop/web:1"],
            ),
            ("registry.local/web:latest", &["registry.local/web", "REGISTRY.local/web:latest"]),
            ("localhost:5000/a/b:2", &["localhost:5000/a/b:2"]),
            ("localhost/library/web:latest", &["localhost/library/web"]),
        ] {
            for name in names {
                assert_eq!(full(name), is, "{name}");
                let all = spellings(name, true);
                assert!(all.contains(&(*name).to_owned()), "{all:?}");
            }
        }
        let mut all = spellings("docker.io/library/web:latest", true);
        all.sort();
        let every = ["docker.io/library/web", "docker.io/web", "web"];
        let latest = every.map(|name| format!("{name}:latest"));
        let mut every: Vec<String> = every.map(str::to_owned).into_iter().chain(latest).collect();
        every.sort();
        all.dedup();
        assert_eq!(all, every);
        // With a digest it may be any other than the latest.
        assert!(spellings("web", false).iter().all(|name| !name.contains(':')));
    }

    #[test]
    fn engines_tell_it_in_annotations_and_in_their_files() {
        let (id, manifest) = ("a".repeat(64), format!("sha256:{}", "b".repeat(64)));
        let digest = format!("sha256:{id}");
        let cri = spec(&json!({"annotations": {
            "io.kubernetes.cri.image-name": format!("docker.io/library/web@{manifest}"),
        }}));
        let found = Image::of(&cri, Path::new("/nowhere/at/all"), "c");
        let mut by_manifest = image(&[&manifest], &[], false);
        by_manifest.names.extend(spellings("docker.io/library/web", false));
        assert_eq!(found, Ok(by_manifest));
        let cri_o = spec(&json!({"annotations": {
            "io.kubernetes.cri-o.ImageName": "docker.io/library/web:1",
            "io.kubernetes.cri-o.Image": id,
        }}));
        let found = Image::of(&cri_o, Path::new("/nowhere/at/all"), "c");
        assert_eq!(found, Ok(image(&[&digest], &["docker.io/library/web:1"], false)));
        let cri_o = spec(&json!({"annotations": {
            "io.kubernetes.cri-o.Image": id,
            "io.kubernetes.cri-o.ImageRef": format!("web@{manifest}"),
        }}));
        let found = Image::of(&cri_o, Path::new("/nowhere/at/all"), "c").unwrap();
        assert!(found.all_digests, "{found:?}");
        // Whoever may annotate a pod could have it taken for another image's.
        let both = spec(&json!({"annotations": {
            "io.kubernetes.cri.image-name": "docker.io/library/web:1",
            "io.kubernetes.cri-o.Image": id,
        }}));
        let found = Image::of(&both, Path::new("/nowhere/at/all"), "c");
        assert_eq!(found, Err(Contradiction));

        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, value: Value| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value.to_string()).unwrap();
        };
        write(
            "docker/containers/c/config.v2.json",
            json!({"Image": digest, "Config": {"Image": "web"}}),
        );
        write(
            "docker/image/overlay2/repositories.json",
            json!({"Repositories": {"web": {
                "web:latest": digest, format!("web@{manifest}"): digest, "web:old": manifest}}}),
        );
        let root = folder.path().join("docker/overlay2/x/merged");
        // What a user annotates does not count where the engine's files tell.
        let docker = spec(&json!({
            "root": {"path": root},
            "annotations": {"io.kubernetes.cri.image-name": "other"},
        }));
        let found = Image::of(&docker, Path::new("/run/containerd/moby/c"), "c");
        assert_eq!(found, Ok(image(&[&digest, &manifest], &["web", "web:latest"], true)));
        let docker = spec(&json!({"root": {"path": root}}));
        assert!(Image::of(&docker, Path::new("/run/containerd/moby/d"), "d").unwrap().is_unknown());

        write(
            "podman/overlay-containers/containers.json",
            json!([
            {"id": "rootfs", "image": "", "layer": ""}, {"id": "c", "image": id, "layer": "l"}]),
        );
        write(
            "podman/overlay-images/images.json",
            json!([{"id": id, "digest": manifest, "names": ["localhost/web:latest"]},
                   {"id": "other", "names": ["no"]}]),
        );
        let bundle = folder.path().join("podman/overlay-containers/c/userdata");
        let stored = Ok(image(&[&digest, &manifest], &["localhost/web:latest"], true));
        assert_eq!(Image::of(&spec(&json!({})), &bundle, "c"), stored);
        let at = |root: &str| spec(&json!({"root": {"path": folder.path().join(root)}}));
        for root in ["podman/overlay/l/merged", "podman/overlay/dir/l"] {
            assert_eq!(Image::before_bundle(&at(root)), stored);
            assert_eq!(stored_id(&at(root)).as_deref(), Some("c"));
        }
        for root in ["podman/overlay/other/merged", "podman/vfs/l", "podman/overlay", "l/merged"] {
            assert!(Image::before_bundle(&at(root)).unwrap().is_unknown(), "{root}");
        }
        // Its image is in another storage.
        write("podman/overlay-images/images.json", json!([]));
        let found = Image::before_bundle(&at("podman/overlay/l/merged"));
        assert_eq!(found, Ok(Image { is_part: true, ..image(&[&digest], &[], true) }));
    }
}
