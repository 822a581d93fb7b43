//! `strait nri` as the plugin of a real containerd.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use strait_testkit::cri::Cri;

use crate::recorded::wait;
use crate::setup::{STRAIT, Setup};

/// The plugin, until it is dropped.
pub struct Plugin {
    process: Child,
    said: PathBuf,
}

impl Plugin {
    pub fn start(setup: &Setup, cri: &Cri) -> Plugin {
        let before = cri.log().matches("connected and synchronized").count();
        let said = setup.path("said");
        let process = Command::new(STRAIT)
            .args(["nri", "--socket"])
            .arg(cri.nri())
            .arg("--policies")
            .arg(setup.path("policies"))
            .arg("--recordings")
            .arg(setup.path("recordings"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let plugin = Plugin { process, said };
        wait("the plugin is taken", || plugin.said().contains("containerd 2."));
        // Containers are told of from then on.
        let times = || cri.log().matches("connected and synchronized").count();
        wait("it is told what there is", || times() > before);
        plugin
    }

    pub fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
