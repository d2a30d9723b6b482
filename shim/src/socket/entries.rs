//! poll(2) takes no more entries than RLIMIT_NOFILE says, and the library's bell is one more than the program's. select(2)
//! takes descriptors of any number, also such as are beyond a limit that was lowered.

use super::poll::ALWAYS;
use super::wait::{self, Deadline};
use preloop_sys::Errno;
use preloop_sys::process;
use preloop_sys::sleep::{self, SignalMask};

/// As `sleep::poll` of entries of which the last is the bell. `asked`: how many the program's poll(2) has, if it is that.
pub fn poll(
    entries: &mut [libc::pollfd],
    asked: Option<usize>,
    deadline: Deadline,
    mask: SignalMask,
    cancelled: &mut dyn FnMut(),
) -> Result<(), Errno> {
    let answer = sleep::poll(entries, deadline, mask, cancelled);
    if answer != Err(Errno::EINVAL) {
        return answer.map(drop);
    }
    let most = usize::try_from(process::limit(libc::RLIMIT_NOFILE)).unwrap_or(usize::MAX).max(1);
    if asked.is_some_and(|asked| asked > most) {
        return Err(Errno::EINVAL);
    }
    match once_of_each(entries, deadline, mask, cancelled) {
        Err(Errno::EINVAL) if entries.len() > most => in_parts(entries, most, deadline, mask, cancelled),
        answer => answer,
    }
}

/// With no more entries than there are different descriptors among them.
fn once_of_each(
    entries: &mut [libc::pollfd],
    deadline: Deadline,
    mask: SignalMask,
    cancelled: &mut dyn FnMut(),
) -> Result<(), Errno> {
    let mut different: Vec<_> = entries.iter().filter(|entry| entry.fd >= 0).copied().collect();
    different.sort_unstable_by_key(|entry| entry.fd);
    different.dedup_by(|one, first| {
        let same = one.fd == first.fd;
        first.events |= if same { one.events } else { 0 };
        same
    });
    sleep::poll(&mut different, deadline, mask, cancelled)?;
    for entry in entries {
        let at = different.binary_search_by_key(&entry.fd, |entry| entry.fd);
        let asked = entry.events | ALWAYS as i16 | libc::POLLNVAL;
        entry.revents = at.map_or(0, |at| different[at].revents & asked);
    }
    Ok(())
}

/// A look at all of them, part by part, and a sleep on the bell alone until the next look.
fn in_parts(
    entries: &mut [libc::pollfd],
    most: usize,
    deadline: Deadline,
    mask: SignalMask,
    cancelled: &mut dyn FnMut(),
) -> Result<(), Errno> {
    let mut ready = 0;
    for part in entries.chunks_mut(most) {
        ready += sleep::poll(part, Some(0), SignalMask::NONE, &mut || {})?;
    }
    match entries.last_mut() {
        Some(bell) if ready == 0 => {
            sleep::poll(core::slice::from_mut(bell), wait::sooner(deadline), mask, cancelled).map(drop)
        }
        _ => Ok(()),
    }
}
