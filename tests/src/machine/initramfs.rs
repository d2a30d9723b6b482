//! The file system that an emulated machine starts with.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::programs;

/// What an archive holds beside busybox.
#[derive(Debug)]
pub struct Contents<'a> {
    /// The script, for busybox's shell, that runs as process 1.
    pub init: &'a str,
    /// Files of this host, and their places. Programs and libraries get the libraries that they need.
    pub files: Vec<(PathBuf, String)>,
}

impl Contents<'_> {
    /// Packs the archive, in this directory, and returns its path.
    ///
    /// # Errors
    /// When a file or a program that it needs is missing.
    pub fn pack(&self, dir: &Path) -> Result<PathBuf> {
        let root = dir.join("root");
        let _ = fs::remove_dir_all(&root);
        for place in ["bin", "proc", "dev", "tmp"] {
            fs::create_dir_all(root.join(place))?;
        }
        let busybox = programs::find("busybox")?;
        for (file, place) in self.files.iter().chain([&(busybox.clone(), "bin/busybox".to_owned())]) {
            for library in libraries(file)? {
                copy(&library, &root.join(library.strip_prefix("/")?))?;
            }
            copy(file, &root.join(place))?;
        }
        fs::write(root.join("init"), self.init)?;
        fs::set_permissions(root.join("init"), Permissions::from_mode(0o755))?;
        pack(&busybox, &root, dir.join("initramfs.cpio"))
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("a file's directory")?)?;
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}

/// What the dynamic linker loads for a program, the linker itself included; nothing for a static one.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listing = Command::new(programs::find("ldd")?).arg(program).stderr(Stdio::null()).output()?;
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    Ok(listing.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

fn pack(busybox: &Path, root: &Path, to: PathBuf) -> Result<PathBuf> {
    let mut find = Command::new(programs::find("find")?).arg(".").current_dir(root).stdout(Stdio::piped()).spawn()?;
    let names = find.stdout.take().context("find's output")?;
    let mut cpio = Command::new(busybox);
    cpio.args(["cpio", "-o", "-H", "newc"]).current_dir(root).stdin(names).stdout(File::create(&to)?);
    let packed = cpio.stderr(Stdio::null()).status()?;
    ensure!(find.wait()?.success() && packed.success(), "packing {} failed", to.display());
    Ok(to)
}
