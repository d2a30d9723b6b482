//! select(2), as poll(2) of the same descriptors.

use super::poll::{ALWAYS, IN, OUT, poll_for};
use super::wait::Deadline;
use preloop_sys::sleep::{self, SignalMask};
use preloop_sys::{Errno, Fd};

/// The three sets of select(2), each a bitmap of `nfds` descriptors or absent.
pub struct Selected<'a> {
    /// Descriptors to read from.
    pub read: Option<&'a mut [u64]>,
    /// Descriptors to write to.
    pub write: Option<&'a mut [u64]>,
    /// Descriptors with exceptional conditions.
    pub except: Option<&'a mut [u64]>,
}

fn bit(set: &Option<&mut [u64]>, fd: usize) -> bool {
    set.as_ref().and_then(|words| words.get(fd / 64)).is_some_and(|word| word & 1 << (fd % 64) != 0)
}

/// What makes a descriptor readable, writable and exceptional to select(2) (`fs/select.c`).
const READ: u32 = IN | libc::POLLRDBAND as u32 | ALWAYS;
const WRITE: u32 = OUT | libc::POLLWRBAND as u32 | libc::POLLERR as u32;
const EXCEPT: u32 = libc::POLLPRI as u32;

/// select(2), pselect(2). `None`: nothing here is ours.
pub fn select(
    nfds: usize,
    sets: Selected<'_>,
    deadline: impl Fn() -> Deadline,
    mask: SignalMask,
) -> Option<Result<usize, Errno>> {
    let mut fds = entries(nfds, &sets);
    let mut answer = poll_for(true, &mut fds, &deadline, mask)?;
    loop {
        let count = match answer {
            Err(errno) => return Some(Err(errno)),
            Ok(_) if fds.iter().any(|entry| entry.revents & libc::POLLNVAL != 0) => return Some(Err(Errno::EBADF)),
            Ok(count) => count,
        };
        // poll also answers what no set asks about, such as POLLHUP of a descriptor that is only in the third: that
        // one has nothing more to say.
        let silent = |entry: &libc::pollfd| entry.revents != 0 && !is_asked_for(&sets, entry);
        if count == 0 || !fds.iter().filter(|entry| entry.revents != 0).all(silent) {
            return Some(Ok(give(sets, &fds)));
        }
        fds.iter_mut().filter(|entry| silent(entry)).for_each(|entry| entry.fd = !entry.fd);
        let again = poll_for(true, &mut fds, &deadline, mask);
        answer = again.unwrap_or_else(|| sleep::poll(&mut fds, deadline(), mask, &mut || {}));
    }
}

/// What poll is asked for these sets, most of whose words may be empty: a number may be high.
fn entries(nfds: usize, sets: &Selected<'_>) -> Vec<libc::pollfd> {
    let mut fds = Vec::new();
    for at in 0..nfds.div_ceil(64) {
        let [r, w, e] = [&sets.read, &sets.write, &sets.except]
            .map(|set| set.as_ref().and_then(|words| words.get(at)).copied().unwrap_or(0));
        let mut left = r | w | e;
        while left != 0 {
            let (bit, place) = (left & left.wrapping_neg(), left.trailing_zeros() as usize);
            left &= !bit;
            let fd = at * 64 + place;
            if fd < nfds {
                let has = |word: u64, events: u32| if word & bit != 0 { events } else { 0 };
                let events = has(r, IN) | has(w, OUT) | has(e, EXCEPT);
                fds.push(libc::pollfd { fd: fd as Fd, events: events as u16 as i16, revents: 0 });
            }
        }
    }
    fds
}

/// Whether what poll answered of a descriptor makes it ready in one of the sets.
fn is_asked_for(sets: &Selected<'_>, entry: &libc::pollfd) -> bool {
    [(&sets.read, READ), (&sets.write, WRITE), (&sets.except, EXCEPT)]
        .into_iter()
        .any(|(set, bits)| entry.revents as u16 as u32 & bits != 0 && bit(set, entry.fd as usize))
}

fn give(sets: Selected<'_>, fds: &[libc::pollfd]) -> usize {
    let mut count = 0;
    for (set, bits) in [(sets.read, READ), (sets.write, WRITE), (sets.except, EXCEPT)] {
        let Some(words) = set else { continue };
        for entry in fds {
            // One that was left out of the last look is not ready.
            let fd = if entry.fd < 0 { !entry.fd } else { entry.fd };
            let (word, mask) = (fd as usize / 64, 1u64 << (fd % 64));
            if words[word] & mask == 0 {
                continue;
            }
            if entry.revents as u16 as u32 & bits != 0 {
                count += 1;
            } else {
                words[word] &= !mask;
            }
        }
    }
    count
}
