//! Shared ownership that can be looked up without a lock: what the table of descriptors is made of.
//!
//! `Arc` cannot do it: between loading a pointer and counting the load, another thread may free what it points to.
//! Here the memory of a node is never returned, only recycled, so that counting is always possible; afterwards the
//! cell is read again, and a node that meanwhile moved on is let go.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ops::Deref;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::Mutex;

/// A recyclable node. Count 0 means that nobody may touch `value`.
pub struct Node<T> {
    count: AtomicU32,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: `value` is reached only through counted references, which hand out `&T`, and dropped by the last of them.
unsafe impl<T: Send + Sync> Sync for Node<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Send for Node<T> {}

impl<T> core::fmt::Debug for Node<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Node")
    }
}

/// Where nodes come from and return to.
#[derive(Debug)]
pub struct Pool<T: 'static> {
    free: Mutex<Vec<&'static Node<T>>>,
}

impl<T: Send + Sync + 'static> Pool<T> {
    /// An empty pool.
    pub const fn new() -> Self {
        Self { free: Mutex::new(Vec::new()) }
    }

    /// A new value with one owner.
    pub fn put(&'static self, value: T) -> Counted<T> {
        let recycled = self.free.lock().unwrap_or_else(|e| e.into_inner()).pop();
        let node = recycled.unwrap_or_else(|| {
            Box::leak(Box::new(Node { count: AtomicU32::new(0), value: UnsafeCell::new(MaybeUninit::uninit()) }))
        });
        // SAFETY: the count is 0 and the node is in no list: nobody else touches the value.
        unsafe { (*node.value.get()).write(value) };
        node.count.store(1, Ordering::Release);
        Counted { node, pool: self }
    }

    /// Runs `during` while no node can enter or leave the pool (for fork).
    pub fn hold<R>(&self, during: impl FnOnce() -> R) -> R {
        let _held = self.free.lock().unwrap_or_else(|e| e.into_inner());
        during()
    }
}

impl<T: Send + Sync + 'static> Default for Pool<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// One of the owners of a value.
#[derive(Debug)]
pub struct Counted<T: Send + Sync + 'static> {
    node: &'static Node<T>,
    pool: &'static Pool<T>,
}

impl<T: Send + Sync> Deref for Counted<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a counted reference exists, so the value is initialised and is not dropped.
        unsafe { (*self.node.value.get()).assume_init_ref() }
    }
}

impl<T: Send + Sync> Clone for Counted<T> {
    fn clone(&self) -> Self {
        self.node.count.fetch_add(1, Ordering::Relaxed);
        Self { node: self.node, pool: self.pool }
    }
}

impl<T: Send + Sync> Counted<T> {
    /// How many owners there are: a number that may have changed when it is looked at, where other threads are.
    pub fn owners(&self) -> u32 {
        self.node.count.load(Ordering::Relaxed)
    }

    /// Lets go of it where nothing may be freed: in a signal handler. A value whose other owners all have let go meanwhile
    /// is lost, with what it owns.
    pub fn let_go_unfreed(self) {
        self.node.count.fetch_sub(1, Ordering::AcqRel);
        core::mem::forget(self);
    }

    /// Whether both own the same value.
    pub fn same(&self, other: &Self) -> bool {
        core::ptr::eq(self.node, other.node)
    }
}

impl<T: Send + Sync> Drop for Counted<T> {
    #[inline]
    fn drop(&mut self) {
        if self.node.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: this was the last reference, and at count 0 `Cell::load` makes no new one.
            unsafe { (*self.node.value.get()).assume_init_drop() };
            self.pool.free.lock().unwrap_or_else(|e| e.into_inner()).push(self.node);
        }
    }
}

/// A place that owns a value or is empty, and can be read by any thread at any time.
#[derive(Debug)]
pub struct Cell<T: 'static> {
    node: AtomicPtr<Node<T>>,
}

impl<T: Send + Sync + 'static> Cell<T> {
    /// An empty place.
    pub const fn new() -> Self {
        Self { node: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// Whether it is empty, at no cost.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.node.load(Ordering::Relaxed).is_null()
    }

    /// The value, counted, if there is one.
    #[inline]
    pub fn load(&self, pool: &'static Pool<T>) -> Option<Counted<T>> {
        loop {
            let seen = self.node.load(Ordering::Acquire);
            // SAFETY: nodes are leaked boxes, valid for ever.
            let node: &'static Node<T> = unsafe { seen.as_ref() }?;
            let mut count = node.count.load(Ordering::Relaxed);
            while count != 0 {
                match node.count.compare_exchange_weak(count, count + 1, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => break,
                    Err(now) => count = now,
                }
            }
            if count == 0 {
                continue;
            }
            let found = Counted { node, pool };
            if self.node.load(Ordering::Acquire) == seen {
                return Some(found);
            }
        }
    }

    /// Empties the place where nothing may be freed; what was there keeps an owner for ever.
    pub fn abandon(&self) {
        self.node.store(core::ptr::null_mut(), Ordering::Release);
    }

    /// Puts a value in, or empties the place; answers what was there.
    pub fn replace(&self, value: Option<Counted<T>>, pool: &'static Pool<T>) -> Option<Counted<T>> {
        let new = value.map_or(core::ptr::null_mut(), |value| {
            let node = core::ptr::from_ref(value.node).cast_mut();
            core::mem::forget(value);
            node
        });
        let old = self.node.swap(new, Ordering::AcqRel);
        // SAFETY: as in `load`; the count that the cell held passes to the answer.
        unsafe { old.as_ref() }.map(|node| Counted { node, pool })
    }
}

impl<T: Send + Sync + 'static> Default for Cell<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, Pool};
    use std::sync::atomic::{AtomicU64, Ordering};

    static POOL: Pool<Box<u64>> = Pool::new();
    static CELL: Cell<Box<u64>> = Cell::new();

    #[test]
    fn readers_never_see_a_dropped_value() {
        let seen = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while seen.load(Ordering::Relaxed) < 20_000 {
                        if let Some(value) = CELL.load(&POOL) {
                            assert_eq!(**value & 0xffff, 0x5a5a);
                            seen.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            let mut n = 0u64;
            while seen.load(Ordering::Relaxed) < 20_000 {
                n += 1;
                let value = (!n.is_multiple_of(3)).then(|| POOL.put(Box::new(n << 16 | 0x5a5a)));
                drop(CELL.replace(value, &POOL));
            }
        });
        drop(CELL.replace(None, &POOL));
    }
}
