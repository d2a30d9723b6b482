//! SMC's states of a socket.
//!
//! The kernel's TCP socket carries the life of the connection, so its state decides, together with the marks of the
//! two ends in shared memory (which come a moment before the FIN):
//!
//! | listed as | TCP says | marks | state |
//! |---|---|---|---|
//! | socket | anything | | INIT |
//! | listener | LISTEN | | LISTEN |
//! | listener | anything else | | CLOSED |
//! | connection | SYN_SENT, SYN_RECV | | INIT |
//! | connection | ESTABLISHED | none | ACTIVE |
//! | connection | ESTABLISHED | own end shut | PEERCLOSEWAIT1 |
//! | connection | ESTABLISHED | peer shut | APPCLOSEWAIT1 |
//! | connection | ESTABLISHED | both shut | PEERCLOSEWAIT2 |
//! | connection | FIN_WAIT1 | | PEERCLOSEWAIT1 |
//! | connection | FIN_WAIT2 | | PEERCLOSEWAIT2 |
//! | connection | CLOSE_WAIT | own end not shut | APPCLOSEWAIT1 |
//! | connection | CLOSE_WAIT | own end shut | APPCLOSEWAIT2 |
//! | connection | LAST_ACK | | APPCLOSEWAIT2 |
//! | connection | CLOSING | | APPFINCLOSEWAIT |
//! | connection | CLOSED, TIME_WAIT, unknown | unread bytes in the ring | APPFINCLOSEWAIT |
//! | connection | CLOSED, TIME_WAIT, unknown | none unread | CLOSED |
//!
//! PEERFINCLOSEWAIT, PEERABORTWAIT and PROCESSABORT are states of sockets that no program holds any more; those have
//! no listing.

use std::fmt;

use preloop_uapi::listing::kind;
use procfs::net::TcpState;

use super::cursors::Ends;

/// The states that are ever shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the module's table describes them")]
pub enum State {
    Init,
    Listen,
    Active,
    PeerCloseWait1,
    PeerCloseWait2,
    AppCloseWait1,
    AppCloseWait2,
    AppFinCloseWait,
    Closed,
}

impl State {
    /// The state by the module's table.
    pub fn new(listed: u32, tcp: Option<&TcpState>, ends: Option<&Ends>) -> Self {
        match (listed, tcp) {
            (kind::LISTEN, Some(TcpState::Listen)) => Self::Listen,
            (kind::LISTEN, _) => Self::Closed,
            (kind::CONNECTION, tcp) => Self::of_connection(tcp.unwrap_or(&TcpState::Close), ends),
            _ => Self::Init,
        }
    }

    fn of_connection(tcp: &TcpState, ends: Option<&Ends>) -> Self {
        let own_shut = ends.is_some_and(|ends| ends.own.shut);
        let peer_shut = ends.is_some_and(|ends| ends.peer.shut);
        match tcp {
            TcpState::SynSent | TcpState::SynRecv | TcpState::NewSynRecv => Self::Init,
            TcpState::Established => match (own_shut, peer_shut) {
                (false, false) => Self::Active,
                (true, false) => Self::PeerCloseWait1,
                (false, true) => Self::AppCloseWait1,
                (true, true) => Self::PeerCloseWait2,
            },
            TcpState::FinWait1 => Self::PeerCloseWait1,
            TcpState::FinWait2 => Self::PeerCloseWait2,
            TcpState::CloseWait if !own_shut => Self::AppCloseWait1,
            TcpState::CloseWait | TcpState::LastAck => Self::AppCloseWait2,
            TcpState::Closing => Self::AppFinCloseWait,
            TcpState::Close | TcpState::TimeWait | TcpState::Listen => {
                if ends.is_some_and(Ends::unread) {
                    Self::AppFinCloseWait
                } else {
                    Self::Closed
                }
            }
        }
    }

    /// Whether a socket in this state is listed without `-a`: neither listening nor still to be connected.
    pub fn is_connection(self) -> bool {
        !matches!(self, Self::Init | Self::Listen)
    }
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Init => "INIT",
            Self::Listen => "LISTEN",
            Self::Active => "ACTIVE",
            Self::PeerCloseWait1 => "PEERCLOSEWAIT1",
            Self::PeerCloseWait2 => "PEERCLOSEWAIT2",
            Self::AppCloseWait1 => "APPCLOSEWAIT1",
            Self::AppCloseWait2 => "APPCLOSEWAIT2",
            Self::AppFinCloseWait => "APPFINCLOSEWAIT",
            Self::Closed => "CLOSED",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::cursors::End;
    use super::*;

    #[test]
    fn marks_run_ahead_of_the_fin() {
        let ends = |own: bool, peer: bool| {
            let end = |shut| End { shut, ..End::default() };
            Ends { own: end(own), peer: end(peer) }
        };
        let state = |tcp, ends: Option<Ends>| State::new(kind::CONNECTION, Some(&tcp), ends.as_ref());
        assert_eq!(state(TcpState::Established, None), State::Active);
        assert_eq!(state(TcpState::Established, Some(ends(true, false))), State::PeerCloseWait1);
        assert_eq!(state(TcpState::Established, Some(ends(false, true))), State::AppCloseWait1);
        assert_eq!(state(TcpState::Established, Some(ends(true, true))), State::PeerCloseWait2);
        assert_eq!(state(TcpState::CloseWait, Some(ends(false, true))), State::AppCloseWait1);
        assert_eq!(state(TcpState::CloseWait, Some(ends(true, true))), State::AppCloseWait2);
    }

    #[test]
    fn gone_from_tcp_but_not_read_to_the_end() {
        let peer = End { sent: 10, switched: true, ..End::default() };
        let unread = Ends { own: End { received: 4, ..End::default() }, peer };
        let read = Ends { own: End { received: 10, ..End::default() }, peer };
        assert_eq!(State::new(kind::CONNECTION, None, Some(&unread)), State::AppFinCloseWait);
        assert_eq!(State::new(kind::CONNECTION, None, Some(&read)), State::Closed);
    }

    #[test]
    fn only_a_listening_listener_is_listed_as_one() {
        assert_eq!(State::new(kind::LISTEN, Some(&TcpState::Listen), None), State::Listen);
        assert_eq!(State::new(kind::LISTEN, None, None), State::Closed);
        assert_eq!(State::new(kind::INIT, None, None), State::Init);
    }
}
