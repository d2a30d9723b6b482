//! Looking at a state that somebody else wrote.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::{Csock, MuxState, Psock};
use crate::id::PLACES;
use crate::proc::{TcpQueues, show_statistics};

/// 32-bit words of a csock, of a psock, and of all of each.
const CSOCK: usize = size_of::<Csock>() / 4;
const PSOCK: usize = size_of::<Psock>() / 4;
const CSOCKS: usize = PLACES * CSOCK;
const PSOCKS: usize = PLACES * PSOCK;

fn state(words: &[u32]) -> Option<Box<MuxState>> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    MuxState::from_bytes(&bytes).map(Box::new)
}

/// Words that do not take every value: truths and the like are among their bytes. By place in a csock, and in a psock.
static PICKY: LazyLock<[Vec<bool>; 2]> = LazyLock::new(|| {
    let picky = |at: usize| {
        let mut words = vec![0; size_of::<MuxState>() / 4];
        words[at] = u32::MAX;
        state(&words).is_none()
    };
    [(0..CSOCK).map(picky).collect(), (CSOCKS..CSOCKS + PSOCK).map(picky).collect()]
});

/// Any state: words from a few numbers, as generated ones would rather not meet each other.
fn any_state() -> impl Strategy<Value = Box<MuxState>> {
    let number = prop_oneof![3 => any::<u32>(), 1 => Just(0), 1 => Just(1), 1 => Just(u32::MAX)];
    let words = (prop::collection::vec(number, 50..500), any::<u64>()).prop_map(|(numbers, seed)| {
        let mut random = seed | 1;
        let mut word = |at: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let word = numbers[(random >> 33) as usize % numbers.len()];
            let picky = match at {
                ..CSOCKS => PICKY[0][at % CSOCK],
                _ if at < CSOCKS + PSOCKS => PICKY[1][(at - CSOCKS) % PSOCK],
                _ => false,
            };
            if picky { word & 0x0101_0101 } else { word }
        };
        (0..size_of::<MuxState>() / 4).map(&mut word).collect::<Vec<_>>()
    });
    words.prop_filter_map("all words have values that they take", |words| state(&words))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]
    #[test]
    fn whatever_stands_there_can_be_shown(state in any_state(), queued in any::<u32>()) {
        let mut text = String::new();
        let queues = TcpQueues { recv_q: queued, rmem: queued, send_q: queued, smem: queued };
        state.show(&mut text, |_| queues).expect("strings take all");
        let lines = 1 + state.csocks().iter().count() + state.psocks().iter().count();
        prop_assert_eq!(text.lines().count(), lines);
        let (mut mux, mut psock) = state.statistics();
        mux.add(&state.statistics().0);
        psock.add(&state.statistics().1);
        show_statistics(&mut text, &mux, &psock).expect("strings take all");
        prop_assert_eq!(text.lines().count(), lines + 4);
    }
}

#[test]
fn what_is_no_state_is_refused() {
    let size = size_of::<MuxState>();
    assert!(MuxState::from_bytes(&vec![0; size]).is_some());
    assert!(MuxState::from_bytes(&vec![0xff; size]).is_none());
    assert!(MuxState::from_bytes(&vec![0; size - 1]).is_none());
    assert!(MuxState::from_bytes(&vec![0; size + 1]).is_none());
    assert!(PICKY.iter().all(|words| words.contains(&true) && words.contains(&false)));
}
