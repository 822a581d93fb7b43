//! Which image a container was made from: its digests and names, as far as the engine tells.
//!
//! The configuration of a container does not say. CRI engines put it into annotations; Docker and
//! Podman keep it in their own files, which are found by where the container's root and bundle are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use strait_policy::policy::FileDigest;

use super::spec::Spec;

/// What is known of a container's image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Digests of its configuration (the image's id) and of its manifests: `sha256:…`.
    pub digests: BTreeSet<String>,
    /// Its names.
    pub names: BTreeSet<String>,
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
            return Ok(image);
        }
        let told = |names: &'static [&str]| {
            names.iter().filter_map(|name| spec.annotation(name).ok().flatten())
        };
        if told(CONTAINERD).next().is_some() && told(CRI_O).next().is_some() {
            return Err(Contradiction);
        }
        told(CONTAINERD).chain(told(CRI_O)).for_each(|name| image.add(name));
        Ok(image)
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        self.digests.is_empty() && self.names.is_empty()
    }

    /// A name, a digest, or both (`NAME@sha256:…`). An id without `sha256:` is one with it.
    fn add(&mut self, text: &str) {
        if let Some((name, digest)) = text.split_once('@') {
            self.add(name);
            self.add(digest);
        } else if is_digest(text) {
            self.digests.insert(text.to_owned());
        } else if text.len() == 64 && is_digest(&format!("sha256:{text}")) {
            self.digests.insert(format!("sha256:{text}"));
        } else if !text.is_empty() {
            self.names.insert(text.to_owned());
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
        let driver = containers.file_name().and_then(|name| name.to_str());
        let Some(driver) = driver.and_then(|name| name.strip_suffix("-containers")) else { return };
        let image = ["containers.json", "volatile-containers.json"].iter().find_map(|file| {
            let known = json(&containers.join(file))?;
            let of = known.as_array()?.iter().find(|of| of["id"].as_str() == Some(id))?;
            of["image"].as_str().map(str::to_owned)
        });
        let Some(image) = image else { return };
        self.add(&image);
        let images = containers.with_file_name(format!("{driver}-images")).join("images.json");
        let Some(known) = json(&images) else { return };
        let of = known.as_array().into_iter().flatten();
        for of in of.filter(|of| of["id"].as_str() == Some(&image)) {
            if let Some(digest) = of["digest"].as_str() {
                self.add(digest);
            }
            for name in of["names"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                self.add(name);
            }
        }
    }
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

    fn image(digests: &[&str], names: &[&str]) -> Image {
        let set = |of: &[&str]| of.iter().map(|&one| one.to_owned()).collect();
        Image { digests: set(digests), names: set(names) }
    }

    #[test]
    fn engines_tell_it_in_annotations_and_in_their_files() {
        let (id, manifest) = ("a".repeat(64), format!("sha256:{}", "b".repeat(64)));
        let digest = format!("sha256:{id}");
        let cri = spec(&json!({"annotations": {
            "io.kubernetes.cri.image-name": format!("docker.io/library/web@{manifest}"),
        }}));
        let found = Image::of(&cri, Path::new("/nowhere/at/all"), "c");
        assert_eq!(found, Ok(image(&[&manifest], &["docker.io/library/web"])));
        let cri_o = spec(&json!({"annotations": {
            "io.kubernetes.cri-o.ImageName": "docker.io/library/web:1",
            "io.kubernetes.cri-o.Image": id,
        }}));
        let found = Image::of(&cri_o, Path::new("/nowhere/at/all"), "c");
        assert_eq!(found, Ok(image(&[&digest], &["docker.io/library/web:1"])));
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
        assert_eq!(found, Ok(image(&[&digest, &manifest], &["web", "web:latest"])));
        let docker = spec(&json!({"root": {"path": root}}));
        assert!(Image::of(&docker, Path::new("/run/containerd/moby/d"), "d").unwrap().is_unknown());

        write("podman/overlay-containers/containers.json", json!([{"id": "c", "image": id}]));
        write(
            "podman/overlay-images/images.json",
            json!([{"id": id, "digest": manifest, "names": ["localhost/web:latest"]},
                   {"id": "other", "names": ["no"]}]),
        );
        let bundle = folder.path().join("podman/overlay-containers/c/userdata");
        let found = Image::of(&spec(&json!({})), &bundle, "c");
        assert_eq!(found, Ok(image(&[&digest, &manifest], &["localhost/web:latest"])));
    }
}
