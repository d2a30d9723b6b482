//! The core of SMC-D loopback. It decides; others act: no system call, clock, thread, environment or descriptor is
//! reached from here, and no memory except through the atomics of [`preloop_uapi`].
//!
//! - [`ring`]: the cursors of one direction (SMC's CDC cursors, without the messages that carry them).
//! - [`bell`]: who sleeps, who must be rung, and which connections have news.
//! - [`back`]: how a direction becomes TCP's again.
//! - [`clc`]: the messages that move a connection from TCP to shared memory.
//!
//! Two kinds of state meet. What the *peer* can write ([`preloop_uapi::ring`], [`preloop_uapi::group`]) is read once,
//! checked, and believed for that one step only. What is *private* ([`ring::Sender`], [`ring::Receiver`]) lives in
//! memory that forked siblings share and no peer has; all-zero bytes are its initial state.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), no_std)]

pub mod back;
pub mod bell;
pub mod clc;
pub mod ring;
