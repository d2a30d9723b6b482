//! The file system that the emulated machine starts with: the conformance program, the module, busybox.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use preloop_tests::programs;

/// What runs as process 1. Facts go to the second serial port, so that the kernel's messages on the first never mix
/// with them; the words after `--` on the kernel's command line choose groups.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox ip link set lo up
/bin/busybox insmod /kcm.ko
/bin/busybox stty -opost < /dev/ttyS1
exec > /dev/ttyS1
echo "VERSION $(/bin/busybox uname -srv)"
/conformance "$@"
echo END
/bin/busybox poweroff -f
"#;

/// Packs the archive and returns its path.
///
/// # Errors
/// When a program that it needs is missing.
pub(crate) fn build(dir: &Path, module: &Path, program: &Path) -> Result<PathBuf> {
    let root = dir.join("root");
    let _ = fs::remove_dir_all(&root);
    for place in ["bin", "proc", "dev", "tmp"] {
        fs::create_dir_all(root.join(place))?;
    }
    let busybox = programs::find("busybox")?;
    for file in [&busybox, program] {
        for library in libraries(file)? {
            copy(&library, &root.join(library.strip_prefix("/")?))?;
        }
    }
    copy(&busybox, &root.join("bin/busybox"))?;
    copy(program, &root.join("conformance"))?;
    copy(module, &root.join("kcm.ko"))?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), Permissions::from_mode(0o755))?;
    pack(&busybox, &root, dir.join("initramfs.cpio"))
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
