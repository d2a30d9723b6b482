//! The kernel's tables of TCP sockets, read once per network namespace.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use procfs::net::TcpNetEntry;
use procfs::process::Process;

/// The tables read so far.
#[derive(Debug, Default)]
pub struct Tables {
    by_namespace: HashMap<u64, HashMap<u64, TcpNetEntry>>,
}

impl Tables {
    /// What the kernel says of the socket with this inode, in the network namespace (its inode) of process `pid`.
    /// It has no entry for sockets that are neither bound, listening nor connected.
    pub fn entry(&mut self, namespace: u64, pid: i32, inode: u64) -> Option<&TcpNetEntry> {
        self.by_namespace.entry(namespace).or_insert_with(|| read(pid)).get(&inode)
    }
}

/// Number of the network namespace of `pid`, 0 when it cannot be told.
pub fn namespace(pid: i32) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/net")).map_or(0, |link| link.ino())
}

fn read(pid: i32) -> HashMap<u64, TcpNetEntry> {
    let Ok(process) = Process::new(pid) else { return HashMap::new() };
    // Without IPv6 there is no tcp6.
    let entries = [process.tcp(), process.tcp6()].into_iter().flatten().flatten();
    entries.map(|entry| (entry.inode, entry)).collect()
}
