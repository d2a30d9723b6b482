//! What came in, and what must become of it: streams are lists of messages, and each message is received once, whole.

use std::collections::BTreeMap;

use preloop_kcm::CsockId;
use preloop_kcm::receive::MSG_EOR;

/// What is no message.
pub const SPOILT: [u8; 4] = [0x80, 0, 0, 0];

/// One attachment of a TCP socket.
#[derive(Default)]
pub struct Stream {
    /// Lengths of the messages that its other end made.
    pub made: Vec<usize>,
    /// Bytes of them that have come.
    pub arrived: usize,
    /// The other end sent something that is no message; it is behind these.
    pub spoilt: bool,
    /// Messages that are to be received in the end; not known while it is attached.
    pub due: Option<usize>,
    /// Which were.
    pub received: Vec<bool>,
    /// Messages with lower numbers may have changed csocks: nothing is said about their order.
    moved_below: usize,
}

impl Stream {
    pub fn bytes(&self, number: usize) -> Vec<u8> {
        self.made.iter().enumerate().flat_map(|(seq, len)| content(number, seq, *len)).collect()
    }

    /// Messages that are whole in the first `bytes` bytes, and what is left behind them.
    fn whole_in(&self, bytes: usize) -> (usize, usize) {
        let (mut count, mut left) = (0, bytes);
        while count < self.made.len() && self.made[count] <= left {
            left -= self.made[count];
            count += 1;
        }
        (count, left)
    }
}

/// A message of `len` bytes, at least 12, which says what it is.
pub fn content(stream: usize, seq: usize, len: usize) -> Vec<u8> {
    let mut bytes = (len as u32 - 4).to_be_bytes().to_vec();
    bytes.extend((stream as u32).to_be_bytes());
    bytes.extend((seq as u32).to_be_bytes());
    bytes.extend((bytes.len()..len).map(|at| (stream * 31 + seq * 7 + at) as u8));
    bytes
}

#[derive(Default)]
pub struct Inbound {
    pub streams: Vec<Stream>,
    /// The rests of messages that were read in part, and whose they are.
    rests: Vec<(Vec<u8>, (usize, usize))>,
    /// The last message that a csock got of a stream.
    last: BTreeMap<(CsockId, usize), usize>,
}

impl Inbound {
    /// `csock` has read `got` of `whole`, all that there was of its first message.
    pub fn received(&mut self, csock: CsockId, whole: &[u8], got: &[u8], flags: i32) {
        let begun = self.rests.iter().position(|(rest, _)| rest == whole);
        let (stream, seq) = match begun {
            Some(at) => self.rests.swap_remove(at).1,
            None => self.identify(csock, whole),
        };
        if flags & MSG_EOR == 0 {
            self.rests.push((whole[got.len()..].to_vec(), (stream, seq)));
            return;
        }
        let received = &mut self.streams[stream].received;
        received.resize(received.len().max(seq + 1), false);
        assert!(!std::mem::replace(&mut received[seq], true), "message {seq} of stream {stream} came twice");
    }

    /// Which message this is, all of it; and that it comes in order.
    fn identify(&mut self, csock: CsockId, whole: &[u8]) -> (usize, usize) {
        let number = |at: usize| u32::from_be_bytes(whole[at..at + 4].try_into().expect("four bytes")) as usize;
        let (stream, seq) = (number(4), number(8));
        assert_eq!(whole, content(stream, seq, self.streams[stream].made[seq]), "a message is torn");
        if seq >= self.streams[stream].moved_below
            && let Some(last) = self.last.insert((csock, stream), seq)
        {
            assert!(last < seq, "{csock:?} got {seq} of stream {stream} after {last}");
        }
        (stream, seq)
    }

    /// Messages changed csocks, or a csock's index changed hands.
    pub fn moved(&mut self) {
        self.last.clear();
        for stream in &mut self.streams {
            stream.moved_below = stream.made.len();
        }
    }

    /// Whether a part of a message has come.
    pub fn in_the_middle(&self, number: usize) -> bool {
        let stream = &self.streams[number];
        !stream.spoilt && stream.whole_in(stream.arrived).1 > 0
    }

    /// Nothing is received from this connection any more.
    pub fn ended(&mut self, number: usize) {
        let stream = &mut self.streams[number];
        stream.due = Some(stream.whole_in(stream.arrived).0);
    }

    /// A psock was taken away: `unread` is what it left, and whether a message was lost that was whole.
    pub fn unattached(&mut self, number: usize, unread: &[u8], drop: bool) {
        let stream = &mut self.streams[number];
        let mut arrived = stream.bytes(number);
        arrived.truncate(stream.arrived);
        if stream.spoilt {
            arrived.extend(SPOILT);
        }
        assert!(arrived.ends_with(unread), "unread bytes are the last ones");
        let (whole, left) = stream.whole_in(arrived.len() - unread.len());
        assert!(!drop || left == 0, "a psock that waits with a message has not begun the next");
        stream.due = stream.due.or(Some(whole - usize::from(drop)));
    }

    /// Everything was drained: nothing is lost. The answer is how many messages there were.
    pub fn finish(&self) -> u64 {
        let mut all = 0;
        for (number, stream) in self.streams.iter().enumerate() {
            let due = stream.due.unwrap_or_else(|| stream.whole_in(stream.arrived).0);
            let received: Vec<usize> = (0..stream.received.len()).filter(|seq| stream.received[*seq]).collect();
            assert_eq!(received, (0..due).collect::<Vec<_>>(), "stream {number}");
            all += due as u64;
        }
        assert!(self.rests.is_empty());
        all
    }
}
