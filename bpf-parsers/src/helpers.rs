//! The kernel's functions that parsers may call.

use crate::errno::EFAULT;
use crate::eval::Fault;
use crate::maps::{MAX_KEY_BYTES, Map};
use crate::memory::{Memory, Value, is_context};
use crate::packet::Packet;

/// A helper, by its number in `linux/bpf.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Helper {
    MapLookup,
    MapUpdate,
    MapDelete,
    LoadBytes,
    LoadBytesRelative,
}

impl Helper {
    pub(crate) const fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::MapLookup,
            2 => Self::MapUpdate,
            3 => Self::MapDelete,
            26 => Self::LoadBytes,
            68 => Self::LoadBytesRelative,
            _ => return None,
        })
    }

    /// How many arguments it takes, from R1 on.
    pub(crate) const fn arguments(self) -> u8 {
        match self {
            Self::MapLookup | Self::MapDelete => 2,
            Self::MapUpdate | Self::LoadBytes => 4,
            Self::LoadBytesRelative => 5,
        }
    }

    pub(crate) const fn takes_context(self) -> bool {
        matches!(self, Self::LoadBytes | Self::LoadBytesRelative)
    }
}

impl<P: Packet + ?Sized, const FRAMES: usize> Memory<'_, P, FRAMES> {
    /// Calls `helper` with R1 to R5; the result is for R0.
    pub(crate) fn call(&mut self, helper: Helper, [r1, r2, r3, r4, _]: [u64; 5]) -> Result<u64, Fault> {
        match helper {
            Helper::MapLookup => {
                let (number, map) = self.map(r1)?;
                let (key, len) = self.key(map, r2)?;
                Ok(map.find(&key[..len]).map_or(0, |at| Value::address(number, at)))
            }
            Helper::MapUpdate => self.map_update(r1, r2, r3, r4),
            Helper::MapDelete => {
                let (_, map) = self.map(r1)?;
                let (key, len) = self.key(map, r2)?;
                Ok(map.delete(&key[..len]).map_or_else(errno, |()| 0))
            }
            Helper::LoadBytes => self.load_bytes(r1, r2, r3, r4),
            Helper::LoadBytesRelative => {
                if !is_context(r1) {
                    return Err(Fault::Argument);
                }
                self.fill(r3, r4, |_| 0)?;
                Ok(failed())
            }
        }
    }

    /// `bpf_map_update_elem(map, key, value, flags)`. Without a buffer: a value may be large.
    fn map_update(&mut self, map: u64, key: u64, value: u64, flags: u64) -> Result<u64, Fault> {
        let (_, map) = self.map(map)?;
        let (key, len) = self.key(map, key)?;
        let size = map.def().value_size;
        self.spend_bytes(size)?;
        for i in 0..size {
            self.load::<1>(value.wrapping_add(u64::from(i)))?;
        }
        match map.place(&key[..len], flags) {
            Ok(at) => {
                for i in 0..size {
                    let byte = self.load::<1>(value.wrapping_add(u64::from(i)))?;
                    map.store(at + i, 1, byte);
                }
                Ok(0)
            }
            Err(number) => Ok(errno(number)),
        }
    }

    /// `bpf_skb_load_bytes(skb, offset, to, len)`: 0, or -EFAULT and zeros.
    fn load_bytes(&mut self, skb: u64, offset: u64, to: u64, len: u64) -> Result<u64, Fault> {
        if !is_context(skb) || len == 0 {
            return Err(Fault::Argument);
        }
        let packet = self.packet;
        let offset = offset as u32;
        let end = u64::from(offset) + u64::from(len as u32);
        if offset > i32::MAX as u32 || end > u64::from(packet.len()) {
            self.fill(to, len, |_| 0)?;
            return Ok(failed());
        }
        match self.stack_range(to, len) {
            Some(stack) => {
                packet.read(offset, stack);
            }
            None => self.fill(to, len, |i| packet.array::<1>(offset + i).map_or(0, |[byte]| byte))?,
        }
        Ok(0)
    }

    /// Stores `len` bytes at `to`; `len` is at least 1, as the kernel's verifier sees to.
    fn fill(&mut self, to: u64, len: u64, byte: impl Fn(u32) -> u8) -> Result<(), Fault> {
        let len = u32::try_from(len).ok().filter(|len| *len > 0).ok_or(Fault::Argument)?;
        self.spend_bytes(len)?;
        for i in 0..len {
            self.store::<1>(to.wrapping_add(u64::from(i)), u64::from(byte(i)))?;
        }
        Ok(())
    }

    /// What a helper does with bytes costs as much as the steps of a program that did it.
    fn spend_bytes(&mut self, bytes: u32) -> Result<(), Fault> {
        self.spend(u64::from(bytes))
    }

    fn key(&mut self, map: &Map, address: u64) -> Result<([u8; MAX_KEY_BYTES as usize], usize), Fault> {
        let mut key = [0; MAX_KEY_BYTES as usize];
        let len = map.def().key_size;
        self.spend_bytes(len)?;
        for (i, byte) in (0..len).zip(&mut key) {
            *byte = self.load::<1>(address.wrapping_add(u64::from(i)))? as u8;
        }
        Ok((key, len as usize))
    }
}

fn failed() -> u64 {
    errno(EFAULT)
}

/// An error number as helpers return it.
fn errno(number: i32) -> u64 {
    i64::from(-number) as u64
}
