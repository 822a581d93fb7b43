//! Which containers and engines a command line is about.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use strait_policy::format::oci::Engine;
use strait_runtime::containers::{Source, Sources};

/// `strait containers`.
#[derive(Debug, Args)]
pub struct Containers {
    #[command(flatten)]
    pub engines: Engines,
    /// Print them as JSON, with every process and all evidence
    #[arg(long)]
    pub json: bool,
}

/// The engines that take profiles, by name.
pub fn engine() -> impl TypedValueParser<Value = Engine> {
    PossibleValuesParser::new(Engine::ALL.iter().map(|engine| engine.name()))
        .try_map(|name| name.parse::<Engine>())
}

/// Where engines are asked for containers.
#[derive(Debug, Default, Args)]
pub struct Engines {
    /// Ask this engine for containers, and no other: a socket for docker and podman, the folder of its
    /// state for containerd, crun and runc; repeatable (default: DOCKER_HOST, CONTAINER_HOST,
    /// CONTAINERD_ADDRESS, and the usual places)
    #[arg(long = "container-engine", value_name = "ENGINE=PLACE")]
    sources: Vec<Source>,
}

impl Engines {
    /// The engines that are asked.
    pub fn sources(&self) -> Sources {
        match self.sources.as_slice() {
            [] => Sources::of_machine(),
            sources => Sources::only(sources.to_vec()),
        }
    }
}
