//! A message that is being made behind others that leave, or is for a psock that goes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::FUSE;
use crate::send::MSG_MORE;
use crate::world::World;
use crate::{Kind, PsockId};

#[test]
fn what_stood_where_a_message_is_being_made_is_none() {
    [0, 1].into_iter().for_each(is_none);
}

fn is_none(connection: u64) {
    for kill in 1.. {
        let mut world = World::new();
        let (csock, psock) = (world.open(Kind::Dgram), world.attach_as(1));
        FUSE.set(world.memory.fuse.clone());
        let fuse = world.memory.fuse.0.clone();
        world.tcp.of(psock).room = 0;
        // They leave records where those of the next ones will be.
        for bytes in [b"1111", b"2222"] {
            world.send(csock, bytes, 0).expect("there is room");
        }
        assert_eq!(world.peer_reads(psock, usize::MAX), "11112222");
        world.tcp.of(psock).room = 0;
        world.send(csock, b"AAAA", 0).expect("there is room");
        world.send_to(csock, connection, b"BBBBBB", MSG_MORE).expect("there is room");
        world.tcp.of(psock).room = usize::MAX;
        fuse.set(kill);
        let killed = catch_unwind(AssertUnwindSafe(|| {
            let (mux, mut outside) = world.outside();
            mux.writable(psock, &mut outside);
        }));
        fuse.set(0);
        world.repair();
        world.settle();
        world.send(csock, b"BB", 0).expect("there is room");
        assert_eq!(world.peer_reads(psock, usize::MAX), "AAAABBBBBBBB", "killed at {kill}");
        if killed.is_ok() {
            break;
        }
    }
}

#[test]
fn what_waited_for_a_psock_goes_with_it() {
    (1..3).for_each(goes_with_it);
}

/// So many psocks are taken, and full.
fn goes_with_it(taken: usize) {
    for kill in 1.. {
        let mut world = World::new();
        FUSE.set(world.memory.fuse.clone());
        let fuse = world.memory.fuse.0.clone();
        let csock = world.open(Kind::Dgram);
        for name in 1..=taken {
            let (busy, psock) = (world.open(Kind::Dgram), world.attach_as(name as u64));
            world.tcp.of(psock).room = 0;
            world.send(busy, b"full", 0).expect("there is room");
        }
        let psock = PsockId(0);
        world.send_to(csock, 1, b"message", 0).expect("there is room");
        fuse.set(kill);
        let killed = catch_unwind(AssertUnwindSafe(|| {
            let (mux, mut outside) = world.outside();
            _ = mux.unattach(psock, &mut outside);
        }));
        fuse.set(0);
        world.repair();
        let (mux, mut outside) = world.outside();
        mux.write_stalled(&mut outside);
        if mux.psocks().contains(psock) && !mux.psocks[0].tx_stopped {
            world.unattach(psock);
        }
        assert_eq!(world.mux.queued(csock), 0, "killed at {kill}");
        if killed.is_ok() {
            break;
        }
    }
}
