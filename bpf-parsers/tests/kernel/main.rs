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
use std::io::{BufReader, Write};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use assemble::assemble;
use judge::{Case, Judge, Message, Verdict};

const EPERM: i32 = 1;
const E2BIG: i32 = 7;

fn message() -> impl Strategy<Value = Message> {
    let bytes = prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 1..4),
        4 => prop::collection::vec(any::<u8>(), 4..64),
        1 => prop::collection::vec(any::<u8>(), 64..600),
    ];
    (any::<u32>(), any::<u32>(), bytes).prop_map(|(mark, priority, bytes)| Message { mark, priority, bytes })
}

fn case(v4: bool) -> impl Strategy<Value = (Vec<piece::Piece>, Vec<Message>)> {
    (piece::program(v4), prop::collection::vec(message(), 1..4))
}

fn cases() -> u32 {
    std::env::var("PARSERS_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(1500)
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

#[test]
fn agrees_with_the_kernel() {
    if std::env::var_os("PARSERS_CASE_FILE").is_some() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let judge = RefCell::new(Judge::start(directory.path()).expect("cc and a process"));
    let exit = Case { insns: assemble(&[]), packets: Vec::new() };
    if let Ok(Verdict::Rejected { errno: EPERM, .. }) = judge.borrow_mut().ask(&exit) {
        eprintln!("skipped: the kernel does not permit bpf(2) here; run as root");
        return;
    }
    // Only newer kernels know version 4.
    let v4 = Case { insns: assemble(&[piece::Piece::Swap { bits: 16, dst: 0 }]), packets: Vec::new() };
    let knows_v4 = matches!(judge.borrow_mut().ask(&v4), Ok(Verdict::Ran(_)));

    let (taken, asked) = (Cell::new(0), Cell::new(0));
    let config = Config { cases: cases(), failure_persistence: None, max_shrink_iters: 4000, ..Config::default() };
    let result = TestRunner::new(config).run(&case(knows_v4), |(pieces, packets)| {
        let case = Case { insns: assemble(&pieces), packets };
        let kernel = judge.borrow_mut().ask(&case).map_err(|error| TestCaseError::fail(error.to_string()))?;
        asked.set(asked.get() + 1);
        taken.set(taken.get() + i32::from(compare(&case, &kernel)?));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
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
