//! Which engines are asked, and where.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// What runs containers; those closer to the user come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Engine {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// containerd.
    Containerd,
    /// crun, by itself or for an engine that is not asked.
    Crun,
    /// runc, likewise.
    Runc,
}

impl Engine {
    /// All of them.
    pub const ALL: [Engine; 5] =
        [Engine::Docker, Engine::Podman, Engine::Containerd, Engine::Crun, Engine::Runc];

    /// The name on the command line and in output.
    pub const fn name(self) -> &'static str {
        match self {
            Engine::Docker => "docker",
            Engine::Podman => "podman",
            Engine::Containerd => "containerd",
            Engine::Crun => "crun",
            Engine::Runc => "runc",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Engine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A text that names no engine, or no place where one can be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// No engine is called so.
    #[error("`{name}` is no engine; there are docker, podman, containerd, crun and runc")]
    Engine {
        /// The text.
        name: String,
    },
    /// A place is missing or is none of this machine.
    #[error(
        "`{text}` is not ENGINE=PLACE, such as docker=/run/docker.sock, podman=/run/podman/podman.sock, \
         containerd=/run/containerd or runc=/run/runc"
    )]
    Place {
        /// The text.
        text: String,
    },
}

impl FromStr for Engine {
    type Err = SourceError;

    fn from_str(name: &str) -> Result<Engine, SourceError> {
        let engine = Engine::ALL.into_iter().find(|engine| engine.name() == name);
        engine.ok_or_else(|| SourceError::Engine { name: name.to_owned() })
    }
}

/// Where an engine is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The socket of its API.
    Socket(PathBuf),
    /// The folder where it keeps the state of what runs.
    Folder(PathBuf),
    /// By its program, which has no daemon.
    Program,
    /// By the processes that watch over the containers of users without privileges.
    Monitors,
    /// A place that is not on this machine.
    Elsewhere(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Socket(path) | Place::Folder(path) => write!(f, "{}", path.display()),
            Place::Program => f.write_str("its program"),
            Place::Monitors => f.write_str("its monitors"),
            Place::Elsewhere(place) => write!(f, "{place}, which is not a socket of this machine"),
        }
    }
}

/// An engine, and where it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The engine.
    pub engine: Engine,
    /// The place.
    pub place: Place,
}

impl FromStr for Source {
    type Err = SourceError;

    /// Reads `ENGINE=PLACE`: a socket for Docker and Podman, a folder for the others.
    fn from_str(text: &str) -> Result<Source, SourceError> {
        let wrong = || SourceError::Place { text: text.to_owned() };
        let (engine, place) = text.split_once('=').ok_or_else(wrong)?;
        let engine: Engine = engine.parse()?;
        let path = place.strip_prefix("unix://").unwrap_or(place);
        if !path.starts_with('/') {
            return Err(wrong());
        }
        let place = match engine {
            Engine::Docker | Engine::Podman => Place::Socket(path.into()),
            Engine::Containerd | Engine::Crun | Engine::Runc => Place::Folder(path.into()),
        };
        Ok(Source { engine, place })
    }
}

/// The engines that are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// These alone.
    pub fn only(sources: Vec<Source>) -> Sources {
        Sources(sources)
    }

    /// Those of this machine: where the engines' own variables say (`DOCKER_HOST`, `CONTAINER_HOST`,
    /// `CONTAINERD_ADDRESS`), and else where they are unless told otherwise, if they are there. And those of
    /// users without privileges, wherever they are.
    pub fn of_machine() -> Sources {
        let environment = |name: &str| std::env::var(name).ok();
        let mut sources = Sources::from_environment(&environment, &|path| path.exists());
        sources.0.push(Source { engine: Engine::Podman, place: Place::Monitors });
        sources
    }

    fn from_environment(
        variable: &dyn Fn(&str) -> Option<String>,
        exists: &dyn Fn(&Path) -> bool,
    ) -> Sources {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let socket = |value: String| match value.strip_prefix("unix://") {
            Some(path) => Place::Socket(path.into()),
            None => Place::Elsewhere(value),
        };
        let mut sources = Vec::new();
        let mut add = |engine, place| sources.push(Source { engine, place });
        match variable("DOCKER_HOST") {
            Some(host) => add(Engine::Docker, socket(host)),
            None if exists(Path::new("/run/docker.sock")) => {
                add(Engine::Docker, Place::Socket("/run/docker.sock".into()));
            }
            None => {}
        }
        // Podman makes its folders when it is asked: it is where it has run before, or was set up.
        let set_up = ["CONTAINERS_STORAGE_CONF", "CONTAINERS_CONF"].map(variable);
        let has_run = ["/run/containers/storage", "/etc/containers/storage.conf"];
        match variable("CONTAINER_HOST") {
            Some(host) => add(Engine::Podman, socket(host)),
            None if set_up.iter().any(Option::is_some)
                || has_run.iter().any(|path| exists(Path::new(path))) =>
            {
                add(Engine::Podman, Place::Program);
            }
            None => {}
        }
        // The socket is in the folder of the state, unless somebody has moved it.
        let address = variable("CONTAINERD_ADDRESS");
        let address = address.map(|address| match address.strip_prefix("unix://") {
            Some(path) => PathBuf::from(path),
            None => PathBuf::from(address),
        });
        match address.as_deref().and_then(Path::parent) {
            Some(folder) => add(Engine::Containerd, Place::Folder(folder.to_owned())),
            None if exists(Path::new("/run/containerd")) => {
                add(Engine::Containerd, Place::Folder("/run/containerd".into()));
            }
            None => {}
        }
        for (engine, folder) in [(Engine::Crun, "/run/crun"), (Engine::Runc, "/run/runc")] {
            if exists(Path::new(folder)) {
                add(engine, Place::Folder(folder.into()));
            }
        }
        Sources(sources)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Source> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_where_their_variables_say() {
        let variable = |name: &str| {
            let value = match name {
                "DOCKER_HOST" => "tcp://other:2375",
                "CONTAINER_HOST" => "unix:///run/podman/podman.sock",
                "CONTAINERD_ADDRESS" => "/x/containerd.sock",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let sources = Sources::from_environment(&variable, &|_| false);
        let places: Vec<Place> = sources.iter().map(|source| source.place.clone()).collect();
        let wanted = [
            Place::Elsewhere("tcp://other:2375".to_owned()),
            Place::Socket("/run/podman/podman.sock".into()),
            Place::Folder("/x".into()),
        ];
        assert_eq!(places, wanted);
        // A machine without any has none, and nobody is asked.
        assert_eq!(Sources::from_environment(&|_| None, &|_| false), Sources::default());
        let all = Sources::from_environment(&|_| None, &|_| true);
        assert_eq!(all.iter().map(|source| source.engine).collect::<Vec<_>>(), Engine::ALL);
    }

    #[test]
    fn a_place_is_a_socket_or_a_folder() {
        let docker = "docker=unix:///x/sock".parse();
        assert_eq!(
            docker,
            Ok(Source { engine: Engine::Docker, place: Place::Socket("/x/sock".into()) })
        );
        let runc = Source { engine: Engine::Runc, place: Place::Folder("/x".into()) };
        assert_eq!("runc=/x".parse(), Ok(runc));
        for text in ["docker", "docker=", "docker=tcp://x", "runc=relative", "beer=/x", "=/x"] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
