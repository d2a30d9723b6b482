//! Named parsers, specs and object files: what they answer, and what is refused.
#![forbid(unsafe_code)]

use std::io;
use std::path::Path;

use preloop_parsers::errno::E2BIG;
use preloop_parsers::maps::{BPF_ANY, Map, MapDef, MapKind};
use preloop_parsers::registry::{self, KNOWN};
use preloop_parsers::spec::Spec;
use preloop_parsers::{Fields, Parser, ParserMap, Program, object};

const MAPS: &[u8] = include_bytes!("objects/maps.o");
const UNCHECKED: &[u8] = include_bytes!("objects/unchecked.o");
const CLOCK: &[u8] = include_bytes!("objects/clock.o");
const EPROTO: i32 = -71;
const EMSGSIZE: i32 = -90;

fn none(_: &Path) -> io::Result<Vec<u8>> {
    Err(io::Error::other("no file"))
}

fn find(text: &str) -> Program {
    registry::find(text, none).expect(text).load().expect(text)
}

fn ask(program: &Program, bytes: &[u8]) -> i32 {
    program.run(bytes, &Fields::default()).expect("no fault") as i32
}

#[test]
fn thrift() {
    let parser = find("thrift");
    assert_eq!(ask(&parser, &[]), 0);
    assert_eq!(ask(&parser, &[0, 0, 1]), 0);
    assert_eq!(ask(&parser, &[0, 0, 1, 0]), 0x104);
    assert_eq!(ask(&parser, &[0x80, 1, 0, 1]), EPROTO);
    assert_eq!(ask(&parser, &[0x7f, 0xff, 0xff, 0xfc]), EMSGSIZE);
    assert_eq!(ask(&parser, &[0x7f, 0xff, 0xff, 0xfb]), i32::MAX);
}

#[test]
fn plan_9() {
    let parser = find("9p");
    assert_eq!(ask(&parser, &[7, 0, 0]), 0);
    assert_eq!(ask(&parser, &[7, 0, 0, 0, 1]), 7);
    assert_eq!(ask(&parser, &[6, 0, 0, 0]), EPROTO);
    assert_eq!(ask(&parser, &[0, 0, 0, 0x80]), EMSGSIZE);
}

#[test]
fn onc_rpc_records_of_several_fragments() {
    let parser = find("onc-rpc");
    assert_eq!(ask(&parser, &[0x80, 0, 0]), 0);
    assert_eq!(ask(&parser, &[0x80, 0, 0, 10]), 14);
    let mut record = vec![0, 0, 0, 1, b'a', 0x80, 0, 0];
    assert_eq!(ask(&parser, &record), 0, "the second mark is not there yet");
    record.push(2);
    assert_eq!(ask(&parser, &record), 5 + 6);
    // Fragments that continue for ever.
    assert_eq!(ask(&parser, &[0; 4 * 31]), 0);
    assert_eq!(ask(&parser, &[0; 4 * 32]), EMSGSIZE);
    let mut many = vec![0; 4 * 31];
    many.extend([0x80, 0, 0, 1]);
    assert_eq!(ask(&parser, &many), 4 * 32 + 1);
    assert_eq!(ask(&parser, &[0x7f, 0xff, 0xff, 0xff]), EMSGSIZE);
}

#[test]
fn specs() {
    let length = |spec: &str, bytes: &[u8]| ask(&find(spec), bytes);
    assert_eq!(length("u32be@0+4", &[0, 0, 0, 9]), 13);
    assert_eq!(length("u32be@0+4", &[0, 0, 0]), 0);
    assert_eq!(length("u32le@0", &[9, 0, 0, 0]), 9);
    assert_eq!(length("u8@1+2", &[99, 5]), 7);
    assert_eq!(length("u16be@2+4", &[0, 0, 1, 2]), 0x106);
    assert_eq!(length("u16le@2+4", &[0, 0, 1, 2]), 0x205);
    assert_eq!(length("u24be@0+9", &[1, 2, 3]), 0x01_0203 + 9);
    assert_eq!(length("u24le@1+4", &[0, 1, 2, 3]), 0x03_0201 + 4);
    assert_eq!(length("u24le@1+4", &[0, 1, 2]), 0);
    assert_eq!(length("u32be@0x10-0x2", &[&[0; 16][..], &[0, 0, 0, 100]].concat()), 98);
    // The message would end before its length does, or be too long for a length.
    assert_eq!(length("u32be@0", &[0, 0, 0, 3]), EPROTO);
    assert_eq!(length("u32be@0-8", &[0, 0, 0, 3]), EPROTO);
    assert_eq!(length("u32be@0", &[0, 0, 0, 4]), 4);
    assert_eq!(length("u32be@0", &[0x80, 0, 0, 0]), EMSGSIZE);
    assert_eq!(length("u32be@0+1", &[0x7f, 0xff, 0xff, 0xff]), EMSGSIZE);
    assert_eq!(length("u32be@0", &[0x7f, 0xff, 0xff, 0xff]), i32::MAX);
}

#[test]
fn specs_are_read_strictly_and_written_back() {
    for text in ["u32be@0+4", "u8@3", "u24le@65535-1", "u16be@0"] {
        assert_eq!(text.parse::<Spec>().expect(text).to_string(), text);
    }
    for text in [
        "",
        "@",
        "u32@0",
        "u32be",
        "u32be@",
        "u32be@+4",
        "u32be@0+",
        "u32be@0++4",
        "u32be@0+4+4",
        "u32be@-1",
        "u9be@0",
        "u32be@65536",
        "u32be@0+2147483648",
        "u32be@ 0",
        "u32be@0x",
        "u32be@+0",
        "U32BE@0",
        "u32be@0+-4",
        "u32be@1e3g",
    ] {
        assert!(text.parse::<Spec>().is_err(), "{text}");
    }
}

#[test]
fn every_named_parser_is_listed_and_loads() {
    assert!(KNOWN.is_sorted_by_key(|known| known.name));
    for known in KNOWN {
        assert!(!known.about.is_empty() && !known.about.contains('\n'));
        find(known.name);
    }
}

#[test]
fn what_is_no_parser_is_explained() {
    let complaint = |text: &str| registry::find(text, none).expect_err(text).to_string();
    assert!(complaint("gopher").contains("9p, onc-rpc, thrift"), "{}", complaint("gopher"));
    assert!(complaint("u33be@0").contains("u32be@0+4"));
    assert_eq!(complaint("dir/file.o:name"), "dir/file.o: no file");
    assert_eq!(complaint("file.o"), "file.o: no file");
}

#[test]
fn an_object_with_maps_constants_and_functions() {
    let with = |text: &str| registry::find(text, |_| Ok(MAPS.to_vec()));
    let parser = with("x.o").expect("socket_kcm is preferred");
    let program = parser.load().expect("a program");
    assert_eq!(ask(&program, &[0, 0, 0, 9]), 13);
    assert_eq!(ask(&program, &[0, 0, 0, 9]), 13);
    assert_eq!(ask(&program, &[0, 0, 0]), 0);
    let calls = program.maps().iter().find(|map| map.def().value_size == 8).expect("the array");
    let mut value = [0; 8];
    calls.get(&[0; 4], &mut value).expect("a value");
    assert_eq!(u64::from_le_bytes(value), 2);
    let lengths = program.maps().iter().find(|map| map.def().max_entries == 4).expect("the hash map");
    let mut value = [0; 4];
    lengths.get(&9u32.to_le_bytes(), &mut value).expect("a value");
    assert_eq!(u32::from_le_bytes(value), 9);

    let mut again = Parser::from_bytes(&parser.to_bytes()).expect("the same");
    assert_eq!(again, parser);
    let map = again.maps[0].clone();
    again.maps.extend(vec![ParserMap { def: MapDef { value_size: 1 << 20, ..map.def }, data: Vec::new() }; 16]);
    assert_eq!(again.load().expect_err("too much").errno, E2BIG);

    let other = with("x.o:other/one").expect("a section").load().expect("a program");
    assert_eq!(ask(&other, &[77]), 77);
    let complaint = with("x.o:missing").expect_err("no such section").to_string();
    assert_eq!(complaint, "x.o: no section missing; there are programs in socket_kcm, other/one");
}

#[test]
fn a_map_is_filled_with_what_another_holds() {
    for (kind, key_size) in [(MapKind::Array, 4), (MapKind::Hash, 3)] {
        let def = MapDef { kind, key_size, value_size: 5, max_entries: 4, read_only: false };
        let map = Map::new(def).expect("a map");
        assert_eq!(map.contents(), []);
        let key = |n: u32| n.to_le_bytes()[..key_size as usize].to_vec();
        map.update(&key(2), b"three", BPF_ANY).expect("room");
        map.update(&key(0), b"first", BPF_ANY).expect("room");
        let expected: &[u8] =
            if kind == MapKind::Array { b"first\0\0\0\0\0three" } else { b"\0\0\0first\x02\0\0three" };
        assert_eq!(map.contents(), expected);
        let other = Map::new(def).expect("a map");
        other.fill(&map.contents()).expect("the same sizes");
        assert_eq!(other.contents(), expected);
        assert!(other.fill(b"four").is_err());
    }
    let def = MapDef { kind: MapKind::Array, key_size: 4, value_size: 8, max_entries: 1, read_only: false };
    assert_eq!(Map::new(def).expect("a map").fill(&[0; 16]), Err(E2BIG));
}

#[test]
fn every_section_name_is_taken() {
    // Whatever the only program's section is called.
    let bytes = registry::KNOWN[2].object;
    let at = bytes.windows(7).position(|name| name == b"socket\0").expect("the section's name");
    for name in [b"kprobe", b"thrift", b"kcm_a/"] {
        let mut renamed = bytes.to_vec();
        renamed[at..at + 6].copy_from_slice(name);
        let parser = object::read(&renamed, None).expect("a program");
        assert_eq!(ask(&parser.load().expect("a program"), &[0, 0, 0, 1]), 5);
    }
}

/// The kernel's verifier sees these two the other way round.
#[test]
fn what_is_in_bounds_is_seen_when_it_runs() {
    object::read(UNCHECKED, None).expect("a parser").load().expect("nothing that is certainly wrong");
    let refused = object::read(CLOCK, None).expect("a parser").load().expect_err("a function of the kernel's");
    assert!(refused.log.contains("unknown func #5"), "{refused}");
}

#[test]
fn sources_and_objects_agree() {
    let compiler = "clang-14";
    if std::process::Command::new(compiler).arg("--version").output().is_err() {
        eprintln!("skipped: no {compiler} here to compile the parsers with");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let programs = KNOWN.map(|known| (root.join("programs").join(known.name).with_extension("c"), known.object));
    let others = [("maps.c", MAPS), ("unchecked.c", UNCHECKED), ("clock.c", CLOCK)];
    let others = others.map(|(name, object)| (root.join("tests/objects").join(name), object));
    for (source, object) in programs.into_iter().chain(others) {
        let compiled = directory.path().join("compiled.o");
        let mut compile = std::process::Command::new(compiler);
        compile.args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-fno-ident", "-fno-addrsig", "-c"]);
        let status = compile.arg(&source).arg("-o").arg(&compiled).status().expect("clang runs");
        assert!(status.success());
        let compiled = object::read(&std::fs::read(compiled).expect("an object"), None).expect("a program");
        let committed = object::read(object, None).expect("a program");
        assert_eq!(compiled, committed, "{}: run make -B in its folder", source.display());
    }
}
