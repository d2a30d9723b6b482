//! This crate against the kernel: random programs over random packets, judged by `BPF_PROG_TEST_RUN`.
//!
//! Where the kernel does not permit `bpf(2)` the comparison is skipped, and says so. `PARSERS_CASES` sets how many
//! programs; with `PARSERS_CASE_FILE` they go to that file instead, as requests for `judge.c` on another machine,
//! whose answers are then compared when `PARSERS_ANSWER_FILE` names them too.
#![forbid(unsafe_code)]

mod assemble;
mod judge;
mod piece;

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;

use preloop_parsers::registry;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use assemble::assemble;
use judge::{Case, Judge, Message, Verdict};

const EPERM: i32 = 1;
const E2BIG: i32 = 7;

fn message() -> impl Strategy<Value = Message> + Clone {
    let bytes = prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 1..4),
        1 => prop::collection::vec(any::<u8>(), 4..64),
        // Mostly what loads find: one past the end hides all that was computed before.
        8 => prop::collection::vec(any::<u8>(), 64..300),
    ];
    (any::<u32>(), any::<u32>(), bytes).prop_map(|(mark, priority, bytes)| Message { mark, priority, bytes })
}

fn case(v4: bool) -> impl Strategy<Value = (Vec<piece::Piece>, Vec<Message>)> {
    (piece::program(v4), prop::collection::vec(message(), 1..4))
}

fn cases() -> u32 {
    std::env::var("PARSERS_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(500)
}

/// What the kernel took, it and this crate must agree on; what it did not take says nothing.
fn compare(case: &Case, kernel: &Verdict) -> Result<bool, TestCaseError> {
    match kernel {
        Verdict::Ran(_) => {
            prop_assert_eq!(&case.evaluate(), kernel, "{}", listing(case));
            Ok(true)
        }
        Verdict::Rejected { errno: E2BIG, .. } => Ok(false),
        Verdict::Rejected { errno, log } => {
            let last: Vec<_> = log.lines().rev().take(6).collect();
            Err(TestCaseError::fail(format!("the kernel rejects with {errno}: {last:#?}")))
        }
    }
}

fn listing(case: &Case) -> String {
    case.insns.iter().enumerate().map(|(at, insn)| format!("{at}: {insn:x?}\n")).collect()
}

/// The kernel's judge, if the kernel permits, and whether this is no run for another kernel.
fn judge(directory: &Path) -> Option<RefCell<Judge>> {
    if std::env::var_os("PARSERS_CASE_FILE").is_some() {
        return None;
    }
    let mut judge = Judge::start(directory).expect("cc and a process");
    let exit = Case { insns: assemble(&[]), packets: Vec::new() };
    if let Ok(Verdict::Rejected { errno: EPERM, .. }) = judge.ask(&exit) {
        eprintln!("skipped: the kernel does not permit bpf(2) here; run as root");
        return None;
    }
    Some(RefCell::new(judge))
}

fn ask(judge: &RefCell<Judge>, case: &Case) -> Result<Verdict, TestCaseError> {
    judge.borrow_mut().ask(case).map_err(|error| TestCaseError::fail(error.to_string()))
}

#[test]
fn named_parsers_and_specs_agree_with_the_kernel() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(judge) = judge(directory.path()) else { return };
    let specs = ["u8@1+2", "u16be@0+4", "u16le@3", "u24be@0+9", "u24le@2-1", "u32be@0+4", "u32le@4-8"];
    let texts = registry::KNOWN.iter().map(|known| known.name).chain(specs);
    let first = prop_oneof![Just(0u8), Just(0x80), any::<u8>()];
    let message = (first, message()).prop_map(|(first, mut message)| {
        message.bytes[0] = first;
        message
    });
    for text in texts {
        let parser = registry::find(text, |_| Err(io::Error::other("no file"))).expect(text);
        let config = Config { cases: cases() / 20, failure_persistence: None, ..Config::default() };
        let result = TestRunner::new(config).run(&prop::collection::vec(message.clone(), 1..8), |packets| {
            let case = Case { insns: parser.insns.clone(), packets };
            let kernel = ask(&judge, &case)?;
            prop_assert!(compare(&case, &kernel)?);
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

/// What needs privileges that parsers do not have: pointers as numbers; helpers that parsers have no use for; and what
/// newer kernels know, that an array has the element of a constant index.
fn is_beyond_parsers(log: &str) -> bool {
    ["leaks addr", "pointer", "unknown func", "map_value_or_null"].iter().any(|words| log.contains(words))
}

/// A program with one field of one instruction changed: what the kernel takes of those, this crate takes too.
#[test]
fn refuses_nothing_that_the_kernel_takes() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(judge) = judge(directory.path()) else { return };
    let (taken, refused, same) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let config = Config { cases: cases(), failure_persistence: None, ..Config::default() };
    let change = (any::<prop::sample::Index>(), 0..5, prop_oneof![any::<i32>(), -20..80i32]);
    let result = TestRunner::new(config).run(&(piece::straight(), change), |(pieces, (at, field, value))| {
        let mut insns = assemble(&pieces);
        let at = at.index(insns.len());
        let insn = &mut insns[at];
        match field {
            0 => insn.code = value as u8,
            1 => insn.dst = (value & 15) as u8,
            2 => insn.src = (value & 15) as u8,
            3 => insn.off = value as i16,
            _ => insn.imm = value,
        }
        let case = Case { insns, packets: Vec::new() };
        let ours = case.load().err();
        match (ask(&judge, &case)?, ours) {
            (Verdict::Ran(_), Some(rejected)) if !is_beyond_parsers(&rejected.log) => {
                return Err(TestCaseError::fail(format!("{rejected:?} at {at}\n{}", listing(&case))));
            }
            (Verdict::Ran(_), _) => taken.set(taken.get() + 1),
            (Verdict::Rejected { errno, .. }, Some(rejected)) => {
                refused.set(refused.get() + 1);
                same.set(same.get() + i32::from(errno == rejected.errno));
            }
            (Verdict::Rejected { .. }, None) => {}
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let (taken, refused, same) = (taken.get(), refused.get(), same.get());
    eprintln!("the kernel took {taken} changed programs; of {refused} that both refuse, {same} with one error number");
    assert!(same * 10 >= refused * 9);
}

#[test]
fn agrees_with_the_kernel() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(judge) = judge(directory.path()) else { return };
    // Only newer kernels know version 4.
    let v4 = Case { insns: assemble(&[piece::Piece::Swap { bits: 16, dst: 0 }]), packets: Vec::new() };
    let knows_v4 = matches!(ask(&judge, &v4), Ok(Verdict::Ran(_)));

    let (taken, asked) = (Cell::new(0), Cell::new(0));
    let config = Config { cases: cases(), failure_persistence: None, max_shrink_iters: 4000, ..Config::default() };
    let result = TestRunner::new(config).run(&case(knows_v4), |(pieces, packets)| {
        let case = Case { insns: assemble(&pieces), packets };
        let kernel = ask(&judge, &case)?;
        asked.set(asked.get() + 1);
        taken.set(taken.get() + i32::from(compare(&case, &kernel)?));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    eprintln!("{} of {} programs were taken by the kernel and agree", taken.get(), asked.get());
    assert!(taken.get() * 10 > asked.get() * 9, "too many programs are rejected to say much");
}

/// Cases for another kernel, always the same ones.
#[test]
fn agrees_with_another_kernel() {
    let Some(file) = std::env::var_os("PARSERS_CASE_FILE") else { return };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let cases: Vec<_> = (0..cases())
        .map(|_| {
            let (pieces, packets) = case(false).new_tree(&mut runner).expect("a case").current();
            (Case { insns: assemble(&pieces), packets }, pieces)
        })
        .collect();
    let Some(answers) = std::env::var_os("PARSERS_ANSWER_FILE") else {
        let mut file = File::create(file).expect("a file for cases");
        for (case, _) in &cases {
            file.write_all(&case.encode()).expect("writing cases");
        }
        return;
    };
    let mut answers = BufReader::new(File::open(answers).expect("a file of answers"));
    let mut taken = 0;
    let mut wrong = Vec::new();
    for (case, pieces) in &cases {
        let kernel = case.decode(&mut answers).expect("an answer");
        match compare(case, &kernel) {
            Ok(agreed) => taken += usize::from(agreed),
            Err(error) => wrong.push((case.insns.len(), error, pieces, &case.packets)),
        }
    }
    wrong.sort_by_key(|(length, ..)| *length);
    if let Some((_, error, pieces, packets)) = wrong.first() {
        panic!("{} programs differ; the smallest: {error}\n{pieces:#?}\n{packets:?}", wrong.len());
    }
    eprintln!("{taken} of {} programs were taken by the kernel and agree", cases.len());
    assert!(taken * 10 > cases.len() * 9, "too many programs are rejected to say much");
}
