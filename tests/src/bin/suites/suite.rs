//! The suites: what they are called, where they come from, and how they are run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use preloop_tests::{build, programs};

use crate::scratch::{Scratch, crate_version, output};

/// Seconds that one test may take.
pub(crate) const TEST_LIMIT: u32 = 120;

/// Where a suite comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A module of CPython's `test` package, and the classes of it that are left out.
    CPython(&'static [&'static str]),
    /// A package in it: each of its modules runs in a process of its own.
    CPythonPackage,
    /// A package of PyPI whose tests pytest runs, its plugin for that, and a folder that is left out.
    Pytest(&'static str, &'static str),
    /// A package of PyPI with tests for unittest: a folder in it, and how their files' names start and end.
    Unittest(&'static str, &'static str, &'static str),
    /// A package of PyPI, and its module that runs its tests for unittest.
    Main(&'static str),
    /// A crate, and further arguments of `cargo test`.
    Crate(&'static str),
}

/// A suite of somebody else's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suite {
    /// Its name, as in the table.
    pub(crate) name: &'static str,
    source: Source,
    /// Minutes after which a run of it is over.
    minutes: u64,
}

const fn cpython(name: &'static str) -> Suite {
    Suite { name, source: Source::CPython(&[]), minutes: 10 }
}

/// All of them.
pub(crate) const SUITES: [Suite; 27] = [
    // The class that is left out hangs on a machine without a vsock device, with and without the library.
    Suite { source: Source::CPython(&["ThreadedVSOCKSocketStreamTest"]), ..cpython("test_socket") },
    Suite { source: Source::CPythonPackage, ..cpython("test_asyncio") },
    cpython("test_selectors"),
    cpython("test_epoll"),
    cpython("test_poll"),
    cpython("test_select"),
    cpython("test_socketserver"),
    cpython("test_ssl"),
    cpython("test_httpservers"),
    cpython("test_httplib"),
    cpython("test_ftplib"),
    cpython("test_smtplib"),
    cpython("test_poplib"),
    cpython("test_imaplib"),
    cpython("test_xmlrpc"),
    cpython("test_asyncore"),
    cpython("test_asynchat"),
    cpython("test_subprocess"),
    cpython("test_multiprocessing_fork"),
    cpython("test_multiprocessing_forkserver"),
    cpython("test_multiprocessing_spawn"),
    cpython("test_multiprocessing_main_handling"),
    Suite { name: "gevent", source: Source::Unittest("gevent/tests", "test_", ".py"), minutes: 3 },
    // What is left out checks how its source is written, and needs the tools for that.
    Suite { name: "trio", source: Source::Pytest("trio._tests.pytest_plugin", "trio/_tests/tools"), minutes: 10 },
    Suite { name: "tornado", source: Source::Main("tornado.test.runtests"), minutes: 10 },
    Suite { name: "tokio", source: Source::Crate(TOKIO), minutes: 15 },
    Suite { name: "polling", source: Source::Crate(""), minutes: 10 },
];

/// The test programs of tokio about sockets, input and output, child processes and signals.
const TOKIO: &str = "--features tokio/full --test tcp_* --test net_* --test udp --test uds_* --test unix_shutdown \
    --test io_* --test process_* --test signal_* --test rt_common";

/// How results reach the program that compares them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Results {
    /// JSON lines in the file that the commands were told.
    Lines,
    /// The output of `cargo test`.
    Cargo,
}

/// A command of a suite, before it is told whether it runs with the library.
#[derive(Debug)]
pub(crate) struct Part {
    /// The program and its arguments.
    pub(crate) line: Vec<String>,
    /// Cargo itself is not preloaded, but what it runs.
    pub(crate) by_cargo: bool,
    /// When it is over.
    pub(crate) limit: Duration,
    pub(crate) dir: Option<PathBuf>,
}

impl Suite {
    /// Gets what the suite needs, builds it, and says its version.
    pub(crate) fn prepare(&self, scratch: &Scratch) -> Result<String> {
        match self.source {
            Source::CPython(_) | Source::CPythonPackage => {
                let python = programs::find(PYTHON)?;
                let found = output(Command::new(&python).args(["-c", &format!("import test.{}", self.name)]));
                found.with_context(|| format!("{}: apt-get install libpython3.11-testsuite", self.name))?;
                output(Command::new(python).arg("--version")).map(|text| text.replace("Python", "CPython"))
            }
            Source::Pytest(..) | Source::Unittest(..) | Source::Main(_) => {
                let code = format!("import importlib.metadata as m; print(m.version('{}'))", self.name);
                let version = output(Command::new(scratch.python()?).args(["-c", &code]))?;
                Ok(format!("{} {version}", self.name))
            }
            Source::Crate(args) => {
                let mut cargo = build::cargo();
                cargo.args(["test", "--no-run", "--quiet"]).args(self.target(scratch)).args(words(args));
                let built = cargo.current_dir(scratch.crates()?).status().context("starting cargo")?;
                ensure!(built.success(), "{} does not build", self.name);
                Ok(format!("{} {}", self.name, crate_version(self.name)))
            }
        }
    }

    /// How its results are read.
    pub(crate) fn results(&self) -> Results {
        if matches!(self.source, Source::Crate(_)) { Results::Cargo } else { Results::Lines }
    }

    /// The commands that make a run of it. Their results go to a file.
    pub(crate) fn parts(&self, scratch: &Scratch, results: &Path) -> Result<Vec<Part>> {
        let limit = Duration::from_secs(60 * self.minutes);
        let part = |line| Part { line, by_cargo: false, limit, dir: None };
        let runner = |python: &Path, args: &[&str]| {
            let script = programs::script("suites/unittest_suite.py");
            let start = [text(python), text(&script), text(results), TEST_LIMIT.to_string()];
            part(start.into_iter().chain(args.iter().map(|&arg| arg.to_owned())).collect())
        };
        match self.source {
            Source::CPython(without) => {
                let module = format!("test.{}", self.name);
                let without = without.iter().flat_map(|class| ["--without", class]);
                let args: Vec<_> = without.chain([module.as_str()]).collect();
                Ok(vec![runner(&programs::find(PYTHON)?, &args)])
            }
            Source::CPythonPackage => {
                let python = programs::find(PYTHON)?;
                let code = "import test; print(test.__path__[0])";
                let folder = PathBuf::from(output(Command::new(&python).args(["-c", code]))?);
                let packages = folder.parent().context("the library of Python")?;
                let modules = modules(packages, &format!("test/{}", self.name), "test_", ".py")?;
                Ok(modules.iter().map(|module| runner(&python, &[module])).collect())
            }
            Source::Main(module) => Ok(vec![runner(&scratch.python()?, &["--main", module])]),
            Source::Pytest(plugin, without) => {
                let ours = ["-m", "pytest", "-p", "pytest_lines", "-p", "no:cacheprovider", "-p", plugin];
                let without = text(&scratch.packages()?.join(without));
                let which = ["--ignore", &without, "--pyargs", self.name];
                let args = ours.iter().chain(&which).map(|&arg| arg.to_owned());
                Ok(vec![part(std::iter::once(text(&scratch.python()?)).chain(args).collect())])
            }
            Source::Unittest(folder, start, end) => {
                let python = scratch.python()?;
                let modules = modules(&scratch.packages()?, folder, start, end)?;
                Ok(modules.iter().map(|module| runner(&python, &[module])).collect())
            }
            Source::Crate(args) => {
                let cargo = build::cargo().get_program().to_string_lossy().into_owned();
                let start = [cargo, "test".to_owned(), "--no-fail-fast".to_owned()];
                let line = start.into_iter().chain(self.target(scratch)).chain(words(args)).collect();
                Ok(vec![Part { line, by_cargo: true, limit, dir: Some(scratch.crates()?) }])
            }
        }
    }

    /// What tells cargo which package of the workspace is meant, and where to build.
    fn target(&self, scratch: &Scratch) -> [String; 4] {
        let dir = text(&scratch.path("target"));
        ["--package".to_owned(), self.name.to_owned(), "--target-dir".to_owned(), dir]
    }
}

/// The interpreter whose own suites these are.
pub(crate) const PYTHON: &str = "python3.11";

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn words(args: &str) -> impl Iterator<Item = String> {
    args.split_whitespace().map(str::to_owned)
}

/// The modules of a folder, as Python names them.
fn modules(packages: &Path, folder: &str, start: &str, end: &str) -> Result<Vec<String>> {
    let files = fs::read_dir(packages.join(folder)).with_context(|| folder.to_owned())?;
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let tests = names.filter(|name| name.starts_with(start) && name.ends_with(end));
    let package = folder.replace('/', ".");
    let mut modules: Vec<_> = tests.map(|name| format!("{package}.{}", name.trim_end_matches(".py"))).collect();
    modules.sort();
    Ok(modules)
}
