//! One psock's stream, cut into messages: the kernel's `__strp_recv` (net/strparser/strparser.c), for bytes that lie in
//! one piece and still stand in TCP.
//!
//! # A parser's results
//!
//! | result | effect |
//! |---|---|
//! | 0 | called again when there are more bytes |
//! | above the limit (SO_RCVBUF at that time) | EMSGSIZE |
//! | a length not beyond what earlier calls for this message had been shown | EPROTO |
//! | any other length | that is the message; not called again for it |
//! | -e | error e; ESTRPIPE after an earlier call for this message is ENODATA |
//!
//! A parser that has been shown as many bytes as the limit and asks for more can only answer too large a length:
//! EMSGSIZE. (The kernel waits for ever, its buffer being full.) An error is final.
//!
//! # Taken, and left in TCP
//!
//! What is shown to a parser for the first time is *taken* out of TCP: all that was there when it asked for more, or when
//! it told the length of a message that is not whole. The rest of such a message stays in TCP until all of it is there, as
//! in the kernel. Taken bytes are lost when the message is, by unattach, an error or the time-out.
//!
//! The rest is taken as it comes if TCP had as many bytes as the message, those of messages before it included: so does the
//! kernel, which counts before it has taken them. And so is a rest of more than [`LEFT`] bytes, or of more than a quarter of
//! the limit: TCP may never have room for all of it at a time; and one of a message of which not all was shown that TCP had:
//! what is left of a segment occupies as much of TCP's buffer as all of it did, and the rest may find no room behind it.
//!
//! # Time-out
//!
//! Counted from when TCP first had no more of an unfinished message, with SO_RCVTIMEO as it is then. More bytes do not
//! extend it.

use crate::errno::{EMSGSIZE, ENODATA, EPROTO, ESTRPIPE, Errno};
use zerocopy::TryFromBytes;

use crate::id::PsockId;
use crate::outside::{Parse, Tcp};
use crate::stats::PsockStats;

/// The longest rest of a message that stays in TCP until all of it is there, if a quarter of the limit is not less.
pub const LEFT: u32 = 64 << 10;

/// No TCP socket has a lower SO_RCVBUF (`SOCK_MIN_RCVBUF`).
const LEAST_LIMIT: u32 = 2048;

/// The parser's state for the message that begins at the start of a psock's buffer. All zeros: nothing seen of it.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, TryFromBytes)]
pub struct Strparser {
    /// When assembly is to be given up, in nanoseconds of the caller's clock; 0 for never.
    pub deadline: u64,
    /// The message's length; 0 while it is not known.
    full_len: u32,
    /// Bytes of it that are taken out of TCP.
    taken: u32,
    /// Bytes taken since [`Strparser::count`].
    uncounted: u64,
    /// Its rest stays in TCP when it is no longer than this.
    left: u32,
    /// SO_RCVTIMEO was looked at for it.
    timed: bool,
    /// After an error: nothing is cut any more.
    stopped: bool,
}

/// What [`Strparser::see`] saw of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// It has so many bytes, all of them are there, and nothing was known of it before.
    Whole(usize),
    /// Its length was known before: the parser was not asked.
    Known,
    /// This is what the parser says.
    Said(i32),
}

/// What [`Strparser::cut`] made of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// The message is not whole.
    More,
    /// It has so many bytes, and they are there.
    Message(usize),
    /// An error, after which the stream is to be stopped.
    Error(Errno),
}

/// What a look at the stream takes from outside. The TCP socket's options are read when they matter, and the limit once
/// for all messages of one look.
#[derive(Debug)]
pub struct Look<'a, T: Tcp> {
    /// The TCP sockets.
    pub tcp: &'a mut T,
    /// The parser.
    pub parser: T::Parser,
    /// Which one.
    pub psock: PsockId,
    /// Bytes that TCP has: those of messages cut from what was shown last are among them.
    pub untaken: usize,
    /// The bytes shown are all that TCP has.
    pub all: bool,
    /// The longest message that there is room for.
    pub room: u32,
    /// The longest message, once it is known.
    pub limit: Option<u32>,
}

impl<T: Tcp> Look<'_, T> {
    /// What the parser says of a message of which nothing was known before.
    #[inline(always)]
    pub fn parse(&mut self, bytes: &[u8]) -> Seen {
        let result = self.parser.parse(bytes);
        let length = u32::try_from(result).unwrap_or(0);
        let whole = length > 0 && length as usize <= bytes.len();
        if whole && !self.exceeds(length) {
            return Seen::Whole(length as usize);
        }
        Seen::Said(result)
    }

    /// Whether a message of so many bytes is too long.
    fn exceeds(&mut self, length: u32) -> bool {
        length > LEAST_LIMIT && length > self.limit()
    }

    #[cold]
    fn limit(&mut self) -> u32 {
        *self.limit.get_or_insert_with(|| self.room.min(self.tcp.receive_limit(self.psock)))
    }

    /// Bytes of a message that may be left where they are.
    fn most_left(&mut self) -> u32 {
        LEFT.min(self.limit() / 4).min(self.tcp.room(self.psock))
    }
}

impl Strparser {
    /// A stream of which nothing was seen.
    pub const NEW: Self =
        Self { deadline: 0, full_len: 0, taken: 0, uncounted: 0, left: 0, timed: false, stopped: false };

    /// Whether an error ended parsing.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Bytes of the unfinished message that are lost if it is.
    pub fn taken(&self) -> usize {
        self.taken as usize
    }

    /// Bytes of the unfinished message that are missing beyond those taken, if its length is known: `strp.need_bytes`.
    pub fn need(&self) -> Option<u32> {
        (self.full_len > 0).then(|| self.full_len.saturating_sub(self.taken))
    }

    /// Whether what is missing stays in TCP until all of it is there.
    pub fn leaves_rest(&self) -> bool {
        self.need().is_some_and(|need| need <= self.left)
    }

    /// Sees what is to be known of the message at the start of `bytes`: those taken of it, and what TCP has behind them. Nearly all are whole
    /// when they are first seen.
    pub fn see<T: Tcp>(&self, bytes: &[u8], look: &mut Look<'_, T>) -> Seen {
        if self.full_len > 0 {
            return Seen::Known;
        }
        match look.parse(bytes) {
            Seen::Whole(length) if self.taken > 0 => Seen::Said(length as i32),
            seen => seen,
        }
    }

    /// Whether nothing is known of the next message, as after one that was whole.
    pub fn is_between(&self) -> bool {
        self.full_len == 0 && self.taken == 0
    }

    /// Cuts the message at the start of `bytes`, of which that was seen.
    pub fn cut<T: Tcp>(&mut self, seen: Seen, bytes: &[u8], look: &mut Look<'_, T>, stats: &mut PsockStats) -> Cut {
        match seen {
            Seen::Whole(len) => {
                self.cut_whole(1, len, stats);
                Cut::Message(len)
            }
            Seen::Known => self.go_on(bytes, stats),
            Seen::Said(result) => self.begin(result, bytes, look, stats),
        }
    }

    /// So many messages, of so many bytes, were whole when they were seen, and are cut.
    pub fn cut_whole(&mut self, messages: u64, bytes: usize, stats: &mut PsockStats) {
        self.uncounted += bytes as u64;
        stats.rx_msgs += messages;
    }

    /// The parser has said something of a message that is not whole, or is none.
    #[cold]
    fn begin<T: Tcp>(&mut self, result: i32, bytes: &[u8], look: &mut Look<'_, T>, stats: &mut PsockStats) -> Cut {
        match self.judge(result, bytes.len(), look, stats) {
            Ok(0) => {
                stats.rx_need_more += 1;
                self.take(bytes.len());
                return Cut::More;
            }
            Ok(length) => {
                let leaves = look.all && (length - self.taken) as usize > look.untaken;
                (self.full_len, self.left) = (length, if leaves { look.most_left() } else { 0 });
            }
            Err(error) => return Cut::Error(error),
        }
        if bytes.len() < self.full_len as usize {
            self.uncounted += bytes.len().saturating_sub(self.taken()) as u64;
            self.take(bytes.len());
            return Cut::More;
        }
        self.go_on(bytes, stats)
    }

    /// The length is known.
    #[cold]
    fn go_on(&mut self, bytes: &[u8], stats: &mut PsockStats) -> Cut {
        if bytes.len() < self.full_len as usize {
            if !self.leaves_rest() {
                self.take(bytes.len());
            }
            return Cut::More;
        }
        let length = self.full_len;
        stats.rx_msgs += 1;
        *self = Self { uncounted: self.uncounted + u64::from(length.saturating_sub(self.taken)), ..Self::NEW };
        Cut::Message(length as usize)
    }

    /// Counts the bytes taken, which the kernel does when it is through with what it had at hand.
    pub fn count(&mut self, stats: &mut PsockStats) {
        stats.rx_bytes += self.uncounted;
        self.uncounted = 0;
    }

    /// Whether the message has taken too long.
    pub fn late(&self, now: u64) -> bool {
        self.deadline != 0 && self.deadline <= now
    }

    /// Ends parsing for good, and tells how many bytes at the start of the stream were taken, and are lost.
    pub fn stop(&mut self) -> usize {
        let lost = self.taken();
        *self = Self { uncounted: self.uncounted, stopped: true, ..Self::NEW };
        lost
    }

    /// A parser's result: the length, 0 for an unknown one, or the error.
    fn judge<T: Tcp>(
        &self,
        result: i32,
        shown: usize,
        look: &mut Look<'_, T>,
        stats: &mut PsockStats,
    ) -> Result<u32, Errno> {
        let Ok(length) = u32::try_from(result) else {
            let in_middle = result == -ESTRPIPE && self.taken > 0;
            let (count, error) = if in_middle {
                (&mut stats.rx_unrecov_intr, ENODATA)
            } else {
                (&mut stats.rx_intr, result.wrapping_neg())
            };
            *count += 1;
            return Err(error);
        };
        let least = if length == 0 { shown.saturating_add(1) as u32 } else { length };
        if look.exceeds(least) {
            stats.rx_too_big += 1;
            return Err(EMSGSIZE);
        }
        if length > 0 && length <= self.taken {
            stats.rx_bad_len += 1;
            return Err(EPROTO);
        }
        Ok(length)
    }

    /// TCP has no more at this time, in nanoseconds: the time-out of the message at hand begins, if there is one and its has
    /// not.
    pub fn keep_time<T: Tcp>(&mut self, psock: PsockId, now: u64, tcp: &mut T) {
        if self.taken > 0 && !core::mem::replace(&mut self.timed, true) {
            let time = tcp.receive_time(psock);
            self.deadline = if time > 0 { now.saturating_add(time).max(1) } else { 0 };
        }
    }

    /// All that was shown of the message is taken.
    fn take(&mut self, shown: usize) {
        self.uncounted += shown.saturating_sub(self.taken()) as u64;
        self.taken = shown as u32;
    }

    /// Whether this can be, with messages of at most `longest` bytes; if so it counts nothing twice.
    pub(crate) fn repair(&mut self, longest: u32) -> bool {
        self.uncounted = 0;
        let known = self.full_len == 0 || self.taken < self.full_len && 0 < self.taken && self.full_len <= longest;
        known
            && self.taken <= longest
            && (self.deadline == 0 && !self.timed || self.taken > 0)
            && !(self.stopped && self.taken > 0)
    }
}

#[cfg(test)]
impl Strparser {
    /// Wrong numbers.
    pub(crate) fn scramble(&mut self, mut random: impl FnMut() -> u64) {
        (self.deadline, self.uncounted) = (random(), random());
        (self.timed, self.stopped) = (random() & 1 == 0, random() & 1 == 0);
        (self.full_len, self.taken, self.left) = (random() as u32, random() as u32, random() as u32);
    }
}
