//! A message that is being made behind others that leave.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::FUSE;
use crate::Kind;
use crate::send::MSG_MORE;
use crate::world::World;

#[test]
fn what_stood_where_a_message_is_being_made_is_none() {
    for kill in 1.. {
        let (mut world, csock, psock) = World::scene(Kind::Dgram);
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
        world.send(csock, b"BBBBBB", MSG_MORE).expect("there is room");
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
