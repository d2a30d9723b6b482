//! The bytes of CLC messages and the names of mailboxes.
#![cfg(not(loom))]

use std::collections::HashSet;
use std::net::SocketAddr;

use preloop_smc::clc::*;
use preloop_uapi::decline::Decline;
use preloop_uapi::group::{CONNS, RING_MAX, RING_MIN, total_bytes};
use proptest::prelude::*;

fn name(active: &str, passive: &str, cookie: u64) -> String {
    let mut out = [0; NAME_MAX];
    let len = mailbox_name(active.parse().unwrap(), passive.parse().unwrap(), cookie, &mut out);
    String::from_utf8(out[..len].to_vec()).unwrap()
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut out = [0; MESSAGE_MAX];
    let len = encode(message, &mut out);
    out[..len].to_vec()
}

fn example() -> Accept {
    let ring = [RING_MIN, RING_MAX];
    let total = total_bytes(ring) as u64;
    Accept { cookie: 0x0102, group: 0x0304, new_group: true, conn: 5, generation: 6, ring, total }
}

#[test]
fn names() {
    let expected =
        "preloop/clc/00000000000000000000ffff7f000001.9c40-00000000000000000000ffff7f000002.0050-00000000000000ff";
    assert_eq!(name("127.0.0.1:40000", "127.0.0.2:80", 255), expected);
    assert_eq!(name("[::ffff:127.0.0.1]:40000", "127.0.0.2:80", 255), expected);
    let other = ["127.0.0.2:40000", "127.0.0.1:40001", "[::127.0.0.1]:40000", "[::1]:40000"];
    let names: HashSet<_> = other
        .iter()
        .map(|active| name(active, "127.0.0.2:80", 255))
        .chain([name("127.0.0.1:40000", "127.0.0.2:81", 255), name("127.0.0.1:40000", "127.0.0.2:80", 254)])
        .chain([name("127.0.0.2:80", "127.0.0.1:40000", 255), expected.to_owned()])
        .collect();
    assert_eq!(names.len(), other.len() + 4);
    assert!(names.iter().all(|n| n.len() <= NAME_MAX));
}

#[test]
fn an_accept_byte_by_byte() {
    let bytes = encoded(&Message::Accept(example()));
    assert_eq!(bytes[..8], [0xe2, 0xd4, 0xc3, 0xc4, 2, 0, 64, 0x38]);
    assert_eq!(bytes[8..20], [0, 0, 0, 0, 0, 0, 1, 2, 1, 1, 0, 40]);
    assert_eq!(bytes[20..36], [0, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0, 5, 0, 0, 0, 6]);
    assert_eq!(bytes[60..], [0xe2, 0xd4, 0xc3, 0xc4]);
    assert_eq!(decode(&bytes), Ok(Message::Accept(example())));
}

#[test]
fn a_decline_byte_by_byte() {
    let bytes = encoded(&Message::Decline(Decline::OPTION));
    assert_eq!(bytes, [0xe2, 0xd4, 0xc3, 0xc4, 4, 0, 16, 0x30, 3, 6, 0, 0, 0xe2, 0xd4, 0xc3, 0xc4]);
    assert_eq!(decode(&bytes), Ok(Message::Decline(Decline::OPTION)));
    assert_eq!(decode(&encoded(&Message::Decline(Decline::NONE))), Err(Decline::SYNCHRONISATION));
}

/// The example with `insert` put before its device and `count` devices named.
fn with_devices(count: u8, insert: &[u8], keep: bool) -> Vec<u8> {
    let mut bytes = encoded(&Message::Accept(example()));
    bytes[16] = count;
    if !keep {
        bytes.drain(17..60);
    }
    bytes.splice(17..17, insert.iter().copied());
    bytes[6] = bytes.len() as u8;
    bytes
}

#[test]
fn the_first_known_device_is_taken() {
    let accept = Ok(Message::Accept(example()));
    assert_eq!(decode(&with_devices(2, &[9, 0, 3, 1, 2, 3], true)), accept);
    assert_eq!(decode(&with_devices(3, &[9, 0, 0, 200, 0, 1, 7], true)), accept);
    assert_eq!(decode(&with_devices(1, &[9, 0, 3, 1, 2, 3], false)), Err(Decline::NO_SMCD_DEVICE));
    assert_eq!(decode(&with_devices(0, &[], false)), Err(Decline::NO_SMCD_DEVICE));
    // A second offer of the same device does not count.
    let mut second = vec![1, 0, 40];
    second.extend(&encoded(&Message::Accept(Accept { group: 99, ..example() }))[20..60]);
    let Ok(Message::Accept(first)) = decode(&with_devices(2, &second, true)) else { panic!() };
    assert_eq!(first.group, 99);
}

#[test]
fn malformed() {
    for bytes in [
        with_devices(1, &[9, 0, 200], true),      // a device longer than the message
        with_devices(2, &[], true),               // fewer devices than said
        with_devices(0, &[], true),               // more
        with_devices(1, &[1, 0, 2, 0, 0], false), // a known device, too short
        with_devices(1, &[&[1, 0, 41][..], &[0; 41]].concat(), false), // too long
        vec![],
        vec![0; 64],
    ] {
        assert_eq!(decode(&bytes), Err(Decline::SYNCHRONISATION), "{bytes:?}");
    }
}

#[test]
fn versions() {
    let mut bytes = encoded(&Message::Accept(example()));
    bytes[7] = 0x18;
    assert_eq!(decode(&bytes), Err(Decline::VERSION));
    assert_eq!(decode(&bytes[..30]), Err(Decline::VERSION), "another version may mean its length otherwise");
    bytes[7] = 0x3f;
    assert_eq!(decode(&bytes), Ok(Message::Accept(example())), "flags unknown today");
}

#[test]
fn numbers_that_describe_no_group() {
    let decoded = |accept| decode(&encoded(&Message::Accept(accept)));
    for accept in [
        Accept { conn: CONNS as u32, ..example() },
        Accept { conn: CONNS as u32, new_group: false, ..example() },
        Accept { ring: [RING_MIN / 2, RING_MIN], ..example() },
        Accept { ring: [RING_MAX * 2, RING_MIN], ..example() },
        Accept { ring: [RING_MIN + 1, RING_MIN], ..example() },
        Accept { ring: [u64::MAX, u64::MAX], ..example() },
        Accept { total: example().total - 1, ..example() },
    ] {
        assert_eq!(decoded(accept), Err(Decline::BAD_RMBE), "{accept:?}");
    }
    let known = Accept { new_group: false, ring: [0; 2], total: 0, ..example() };
    assert_eq!(decoded(known), Ok(Message::Accept(known)));
}

proptest! {
    #[test]
    fn messages_return_as_they_left(
        cookie: u64, group: u64, generation: u32, conn in 0..CONNS as u32,
        new_group: bool, logs in [14..=26u32, 14..=26u32], extra in 0..1u64 << 40, code in 1..=u32::MAX,
    ) {
        let ring = logs.map(|log| 1 << log);
        let total = total_bytes(ring) as u64 + extra;
        for message in [
            Message::Accept(Accept { cookie, group, new_group, conn, generation, ring, total }),
            Message::Decline(Decline(code)),
        ] {
            let bytes = encoded(&message);
            prop_assert_eq!(decode(&bytes), Ok(message));
            for len in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..len]), Err(Decline::SYNCHRONISATION));
            }
        }
    }

    #[test]
    fn nothing_received_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn nothing_received_panics_though_it_looks_right(at in 0..64usize, to: u8, cut in 0..70usize) {
        let mut bytes = encoded(&Message::Accept(example()));
        bytes[at] = to;
        bytes.truncate(cut);
        let _ = decode(&bytes);
    }

    #[test]
    fn every_name_fits(a: (u128, u16), p: (u128, u16), cookie: u64) {
        let end = |(ip, port): (u128, u16)| SocketAddr::from((std::net::Ipv6Addr::from(ip), port));
        prop_assert!(mailbox_name(end(a), end(p), cookie, &mut [0; NAME_MAX]) <= NAME_MAX);
    }
}
