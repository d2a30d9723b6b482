//! What `/proc` tells about sockets and processes.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use rustix::process::Pid;

/// Whether a member of the process group holds a socket that listens on the TCP port.
pub fn listens(group: Pid, port: u16) -> bool {
    let listeners = listeners(port);
    let descriptors = |pid| fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let is_listener = |descriptor: fs::DirEntry| {
        fs::read_link(descriptor.path())
            .is_ok_and(|target| listeners.iter().any(|name| target.as_os_str() == name.as_str()))
    };
    !listeners.is_empty() && members(group).into_iter().flat_map(descriptors).any(is_listener)
}

/// Names, as in `/proc/PID/fd`, of all sockets of this network namespace that listen on the TCP port.
fn listeners(port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    let listener = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        (local.ends_with(&suffix) && *state == LISTEN).then(|| format!("socket:[{inode}]"))
    };
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(listener).collect()
}

/// The members of a process group.
pub fn members(group: Pid) -> Vec<u32> {
    let group = group.as_raw_nonzero().to_string();
    processes().into_iter().filter(|&pid| stat(pid).is_some_and(|fields| fields.get(2) == Some(&group))).collect()
}

/// The processes that descend from one.
pub fn descendants(ancestor: u32) -> Vec<u32> {
    let parent = |pid| stat(pid)?.get(1)?.parse::<u32>().ok();
    let parents: Vec<_> = processes().into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut family = vec![ancestor];
    let mut next = 0;
    while let Some(&elder) = family.get(next) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == elder).map(|(pid, _)| pid));
        next += 1;
    }
    family.split_off(1)
}

/// Time that all threads of a process group have spent on a CPU.
pub fn cpu_time(group: Pid) -> Duration {
    let threads = |pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanoseconds = |thread: fs::DirEntry| {
        fs::read_to_string(thread.path().join("schedstat")).ok()?.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(members(group).into_iter().flat_map(threads).filter_map(nanoseconds).sum())
}

fn processes() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Fields of `/proc/PID/stat` from the third, the state, on.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold spaces.
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// What every thread of a process is doing, for the report on a test that hangs.
pub fn describe(pid: u32) -> String {
    let mut text = String::new();
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let _ = writeln!(text, "process {pid}: {}", String::from_utf8_lossy(&command).replace('\0', " "));
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for thread in threads {
        let read = |name| fs::read_to_string(thread.path().join(name)).unwrap_or_default().trim().to_owned();
        let status = read("status");
        let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or(" ?").trim().to_owned();
        let id = thread.file_name();
        let _ = writeln!(text, "  thread {}: {state}, wchan {}", id.to_string_lossy(), read("wchan"));
        let _ = writeln!(text, "    system call {}", read("syscall"));
        for frame in read("stack").lines() {
            let _ = writeln!(text, "    {frame}");
        }
    }
    text
}

/// The stacks in user space, where there is a debugger to read them.
pub fn backtraces(pid: u32) -> String {
    let pid = pid.to_string();
    let gdb = std::process::Command::new("gdb")
        .args(["-p", &pid, "-batch", "-nx", "-iex", "set debuginfod enabled off", "-ex", "thread apply all bt 20"])
        .env_remove("LD_PRELOAD")
        .output();
    let text = gdb.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().filter(|line| line.starts_with(['#', 'T'])).map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_seen_while_it_listens() {
        let group = rustix::process::getpgrp();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens(group, port));
        assert!(!listens(Pid::INIT, port));
        drop(listener);
        assert!(!listens(group, port));
    }

    #[test]
    fn a_process_is_described() {
        let text = describe(std::process::id());
        assert!(text.contains("thread"), "{text}");
        assert!(!descendants(1).is_empty());
        assert!(cpu_time(rustix::process::getpgrp()) > Duration::ZERO);
        assert!(members(rustix::process::getpgrp()).contains(&std::process::id()));
    }
}
