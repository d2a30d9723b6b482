//! KCM sockets: messages instead of bytes, over TCP sockets that are attached to a multiplexor (mux).
//!
//! What KCM does is decided in the core, `preloop_kcm`, on a state that lies in shared memory. Here are the descriptors:
//! of the KCM sockets, of the TCP sockets, and who waits for them. `docs/design/kcm.md` has the reasons.
//!
//! # Descriptors
//!
//! A KCM socket is one end of a pair of Unix sockets (SOCK_SEQPACKET); the *far* end is the library's. Nothing but *tokens*,
//! packets without content, goes through the pair, so that poll, select, epoll and sleeping are the kernel's:
//!
//! - from the far end to the program's: there are messages. A call that finds none sleeps in recv(2) for a token.
//! - from the program's end to the far one: messages were flushed. A call that finds SO_SNDBUF full sleeps at the far end.
//!
//! Beside the program's descriptors each process has one of its own of either end. When the program's end is closed in all
//! processes, however that came about, the far end hangs up: so the kernel counts who holds a KCM socket.
//!
//! # Who reads TCP
//!
//! Each mux has an epoll set with its TCP sockets, edge-triggered. A call that finds no message looks into the set itself;
//! otherwise the process's *pump*, a thread, does ([`pump`]). A set's events say what to try, not what is; so it does not
//! matter who gets them, as long as he tries under the mux's lock.
//!
//! # Where things are
//!
//! | module | what |
//! |---|---|
//! | [`mux`] | a mux as this process has it |
//! | [`entered`] | being inside: with the lock, and what is done before it is let go |
//! | [`serve`], [`source`] | what there is to do in a mux; what lies in its epoll set |
//! | [`loan`] | receiving without the lock |
//! | [`local`], [`outside`] | this process's descriptors of a mux; the core's view of TCP through them |
//! | [`stream`], [`ears`] | what a psock reads and writes, TCP or shared memory; how a mux hears of the latter |
//! | [`csock`] | KCM sockets: made, cloned, closed |
//! | [`psock`] | TCP sockets: attached, unattached |
//! | [`lower`] | what calls on the TCP sockets themselves see of KCM: its errors |
//! | [`receive`], [`send`], [`senders`], [`transfer`] | data |
//! | [`parser`] | the program that a psock is attached with |
//! | [`options`] | socket options, ioctl(2) |
//! | [`proc`] | `/proc/net/kcm` |
//! | [`pump`], [`alarm`] | the thread; how one of several processes wakes |
//! | [`registry`] | every mux of this process |
//! | [`fork`] | what a forked child has to make anew |
//! | [`share`], [`members`], [`vault`] | muxes in several processes: fork, exec, SCM_RIGHTS |

mod alarm;
pub mod csock;
mod ears;
pub mod entered;
mod fields;
pub mod fork;
mod loan;
mod local;
pub mod lower;
mod members;
pub mod mux;
pub mod options;
mod outside;
mod parser;
pub mod proc;
pub mod psock;
mod pump;
mod readers;
pub mod receive;
pub mod registry;
pub mod send;
mod senders;
mod serve;
pub mod share;
mod source;
mod stream;
pub mod transfer;
mod vault;
