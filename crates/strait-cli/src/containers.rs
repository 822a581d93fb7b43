//! Containers by name, for the verbs that look into them.

use anyhow::anyhow;
use strait_policy::format::Target;
use strait_runtime::containers::{ChooseError, Container, Found, Member, find};
use strait_runtime::inspect::capability_names;
use strait_runtime::scope::Scope;

use crate::args::{Engines, Profile};
use crate::failure::Failure;

/// A container that was named, and its processes.
#[derive(Debug)]
pub struct Chosen {
    /// The container; none where no engine that could be asked has it, but cgroups are called so.
    pub container: Option<Container>,
    /// Its processes.
    pub scope: Scope,
}

/// The container that is called so.
pub fn choose(name: &str, engines: &Engines) -> Result<Chosen, Failure> {
    choose_of(&find(&engines.sources()), name)
}

/// The containers that are called so, as they are at one moment.
pub fn choose_all(names: &[String], engines: &Engines) -> Result<Vec<Chosen>, Failure> {
    let found = match names {
        [] => return Ok(Vec::new()),
        _ => find(&engines.sources()),
    };
    names.iter().map(|name| choose_of(&found, name)).collect()
}

fn choose_of(found: &Found, name: &str) -> Result<Chosen, Failure> {
    let error = match found.choose(name) {
        Ok(container) => {
            let members = found.members(container).ok_or_else(|| ended(container))?;
            let scope = Scope::Members(Box::new(members));
            return Ok(Chosen { container: Some(container.clone()), scope });
        }
        Err(error) => error,
    };
    // Those of engines that are not known here are called by their ids in the names of cgroups.
    let scope = Scope::Container(name.to_owned());
    let by_cgroup = scope.processes().map_err(Failure::refused)?;
    if matches!(error, ChooseError::Unknown { .. }) && !by_cgroup.is_empty() {
        return Ok(Chosen { container: None, scope });
    }
    Err(Failure::bad_input(error))
}

impl Chosen {
    /// How each of the processes came there, where that is known.
    pub fn members(&self) -> Result<Vec<Member>, Failure> {
        match &self.scope {
            Scope::Members(members) => members.processes().map_err(Failure::refused),
            _ => Ok(Vec::new()),
        }
    }

    /// What a foreign profile is resolved for where the command line does not say: the capabilities
    /// that the container was given, and its runtime.
    pub fn resolve(&self, profile: &Profile) -> Result<Profile, Failure> {
        let mut profile = profile.clone();
        let Some(container) = &self.container else { return Ok(profile) };
        if profile.capabilities.is_empty() {
            let task = strait_kernel::task::Task::read(container.pid, container.pid);
            let bounding = task.map_err(|_| ended(container))?.capabilities.bounding;
            // A capability of a newer kernel is in no profile.
            let names =
                capability_names(bounding).filter(|name| Target::CAPABILITIES.contains(name));
            profile.capabilities = names.map(str::to_owned).collect();
            if profile.capabilities.is_empty() {
                profile.capabilities.push("NONE".to_owned());
            }
        }
        profile.runtime = profile.runtime.or(container.runtime);
        Ok(profile)
    }
}

/// A container that has ended while it was looked at.
pub fn ended(container: &Container) -> Failure {
    Failure::bad_input(anyhow!("container {} has ended meanwhile", container.full_name()))
}

/// A container in one line.
pub fn line(container: &Container) -> String {
    let Container { id, image, runtime, pid, .. } = container;
    let short = id.get(..12).unwrap_or(id);
    let image = image.as_ref().map(|image| format!(", image {image}")).unwrap_or_default();
    let runtime = runtime.map(|runtime| format!(", by {runtime}")).unwrap_or_default();
    format!("container {} ({short}{image}{runtime}), first process {pid}", container.full_name())
}
