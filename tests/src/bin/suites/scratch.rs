//! The directory, outside the repository, where packages are fetched and built and runs leave their output.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use preloop_tests::{build, programs};
use serde_json::Value;

use crate::suite::PYTHON;

/// Packages of PyPI: the ones whose suites are run, in the versions that the table speaks of, and what these need.
const PYPI: [&str; 6] =
    ["gevent[test]==26.9.0", "trio==0.35.0", "tornado==6.6.1", "pytest==9.2.0", "trustme", "pyopenssl"];
/// Crates, likewise.
const CRATES: [(&str, &str); 2] = [("tokio", "1.54.1"), ("polling", "3.11.0")];

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    /// Makes the directory if it is not there.
    pub(crate) fn new(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(Self { dir })
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// An interpreter that has the packages of PyPI.
    pub(crate) fn python(&self) -> Result<PathBuf> {
        let venv = self.path("venv");
        let (python, complete) = (venv.join("bin/python"), venv.join("complete"));
        if !complete.is_file() {
            output(Command::new(programs::find(PYTHON)?).args(["-m", "venv"]).arg(&venv))?;
            output(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PYPI))?;
            fs::write(complete, "")?;
        }
        Ok(python)
    }

    /// The folder of these packages.
    pub(crate) fn packages(&self) -> Result<PathBuf> {
        let code = "import sysconfig; print(sysconfig.get_path('purelib'))";
        output(Command::new(self.python()?).args(["-c", code])).map(PathBuf::from)
    }

    /// A workspace of copies of the crates' packages. What they depend on that depends on one of them takes the copy.
    pub(crate) fn crates(&self) -> Result<PathBuf> {
        let workspace = self.path("crates");
        let manifest = workspace.join("Cargo.toml");
        if !manifest.is_file() {
            fs::create_dir_all(&workspace)?;
            for (name, source) in self.sources()? {
                output(Command::new("cp").arg("-r").args([source, workspace.join(name)]))?;
            }
            let names = CRATES.map(|(name, _)| name);
            let patches: String = names.iter().map(|name| format!("{name} = {{ path = \"{name}\" }}\n")).collect();
            fs::write(
                &manifest,
                format!("[workspace]\nresolver = \"2\"\nmembers = {names:?}\n[patch.crates-io]\n{patches}"),
            )?;
        }
        Ok(workspace)
    }

    /// Where cargo keeps the packages of the crates, which it fetches if they are not there.
    fn sources(&self) -> Result<Vec<(&'static str, PathBuf)>> {
        let wish = self.path("wish");
        fs::create_dir_all(wish.join("src"))?;
        fs::write(wish.join("src/lib.rs"), "")?;
        let needs: String = CRATES.iter().map(|(name, version)| format!("{name} = \"={version}\"\n")).collect();
        fs::write(wish.join("Cargo.toml"), format!("[package]\nname = \"wish\"\n[dependencies]\n{needs}"))?;
        let mut cargo = build::cargo();
        cargo.args(["metadata", "--quiet", "--format-version=1", "--filter-platform=x86_64-unknown-linux-gnu"]);
        let metadata: Value = serde_json::from_str(&output(cargo.current_dir(wish))?)?;
        let packages = metadata["packages"].as_array().context("packages")?;
        let source = |name| {
            let package = packages.iter().find(|package| package["name"] == name).context("no such package")?;
            let manifest = Path::new(package["manifest_path"].as_str().context("manifest_path")?);
            Ok((name, manifest.parent().context("a manifest lies in a directory")?.to_owned()))
        };
        CRATES.iter().map(|(name, _)| source(*name)).collect()
    }
}

/// The version of a crate whose suite is run.
pub(crate) fn crate_version(name: &str) -> &'static str {
    CRATES.iter().find(|(known, _)| *known == name).map_or("", |(_, version)| version)
}

/// What a command that must succeed prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
