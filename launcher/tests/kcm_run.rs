//! `kcm_run` by its contract, as far as it is not that of `smc_run`: parsers, settings, and words of its own.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Outcome, compile, directory, launcher, library, outcome};

const USAGE: &str = "
Usage: kcm_run [ OPTIONS ] COMMAND

Run COMMAND with KCM sockets, without the kernel's module

   -d           enable debug mode
   -h           display this message
   -l           list the parsers that can be named
   -p <PARSER>  parse TCP sockets that are attached without a program (-1) by PARSER:
                a name (-l), a spec (u32be@0+4), or FILE.o[:SECTION]
   -v           display version info
   --smc        use SMC for TCP sockets as well
";
/// Where the parsers that come with the project lie compiled.
const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bpf-parsers/programs");

fn kcm_run() -> Command {
    launcher(env!("CARGO_BIN_EXE_kcm_run"))
}

/// Others, which tests read.
const OBJECTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bpf-parsers/tests/objects");

/// What `kcm_run` does with these words.
fn run(words: &[&str]) -> Outcome {
    outcome(kcm_run().args(words))
}

/// Prints the settings that a command meets.
const SHOW: [&str; 3] = ["sh", "-c", "echo ${PRELOOP_SERVES-unset} ${KCM_DEBUG-unset} ${KCM_PARSER-unset}"];

fn settings(command: &mut Command) -> String {
    let run = outcome(command.args(SHOW));
    let is_debug_line = |line: &str| line.starts_with("kcm_run: parser ");
    assert!(run.code == 0 && run.stderr.lines().all(is_debug_line), "{run:?}");
    run.stdout.trim_end().to_owned()
}

#[test]
fn texts() {
    assert_eq!(run(&["-h"]), Outcome::new(0, USAGE, ""));
    let version = format!("kcm_run utility, preloop-{}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["-v"]), Outcome::new(0, &version, ""));
    let parsers = "\
9p       9P: 4 bytes of length, little-endian, themselves included
onc-rpc  ONC RPC record marking (NFS and others): whole records of up to 32 fragments
thrift   framed Thrift: 4 bytes of length, big-endian, before each message
";
    assert_eq!(run(&["-l"]), Outcome::new(0, parsers, ""));
}

#[test]
fn errors_of_the_command_line() {
    assert_eq!(run(&["--smc"]), Outcome::new(1, "kcm_run: Error: Missing command parameter\n", ""));
    for (words, error) in [
        (&["-r", "64k", "true"][..], "Invalid option: -r"),
        (&["--smcd", "true"], "Invalid option: --smcd"),
        (&["--smc=1", "true"], "Invalid option: --smc=1"),
        (&["-dp"], "Option requires an argument: -p"),
    ] {
        assert_eq!(run(words), Outcome::new(1, "", &format!("kcm_run: Error: {error}\n{USAGE}")));
    }
    assert_eq!(run(&["no-such-command"]), Outcome::new(127, "", "kcm_run: no-such-command: command not found\n"));
    assert_eq!(run(&["echo", "--smc", "-p"]), Outcome::new(0, "--smc -p\n", ""));
}

#[test]
fn settings_reach_the_command() {
    assert_eq!(settings(&mut kcm_run()), "kcm unset unset");
    assert_eq!(settings(kcm_run().args(["-d", "-pthrift"])), "kcm 1 thrift");
    assert_eq!(settings(kcm_run().args(["--smc", "-p", "u32be@0+4"])), "kcm,smc unset u32be@0+4");
    assert_eq!(settings(kcm_run().env("KCM_PARSER", "9p").env("KCM_DEBUG", "0")), "kcm 0 9p");
    assert_eq!(settings(kcm_run().env("KCM_PARSER", "9p").args(["-p", "thrift"])), "kcm unset thrift");
    assert_eq!(settings(kcm_run().env("KCM_PARSER", "")), "kcm unset");
}

#[test]
fn launchers_add_up() {
    let [smc_run, kcm_run] = [env!("CARGO_BIN_EXE_smc_run"), env!("CARGO_BIN_EXE_kcm_run")];
    assert_eq!(settings(launcher(smc_run).args([kcm_run, "-p", "9p"])), "smc,kcm unset 9p");
    assert_eq!(settings(launcher(kcm_run).args(["-d", "-p", "9p", smc_run])), "kcm,smc 1 9p");
    let preload = outcome(launcher(kcm_run).args([smc_run, "sh", "-c", "echo $LD_PRELOAD"]));
    assert_eq!(preload, Outcome::new(0, &format!("{}\n", library().display()), ""));
}

#[test]
fn files_are_named_absolutely() {
    let programs = fs::canonicalize(PROGRAMS).unwrap();
    for (name, absolute) in [("9p.o", programs.join("9p.o")), ("./9p.o:socket", programs.join("9p.o:socket"))] {
        let found = settings(kcm_run().current_dir(&programs).args(["-p", name]));
        assert_eq!(found, format!("kcm unset {}", absolute.display()));
        let found = settings(kcm_run().current_dir(&programs).env("KCM_PARSER", name));
        assert_eq!(found, format!("kcm unset {}", absolute.display()));
    }
}

#[test]
fn a_bad_parser_is_an_error_before_the_command_runs() {
    let directory = directory("parsers");
    let broken = directory.join("broken.o");
    let mut bytes = fs::read(Path::new(PROGRAMS).join("thrift.o")).unwrap();
    let exit = bytes.windows(8).position(|bytes| bytes == [0x95, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    bytes[exit] = 0xff;
    fs::write(&broken, bytes).unwrap();
    let broken = broken.to_str().unwrap();
    let large = directory.join("large.o");
    fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    let large = large.to_str().unwrap();
    for (parser, words) in [
        ("trift", "no parser trift: neither one of 9p, onc-rpc, thrift, nor like u32be@0+4, nor FILE.o[:SECTION]"),
        ("u32@0", "u32@0: the field is none of "),
        ("nowhere.o", "nowhere.o: No such file or directory\n"),
        (&format!("{PROGRAMS}/thrift.o:none"), "thrift.o: no section none; there are programs in "),
        ("/dev/null/x.o", "/dev/null/x.o: Not a directory\n"),
        (large, "an object of more than 4194304 bytes"),
        (broken, &format!("parser {broken}: ")),
    ] {
        for run in [run(&["-p", parser, "echo", "ran"]), outcome(kcm_run().env("KCM_PARSER", parser).arg("true"))] {
            assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
            assert!(run.stderr.starts_with("kcm_run: Error: ") && run.stderr.contains(words), "{run:?}");
        }
    }
    assert_eq!(run(&["-p", "", "true"]).code, 1);
}

#[test]
fn programs_that_cannot_be_preloaded() {
    let program = compile("static-kcm", &["-static"], "int main(void) { return 7; }");
    let program = program.to_str().unwrap();
    let why = format!("kcm_run: Warning: {program}: is statically linked, nothing can be preloaded: runs");
    assert_eq!(run(&[program]), Outcome::new(7, "", &format!("{why} without KCM\n")));
    assert_eq!(run(&["--smc", program]), Outcome::new(7, "", &format!("{why} on TCP and without KCM\n")));
}

/// What `kcm_run -d -p PARSER echo ran` does behind these words.
fn parse_behind(before: &[&str], parser: &str) -> Outcome {
    let words = [before, &[env!("CARGO_BIN_EXE_kcm_run"), "-d", "-p", parser, "echo", "ran"]].concat();
    outcome(launcher(words[0]).args(&words[1..]))
}

/// Words that run a command as it runs without privileges, whoever the user is. `None` where util-linux is not there.
fn without_privileges() -> Option<&'static [&'static str]> {
    const DROP: &[&str] = &["setpriv", "--bounding-set", "-bpf,-sys_admin", "--inh-caps", "-bpf,-sys_admin"];
    let is_there = Command::new("setpriv").arg("--version").output().is_ok();
    let has_some = parse_behind(DROP, "thrift").code == 0;
    is_there.then_some(if has_some { DROP } else { &["setpriv"] })
}

#[test]
fn the_kernels_verifier_has_the_first_word() {
    let [unchecked, clock] = ["unchecked", "clock"].map(|name| format!("{OBJECTS}/{name}.o"));
    let asked = parse_behind(&["env"], "thrift");
    assert_eq!((asked.code, asked.stdout.as_str()), (0, "ran\n"));
    if asked.stderr.contains("was not asked") {
        eprintln!("skipped: the kernel does not permit bpf(2) here; run as root");
        return;
    }
    assert_eq!(asked.stderr, "kcm_run: parser thrift: the kernel's verifier takes it\n");

    for named in [unchecked.clone(), format!("{unchecked}:socket")] {
        let refused = outcome(kcm_run().args(["-p", &named, "echo", "ran"]));
        assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{refused:?}");
        let lines: Vec<_> = refused.stderr.lines().collect();
        let first = format!("kcm_run: Error: parser {named}: the kernel's verifier refuses it: ");
        assert!(lines[0].starts_with(&first), "{refused:?}");
        assert!(lines.last().unwrap().starts_with("  math between map_value pointer and register"), "{refused:?}");
    }
    assert_eq!(outcome(kcm_run().env("KCM_PARSER", &unchecked).arg("true")).code, 1);

    let ours = parse_behind(&["env"], &clock);
    let taken = format!("kcm_run: parser {clock}: the kernel's verifier takes it\n");
    let refused = format!("{taken}kcm_run: Error: parser {clock}: 1: unknown func #5\n");
    assert_eq!(ours, Outcome::new(1, "", &refused));
    let spec = "kcm_run: parser u32be@0+4: the kernel's verifier was not asked: it is a spec\n";
    assert_eq!(parse_behind(&["env"], "u32be@0+4"), Outcome::new(0, "ran\n", spec));
}

#[test]
fn without_privileges_the_own_check_stands() {
    let Some(drop) = without_privileges() else {
        eprintln!("skipped: no setpriv here");
        return;
    };
    let unchecked = format!("{OBJECTS}/unchecked.o");
    let why = "the kernel's verifier was not asked: neither CAP_BPF nor CAP_SYS_ADMIN";
    let run = parse_behind(drop, &unchecked);
    assert_eq!(run, Outcome::new(0, "ran\n", &format!("kcm_run: parser {unchecked}: {why}\n")));
    let words = [&drop[1..], &[env!("CARGO_BIN_EXE_kcm_run"), "-p", &unchecked, "echo", "ran"]].concat();
    assert_eq!(outcome(launcher(drop[0]).args(words)), Outcome::new(0, "ran\n", ""));
}

/// Runs its other arguments with a filter that answers bpf(2) with what the first one says.
const FILTER: &str = r#"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bpf, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, strtoul(argv[1], 0, 0)),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { 4, code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return 99;
	execvp(argv[2], argv + 2);
	return 98;
}
"#;

#[test]
fn what_a_kernel_has_against_bpf_is_no_fault_of_the_parsers() {
    let filter = compile("filter-bpf", &[], FILTER);
    let filter = filter.to_str().unwrap();
    // EPERM, ENOSYS, ENOMEM, EACCES; SECCOMP_RET_KILL_PROCESS, _THREAD and _TRAP.
    for action in ["0x50001", "0x50026", "0x5000c", "0x5000d", "0x80000000", "0", "0x30000"] {
        let run = parse_behind(&[filter, action], "thrift");
        assert_eq!((run.code, run.stdout.as_str()), (0, "ran\n"), "{action} {run:?}");
        let not_asked = "kcm_run: parser thrift: the kernel's verifier was not asked: ";
        assert!(run.stderr.starts_with(not_asked) && run.stderr.lines().count() == 1, "{action} {run:?}");
    }
}

#[test]
fn the_command_does_not_see_that_the_kernel_was_asked() {
    let filter = compile("filter-bpf-eperm", &[], FILTER);
    let show = "ulimit -l; grep -h -e SigPnd -e ShdPnd /proc/self/status; ls /proc/self/fd | wc -l";
    let seen = |parser: &str, before: &[&str]| {
        let words = [before, &[env!("CARGO_BIN_EXE_kcm_run"), "-p", parser, "sh", "-c", show]].concat();
        let limited = ["-c", "ulimit -S -l 64; exec \"$@\"", "sh"];
        let run = outcome(launcher("sh").args(limited).args(words));
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        run.stdout
    };
    let blocked = ["env", "--block-signal=CHLD"];
    let refused = [filter.to_str().unwrap(), "0x50001"];
    for before in [&blocked[..], &refused] {
        assert_eq!(seen("thrift", before), seen("u32be@0+4", before), "{before:?}");
    }
}
