//! The memory that a program reaches: an address space of its own.
//!
//! A pointer is a number whose upper half names a region and whose lower half is an offset in it: the stack, the
//! context, or one map's values. Every access is looked up and held against the region's bounds, so whatever a program
//! computes, it reads and writes only what is its own. Addresses mean nothing outside.

use std::sync::Arc;

use crate::eval::{Fault, MAX_STEPS};
use crate::maps::Map;
use crate::packet::Packet;
use crate::skb::{self, Fields};

/// Bytes of stack that a function has (`MAX_BPF_STACK`).
pub(crate) const STACK_BYTES: u32 = 512;
/// Stacks of nested functions lie this far apart: the gap belongs to nobody.
const STACK_STRIDE: u32 = 1024;

const STACK: u32 = 1;
const CONTEXT: u32 = 2;
/// Handles of maps, in which nothing can be read.
const HANDLE: u32 = 3;
/// The first map's values; the next map's are in the next region.
const VALUES: u32 = 16;

const fn address(region: u32, offset: u32) -> u64 {
    (region as u64) << 32 | offset as u64
}

const fn parts(address: u64) -> (u32, u32) {
    ((address >> 32) as u32, address as u32)
}

/// The context's address, R1 at the start.
pub(crate) const CONTEXT_START: u64 = address(CONTEXT, 0);

pub(crate) const fn is_context(address: u64) -> bool {
    address == CONTEXT_START
}

/// The end of the stack of the function at call depth `depth`: R10.
pub(crate) const fn stack_end(depth: u32) -> u64 {
    address(STACK, depth * STACK_STRIDE + STACK_BYTES)
}

/// What a map is called by: the operand of map helpers.
pub(crate) const fn handle(map: u32) -> u64 {
    address(HANDLE, map)
}

/// Addresses of maps' values.
pub(crate) struct Value;

impl Value {
    /// Byte `at` of the values of map number `map`.
    pub(crate) const fn address(map: u32, at: u32) -> u64 {
        address(VALUES.wrapping_add(map), at)
    }
}

/// One run's memory. `FRAMES` is how many functions may be nested, or 0 for a program that has no use for a stack.
pub(crate) struct Memory<'a, P: Packet + ?Sized, const FRAMES: usize> {
    pub(crate) packet: &'a P,
    fields: &'a Fields,
    maps: &'a [Arc<Map>],
    stack: [[u8; STACK_BYTES as usize]; FRAMES],
    cb: [u8; (skb::CB.end - skb::CB.start) as usize],
    /// How many steps are left.
    fuel: u64,
}

impl<'a, P: Packet + ?Sized, const FRAMES: usize> Memory<'a, P, FRAMES> {
    #[inline]
    pub(crate) fn new(packet: &'a P, fields: &'a Fields, maps: &'a [Arc<Map>]) -> Self {
        Self { packet, fields, maps, stack: [[0; STACK_BYTES as usize]; FRAMES], cb: [0; 20], fuel: MAX_STEPS }
    }

    /// Takes steps off what is left.
    #[inline]
    pub(crate) fn spend(&mut self, steps: u64) -> Result<(), Fault> {
        self.fuel = self.fuel.checked_sub(steps).ok_or(Fault::Steps)?;
        Ok(())
    }

    /// Reads `N` bytes, little-endian.
    #[inline]
    pub(crate) fn load<const N: usize>(&self, address: u64) -> Result<u64, Fault> {
        let (region, offset) = parts(address);
        match region {
            STACK => self.stack_at::<N>(offset).map(|bytes| widen(*bytes)),
            CONTEXT => self.load_context(offset, N as u32),
            _ => self.values(region)?.load(offset, N as u32),
        }
        .ok_or(Fault::Memory)
    }

    /// Writes the low `N` bytes of `value`, little-endian.
    #[inline]
    pub(crate) fn store<const N: usize>(&mut self, address: u64, value: u64) -> Result<(), Fault> {
        let (region, offset) = parts(address);
        match region {
            STACK => *self.stack_at_mut::<N>(offset).ok_or(Fault::Memory)? = narrow(value),
            CONTEXT => self.store_context::<N>(offset, value).ok_or(Fault::Memory)?,
            _ => {
                let map = self.values(region)?;
                if map.def().read_only || !map.store(offset, N as u32, value) {
                    return Err(Fault::Memory);
                }
            }
        }
        Ok(())
    }

    /// Replaces `N` bytes by what `change` makes of them, at once where other threads could look; the old ones.
    pub(crate) fn modify<const N: usize>(&mut self, address: u64, change: impl Fn(u64) -> u64) -> Result<u64, Fault> {
        let (region, offset) = parts(address);
        match region {
            STACK => {
                let bytes = self.stack_at_mut::<N>(offset).ok_or(Fault::Memory)?;
                let old = widen(*bytes);
                *bytes = narrow(change(old));
                Ok(old)
            }
            CONTEXT => Err(Fault::Memory),
            _ => {
                let map = self.values(region)?;
                if map.def().read_only || !offset.is_multiple_of(N as u32) {
                    return Err(Fault::Memory);
                }
                map.modify(offset, N as u32, change).ok_or(Fault::Memory)
            }
        }
    }

    /// The map of a handle, with its number.
    pub(crate) fn map(&self, address: u64) -> Result<(u32, &'a Map), Fault> {
        let (region, number) = parts(address);
        let map = self.maps.get(number as usize).filter(|_| region == HANDLE);
        Ok((number, map.ok_or(Fault::Argument)?))
    }

    fn values(&self, region: u32) -> Result<&'a Map, Fault> {
        let number = region.checked_sub(VALUES).ok_or(Fault::Memory)?;
        Ok(self.maps.get(number as usize).ok_or(Fault::Memory)?)
    }

    #[inline]
    fn stack_at<const N: usize>(&self, offset: u32) -> Option<&[u8; N]> {
        let frame = self.stack.get((offset / STACK_STRIDE) as usize)?;
        frame.get((offset % STACK_STRIDE) as usize..)?.first_chunk()
    }

    #[inline]
    fn stack_at_mut<const N: usize>(&mut self, offset: u32) -> Option<&mut [u8; N]> {
        let frame = self.stack.get_mut((offset / STACK_STRIDE) as usize)?;
        frame.get_mut((offset % STACK_STRIDE) as usize..)?.first_chunk_mut()
    }

    /// `len` bytes of the stack.
    pub(crate) fn stack_range(&mut self, address: u64, len: u64) -> Option<&mut [u8]> {
        let (region, offset) = parts(address);
        let frame = self.stack.get_mut((offset / STACK_STRIDE) as usize).filter(|_| region == STACK)?;
        frame.get_mut((offset % STACK_STRIDE) as usize..)?.get_mut(..usize::try_from(len).ok()?)
    }

    fn load_context(&self, offset: u32, width: u32) -> Option<u64> {
        if !skb::may_access(offset, width, false) {
            return None;
        }
        if skb::CB.contains(&offset) {
            let bytes = self.cb.get((offset - skb::CB.start) as usize..)?.get(..width as usize)?;
            return Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)));
        }
        if skb::is_address(offset, width) {
            return Some(0);
        }
        self.fields.load(offset, width, self.packet.len()).map(u64::from)
    }

    fn store_context<const N: usize>(&mut self, offset: u32, value: u64) -> Option<()> {
        if !skb::may_access(offset, N as u32, true) {
            return None;
        }
        *self.cb.get_mut((offset - skb::CB.start) as usize..)?.first_chunk_mut()? = narrow::<N>(value);
        Some(())
    }
}

#[inline]
fn widen<const N: usize>(bytes: [u8; N]) -> u64 {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&bytes);
    u64::from_le_bytes(wide)
}

#[inline]
fn narrow<const N: usize>(value: u64) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&value.to_le_bytes()[..N]);
    bytes
}
