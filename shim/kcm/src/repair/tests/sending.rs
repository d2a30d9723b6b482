//! What csocks send, and where it is to go.

use super::{Run, Stream, content, parse};
use crate::errno::EPIPE;
use crate::receive::MSG_EOR;
use crate::send::MSG_MORE;
use crate::{CsockId, Kind, PsockId};

impl Run {
    /// A message in one call, or in two for MSG_MORE, for any psock or for that one.
    pub(super) fn send(&mut self, csock: u8, to: Option<u8>, flags: i32) {
        let Stream { id, made, .. } = self.senders[&csock];
        let dgram = self.world.mux.csocks[usize::from(csock)].kind == Kind::Dgram;
        let bytes = content(id, made);
        let (head, tail) = bytes.split_at(if flags == MSG_MORE { 5 } else { 0 });
        // It is another one's number if this call is killed.
        self.senders.get_mut(&csock).expect("it is open").made += 1;
        let aim = to.and_then(|psock| self.streams.get(&psock)).map_or(0, |stream| stream.id);
        let failed = to.is_some_and(|psock| self.world.mux.error(PsockId(psock)) != 0) || self.ended(aim);
        if aim != 0 {
            self.aims.insert((id, made), aim);
        }
        let parts = [(head, if dgram { MSG_MORE } else { 0 }), (tail, flags & !MSG_MORE | MSG_EOR)];
        for (part, flags) in parts.into_iter().filter(|(part, _)| !part.is_empty()) {
            match self.world.send_to(CsockId(csock), aim.into(), part, flags) {
                Err(EPIPE) if aim != 0 && failed => {
                    self.aims.insert((id, made), 0);
                    return;
                }
                sent => assert_eq!(sent, Ok(part.len())),
            }
        }
    }

    pub(super) fn peer_reads(&mut self, psock: u8, room: usize) {
        self.collect();
        let id = PsockId(psock);
        self.world.tcp.of(id).room = room;
        if self.world.mux.stalled(id) {
            let (mux, mut outside) = self.world.outside();
            mux.writable(id, &mut outside);
        }
        self.world.settle();
    }

    /// Takes what the other ends have got.
    pub(super) fn collect(&mut self) {
        for (psock, stream) in &self.streams {
            let wire = self.world.tcp.0.get_mut(psock).expect("it is attached");
            let got = self.wires.entry(*psock).or_default();
            got.append(&mut wire.written);
            let (messages, rest) = parse(got);
            let astray = |message| self.aims.get(message).is_some_and(|aim| *aim != stream.id);
            assert!(!messages.iter().any(astray), "a message went elsewhere");
            self.out.extend(messages);
            *got = rest.to_vec();
        }
    }

    /// How many messages of csocks that are open did not leave, though they could.
    pub(super) fn stuck(&self) -> u32 {
        let made = |sender: &Stream| (0..sender.made).map(|seq| (sender.id, seq)).collect::<Vec<_>>();
        let lost = |message: &(u32, u32)| self.aims.get(message).is_some_and(|aim| self.ended(*aim));
        let all = self.senders.values().flat_map(made);
        all.filter(|message| !self.out.contains(message) && !lost(message)).count() as u32
    }

    /// Whether a stream is not sent on any more.
    fn ended(&self, stream: u32) -> bool {
        let stopped = |psock: u8| self.world.mux.psocks[usize::from(psock)].tx_stopped;
        !self.streams.iter().any(|(psock, other)| other.id == stream && !stopped(*psock))
    }
}
