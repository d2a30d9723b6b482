//! `smc_run` by its contract: texts, exit codes, environment and warnings.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use common::{Outcome, compile, directory, launcher, library, outcome};
use rustix::process::getuid;

const USAGE: &str = "
Usage: smc_run [ OPTIONS ] COMMAND

Run COMMAND using SMC for TCP sockets

   -d         enable debug mode
   -h         display this message
   -r <SIZE>  request receive buffer size in Bytes
   -t <SIZE>  request transmit buffer size in Bytes
   -v         display version info
";

fn smc_run() -> Command {
    launcher(env!("CARGO_BIN_EXE_smc_run"))
}

/// What `smc_run` does with these words.
fn run(words: &[&str]) -> Outcome {
    outcome(smc_run().args(words))
}

/// The value of `name` in the environment of a command run with these options.
fn variable(name: &str, options: &[&str], set: &[(&str, &str)]) -> String {
    let script = format!("echo ${{{name}-unset}}");
    let run = outcome(smc_run().envs(set.iter().copied()).args(options).args(["sh", "-c", &script]));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    run.stdout.trim_end().to_owned()
}

#[test]
fn help_and_version() {
    assert_eq!(run(&["-h"]), Outcome::new(0, USAGE, ""));
    assert_eq!(run(&["-v"]), Outcome::new(0, "smc_run utility, smc-tools-1.8.5\n", ""));
    assert_eq!(run(&["-dh", "-r", "nonsense"]), Outcome::new(0, USAGE, ""));
}

#[test]
fn errors_of_the_command_line() {
    assert_eq!(run(&[]), Outcome::new(1, "smc_run: Error: Missing command parameter\n", ""));
    assert_eq!(run(&["-d", "--"]), Outcome::new(1, "smc_run: Error: Missing command parameter\n", ""));
    for size in ["", "x", "1g", "-1", "1kk", "=64k"] {
        let error = format!("Error: Invalid buffer size specified: '{size}'\n");
        assert_eq!(run(&["-r", size, "true"]), Outcome::new(1, &error, ""));
        assert_eq!(run(&["-t", size, "true"]), Outcome::new(1, &error, ""));
    }
    for (option, error) in
        [("-x", "Invalid option: -x"), ("-dx", "Invalid option: -x"), ("--all", "Invalid option: --all")]
    {
        assert_eq!(run(&[option, "true"]), Outcome::new(1, "", &format!("smc_run: Error: {error}\n{USAGE}")));
    }
    let error = format!("smc_run: Error: Option requires an argument: -r\n{USAGE}");
    assert_eq!(run(&["-r"]), Outcome::new(1, "", &error));
}

#[test]
fn options_end_at_the_command() {
    assert_eq!(run(&["echo", "-d", "--", "-x"]), Outcome::new(0, "-d -- -x\n", ""));
    assert_eq!(run(&["-d", "--", "echo", "-v"]), Outcome::new(0, "-v\n", ""));
}

#[test]
fn settings_reach_the_command() {
    assert_eq!(variable("SMC_DEBUG", &[], &[]), "0");
    assert_eq!(variable("SMC_DEBUG", &["-d"], &[]), "1");
    assert_eq!(variable("SMC_DEBUG", &[], &[("SMC_DEBUG", "1")]), "1");
    assert_eq!(variable("SMC_RCVBUF", &[], &[]), "unset");
    assert_eq!(variable("SMC_RCVBUF", &["-r", "64k"], &[]), "65536");
    assert_eq!(variable("SMC_RCVBUF", &["-t", "64k"], &[("SMC_RCVBUF", "1m")]), "1m");
    assert_eq!(variable("PRELOOP_SERVES", &[], &[]), "smc");
    assert_eq!(variable("PRELOOP_SERVES", &[], &[("PRELOOP_SERVES", "kcm")]), "kcm,smc");
    assert_eq!(variable("SMC_SNDBUF", &["-dt2M"], &[("SMC_SNDBUF", "1m")]), "2097152");
}

#[test]
fn the_library_is_appended_once() {
    let library = library().to_str().unwrap();
    assert_eq!(variable("LD_PRELOAD", &[], &[]), library);
    let other = compile("other.so", &["-shared", "-fPIC"], "int other;");
    let both = format!("{}:{library}", other.display());
    assert_eq!(variable("LD_PRELOAD", &[], &[("LD_PRELOAD", other.to_str().unwrap())]), both);
    assert_eq!(variable("LD_PRELOAD", &[], &[("LD_PRELOAD", &both)]), both);
    let nested = outcome(smc_run().args([env!("CARGO_BIN_EXE_smc_run"), "sh", "-c", "echo $LD_PRELOAD"]));
    assert_eq!(nested, Outcome::new(0, &format!("{library}\n"), ""));
}

#[test]
fn the_command_decides_the_exit_code() {
    assert_eq!(run(&["sh", "-c", "exit 3"]).code, 3);
    assert_eq!(run(&["no-such-command"]), Outcome::new(127, "", "smc_run: no-such-command: command not found\n"));
    assert_eq!(run(&["./nowhere"]), Outcome::new(127, "", "smc_run: ./nowhere: No such file or directory\n"));
    assert_eq!(run(&["/etc/passwd"]), Outcome::new(126, "", "smc_run: /etc/passwd: Permission denied\n"));
    assert_eq!(run(&["/etc"]), Outcome::new(126, "", "smc_run: /etc: Is a directory\n"));
    assert_eq!(run(&[""]).code, 127);
}

#[test]
fn the_library_is_found_where_it_was_installed() {
    let tree = directory("installed here");
    fs::remove_dir_all(&tree).unwrap();
    let places = ["bin", "lib", &format!("lib/{}-linux-gnu", std::env::consts::ARCH)].map(|name| tree.join(name));
    for place in &places {
        fs::create_dir_all(place).unwrap();
    }
    let launcher = places[0].join("smc_run");
    fs::copy(env!("CARGO_BIN_EXE_smc_run"), &launcher).unwrap();
    let run = |library: &str| {
        let mut command = Command::new(&launcher);
        outcome(command.env("PRELOOP_LIB", library).env_remove("LD_PRELOAD").args(["sh", "-c", "echo $LD_PRELOAD"]))
    };
    let missing = run("");
    assert_eq!((missing.code, missing.stdout.as_str()), (1, ""));
    assert!(missing.stderr.starts_with("smc_run: Error: libpreloop.so not found (looked at "), "{missing:?}");
    // The tree has a space in its name, so what is found there cannot be preloaded.
    for place in places.iter().rev() {
        let file = place.join("libpreloop.so");
        fs::copy(library(), &file).unwrap();
        let error =
            format!("smc_run: Error: LD_PRELOAD cannot hold '{}': its path has a space or a colon\n", file.display());
        assert_eq!(run(""), Outcome::new(1, "", &error));
    }
    let named = tree.with_file_name("named.so");
    let _ = fs::remove_file(&named);
    symlink(places[0].join("libpreloop.so"), &named).unwrap();
    assert_eq!(run(named.to_str().unwrap()), Outcome::new(0, &format!("{}\n", named.display()), ""));
    let error = "smc_run: Error: /etc/passwd is not a shared library\n";
    assert_eq!(run("/etc/passwd"), Outcome::new(1, "", error));
}

#[test]
fn relative_library_becomes_absolute() {
    let library = library();
    let run = outcome(
        smc_run().current_dir(library.parent().unwrap()).env("PRELOOP_LIB", library.file_name().unwrap()).args([
            "sh",
            "-c",
            "echo $LD_PRELOAD",
        ]),
    );
    assert_eq!(run, Outcome::new(0, &format!("{}\n", library.display()), ""));
}

/// A static program that prints what it was to be preloaded with.
fn static_program(name: &str) -> String {
    let source = r#"#include <stdio.h>
        #include <stdlib.h>
        int main(void) { const char *l = getenv("LD_PRELOAD"); puts(l ? l : "none"); return 7; }"#;
    compile(name, &["-static"], source).into_os_string().into_string().unwrap()
}

#[test]
fn static_programs_and_their_scripts() {
    let program = static_program("static");
    let library = format!("{}\n", library().display());
    let why = "is statically linked, nothing can be preloaded: runs on TCP";
    assert_eq!(run(&[&program]), Outcome::new(7, &library, &format!("smc_run: Warning: {program}: {why}\n")));

    let script = directory("scripts").join("script");
    let script_name = script.to_str().unwrap();
    for line in
        [format!("#!{program}"), format!("#! /usr/bin/env -S A=1 {program} x"), format!("#!/usr/bin/env {program}")]
    {
        fs::write(&script, format!("{line}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let warning = format!("smc_run: Warning: {script_name}: {program} {why}\n");
        assert_eq!(run(&[script_name]), Outcome::new(7, &library, &warning), "{line}");
    }
    fs::write(&script, "echo no interpreter $1\n").unwrap();
    assert_eq!(run(&[script_name, "named"]), Outcome::new(0, "no interpreter named\n", ""));
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    assert_eq!(run(&[script_name]).code, 126);
}

#[test]
fn programs_of_another_libc_run_without_the_library() {
    // glibc's own loader by musl's name: what counts here is the name, and the program must run.
    let loader = directory("musl").join("ld-musl-x86_64.so.1");
    let _ = fs::remove_file(&loader);
    let plain = compile("plain", &[], "int main(void) { return 0; }");
    symlink(loader_of(&plain), &loader).unwrap();
    let source = r#"#include <stdio.h>
        #include <stdlib.h>
        int main(void) { const char *l = getenv("LD_PRELOAD"); puts(l ? l : "none"); return 7; }"#;
    let program = compile("musl-program", &[&format!("-Wl,--dynamic-linker={}", loader.display())], source);
    let program = program.to_str().unwrap();
    let warning = format!(
        "smc_run: Warning: {program}: is loaded by {}, the library needs glibc: runs on TCP\n",
        loader.display()
    );
    assert_eq!(run(&[program]), Outcome::new(7, "none\n", &warning));
    let nested = outcome(smc_run().env("LD_PRELOAD", library()).arg(program));
    assert_eq!(nested, Outcome::new(7, "none\n", &warning));
}

fn loader_of(program: &std::path::Path) -> std::path::PathBuf {
    preloop_image::elf::look(program).unwrap().loader.unwrap()
}

#[test]
fn programs_for_another_machine() {
    let program = compile("foreign", &[], "int main(void) { return 0; }");
    let mut bytes = fs::read(&program).unwrap();
    bytes[18..20].copy_from_slice(&22u16.to_le_bytes());
    fs::write(&program, bytes).unwrap();
    let program = program.to_str().unwrap();
    let errors = format!(
        "smc_run: Warning: {program}: is a 64-bit program for ELF machine 22, which the library is not: runs on TCP\n\
         smc_run: {program}: Exec format error\n"
    );
    assert_eq!(run(&[program]), Outcome::new(126, "", &errors));
}

#[test]
fn go_programs_bypass_the_library() {
    let note = r#"__asm__(".pushsection .note.go.buildid,\"a\",@note\n"
        ".long 4, 4, 4\n.asciz \"Go\\0\"\n.long 0\n.popsection");
        int main(void) { return 0; }"#;
    let program = compile("go-program", &[], note);
    let warning = format!(
        "smc_run: Warning: {}: is a Go program, which bypasses the C library: runs on TCP\n",
        program.display()
    );
    assert_eq!(run(&[program.to_str().unwrap()]), Outcome::new(0, "", &warning));
}

#[test]
fn privileged_programs_ignore_the_library() {
    if !getuid().is_root() {
        eprintln!("not run: only root can make setuid programs");
        return;
    }
    let program = compile("privileged", &[], "int main(void) { return 7; }");
    let name = program.to_str().unwrap();
    assert_eq!(run(&[name]), Outcome::new(7, "", ""));
    let warning =
        |why: &str| format!("smc_run: Warning: {name}: {why}, so the loader ignores LD_PRELOAD: runs on TCP\n");
    let mode = |mode: u32| fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();

    mode(0o4755);
    assert_eq!(run(&[name]), Outcome::new(7, "", ""), "setuid to oneself changes nothing");
    std::os::unix::fs::chown(&program, Some(1), Some(1)).unwrap();
    mode(0o4755);
    assert_eq!(run(&[name]), Outcome::new(7, "", &warning("is setuid or setgid")));
    mode(0o2755);
    assert_eq!(run(&[name]), Outcome::new(7, "", &warning("is setuid or setgid")));
    mode(0o2745);
    assert_eq!(run(&[name]), Outcome::new(7, "", ""), "setgid without x is mandatory locking");
    mode(0o755);
    let capable = Command::new("setcap").args(["cap_net_raw=ep", name]).status();
    if capable.is_ok_and(|status| status.success()) {
        assert_eq!(run(&[name]), Outcome::new(7, "", ""), "root has every capability anyhow");
    }
}

#[test]
fn signals_are_handed_on_as_they_came() {
    let ignored = |setup: &str| {
        let script = format!("{setup} exec \"$0\" grep SigIgn /proc/self/status");
        let mut command = Command::new("sh");
        let run = outcome(command.env("PRELOOP_LIB", library()).args(["-c", &script, env!("CARGO_BIN_EXE_smc_run")]));
        let mask = run.stdout.split_whitespace().nth(1).expect("SigIgn: mask").to_owned();
        u64::from_str_radix(&mask, 16).unwrap() & 1 << 12 != 0
    };
    assert!(ignored("trap '' PIPE;"));
    assert!(!ignored(""));
}
