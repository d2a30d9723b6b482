//! Descriptors in the program's messages (SCM_RIGHTS, unix(7)).

use crate::Fd;

/// The descriptors that come or go with a message.
///
/// # Safety
/// `message` and its control data must be as the kernel left them, or readable as for sendmsg(2), as long as the answer is
/// used.
pub unsafe fn passed(message: *const libc::msghdr) -> impl Iterator<Item = Fd> {
    // SAFETY: the caller's, for both.
    unsafe { places(message) }.map(|place| unsafe { place.read_unaligned() })
}

/// Where a message's descriptors stand.
///
/// # Safety
/// As for [`passed`].
unsafe fn places(message: *const libc::msghdr) -> impl Iterator<Item = *mut Fd> {
    // SAFETY: the caller's, for all of these: the headers are walked as the kernel walks them.
    let mut header =
        unsafe { if (*message).msg_control.is_null() { core::ptr::null_mut() } else { libc::CMSG_FIRSTHDR(message) } };
    let mut index = 0;
    core::iter::from_fn(move || {
        loop {
            // SAFETY: as above.
            let head = unsafe { header.as_ref() }?;
            // SAFETY: numbers.
            let end = unsafe { (*message).msg_control as usize + (*message).msg_controllen };
            // The kernel refuses the message.
            if head.cmsg_len > end.saturating_sub(header as usize) {
                return None;
            }
            let is_rights = head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_RIGHTS;
            // SAFETY: a number.
            let bytes = head.cmsg_len.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
            if is_rights && index < bytes / size_of::<Fd>() {
                index += 1;
                // SAFETY: as above.
                return Some(unsafe { libc::CMSG_DATA(header).cast::<Fd>().add(index - 1) });
            }
            // SAFETY: as above.
            header = unsafe { libc::CMSG_NXTHDR(message, header) };
            index = 0;
        }
    })
}

/// A copy of a message's header, with control data of its own.
#[derive(Debug)]
pub struct Copied {
    header: libc::msghdr,
    // As aligned as headers of control data need it.
    _control: Vec<u64>,
}

impl Copied {
    /// The message with other descriptors: `instead` is asked for each that is passed, in order.
    ///
    /// # Safety
    /// As for [`passed`]; the message's other parts must stay as long as the answer is used.
    pub unsafe fn with(message: *const libc::msghdr, mut instead: impl FnMut(Fd) -> Fd) -> Self {
        // SAFETY: the caller's.
        let mut header = unsafe { message.read() };
        let mut control = vec![0u64; header.msg_controllen.div_ceil(size_of::<u64>())];
        // SAFETY: so many bytes are readable, by the caller's word, and writable.
        unsafe {
            let from = header.msg_control.cast::<u8>();
            core::ptr::copy_nonoverlapping(from, control.as_mut_ptr().cast(), header.msg_controllen);
        }
        header.msg_control = control.as_mut_ptr().cast();
        let copied = Self { header, _control: control };
        // SAFETY: places in the copy, which is as the original was.
        unsafe {
            places(&raw const copied.header).for_each(|place| place.write_unaligned(instead(place.read_unaligned())));
        }
        copied
    }

    /// The header.
    pub fn header(&self) -> *const libc::msghdr {
        &raw const self.header
    }
}

#[cfg(test)]
mod tests {
    use super::{Copied, passed};
    use crate::Fd;

    #[test]
    fn a_copy_has_other_descriptors() {
        let fds: [Fd; 3] = [3, 4, 3];
        let mut control = [0u64; 8];
        // SAFETY: a header with room for three descriptors in an aligned buffer.
        let message = unsafe {
            let mut message: libc::msghdr = core::mem::zeroed();
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of_val(&fds) as u32) as usize;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of_val(&fds) as u32) as usize;
            libc::CMSG_DATA(header).cast::<[Fd; 3]>().write_unaligned(fds);
            message
        };
        let mut others = [30, 31].into_iter();
        // SAFETY: as above, for all of these.
        let copied =
            unsafe { Copied::with(&raw const message, |fd| if fd == 3 { others.next().unwrap() } else { fd }) };
        // SAFETY: as above.
        let [other, same] = [copied.header(), &raw const message].map(|message| unsafe { passed(message) });
        assert_eq!(other.collect::<Vec<_>>(), [30, 4, 31]);
        assert_eq!(same.collect::<Vec<_>>(), fds);
    }
}
