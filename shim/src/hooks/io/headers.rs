//! The buffers of recvmmsg(2).

use super::receive::{Beside, received};
use super::{may_have_parts, parts};
use crate::socket::kcm::receive::Slots;
use core::ffi::{c_int, c_uint};
use libc::{iovec, mmsghdr};
use preloop_kcm::direct::{Messages, Sink};
use preloop_kcm::errno::EFAULT;
use preloop_kcm::receive::Received;
use preloop_shm::copy::{Buffers, copy_few};
use preloop_sys::Errno;
use preloop_sys::probe::{Access, Page};

/// The headers of recvmmsg(2), filled one after the other. Nobody looks at one before it is its turn.
pub struct Headers<'a> {
    msgs: &'a mut [mmsghdr],
    flags: c_int,
    filled: usize,
    /// Those of the next header, if there is one and the kernel would take it.
    next: Option<Buffers<'a>>,
    /// What the kernel says of a header that it would not take.
    refused: Option<Errno>,
    error: Option<c_int>,
    /// What was looked at last of the headers' vectors, and of the buffers.
    vectors: Page,
    bytes: Page,
}

impl<'a> Headers<'a> {
    /// None of them is filled. Flags are the call's.
    ///
    /// # Safety
    /// The headers must be valid for a receive as long as the value lives.
    pub unsafe fn new(msgs: &'a mut [mmsghdr], flags: c_int) -> Self {
        let (vectors, bytes) = (Page::none(Access::Read), Page::none(Access::Write));
        let mut this = Self { msgs, flags, filled: 0, next: None, refused: None, error: None, vectors, bytes };
        this.look_at_next();
        this
    }

    /// Why there is none for a message: the kernel would not take the next header.
    pub fn refused(&self) -> Option<Errno> {
        self.refused
    }

    #[inline(always)]
    fn look_at_next(&mut self) {
        let Some(msg) = self.msgs.get(self.filled).map(|msg| &msg.msg_hdr) else { return };
        if !may_have_parts(msg) {
            self.refused = Some(Errno::EMSGSIZE);
        } else if !self.vectors.may(msg.msg_iov.cast(), msg.msg_iovlen * size_of::<iovec>()) {
            self.refused = Some(Errno::EFAULT);
        } else {
            // SAFETY: `new` vouches for the header, and it for its parts.
            self.next = Some(unsafe { Buffers::new(parts(msg.msg_iov, msg.msg_iovlen)) });
        }
    }
}

impl Sink for Headers<'_> {
    #[inline]
    fn room(&self) -> Option<usize> {
        self.next.map(|buffers| buffers.len())
    }

    #[inline]
    fn left(&self) -> usize {
        self.next.map_or(0, |_| self.msgs.len() - self.filled)
    }

    #[inline(always)]
    fn put(&mut self, bytes: &[u8], message: Received) -> Result<(), c_int> {
        let Some(buffers) = self.next.take() else { return Ok(()) };
        if !buffers.scatter_if_allowed(bytes, &mut self.bytes) {
            self.error = Some(EFAULT);
            return Err(EFAULT);
        }
        let msg = &mut self.msgs[self.filled];
        msg.msg_len = message.len as c_uint;
        // SAFETY: `new` vouches for the header.
        if let Err(error) = unsafe { received(&mut msg.msg_hdr, Beside::of(&message), self.flags) } {
            self.error = Some(error.into_raw());
            return Err(error.into_raw());
        }
        self.filled += 1;
        self.look_at_next();
        Ok(())
    }

    #[inline(always)]
    fn fill<'a>(&mut self, messages: &mut impl Messages<'a>) -> Result<(), Received> {
        while self.next.is_some() {
            let unput = self.fill_simple(messages);
            let Some((bytes, message)) = unput.or_else(|| self.room().and_then(|room| messages.next(room))) else {
                break;
            };
            self.put(bytes, message).map_err(|_| message)?;
        }
        Ok(())
    }
}

impl Headers<'_> {
    /// Fills headers as long as each has one buffer, in pages that were used just now. The answer is a message that is still
    /// to be put.
    #[inline(always)]
    fn fill_simple<'a>(&mut self, messages: &mut impl Messages<'a>) -> Option<(&'a [u8], Received)> {
        let (mut filled, mut unput) = (0, None);
        for header in &mut self.msgs[self.filled..] {
            let msg = &mut header.msg_hdr;
            if msg.msg_iovlen != 1 || !self.vectors.may(msg.msg_iov.cast(), size_of::<iovec>()) {
                break;
            }
            // SAFETY: `new` vouches for the header, and it for its parts, which may be read.
            let part = unsafe { msg.msg_iov.read() };
            let Some((bytes, message)) = messages.next(part.iov_len) else { break };
            let to = part.iov_base.cast::<u8>();
            if message.connection != 0 || !self.bytes.may(to, bytes.len()) {
                unput = Some((bytes, message));
                break;
            }
            // SAFETY: the part may be written to, and the message is for one of its length.
            unsafe { copy_few(bytes.as_ptr(), to, bytes.len()) };
            header.msg_len = message.len as c_uint;
            msg.msg_flags = message.flags | self.flags & libc::MSG_CMSG_CLOEXEC;
            (msg.msg_controllen, msg.msg_namelen) = (0, 0);
            filled += 1;
        }
        self.filled += filled;
        self.next = None;
        self.look_at_next();
        unput
    }
}

impl Slots for Headers<'_> {
    fn filled(&self) -> usize {
        self.filled
    }

    fn error(&self) -> Option<c_int> {
        self.error
    }
}
