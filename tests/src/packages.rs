//! Installing the programs that the tests run.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use crate::programs;

/// Installs those of the programs that are missing, where that needs no password, and returns those still missing.
pub fn provide(programs: impl IntoIterator<Item = &'static str>) -> Vec<&'static str> {
    let needed: BTreeSet<_> = programs.into_iter().collect();
    let missing = || needed.iter().copied().filter(|program| !programs::installed(program)).collect::<Vec<_>>();
    let absent = missing();
    if absent.is_empty() {
        return absent;
    }
    let packages: BTreeSet<_> = absent.iter().map(|program| programs::package(program)).collect();
    let packages: Vec<_> = packages.into_iter().collect();
    println!("missing programs: {}", absent.join(", "));
    let Some(prefix) = privilege() else {
        println!("install them with: sudo apt-get install {}", packages.join(" "));
        return absent;
    };
    let apt = |args: &[&str]| {
        let line = [prefix, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"], args].concat();
        println!("+ {}", line.join(" "));
        Command::new(line[0]).args(&line[1..]).stdin(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    // Old lists of packages often suffice.
    let install = [&["install", "--no-install-recommends"], &packages[..]].concat();
    if !apt(&install) && apt(&["update"]) {
        apt(&install);
    }
    missing()
}

/// What to put before apt-get so that it may install, if anything will do.
fn privilege() -> Option<&'static [&'static str]> {
    if !programs::installed("apt-get") {
        None
    } else if rustix::process::geteuid().is_root() {
        Some(&[])
    } else {
        let sudo = Command::new("sudo").args(["-n", "true"]).stderr(Stdio::null()).status();
        sudo.is_ok_and(|status| status.success()).then_some(&["sudo", "-n"])
    }
}
