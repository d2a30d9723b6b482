//! What was sent, and what must come out: each message once, whole, but for fragments where a TCP socket failed or its
//! sender was closed.

use std::collections::BTreeMap;

use super::inbound::content;

/// One life of a csock.
#[derive(Default)]
pub struct Sender {
    /// Lengths of its finished messages.
    pub made: Vec<usize>,
    /// The length that the open one is to have, and how much of it was taken; 0 for none.
    pub planned: usize,
    pub open: usize,
    pub closed: bool,
}

#[derive(Default)]
pub struct Outbound {
    pub senders: Vec<Sender>,
    /// What each attachment's other end has got, and whether it ended in a way that may tear a message.
    wires: Vec<(Vec<u8>, bool)>,
}

impl Outbound {
    pub fn attached(&mut self) {
        self.wires.push((Vec::new(), false));
    }

    pub fn written(&mut self, wire: usize, bytes: &[u8]) {
        self.wires[wire].0.extend(bytes);
    }

    /// Its last message may stay a fragment.
    pub fn broke(&mut self, wire: usize) {
        self.wires[wire].1 = true;
    }

    /// The next `part` bytes of the message that this sender makes, which has `len` if it is new; and whether they are
    /// its last ones.
    pub fn next_part(&mut self, sender: usize, len: usize, part: usize) -> (Vec<u8>, bool) {
        let this = &mut self.senders[sender];
        if this.open == 0 {
            this.planned = len;
        }
        let whole = content(sender, this.made.len(), this.planned);
        let to = whole.len().min(this.open + part);
        (whole[this.open..to].to_vec(), to == whole.len())
    }

    /// They were taken.
    pub fn taken(&mut self, sender: usize, len: usize, last: bool) {
        let this = &mut self.senders[sender];
        this.open += len;
        if last {
            this.made.push(std::mem::take(&mut this.open));
        }
    }

    /// Messages of each sender that came out whole, in the order of each wire.
    fn whole(&self) -> BTreeMap<usize, Vec<usize>> {
        let mut all: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (bytes, broke) in &self.wires {
            let (mut rest, mut last) = (&bytes[..], BTreeMap::new());
            while rest.len() >= 12 {
                let number = |at: usize| u32::from_be_bytes(rest[at..at + 4].try_into().expect("four bytes")) as usize;
                let (len, sender, seq) = (number(0) + 4, number(4), number(8));
                if rest.len() < len {
                    break;
                }
                assert_eq!(rest[..len], content(sender, seq, len), "a message is torn");
                assert!(last.insert(sender, seq) < Some(seq), "out of order");
                all.entry(sender).or_default().push(seq);
                rest = &rest[len..];
            }
            assert!(rest.is_empty() || *broke || !self.settled(), "a fragment on a sound connection");
        }
        all
    }

    /// Whether no message is on its way: what is asked in the end only.
    fn settled(&self) -> bool {
        self.senders.iter().all(|sender| sender.closed)
    }

    /// Bytes of a sender that are queued: finished messages that did not come out whole, and the open one.
    pub fn queued(&self, sender: usize) -> usize {
        let out = self.whole().remove(&sender).map_or(0, |messages| messages.len());
        let this = &self.senders[sender];
        this.made[out..].iter().sum::<usize>() + this.open
    }

    /// Messages that came out whole.
    pub fn count(&self) -> u64 {
        self.whole().values().map(|messages| messages.len() as u64).sum()
    }

    /// Everything could leave: of open csocks all came out, of closed ones the first so many.
    pub fn finish(&mut self) {
        for (sender, mut messages) in self.whole() {
            messages.sort_unstable();
            assert_eq!(messages, (0..messages.len()).collect::<Vec<_>>(), "lost or doubled, of sender {sender}");
        }
        for sender in 0..self.senders.len() {
            if !self.senders[sender].closed {
                assert_eq!(self.queued(sender), 0, "sender {sender} has not sent all");
            }
        }
        self.senders.iter_mut().for_each(|sender| sender.closed = true);
        self.whole();
    }
}
