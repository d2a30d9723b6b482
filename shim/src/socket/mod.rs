//! POSIX semantics of sockets: what a call means, when it waits, what it answers.

pub mod back;
pub mod bell;
pub mod birth;
pub mod calls;
pub mod clc;
pub mod close;
pub mod entries;
pub mod epoll;
pub mod file;
pub mod group;
pub mod handover;
pub mod kcm;
pub mod link;
pub mod options;
pub mod passing;
pub mod poll;
pub mod rx;
pub mod select;
pub mod sock;
pub mod spare;
pub mod stuck;
pub mod transfer;
pub mod tx;
pub mod uncounted;
pub mod users;
pub mod wait;
