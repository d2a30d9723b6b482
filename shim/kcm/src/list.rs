//! First come, first served: lists of indexes, as the kernel's `list_head`s, each index at most once in a list.

use core::marker::PhantomData;

use zerocopy::TryFromBytes;

use crate::id::{Id, PLACES, Set};

/// A list of indexes in the order in which they came. All zeros is the empty list: a link is an index plus one.
#[repr(C)]
#[derive(Clone, Copy, Debug, TryFromBytes)]
pub struct Fifo<T> {
    next: [u16; PLACES],
    previous: [u16; PLACES],
    first: u16,
    last: u16,
    members: Set<T>,
    of: PhantomData<T>,
}

impl<T: Id> Fifo<T> {
    /// The empty list.
    pub const EMPTY: Self =
        Self { next: [0; PLACES], previous: [0; PLACES], first: 0, last: 0, members: Set::EMPTY, of: PhantomData };

    /// Whether `id` is in the list.
    pub fn contains(&self, id: T) -> bool {
        self.members.contains(id)
    }

    /// All that are in it.
    pub(crate) fn all(&self) -> Set<T> {
        self.members
    }

    /// Who came first of those that are in `some`, and pass the test. It looks along the list only where they are several.
    pub(crate) fn first_of(&self, some: Set<T>, passes: impl Fn(T) -> bool) -> Option<T> {
        let some = some.and(self.members);
        match some.only() {
            Some(only) => Some(only).filter(|&id| passes(id)),
            None if some.is_empty() => None,
            None => self.iter().find(|&id| some.contains(id) && passes(id)),
        }
    }

    /// Whether nothing is in the list.
    pub fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    /// Who came first.
    pub fn first(&self) -> Option<T> {
        self.member(self.first)
    }

    /// Puts `id` at the end, unless it is in the list already.
    pub fn push_back(&mut self, id: T) {
        if !self.members.insert(id) {
            return;
        }
        let (place, last) = (usize::from(id.place()), index::<T>(self.last));
        self.next[place] = 0;
        self.previous[place] = self.last;
        match last {
            Some(last) => self.next[usize::from(last.place())] = link(id),
            None => self.first = link(id),
        }
        self.last = link(id);
    }

    /// Takes `id` out, wherever it is; false when it is not in the list.
    pub fn remove(&mut self, id: T) -> bool {
        if !self.members.remove(id) {
            return false;
        }
        let place = usize::from(id.place());
        let (previous, next) = (self.previous[place], self.next[place]);
        match index::<T>(previous) {
            Some(previous) => self.next[usize::from(previous.place())] = next,
            None => self.first = next,
        }
        match index::<T>(next) {
            Some(next) => self.previous[usize::from(next.place())] = previous,
            None => self.last = previous,
        }
        true
    }

    /// Takes the first one out.
    pub fn pop_front(&mut self) -> Option<T> {
        let first = self.first()?;
        self.remove(first);
        Some(first)
    }

    /// The indexes in their order. It ends, whatever the links say.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        let mut at = self.first();
        let next = move || {
            let this = at?;
            at = self.member(self.next[usize::from(this.place())]);
            Some(this)
        };
        core::iter::from_fn(next).take(PLACES)
    }

    /// Links the list anew: those of its members that belong to it, in their order as far as the links tell it, and then
    /// all that must be in it.
    pub(crate) fn repair(&mut self, belongs: impl Fn(T) -> bool, must: impl Fn(T) -> bool) {
        let mut sound = Self::EMPTY;
        let all = || (0..=u8::MAX).map(T::at);
        let members = self.iter().chain(self.members.iter()).filter(|&id| belongs(id));
        members.chain(all().filter(|&id| must(id))).for_each(|id| sound.push_back(id));
        *self = sound;
    }

    fn member(&self, link: u16) -> Option<T> {
        index(link).filter(|&id| self.members.contains(id))
    }
}

fn link<T: Id>(id: T) -> u16 {
    u16::from(id.place()) + 1
}

fn index<T: Id>(link: u16) -> Option<T> {
    u8::try_from(link.checked_sub(1)?).ok().map(T::at)
}

#[cfg(test)]
impl<T: Id> Fifo<T> {
    /// Wrong links.
    pub(crate) fn scramble(&mut self, mut random: impl FnMut() -> u64) {
        self.next = self.next.map(|_| random() as u16);
        self.previous = self.previous.map(|_| random() as u16);
        (self.first, self.last) = (random() as u16, random() as u16);
        (0..random() % 300).for_each(|_| self.members.assign(T::at(random() as u8), random() & 1 == 0));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::Fifo;
    use crate::id::PsockId;

    proptest! {
        #[test]
        fn is_a_queue_from_whose_middle_one_may_leave(steps in prop::collection::vec((0..3u8, any::<u8>()), 0..200)) {
            let (mut list, mut model) = (Fifo::<PsockId>::EMPTY, VecDeque::new());
            for (step, n) in steps {
                let id = PsockId(n);
                match step {
                    0 => {
                        if !model.contains(&id) {
                            model.push_back(id);
                        }
                        list.push_back(id);
                    }
                    1 => {
                        let was = model.contains(&id);
                        model.retain(|other| *other != id);
                        prop_assert_eq!(list.remove(id), was);
                    }
                    _ => prop_assert_eq!(list.pop_front(), model.pop_front()),
                }
                prop_assert!(list.iter().eq(model.iter().copied()));
                prop_assert_eq!(list.is_empty(), model.is_empty());
            }
        }
    }
}
