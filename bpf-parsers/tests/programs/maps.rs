//! What programs and their maps do to each other.

use std::sync::Arc;

use super::{EXIT, NOTHING, copy, def, insn, load, mov, store, through_the_stack};
use preloop_parsers::errno::{E2BIG, EEXIST, EINVAL, ENOENT, ENOTSUPP};
use preloop_parsers::insn::{Insn, atomic, class, mode, pseudo, size};
use preloop_parsers::maps::{BPF_ANY, BPF_EXIST, BPF_NOEXIST, Map, MapDef, MapKind};
use preloop_parsers::{Fault, Fields, Program};

#[test]
fn read_only_values_stay() {
    let value = [insn(class::LD | mode::IMM | size::DW, 9, pseudo::MAP_VALUE, 0, 4), insn(0, 0, 0, 0, 4)];
    // Direct references are for arrays of one element.
    let of = |kind, entries| {
        let insns = [&value[..], &[mov(0, 0), EXIT]].concat();
        Program::load(&insns, |_| Map::new(def(kind, entries)).ok().map(Arc::new)).expect_err("refused").errno
    };
    assert_eq!([of(MapKind::Array, 2), of(MapKind::Hash, 1)], [ENOTSUPP, EINVAL]);
    let one = |insns: &[Insn]| {
        let def = MapDef { read_only: true, ..def(MapKind::Array, 1) };
        Program::load(insns, |_| Map::new(def).ok().map(Arc::new))
    };
    let write = [&value[..], &[mov(0, 0), store(size::W, 9, 0, 0), EXIT]].concat();
    assert!(one(&write).expect_err("refused").log.contains("write into map forbidden"));
    let [put, get] = through_the_stack(9);
    let hidden = [&value[..], &[put, get, mov(0, 0), store(size::W, 9, 0, 0), EXIT]].concat();
    assert_eq!(one(&hidden).expect("a program").run(NOTHING, &Fields::default()), Err(Fault::Memory));
    let read = [&value[..], &[load(size::DW, 0, 9, 0), EXIT]].concat();
    assert_eq!(one(&read).expect("a program").run(NOTHING, &Fields::default()), Ok(0));
    let beyond = [insn(class::LD | mode::IMM | size::DW, 9, pseudo::MAP_VALUE, 0, 4), insn(0, 0, 0, 0, 12)];
    assert_eq!(one(&[&beyond[..], &[mov(0, 0), EXIT]].concat()).expect_err("refused").errno, EINVAL);
}

#[test]
fn atomic_operations_on_values() {
    let array = Arc::new(Map::new(def(MapKind::Array, 1)).expect("a map"));
    let value = [insn(class::LD | mode::IMM | size::DW, 9, pseudo::MAP_VALUE, 0, 3), insn(0, 0, 0, 0, 0)];
    let operation = insn(class::STX | mode::ATOMIC | size::W, 9, 7, 8, atomic::ADD | atomic::FETCH);
    let insns = [&value[..], &[mov(7, -1), operation, copy(0, 7), EXIT]].concat();
    let program = Program::load(&insns, |_| Some(Arc::clone(&array))).expect("a program");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| assert!(program.run(NOTHING, &Fields::default()).is_ok())));
        }
    });
    let mut bytes = [0; 12];
    array.get(&[0; 4], &mut bytes).expect("a value");
    assert_eq!(bytes[8..], (-4000i32).to_le_bytes());
    assert_eq!(bytes[..8], [0; 8]);
}

#[test]
fn maps_answer_as_bpf_does() {
    let key = |number: u32| number.to_le_bytes();
    let array = Map::new(def(MapKind::Array, 2)).expect("a map");
    assert_eq!(array.update(&key(1), &[7; 12], BPF_NOEXIST), Err(EEXIST));
    assert_eq!(array.update(&key(1), &[7; 12], BPF_EXIST), Ok(()));
    assert_eq!(array.update(&key(2), &[7; 12], BPF_ANY), Err(E2BIG));
    assert_eq!(array.update(&key(1), &[7; 11], BPF_ANY), Err(EINVAL));
    assert_eq!(array.update(&key(1), &[7; 12], 3), Err(EINVAL));
    assert_eq!(array.delete(&key(1)), Err(EINVAL));
    let mut value = [0; 12];
    assert_eq!(array.get(&key(1), &mut value), Ok(()));
    assert_eq!(value, [7; 12]);
    assert_eq!(array.get(&key(2), &mut value), Err(ENOENT));
    assert_eq!(array.next_key(None), Ok(key(0).to_vec()));
    assert_eq!(array.next_key(Some(&key(0))), Ok(key(1).to_vec()));
    assert_eq!(array.next_key(Some(&key(1))), Err(ENOENT));
    assert_eq!(array.next_key(Some(&key(9))), Ok(key(0).to_vec()));

    let hash = Map::new(def(MapKind::Hash, 2)).expect("a map");
    assert_eq!(hash.next_key(None), Err(ENOENT));
    assert_eq!(hash.update(&key(5), &[1; 12], BPF_EXIST), Err(ENOENT));
    assert_eq!(hash.update(&key(5), &[1; 12], BPF_NOEXIST), Ok(()));
    assert_eq!(hash.update(&key(5), &[1; 12], BPF_NOEXIST), Err(EEXIST));
    assert_eq!(hash.update(&key(6), &[2; 12], BPF_ANY), Ok(()));
    assert_eq!(hash.update(&key(7), &[3; 12], BPF_ANY), Err(E2BIG));
    assert_eq!(hash.delete(&key(5)), Ok(()));
    assert_eq!(hash.delete(&key(5)), Err(ENOENT));
    assert_eq!(hash.update(&key(7), &[3; 12], BPF_ANY), Ok(()));
    assert_eq!(hash.next_key(None), Ok(key(6).to_vec()));
    assert_eq!(hash.next_key(Some(&key(6))), Ok(key(7).to_vec()));
    assert_eq!(hash.next_key(Some(&key(7))), Err(ENOENT));

    let wrong = |def| Map::new(def).err();
    assert_eq!(wrong(MapDef { key_size: 8, ..def(MapKind::Array, 1) }), Some(EINVAL));
    assert_eq!(wrong(MapDef { value_size: 0, ..def(MapKind::Hash, 1) }), Some(EINVAL));
    assert_eq!(wrong(def(MapKind::Hash, 0)), Some(EINVAL));
    assert_eq!(wrong(MapDef { key_size: 513, ..def(MapKind::Hash, 1) }), Some(E2BIG));
    assert_eq!(wrong(def(MapKind::Hash, u32::MAX)), Some(E2BIG));
}
