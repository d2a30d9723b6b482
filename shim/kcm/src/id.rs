//! Indexes of sockets, and sets of them. An index is a byte and an array has 256 places, so that no index, from wherever
//! it came, is out of bounds.

use core::marker::PhantomData;

use zerocopy::TryFromBytes;

/// Places for csocks, and for psocks, of one mux.
pub const PLACES: usize = 256;

/// An index that lists and sets are made of.
pub trait Id: Copy + Eq {
    /// The index at place `n`.
    fn at(n: u8) -> Self;
    /// Its place.
    fn place(self) -> u8;
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub u8);

        impl Id for $name {
            fn at(n: u8) -> Self {
                Self(n)
            }

            fn place(self) -> u8 {
                self.0
            }
        }

        impl $name {
            pub(crate) fn index(self) -> usize {
                usize::from(self.0)
            }
        }
    };
}

id! {
    /// A KCM socket of a mux. It is the number in `/proc/net/kcm` as well.
    CsockId
}
id! {
    /// A TCP socket that is attached to a mux.
    PsockId
}

/// A set of indexes. All zeros is the empty set.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, TryFromBytes)]
pub struct Set<T> {
    words: [u64; PLACES / 64],
    of: PhantomData<T>,
}

impl<T: Id> Set<T> {
    /// The empty set.
    pub const EMPTY: Self = Self { words: [0; PLACES / 64], of: PhantomData };

    /// Adds `id`; false when it is there already.
    pub fn insert(&mut self, id: T) -> bool {
        let was = self.contains(id);
        self.words[word(id)] |= bit(id);
        !was
    }

    /// Adds `id`, or takes it out.
    pub(crate) fn assign(&mut self, id: T, is_in: bool) {
        if is_in {
            self.insert(id);
        } else {
            self.remove(id);
        }
    }

    /// Takes `id` out; false when it is not there.
    pub fn remove(&mut self, id: T) -> bool {
        let was = self.contains(id);
        self.words[word(id)] &= !bit(id);
        was
    }

    /// Whether `id` is there.
    pub fn contains(&self, id: T) -> bool {
        self.words[word(id)] & bit(id) != 0
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.words == [0; PLACES / 64]
    }

    /// The indexes that are in both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { words: core::array::from_fn(|n| self.words[n] & other.words[n]), of: PhantomData }
    }

    /// The indexes that are not in it.
    pub(crate) fn others(self) -> Self {
        Self { words: self.words.map(|word| !word), of: PhantomData }
    }

    /// The only index, if there is one and no other.
    pub(crate) fn only(self) -> Option<T> {
        let count: u32 = self.words.iter().map(|word| word.count_ones()).sum();
        if count == 1 { lowest(self.words) } else { None }
    }

    /// The lowest index that is not there.
    pub fn lowest_free(&self) -> Option<T> {
        lowest(self.words.map(|word| !word))
    }

    /// Takes the lowest index out.
    pub fn pop(&mut self) -> Option<T> {
        let id = lowest(self.words)?;
        self.remove(id);
        Some(id)
    }

    /// The indexes in the order of a round that begins behind `id`, which comes last.
    pub fn iter_behind(self, id: T) -> impl Iterator<Item = T> {
        let is_behind = move |other: &T| other.place() > id.place();
        self.iter().filter(is_behind).chain(self.iter().filter(move |other| !is_behind(other)))
    }

    /// The indexes, from the lowest.
    pub fn iter(self) -> impl Iterator<Item = T> {
        let mut rest = self;
        core::iter::from_fn(move || rest.pop())
    }
}

fn word<T: Id>(id: T) -> usize {
    usize::from(id.place() >> 6)
}

fn bit<T: Id>(id: T) -> u64 {
    1 << (id.place() & 63)
}

fn lowest<T: Id>(words: [u64; PLACES / 64]) -> Option<T> {
    let (n, word) = words.iter().enumerate().find(|(_, word)| **word != 0)?;
    u8::try_from(n * 64 + word.trailing_zeros() as usize).ok().map(T::at)
}
