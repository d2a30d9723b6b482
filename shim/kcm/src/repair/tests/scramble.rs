//! States with wrong numbers in them.

use proptest::prelude::*;

use super::{Op, Run, assert_same, content, op};
use crate::outside::{Region, Regions};
use crate::world::{Buffers, Memory, Wire, World};
use crate::{CsockId, Kind, MuxState, PsockId};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn lists_are_linked_anew(before in prop::collection::vec(op(), 1..60), seed: u64) {
        let mut run = Run::new(seed & 1 == 0);
        before.iter().for_each(|op| run.run(op));
        let (mux, mut random) = (&mut run.world.mux, random(seed));
        mux.receivers.scramble(&mut random);
        mux.senders.scramble(&mut random);
        mux.ready.scramble(&mut random);
        mux.available.scramble(&mut random);
        (mux.work, mux.to_write) = (crate::Work { flushed: mux.open, ..mux.work }, mux.open);
        run.repair();
        prop_assert_eq!(run.finish(), (0, 0));
    }

    #[test]
    fn whatever_it_is_operations_end(
        before in prop::collection::vec(op(), 1..30),
        seed: u64,
        after in prop::collection::vec(op(), 1..30),
    ) {
        let mut run = Run::new(seed & 1 == 0);
        before.iter().for_each(|op| run.run(op));
        for psock in 0..=255 {
            run.world.tcp.0.entry(psock).or_insert_with(Wire::new);
        }
        scramble(&mut run.world.mux, &mut run.world.memory, random(seed));
        run.world.repair();
        let once = run.world.mux.clone();
        run.world.repair();
        assert_same(&once, &run.world.mux);
        run.world.tokens.clear();
        run.world.settle();
        after.iter().for_each(|op| operate(&mut run.world, op));
    }
}

/// Numbers of all sizes.
fn random(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = seed >> 12;
        match seed >> 61 {
            0..4 => number % 4,
            4..6 => number % 600,
            _ => number << 12,
        }
    }
}

fn scramble(mux: &mut MuxState, memory: &mut Memory, mut random: impl FnMut() -> u64) {
    for _ in 0..1 + random() % 100 {
        let at = random() as u8;
        let (csock, psock) = (&mut mux.csocks[usize::from(at)], &mut mux.psocks[usize::from(at)]);
        match random() % 26 {
            0 => csock.rx.scramble(&mut random),
            1 => csock.tx.scramble(&mut random),
            2 => csock.sent = random() as u32,
            3 if random() & 1 == 0 => (mux.holding, mux.sleeping) = (mux.open, mux.holding.others()),
            3 => (csock.open, csock.open_len) = (random() & 1 == 0, random() as u32),
            24 => (csock.open_to, csock.wants, psock.name) = (random(), random() as u16, random()),
            4 => csock.tx_psock = random() as u16,
            5 => csock.writing = random() as u16,
            6 => (csock.sleepers, csock.low_water) = (random() as u32, random() as u32),
            7 => (csock.disabled, csock.wait_more) = (random() & 1 == 0, random() & 1 == 0),
            8 => csock.stats.rx_bytes = random(),
            9 => psock.buffer.scramble(&mut random),
            10 => psock.strp.scramble(&mut random),
            11 => psock.ready = random() as u32,
            12 => psock.tx_csock = random() as u16,
            13 => {
                (psock.stalled, psock.ended, psock.tx_stopped) =
                    (random() & 1 == 0, random() & 1 == 0, random() & 1 == 0)
            }
            14 if random() & 1 == 0 => psock.dealing.scramble(&mut random),
            14 => psock.writing.scramble(&mut random),
            23 => (psock.taken, psock.given) = (random(), random()),
            15 => (psock.stats.rx_msgs, psock.saved.rx_msgs, psock.mean) = (random(), random(), random() as u32),
            16 => mux.receivers.scramble(&mut random),
            17 => mux.senders.scramble(&mut random),
            18 => mux.ready.scramble(&mut random),
            19 => mux.available.scramble(&mut random),
            20 => mux.held.scramble(&mut random),
            21 => (mux.stats.rx_msgs, mux.gone.tx_bytes) = (random(), random()),
            22 => _ = (mux.open.insert(CsockId(random() as u8)), mux.attached.insert(PsockId(random() as u8))),
            _ => {
                let which = [Region::Received(CsockId(at)), Region::ToSend(CsockId(at)), Region::Psock(PsockId(at))];
                let region = memory.region(which[random() as usize % 3]);
                region.iter_mut().take(2000).for_each(|byte| *byte = random() as u8);
            }
        }
    }
}

/// With sockets of which nothing is known.
fn operate(world: &mut World, op: &Op) {
    let open = |csock: &u8| world.mux.open.contains(CsockId(*csock));
    let attached = |psock: &u8| world.mux.attached.contains(PsockId(*psock));
    match op {
        Op::Arrive(psock, ..) if attached(psock) => world.arrive(PsockId(*psock), &content(0, 0)),
        Op::ArriveFor(psock, csock, left) if attached(psock) && open(csock) => {
            let mut sink = Buffers { size: 20, left: *left, got: Vec::new() };
            world.pull_into(PsockId(*psock), Some(CsockId(*csock)), &mut sink);
            world.settle();
        }
        Op::Receive(csock) if open(csock) => while world.receive(CsockId(*csock), 1000, 0).is_ok() {},
        Op::Disable(csock) if open(csock) => world.disable(CsockId(*csock)),
        Op::Enable(csock) if open(csock) => world.enable(CsockId(*csock)),
        Op::Close(csock) if open(csock) => _ = world.close(CsockId(*csock)),
        Op::Clone(_) => _ = world.open(Kind::Dgram),
        Op::Unattach(psock) if attached(psock) => _ = world.unattach(PsockId(*psock)),
        Op::Send(csock, to, flags) if open(csock) => {
            _ = world.send_to(CsockId(*csock), to.map_or(0, u64::from), b"message", *flags);
        }
        Op::PeerReads(psock, room) if attached(psock) => {
            world.tcp.of(PsockId(*psock)).room = *room;
            let (mux, mut outside) = world.outside();
            mux.writable(PsockId(*psock), &mut outside);
            world.settle();
        }
        Op::ReceiveBuffer(csock, bytes) if open(csock) => {
            world.mux.set_receive_buffer(CsockId(*csock), *bytes);
            world.mux.expire(u64::from(*bytes));
        }
        _ => {}
    }
}
