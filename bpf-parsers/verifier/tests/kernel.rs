//! The kernel's verifier takes every parser that comes with the project, where it may be asked.
#![forbid(unsafe_code)]

use preloop_parser_verifier::{Answer, ask_kernel};
use preloop_parsers::insn::{Insn, class, mode, size};
use preloop_parsers::{object, registry};

const MAPS: &[u8] = include_bytes!("../../tests/objects/maps.o");
const UNCHECKED: &[u8] = include_bytes!("../../tests/objects/unchecked.o");
const CLOCK: &[u8] = include_bytes!("../../tests/objects/clock.o");

fn ask(object: &[u8], section: Option<&str>) -> Option<Answer> {
    match ask_kernel(object, section).expect("an answer") {
        Answer::NotPermitted => {
            eprintln!("skipped: the kernel does not permit bpf(2) here; run as root");
            None
        }
        answer => Some(answer),
    }
}

#[test]
fn takes_the_parsers() {
    for known in registry::KNOWN {
        let Some(answer) = ask(known.object, None) else { return };
        assert_eq!(answer, Answer::Taken, "{}", known.name);
    }
    for section in [None, Some("socket_kcm"), Some("other/one")] {
        let Some(answer) = ask(MAPS, section) else { return };
        assert_eq!(answer, Answer::Taken, "{section:?}");
    }
}

#[test]
fn refuses_with_a_log() {
    // The first instruction of framed Thrift's parser, r6 = r1, becomes a load from nowhere.
    let thrift = registry::known("thrift").expect("a parser");
    let first = thrift.insns[0].to_bytes();
    let mut object = registry::KNOWN[2].object.to_vec();
    let at = object.windows(8).position(|bytes| bytes == first).expect("the code");
    let broken = Insn { code: class::LDX | mode::MEM | size::W, dst: 6, src: 7, off: 0, imm: 0 };
    object[at..at + 8].copy_from_slice(&broken.to_bytes());
    let ours = object::read(&object, None).expect("an object").load().expect_err("refused");
    let Some(answer) = ask(&object, None) else { return };
    let Answer::Refused { errno, log } = answer else { panic!("{answer:?}") };
    assert_eq!(errno, ours.errno);
    assert!(log.contains("R7 !read_ok") && ours.log.contains("R7 !read_ok"), "{log} {ours}");
}

#[test]
fn has_a_mind_of_its_own() {
    let Some(answer) = ask(UNCHECKED, None) else { return };
    let Answer::Refused { log, .. } = answer else { panic!("{answer:?}") };
    assert!(log.contains("math between map_value pointer and register"), "{log}");
    assert_eq!(ask(CLOCK, None), Some(Answer::Taken));
}
