//! Running one stage within its time, and counting what passed.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use preloop_tests::procfs;
use rustix::process::{Pid, Signal, kill_process};

/// How many checks and tests passed and failed.
#[derive(Default, Debug)]
pub(crate) struct Tally {
    passed: usize,
    failed: usize,
    failures: Vec<String>,
}

impl Tally {
    /// Runs a stage that passes or fails as a whole.
    pub(crate) fn check(&mut self, name: &str, limit: Duration, command: Command) -> bool {
        let success = run(name, limit, command, |_| ());
        if success {
            self.passed += 1;
        } else {
            self.fail(name);
        }
        success
    }

    /// Runs tests and counts each.
    pub(crate) fn tests(&mut self, name: &str, limit: Duration, command: Command) {
        let failed_before = self.failed;
        let success = run(name, limit, command, |line| {
            if let Some((passed, failed)) = result(line) {
                self.passed += passed;
                self.failed += failed;
            }
        });
        if self.failed > failed_before {
            self.failures.push(name.to_owned());
        } else if !success {
            // It did not compile, crashed or hung.
            self.fail(name);
        }
    }

    /// Counts a failure.
    pub(crate) fn fail(&mut self, what: &str) {
        println!("failed: {what}");
        self.failed += 1;
        self.failures.push(what.to_owned());
    }

    pub(crate) fn passed_all(&self) -> bool {
        self.failed == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "failed: {failure}")?;
        }
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Counts of one test program, from its last line.
fn result(line: &str) -> Option<(usize, usize)> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |name| counts.split("; ").find_map(|part| part.strip_suffix(name)?.trim().parse().ok());
    Some((count("passed")?, count("failed")?))
}

/// Runs a command and shows its output; when its time is over everything it started is described and killed.
fn run(name: &str, limit: Duration, mut command: Command, mut see: impl FnMut(&str)) -> bool {
    println!("\n=== {name}");
    let start = Instant::now();
    let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("{command:?}: {error}");
            return false;
        }
    };
    let (lines, printed) = channel();
    let output = child.stdout.take().map(BufReader::new);
    std::thread::spawn(move || {
        for line in output.into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
    loop {
        match printed.recv_timeout(limit.saturating_sub(start.elapsed())) {
            Ok(line) => {
                println!("{line}");
                see(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                println!("{name}: not finished after {limit:?}");
                kill(&child);
                break;
            }
        }
    }
    let success = child.wait().is_ok_and(|status| status.success());
    println!("=== {name}: {} after {:.0?}", if success { "passed" } else { "failed" }, start.elapsed());
    success
}

fn kill(child: &Child) {
    for pid in procfs::descendants(child.id()).into_iter().chain([child.id()]) {
        print!("{}", procfs::describe(pid));
        if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
            // It may have ended with the others.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let line =
            "test result: FAILED. 22 passed; 3 failed; 1 ignored; 0 measured; 69 filtered out; finished in 31.65s";
        assert_eq!(result(line), Some((22, 3)));
        assert_eq!(result("test result: none"), None);
        assert_eq!(result("running 3 tests"), None);
    }

    #[test]
    fn a_crash_counts_as_a_failure() {
        let mut tally = Tally::default();
        tally.tests("crash", Duration::from_secs(10), Command::new("false"));
        tally.check("fine", Duration::from_secs(10), Command::new("true"));
        assert_eq!(tally.to_string(), "failed: crash\n1 passed, 1 failed");
    }

    #[test]
    fn a_stage_that_hangs_is_killed() {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000");
        assert!(!run("sleep", Duration::from_millis(50), sleep, |_| ()));
    }
}
