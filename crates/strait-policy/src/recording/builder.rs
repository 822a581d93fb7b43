//! Collects what is observed, in any order, into a canonical recording.

use std::collections::{BTreeMap, BTreeSet};

use strait_abi::Arch;

use super::run::Run;
use super::{
    API_VERSION, Call, Completeness, Container, Engine, Exit, File, Image, KIND, Observation,
    Outcomes, Phase, Recording,
};

/// Collects what is observed, in any order, into a canonical [`Recording`].
#[derive(Clone, Debug)]
pub struct RecordingBuilder {
    pub(super) name: Option<String>,
    pub(super) container: Option<Container>,
    pub(super) command: Vec<String>,
    pub(super) kernel: String,
    pub(super) engine: Engine,
    pub(super) completeness: Completeness,
    pub(super) images: BTreeSet<Image>,
    pub(super) calls: BTreeMap<Site, Observation>,
    pub(super) exit: Option<Exit>,
    pub(super) runs: Vec<Run>,
}

/// Which call it is that was observed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// The program file that made it.
    pub image: Image,
    /// When in the workload's life; `None` where the engine does not tell phases apart.
    pub phase: Option<Phase>,
    /// The ABI by which it came in.
    pub arch: Arch,
    /// The number, as `seccomp_data.nr` shows it.
    pub nr: u32,
}

impl RecordingBuilder {
    pub(super) fn new(engine: Engine, kernel: String) -> RecordingBuilder {
        RecordingBuilder {
            name: None,
            container: None,
            command: Vec::new(),
            kernel,
            engine,
            completeness: Completeness::default(),
            images: BTreeSet::new(),
            calls: BTreeMap::new(),
            exit: None,
            runs: Vec::new(),
        }
    }

    /// Names the recording.
    pub fn name(&mut self, name: impl Into<String>) -> &mut Self {
        self.name = Some(name.into());
        self
    }

    /// Says what the container that is recorded is called.
    pub fn container(&mut self, container: Container) -> &mut Self {
        self.container = Some(container);
        self
    }

    /// Says which command is recorded.
    pub fn command(&mut self, command: impl IntoIterator<Item = impl Into<String>>) -> &mut Self {
        self.command = command.into_iter().map(Into::into).collect();
        self
    }

    /// Adds an image, of which there need be no call.
    pub fn image(&mut self, image: impl Into<Image>) -> &mut Self {
        self.images.insert(image.into());
        self
    }

    /// Adds what was seen of a call; the same call observed again is added up.
    pub fn observe(&mut self, site: Site, observation: &Observation) -> &mut Self {
        if !self.images.contains(&site.image) {
            self.images.insert(site.image.clone());
        }
        self.calls.entry(site).or_default().add(observation);
        self
    }

    /// Adds results of a call of which neither phase nor time nor arguments are known.
    pub fn call(
        &mut self,
        image: impl Into<Image>,
        arch: Arch,
        nr: u32,
        outcomes: &Outcomes,
    ) -> &mut Self {
        let site = Site { image: image.into(), phase: None, arch, nr };
        self.observe(site, &Observation::from(outcomes))
    }

    /// Adds `count` losses at `place`. To give 0 says that it was looked at, and that nothing was
    /// lost there.
    pub fn lost(&mut self, place: impl Into<String>, count: u64) -> &mut Self {
        let sum = self.completeness.lost.entry(place.into()).or_default();
        *sum = sum.saturating_add(count);
        self
    }

    /// What could not be seen, and the time covered, to be set by field; losses are better told to
    /// [`RecordingBuilder::lost`]. What follows from the calls need not be set.
    pub fn completeness(&mut self) -> &mut Completeness {
        &mut self.completeness
    }

    /// Says how the command ended.
    pub fn exit(&mut self, exit: Exit) -> &mut Self {
        self.exit = Some(exit);
        self
    }

    /// The recording of all that was added.
    pub fn build(self) -> Recording {
        let images: Vec<Image> = self.images.into_iter().collect();
        let calls: Vec<Call> = self
            .calls
            .into_iter()
            .map(|(site, observation)| {
                let Observation { mut outcomes, times, mut arguments } = observation;
                outcomes.errnos.retain(|_, count| *count > 0);
                arguments.retain(|_, values| !values.is_empty() || values.overflowed());
                let image = images
                    .binary_search(&site.image)
                    .expect("`observe` puts the image of every call among the images");
                let Site { phase, arch, nr, .. } = site;
                let name = arch.syscall(nr).map(|call| call.name().to_owned());
                Call { image, phase, arch, nr, name, outcomes, times, arguments }
            })
            .collect();
        let mut completeness = self.completeness;
        completeness.blind_spots.sort();
        completeness.blind_spots.dedup();
        completeness.io_uring_operations.retain(|_, count| *count > 0);
        let mut runs = self.runs;
        runs.sort();
        let coverage = &mut completeness.coverage;
        coverage.foreign_calls = foreign_calls(&images, &calls);
        if runs.is_empty() {
            coverage.new_in_last_tenth = new_in_last_tenth(&calls, coverage.time_us);
        } else {
            coverage.time_us =
                runs.iter().filter_map(|run| run.time_us).reduce(u64::saturating_add);
            coverage.new_in_last_tenth = runs.iter().filter_map(|run| run.new_in_last_tenth).max();
        }
        Recording(File {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            name: self.name,
            container: self.container,
            command: self.command,
            kernel: self.kernel,
            engine: self.engine,
            completeness,
            images,
            calls,
            exit: self.exit,
            runs,
        })
    }
}

/// How many calls came in by another ABI than their program file's.
fn foreign_calls(images: &[Image], calls: &[Call]) -> u64 {
    let foreign = calls
        .iter()
        .filter(|call| images[call.image].arch.is_some_and(|arch| arch != call.arch))
        .map(|call| call.outcomes.count.saturating_add(call.outcomes.denied));
    foreign.fold(0, u64::saturating_add)
}

/// How many different calls were first made in the last tenth of the time, if all times are known.
fn new_in_last_tenth(calls: &[Call], time_us: Option<u64>) -> Option<u64> {
    let time_us = time_us.filter(|&time| time > 0)?;
    let mut first: BTreeMap<(Arch, u32), u64> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.outcomes.count > 0) {
        let at = call.times?.first_us;
        first.entry((call.arch, call.nr)).and_modify(|first| *first = at.min(*first)).or_insert(at);
    }
    let late = first.values().filter(|&&at| at >= time_us - time_us / 10).count();
    u64::try_from(late).ok()
}
