//! What the kernel knows to be registered in an epoll set: `/proc/self/fdinfo` (`ep_show_fdinfo` in fs/eventpoll.c).

use preloop_sys::Fd;

/// One registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registered {
    /// Under which descriptor.
    pub fd: Fd,
    /// Inode of the file that the descriptor stood for then.
    pub inode: u64,
    /// Events, and how to tell of them.
    pub events: u32,
    /// The program's data.
    pub data: u64,
}

/// All that is registered in a set; nothing where `/proc` is not to be read.
pub fn registered_in(set: Fd) -> Vec<Registered> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{set}")).unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Registered> {
    let field = |name: &str| line.split_once(name)?.1.split_whitespace().next();
    let hex = |name| u64::from_str_radix(field(name)?, 16).ok();
    let fd = field("tfd:")?.parse().ok()?;
    Some(Registered { fd, inode: hex("ino:")?, events: hex("events:")? as u32, data: hex("data:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_understood() {
        let line = "tfd:       19 events: 8000001d data: ffffffff00000013  pos:0 ino:1a2b sdev:8";
        let registered = Registered { fd: 19, inode: 0x1a2b, events: 0x8000_001d, data: 0xffff_ffff_0000_0013 };
        assert_eq!(parse(line), Some(registered));
        assert_eq!(parse("flags:\t02"), None);
    }
}
