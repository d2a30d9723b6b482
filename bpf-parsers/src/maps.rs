//! Maps of kinds array and hash: memory that outlives one run of a program, and that programs share.
//!
//! Values live in atomic words, so that several threads may run one program at once: what the kernel's programs may
//! see of each other's plain stores, these may see too, and atomic instructions are atomic. All memory is taken when a
//! map is made.
//!
//! A hash map has a lock, which is held only inside a call: whoever forks must see to it that no thread is in one.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::errno::{E2BIG, EEXIST, EINVAL, ENOENT, ENOMEM};

/// What a map may hold in all, in bytes of values and keys: a program in somebody else's process gets no more.
pub const MAX_MAP_BYTES: u64 = 16 << 20;

/// The largest key in bytes: it must fit a program's stack.
pub const MAX_KEY_BYTES: u32 = 512;

/// Update only an element that exists (`BPF_EXIST`).
pub const BPF_EXIST: u64 = 2;
/// Update only an element that does not exist yet (`BPF_NOEXIST`).
pub const BPF_NOEXIST: u64 = 1;
/// Whatever exists, update (`BPF_ANY`).
pub const BPF_ANY: u64 = 0;

/// The kinds of maps that programs may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`.
    Hash,
    /// `BPF_MAP_TYPE_ARRAY`.
    Array,
}

impl MapKind {
    /// The kind of a `BPF_MAP_TYPE_` number; `None` for one that parsers cannot use.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Hash),
            2 => Some(Self::Array),
            _ => None,
        }
    }
}

/// Kind and sizes of a map, as `BPF_MAP_CREATE` takes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapDef {
    /// Array or hash.
    pub kind: MapKind,
    /// Bytes of a key; 4 for an array.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// How many elements fit.
    pub max_entries: u32,
    /// Programs may read only (`BPF_F_RDONLY_PROG`), as constants in a `.rodata` section are.
    pub read_only: bool,
}

impl MapDef {
    /// What such a map takes, in bytes of values and keys.
    pub fn bytes(&self) -> u64 {
        let element = u64::from(self.value_size.div_ceil(8)) * 8 + u64::from(self.key_size);
        element.saturating_mul(u64::from(self.max_entries))
    }
}

/// A map.
#[derive(Debug)]
pub struct Map {
    def: MapDef,
    /// Words of one value.
    stride: u32,
    words: Box<[AtomicU64]>,
    /// A hash map's elements, and places that are free.
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    places: BTreeMap<Box<[u8]>, u32>,
    free: Vec<u32>,
    /// Places from here on were never used.
    fresh: u32,
}

impl Index {
    fn unused(&mut self, max: u32) -> Option<u32> {
        if let Some(place) = self.free.pop() {
            return Some(place);
        }
        let place = self.fresh;
        self.fresh += u32::from(place < max);
        (place < max).then_some(place)
    }
}

impl Map {
    /// Makes an empty map; an array's values are zero.
    ///
    /// # Errors
    /// `EINVAL` for sizes of zero and a key that no array has, `E2BIG` above [`MAX_KEY_BYTES`] and [`MAX_MAP_BYTES`],
    /// `ENOMEM`.
    pub fn new(def: MapDef) -> Result<Self, i32> {
        let array_key = def.key_size == 4;
        if def.key_size == 0 || def.value_size == 0 || def.max_entries == 0 {
            return Err(EINVAL);
        }
        if def.kind == MapKind::Array && !array_key {
            return Err(EINVAL);
        }
        if def.key_size > MAX_KEY_BYTES || def.bytes() > MAX_MAP_BYTES {
            return Err(E2BIG);
        }
        let stride = def.value_size.div_ceil(8);
        let count = (stride * def.max_entries) as usize;
        let mut words = Vec::new();
        words.try_reserve_exact(count).map_err(|_| ENOMEM)?;
        words.resize_with(count, || AtomicU64::new(0));
        Ok(Self { def, stride, words: words.into(), index: Mutex::default() })
    }

    /// Kind and sizes.
    pub const fn def(&self) -> MapDef {
        self.def
    }

    /// The value of `key`, in `value`, which is as long as a value or shorter.
    ///
    /// # Errors
    /// `ENOENT`; `EINVAL` for a key of the wrong length.
    pub fn get(&self, key: &[u8], value: &mut [u8]) -> Result<(), i32> {
        self.check_key(key)?;
        let at = self.find(key).ok_or(ENOENT)?;
        for (offset, byte) in (0..self.def.value_size).zip(value) {
            *byte = self.load(at + offset, 1).unwrap_or(0) as u8;
        }
        Ok(())
    }

    /// Stores `value` under `key`; `flags` is [`BPF_ANY`], [`BPF_EXIST`] or [`BPF_NOEXIST`].
    ///
    /// # Errors
    /// `EINVAL` for other flags or wrong lengths, `E2BIG` when the map is full or the index too high, `EEXIST` and
    /// `ENOENT` as the flags ask.
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), i32> {
        if value.len() != self.def.value_size as usize {
            return Err(EINVAL);
        }
        let at = self.place(key, flags)?;
        for (offset, byte) in (0u32..).zip(value) {
            self.store(at + offset, 1, u64::from(*byte));
        }
        Ok(())
    }

    /// Removes the element of `key`.
    ///
    /// # Errors
    /// `ENOENT`; `EINVAL` for an array, whose elements stay, or a key of the wrong length.
    pub fn delete(&self, key: &[u8]) -> Result<(), i32> {
        self.check_key(key)?;
        if self.def.kind == MapKind::Array {
            return Err(EINVAL);
        }
        let mut index = self.index();
        let place = index.places.remove(key).ok_or(ENOENT)?;
        index.free.push(place);
        Ok(())
    }

    /// The key after `key`, or the first for `None` and for a key that is not there.
    ///
    /// # Errors
    /// `ENOENT` after the last; `EINVAL` for a key of the wrong length.
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, i32> {
        if let Some(key) = key {
            self.check_key(key)?;
        }
        match self.def.kind {
            MapKind::Array => {
                let index = key.and_then(array_index).filter(|index| *index < self.def.max_entries);
                let next = index.map_or(0, |index| index + 1);
                if next < self.def.max_entries { Ok(next.to_le_bytes().to_vec()) } else { Err(ENOENT) }
            }
            MapKind::Hash => {
                let index = self.index();
                let from = key.filter(|key| index.places.contains_key(*key)).map_or(Bound::Unbounded, Bound::Excluded);
                let next = index.places.range::<[u8], _>((from, Bound::Unbounded)).next();
                next.map(|(key, _)| key.to_vec()).ok_or(ENOENT)
            }
        }
    }

    /// No call is inside the map's lock while the answer lives: for whoever forks.
    pub fn hold(&self) -> impl Sized + '_ {
        self.index()
    }

    /// What the map holds, for [`Map::fill`]: of an array its values, up to the last one that is not zero; of a hash map
    /// its keys, each followed by its value.
    pub fn contents(&self) -> Vec<u8> {
        let value = |place: u32| {
            let start = place * self.stride * 8;
            (start..start + self.def.value_size).map(|at| self.load(at, 1).unwrap_or(0) as u8)
        };
        match self.def.kind {
            MapKind::Array => {
                let last = self.words.iter().rposition(|word| word.load(Relaxed) != 0);
                let used = last.map_or(0, |word| word as u32 / self.stride + 1);
                (0..used).flat_map(value).collect()
            }
            MapKind::Hash => {
                let index = self.index();
                index.places.iter().flat_map(|(key, place)| key.iter().copied().chain(value(*place))).collect()
            }
        }
    }

    /// Stores what [`Map::contents`] gave.
    ///
    /// # Errors
    /// `EINVAL` when the bytes are no whole elements, `E2BIG` when they are too many.
    pub fn fill(&self, contents: &[u8]) -> Result<(), i32> {
        let key_size = self.def.key_size as usize;
        let value_size = self.def.value_size as usize;
        match self.def.kind {
            MapKind::Array => (0u32..)
                .zip(contents.chunks(value_size))
                .try_for_each(|(index, value)| self.update(&index.to_le_bytes(), value, BPF_ANY)),
            MapKind::Hash => contents.chunks(key_size + value_size).try_for_each(|element| {
                let (key, value) = element.split_at_checked(key_size).ok_or(EINVAL)?;
                self.update(key, value, BPF_ANY)
            }),
        }
    }

    fn check_key(&self, key: &[u8]) -> Result<(), i32> {
        if key.len() == self.def.key_size as usize { Ok(()) } else { Err(EINVAL) }
    }

    /// Where the value of `key` begins, in bytes from the map's start.
    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        let place = match self.def.kind {
            MapKind::Array => array_index(key).filter(|index| *index < self.def.max_entries)?,
            MapKind::Hash => *self.index().places.get(key)?,
        };
        Some(place * self.stride * 8)
    }

    /// Where to store the value of `key`, which gets a place if the flags allow it.
    pub(crate) fn place(&self, key: &[u8], flags: u64) -> Result<u32, i32> {
        self.check_key(key)?;
        if flags > BPF_EXIST {
            return Err(EINVAL);
        }
        if self.def.kind == MapKind::Array {
            let at = self.find(key).ok_or(E2BIG)?;
            return if flags == BPF_NOEXIST { Err(EEXIST) } else { Ok(at) };
        }
        let mut index = self.index();
        let place = match (index.places.get(key), flags) {
            (Some(_), BPF_NOEXIST) => return Err(EEXIST),
            (Some(place), _) => *place,
            (None, BPF_EXIST) => return Err(ENOENT),
            (None, _) => {
                let place = index.unused(self.def.max_entries).ok_or(E2BIG)?;
                index.places.insert(key.into(), place);
                place
            }
        };
        Ok(place * self.stride * 8)
    }

    /// Nothing can panic while the lock is held, so poison says nothing.
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `len` bytes at `at` are all of one value.
    pub(crate) fn holds(&self, at: u32, len: u32) -> bool {
        let in_value = at % (self.stride * 8);
        (at as usize) < self.words.len() * 8 && in_value.checked_add(len).is_some_and(|end| end <= self.def.value_size)
    }

    /// Reads `len` bytes, 1 to 8, little-endian; `None` outside a value.
    pub(crate) fn load(&self, at: u32, len: u32) -> Option<u64> {
        if !self.holds(at, len) {
            return None;
        }
        let shift = (at % 8) * 8;
        let low = self.word(at / 8)?.load(Relaxed) >> shift;
        let high = if at % 8 + len > 8 { self.word(at / 8 + 1)?.load(Relaxed) << (64 - shift) } else { 0 };
        Some((low | high) & mask(len))
    }

    /// Writes `len` bytes, 1 to 8, at once if they are aligned; false outside a value.
    pub(crate) fn store(&self, at: u32, len: u32, value: u64) -> bool {
        if at % 8 + len <= 8 {
            return self.modify(at, len, |_| value).is_some();
        }
        self.holds(at, len) && (0..len).all(|byte| self.modify(at + byte, 1, |_| value >> (byte * 8)).is_some())
    }

    /// Replaces `len` aligned bytes, 1 to 8, by what `change` makes of them, at once; the old ones. `None` outside a
    /// value.
    pub(crate) fn modify(&self, at: u32, len: u32, change: impl Fn(u64) -> u64) -> Option<u64> {
        if !self.holds(at, len) || at % 8 + len > 8 {
            return None;
        }
        let shift = (at % 8) * 8;
        let part = |word: u64| (word >> shift) & mask(len);
        let renew = |word: u64| (word & !(mask(len) << shift)) | ((change(part(word)) & mask(len)) << shift);
        let word = self.word(at / 8)?;
        let mut seen = word.load(Relaxed);
        loop {
            match word.compare_exchange_weak(seen, renew(seen), Relaxed, Relaxed) {
                Ok(old) => return Some(part(old)),
                Err(now) => seen = now,
            }
        }
    }

    fn word(&self, index: u32) -> Option<&AtomicU64> {
        self.words.get(index as usize)
    }
}

const fn mask(len: u32) -> u64 {
    if len >= 8 { u64::MAX } else { (1 << (len * 8)) - 1 }
}

fn array_index(key: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(key.try_into().ok()?))
}
