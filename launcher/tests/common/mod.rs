//! What the tests share: running the tools, and making programs to run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What became of a command.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn new(code: i32, stdout: &str, stderr: &str) -> Self {
        Self { code, stdout: stdout.into(), stderr: stderr.into() }
    }
}

pub fn outcome(command: &mut Command) -> Outcome {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Outcome { code: output.status.code().expect("not killed"), stdout, stderr }
}

/// A launcher in an environment without settings of the caller, with [`library`] to preload.
pub fn launcher(path: &str) -> Command {
    const SETTINGS: [&str; 7] =
        ["LD_PRELOAD", "PRELOOP_SERVES", "SMC_DEBUG", "SMC_RCVBUF", "SMC_SNDBUF", "KCM_DEBUG", "KCM_PARSER"];
    let mut command = Command::new(path);
    for name in SETTINGS {
        command.env_remove(name);
    }
    command.env("PRELOOP_LIB", library()).env("LC_ALL", "C");
    command
}

/// A library to preload that does nothing.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| compile("libpreloop.so", &["-shared", "-fPIC"], "int nothing;"))
}

/// Compiles C `source` to the file `name`.
pub fn compile(name: &str, options: &[&str], source: &str) -> PathBuf {
    let program = directory("programs").join(name);
    let code = program.with_added_extension("c");
    fs::write(&code, source).unwrap();
    let _ = fs::remove_file(&program);
    let done = Command::new("cc").args(options).arg("-o").arg(&program).arg(&code).status().unwrap();
    assert!(done.success(), "cc failed for {name}");
    program
}

/// A directory for the files of the tests, made if need be.
pub fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("smc_run").join(name);
    fs::create_dir_all(&path).unwrap();
    path
}
