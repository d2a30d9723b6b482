//! The core of KCM: one multiplexor (mux) that cuts TCP streams into messages, deals them out to KCM sockets, and sends
//! the messages of those sockets over its TCP connections. It decides; others act: no system call, clock, thread,
//! environment or descriptor is reached from here, and no memory except what the caller lends.
//!
//! # Words
//!
//! - A **csock** is a KCM socket of the mux, a **psock** a TCP socket that is attached to it. Both are indexes.
//! - A **parser** says how long the message is that begins at the first of the bytes it is shown.
//! - A **batch** is what one [`MuxState::pull`] cuts from one psock. It goes to one csock as long as that has room.
//! - **Tokens** are what the caller keeps in a csock's descriptor so that it polls as readable exactly when the csock
//!   has messages. The core says when: [`Work::gained`], [`Work::emptied`].
//!
//! # Where things are
//!
//! | module | what | in the kernel |
//! |---|---|---|
//! | [`strparser`] | one psock's stream: the parser's results, errors, the assembly time-out | `net/strparser/strparser.c` |
//! | [`mux`] | the state; what is left to do outside | `struct kcm_mux` |
//! | [`members`] | csocks and psocks that come and go | `kcm_attach`, `kcm_unattach`, `kcm_clone`, `kcm_release` |
//! | [`steer`] | which csock gets a message; held messages; disabling | `kcm_rcv_ready`, `requeue_rx_msgs`, `reserve_rx_kcm` |
//! | [`pull`] | reading a psock and dealing its messages out, into a waiting caller's buffers if it is its turn | `kcm_rcv_strparser`, `strp_read_sock` |
//! | [`loan`] | the same without the mux's lock, for a call whose turn it is | |
//! | [`incoming`] | the part of both that is about one psock and one csock alone | |
//! | [`receive`] | one csock's queue: both types, partial reads, peek, flags | `kcm_recvmsg` |
//! | [`send`] | messages being made, and queued | `kcm_sendmsg` |
//! | [`straight`] | messages that need not be stored | |
//! | [`transmit`] | psocks that are free, reserved, stalled, stopped | `kcm_write_msgs`, `reserve_psock`, `kcm_abort_tx_psock` |
//! | [`posted`] | errors that the TCP socket itself shows | `report_csk_error` |
//! | [`repair`] | what a process leaves that is killed in the middle | |
//! | `transit` | bytes that were on their way out of TCP or into it then | |
//! | [`stats`], [`proc`] | counts, and the texts of `/proc/net/kcm` and `/proc/net/kcm_stats` | `net/kcm/kcmproc.c` |
//! | [`buffer`], [`queue`], [`list`], [`outside`] | the parts that these are made of, and what the caller supplies | |
//!
//! # Calls, as stories
//!
//! **recv.** [`MuxState::receive`]: if there is a message that was all, and no other socket and no kernel was asked. EAGAIN:
//! [`MuxState::pull`] of the psocks that have something to read, with the call's own buffers. Still nothing, and it may
//! wait: [`MuxState::reader_sleeps`], sleep on a token without the lock, [`MuxState::reader_woke`], and from the start.
//!
//! Of several calls at a time each reads for itself: [`MuxState::lend`], [`loan::Loan::read`] without the lock,
//! [`MuxState::give_back`].
//!
//! **send.** [`MuxState::send`] takes the bytes, and writes what is finished to a psock ([`MuxState::send_from`] without
//! storing it, where it can). EAGAIN, and it may wait: sleep
//! until [`Work::flushed`] has the csock, and from the start.
//!
//! **Behind them** somebody waits for the TCP sockets: [`MuxState::pull`] where there is something to read,
//! [`MuxState::writable`] where a stalled one has room or has failed, [`MuxState::tcp_changed`] at a FIN, a reset, the end
//! of a connect, [`MuxState::expire`] at [`MuxState::next_deadline`].
//!
//! **A lock whose owner died:** [`MuxState::repair`], [`MuxState::write_stalled`], and then as ever.
//!
//! **After each**, before the lock is let go, [`MuxState::take_work`] says what is left to do.
//!
//! # Memory
//!
//! [`MuxState`] is plain numbers in fixed arrays, without pointers, and all zeros to begin with: it can lie in memory that
//! forked processes share, under one lock. Bytes lie in regions, one or two for each socket, which the caller maps
//! and lends as slices ([`outside::Regions`]). Nothing here allocates, and no index is taken from a region: whatever
//! stands in one, the worst that comes of it is wrong bytes.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), no_std)]

#[cfg(test)]
extern crate self as preloop_kcm;
#[cfg(test)]
#[path = "../tests/kcm/world.rs"]
#[allow(dead_code, reason = "the tests in tests/kcm use the rest of it")]
mod world;

pub mod buffer;
pub mod direct;
pub mod errno;
pub mod id;
pub mod incoming;
pub mod list;
pub mod loan;
pub mod members;
pub mod mux;
pub mod outside;
pub mod posted;
pub mod proc;
pub mod pull;
pub mod queue;
pub mod receive;
pub mod repair;
pub mod send;
pub mod stats;
pub mod steer;
pub mod straight;
pub mod strparser;
mod transit;
pub mod transmit;

pub use id::{CsockId, PsockId, Set};
pub use mux::{Kind, MuxState, Work};
