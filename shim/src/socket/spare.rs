//! Descriptors of the library's own that it can do without, when the program has none left.

use crate::fdtable;
use crate::fork;
use crate::process;
use crate::socket::sock::phase;
use crate::socket::{clc, group};
use preloop_shm::mapped;
use preloop_uapi::decline::Decline;

/// Closes those of handshakes under way, whose connections stay on TCP, and those that only the next program of this
/// process would need: what it is left is then treated as if that program would not be preloaded. Answers
/// whether there was any.
pub fn release() -> bool {
    if fork::is_inside() || process::is_uncounted() {
        return false;
    }
    // Nobody may hand over, by exec, what is closed here.
    let _alone = fork::alone();
    let mut any = false;
    fdtable::for_each(|_, file| {
        if matches!(file.sock.phase(), phase::PROPOSED | phase::OFFERED) {
            clc::pin(&file, Decline::MEMORY);
            any = true;
        }
    });
    group::all().iter().for_each(|group| any |= group.does_without_memfd());
    for memfd in mapped::give_up_memfds() {
        process::disown(memfd);
        any = true;
    }
    any
}
