//! Debian's kernel and modules of it, downloaded once and never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::programs;

/// The package that always depends on the newest kernel of this release.
const NEWEST: &str = "linux-image-amd64";
/// What is taken from the package.
const FILES: [&str; 5] = [
    "./boot/vmlinuz-*",
    "./lib/modules/*/kernel/net/kcm/kcm.ko",
    "./lib/modules/*/kernel/net/ipv4/inet_diag.ko",
    "./lib/modules/*/kernel/net/ipv4/tcp_diag.ko",
    "./lib/modules/*/kernel/net/unix/unix_diag.ko",
];

/// A kernel and the modules that may be put into it.
#[derive(Debug)]
pub struct Kernel {
    /// What boots.
    pub image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// The kernel in this directory, or the one of the Debian release that runs here when the directory has none.
    ///
    /// # Errors
    /// When the package cannot be had: this is not Debian, or there is no network.
    pub fn provide(dir: &Path) -> Result<Self> {
        if !dir.join("lib").is_dir() {
            let unfinished = dir.with_extension("new");
            let _ = fs::remove_dir_all(&unfinished);
            fs::create_dir_all(&unfinished)?;
            download(&unfinished)?;
            fs::rename(&unfinished, dir)?;
        }
        let image = one_in(&dir.join("boot"), "vmlinuz-")?;
        let release = image.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("vmlinuz-"));
        let release = release.context("the kernel's release")?;
        Ok(Self { modules: dir.join("lib/modules").join(release).join("kernel"), image })
    }

    /// One of its modules, such as `net/kcm/kcm.ko`.
    ///
    /// # Errors
    /// When it has not that one.
    pub fn module(&self, name: &str) -> Result<PathBuf> {
        let path = self.modules.join(name);
        ensure!(path.is_file(), "{} is missing", path.display());
        Ok(path)
    }
}

fn download(dir: &Path) -> Result<()> {
    let depends = Command::new(programs::find("apt-cache")?).args(["depends", NEWEST]).output()?;
    let depends = String::from_utf8_lossy(&depends.stdout).into_owned();
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let package = package.with_context(|| format!("apt knows no {NEWEST}: the machine needs Debian's packages"))?;
    println!("downloading {package} ...");
    let got = Command::new(programs::find("apt-get")?).args(["-q", "download", package]).current_dir(dir).status()?;
    ensure!(got.success(), "apt-get download {package} failed");
    let archive = one_in(dir, "linux-image-")?;
    let mut unpacker = Command::new(programs::find("dpkg-deb")?);
    let mut contents = unpacker.arg("--fsys-tarfile").arg(&archive).stdout(Stdio::piped()).spawn()?;
    let mut tar = Command::new(programs::find("tar")?);
    tar.args(["-x", "--wildcards"]).args(FILES).current_dir(dir);
    let taken = tar.stdin(contents.stdout.take().context("dpkg-deb's output")?).status()?;
    ensure!(contents.wait()?.success() && taken.success(), "unpacking {} failed", archive.display());
    fs::remove_file(archive)?;
    Ok(())
}

fn one_in(dir: &Path, start: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut found = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(start)));
    found.next().with_context(|| format!("no {start}* in {}", dir.display()))
}
