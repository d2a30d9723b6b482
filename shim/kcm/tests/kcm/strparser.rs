//! Cutting: facts of the groups `cut`, `parser` and `attach`.

use preloop_kcm::Kind;
use preloop_kcm::errno::{EMSGSIZE, ENODATA, EPROTO, ETIMEDOUT, Errno};
use preloop_kcm::queue::RECORD;

use crate::world::{World, message};

/// What eight bytes become with a parser that always answers `result`.
fn outcome(result: i32) -> (String, Errno, Vec<u8>) {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.tcp.of(psock).answers(&[result; 16]);
    world.arrive(psock, b"01234567");
    (world.drain(csock), world.mux.take_error(psock), world.read_raw(psock))
}

#[test]
fn a_length_cuts_and_the_rest_waits() {
    assert_eq!(outcome(8), ("4(8)".into(), 0, vec![]));
    assert_eq!(outcome(4), ("-(4),-(4)".into(), 0, vec![]));
    assert_eq!(outcome(3).0, "-(3),-(3)");
    assert_eq!(outcome(1).0.matches('(').count(), 8);
    assert_eq!(outcome(0), (String::new(), 0, vec![]));
}

#[test]
fn negative_results_are_errors_whatever_they_are() {
    for result in [-1, -11, -32, -86, -100_000] {
        assert_eq!(outcome(result), (String::new(), -result, b"01234567".to_vec()));
    }
    assert_eq!(outcome(i32::MIN).1, i32::MIN);
}

#[test]
fn a_length_above_the_limit_is_emsgsize() {
    assert_eq!(outcome(i32::MAX), (String::new(), EMSGSIZE, b"01234567".to_vec()));
    assert_eq!(outcome(87381).1, EMSGSIZE);
    assert_eq!(outcome(87380).1, 0);
}

#[test]
fn a_later_result_must_go_beyond_what_was_shown() {
    let table = [(1, EPROTO, ""), (2, EPROTO, ""), (3, 0, "-(3),-(3)"), (8, 0, "4(8)"), (9, 0, ""), (0, 0, "")];
    for (second, error, messages) in table {
        let (mut world, csock, psock) = World::scene(Kind::Dgram);
        world.tcp.of(psock).answers(&[0, second, 3, 0]);
        world.arrive(psock, b"01");
        world.arrive(psock, b"234567");
        assert_eq!(world.mux.take_error(psock), error, "{second} after 0");
        assert_eq!(world.drain(csock), messages, "{second} after 0");
        assert_eq!(world.read_raw(psock) == b"234567", error != 0);
    }
}

#[test]
fn estrpipe_in_the_middle_is_enodata() {
    let (mut world, _, psock) = World::scene(Kind::Dgram);
    world.tcp.of(psock).answers(&[0, -86]);
    world.arrive(psock, b"01");
    world.arrive(psock, b"234567");
    assert_eq!(world.mux.take_error(psock), ENODATA);
    assert_eq!(world.read_raw(psock), b"234567");
}

#[test]
fn the_parser_is_shown_each_message_from_its_first_byte() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    let three: Vec<u8> = ['a', 'b', 'c'].iter().flat_map(|letter| message(*letter, 3)).collect();
    world.arrive(psock, &three);
    assert_eq!(world.tcp.of(psock).shown(), [21, 14, 7]);
    assert_eq!(world.drain(csock), "a(7),b(7),c(7)");
}

#[test]
fn the_parser_is_not_called_again_once_it_told_the_length() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    for part in message('a', 30).chunks(10) {
        world.arrive(psock, part);
    }
    assert_eq!(world.tcp.of(psock).shown(), [10]);
    assert_eq!(world.drain(csock), "a(34)");
    for byte in message('b', 2) {
        world.arrive(psock, &[byte]);
    }
    assert_eq!(world.tcp.of(psock).shown(), [10, 1, 2, 3, 4]);
    assert_eq!(world.drain(csock), "b(6)");
}

#[test]
fn messages_up_to_the_limit_arrive() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.tcp.of(psock).limit = 8192;
    world.arrive(psock, &message('a', 8188));
    assert_eq!(world.drain(csock), "a(8192)");
    world.arrive(psock, &message('b', 8189));
    assert_eq!(world.mux.take_error(psock), EMSGSIZE);
    assert_eq!(world.read_raw(psock)[..4], [0, 0, 0x1f, 0xfd]);
}

#[test]
fn a_message_may_be_as_long_as_a_region_lets_it() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.tcp.of(psock).limit = u32::MAX;
    world.arrive(psock, &message('a', 3));
    let longest = (world.memory.bytes - RECORD) as u32;
    world.arrive(psock, &message('b', longest - 4));
    assert_eq!(world.drain(csock), format!("a(7),b({longest})"));
    world.arrive(psock, &message('c', longest - 3));
    assert_eq!(world.mux.take_error(psock), EMSGSIZE);
}

#[test]
fn a_parser_that_asks_for_more_than_the_limit_is_stopped() {
    let (mut world, _, psock) = World::scene(Kind::Dgram);
    world.tcp.of(psock).limit = 3000;
    world.tcp.of(psock).answers(&[0; 8]);
    world.arrive(psock, &[0; 2999]);
    assert_eq!(world.mux.error(psock), 0);
    world.arrive(psock, &[0; 1]);
    assert_eq!(world.mux.error(psock), EMSGSIZE);
}

#[test]
fn after_an_error_bytes_belong_to_raw_reads_and_attaching_anew_recovers() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    let bytes = [message('a', 1), message('b', 1), b"\xff\xff\xff\xf0zz".to_vec()].concat();
    world.arrive(psock, &bytes);
    assert_eq!(world.drain(csock), "a(5),b(5)");
    assert_eq!(world.posted, [psock]);
    assert!(world.mux.receiving_ended(psock));
    assert_eq!(world.read_raw(psock), b"\xff\xff\xff\xf0zz");
    world.arrive(psock, &message('c', 1));
    assert_eq!(world.drain(csock), "");
    assert_eq!(world.read_raw(psock), message('c', 1));
    world.unattach(psock);
    let psock = world.attach();
    world.arrive(psock, &message('d', 2));
    assert_eq!(world.drain(csock), "d(6)");
}

#[test]
fn assembly_is_timed_from_the_first_byte() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.tcp.of(psock).time = 100;
    let bytes = message('a', 4);
    world.arrive(psock, &bytes[..3]);
    assert_eq!(world.mux.next_deadline(), Some(101));
    world.now = 50;
    world.arrive(psock, &bytes[3..6]);
    assert_eq!(world.mux.next_deadline(), Some(101), "more bytes do not extend it");
    world.arrive(psock, &bytes[6..]);
    assert_eq!(world.mux.next_deadline(), None);
    world.arrive(psock, &bytes[..6]);
    world.arrive(psock, b"x");
    world.mux.expire(149);
    assert_eq!(world.mux.error(psock), 0);
    world.mux.expire(150);
    world.settle();
    assert_eq!(world.mux.take_error(psock), ETIMEDOUT);
    assert_eq!(world.read_raw(psock), b"x", "what had been taken is lost");
    assert_eq!(world.drain(csock), "a(8)");
    assert_eq!(world.mux.next_deadline(), None);
}

#[test]
fn unattach_loses_what_was_taken_of_a_message_and_leaves_the_rest() {
    let whole = message('P', 20);
    for (parts, left) in [(vec![10], 0), (vec![10, 5], 5), (vec![2], 0), (vec![2, 1], 0)] {
        let (mut world, _, psock) = World::scene(Kind::Dgram);
        let mut rest = &whole[..];
        for part in parts {
            world.arrive(psock, &rest[..part]);
            rest = &rest[part..];
        }
        assert_eq!(world.unattach(psock).0.len(), left);
    }
}

#[test]
fn raw_reads_take_bytes_from_under_the_parser() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.arrive(psock, &message('a', 6)[..6]);
    world.arrive(psock, b"xy");
    assert_eq!(world.read_raw(psock), b"xy");
    world.arrive(psock, b"aaaa");
    assert_eq!(world.drain(csock), "a(10)");
}

#[test]
fn the_rest_of_a_message_stays_in_tcp_until_all_of_it_is_there() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    let whole = message('P', 20_000);
    let mut rest = &whole[..];
    world.tcp.of(psock).peeks = 0;
    for (part, left) in [(10, 0), (9000, 9000), (10_993, 19_993)] {
        world.arrive(psock, &rest[..part]);
        rest = &rest[part..];
        assert_eq!(world.tcp.of(psock).incoming.len(), left);
    }
    let wire = world.tcp.of(psock);
    assert_eq!((wire.peeks, wire.copied), (1, 10), "nothing is copied in vain");
    world.arrive(psock, rest);
    assert_eq!(world.drain(csock), "P(20004)");
    assert_eq!(world.tcp.of(psock).incoming.len(), 0);
}

#[test]
fn a_rest_that_tcp_may_have_no_room_for_is_taken_as_it_comes() {
    for (limit, left) in [(80_000, 20_000), (1 << 19, 65_536)] {
        let (mut world, csock, psock) = World::scene(Kind::Dgram);
        world.tcp.of(psock).limit = limit;
        let whole = message('P', limit - 4);
        let end = whole.len() - left;
        for (part, stays) in [(0..4, 0), (4..1000, 0), (1000..end - 1, 0), (end - 1..end, 0), (end..end + 9, 9)] {
            world.arrive(psock, &whole[part.clone()]);
            assert_eq!(world.tcp.of(psock).incoming.len(), stays, "{part:?} of {limit}");
        }
        world.arrive(psock, &whole[end + 9..]);
        assert_eq!(world.drain(csock), format!("P({limit})"));
    }
}

#[test]
fn a_rest_behind_more_than_one_peek_shows_is_taken_as_it_comes() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    let (first, second) = (message('a', 3000), message('P', 20_000));
    let (shown, rest) = second.split_at(5000);
    world.arrive(psock, &[&first, shown].concat());
    assert_eq!(world.tcp.of(psock).incoming.len(), 0, "no part of a segment stays");
    world.arrive(psock, rest);
    assert_eq!(world.drain(csock), "a(3004),P(20004)");
}

#[test]
fn the_end_is_found_in_the_middle_of_a_message_too() {
    for len in [100, 10_000] {
        let (mut world, csock, psock) = World::scene(Kind::Dgram);
        world.arrive(psock, &message('a', len)[..10]);
        world.tcp.of(psock).end = Some(Ok(0));
        world.pull(psock);
        assert!(!world.mux.receives(psock));
        assert_eq!(world.drain(csock), "");
    }
}

#[test]
fn a_batch_takes_one_peek() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.tcp.of(psock).peeks = 0;
    world.arrive(psock, &[message('a', 100), message('b', 100), message('c', 100)[..50].to_vec()].concat());
    let wire = world.tcp.of(psock);
    assert_eq!((wire.peeks, wire.copied), (1, 258));
    assert_eq!(world.drain(csock), "a(104),b(104)");
}

#[test]
fn bytes_are_not_copied_again_and_again_in_vain() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.mux.set_receive_buffer(csock, 1);
    let (sent, mut got) = (message('m', 60).repeat(2000), 0);
    world.arrive(psock, &sent);
    while let Ok((bytes, _)) = world.receive(csock, 64, 0) {
        got += bytes.len();
    }
    assert_eq!(got, sent.len());
    let copied = world.tcp.of(psock).copied;
    assert!(copied < 70 * sent.len(), "{copied} bytes copied, two messages at a time");
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.arrive(psock, &sent);
    while world.receive(csock, 64, 0).is_ok() {}
    let copied = world.tcp.of(psock).copied;
    assert!(copied < 3 * sent.len(), "{copied} bytes copied, hundreds of messages at a time");
}

#[test]
fn the_end_of_a_stream_is_not_seen_on_the_csock() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    world.tcp.of(psock).end = Some(Ok(0));
    world.arrive(psock, &message('e', 2));
    world.arrive(psock, &[]);
    assert_eq!(world.drain(csock), "e(6)");
    assert!(!world.mux.receives(psock));
    assert_eq!(world.mux.error(psock), 0, "a FIN before attach posts nothing");
}

#[test]
fn long_streams_are_pulled_in_batches() {
    let (mut world, csock, psock) = World::scene(Kind::Dgram);
    let sent: Vec<u8> = (0..20000).flat_map(|n| message('m', n % 50)).collect();
    for part in sent.chunks(400_000) {
        world.tcp.of(psock).incoming.extend(part);
    }
    let mut got = Vec::new();
    loop {
        while world.pull_into(psock, None, &mut preloop_kcm::direct::NoSink) {}
        world.settle();
        let before = got.len();
        while let Ok((bytes, _)) = world.receive(csock, usize::MAX, 0) {
            got.extend(bytes);
        }
        if got.len() == before {
            break;
        }
    }
    assert!(got == sent);
}
