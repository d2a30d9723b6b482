//! The kernel's functions that parsers may call.

use crate::eval::Fault;
use crate::maps::Map;
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

/// The most bytes that one `bpf_skb_load_bytes` moves: a stack's worth, or a map value's.
const MAX_LOAD: u64 = 64 << 10;

impl<P: Packet + ?Sized, const FRAMES: usize> Memory<'_, P, FRAMES> {
    /// Calls `helper` with R1 to R5; the result is for R0.
    pub(crate) fn call(&mut self, helper: Helper, [r1, r2, r3, r4, _]: [u64; 5]) -> Result<u64, Fault> {
        match helper {
            Helper::MapLookup => {
                let (number, map) = self.map(r1)?;
                let (key, len) = self.key(map, r2)?;
                Ok(map.find(&key[..len]).map_or(0, |at| Value::address(number, at)))
            }
            Helper::MapUpdate => {
                let (_, map) = self.map(r1)?;
                let (key, len) = self.key(map, r2)?;
                let mut value = vec![0; map.def().value_size as usize];
                self.copy_out(r3, &mut value)?;
                Ok(answer(map.update(&key[..len], &value, r4)))
            }
            Helper::MapDelete => {
                let (_, map) = self.map(r1)?;
                let (key, len) = self.key(map, r2)?;
                Ok(answer(map.delete(&key[..len])))
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

    /// `bpf_skb_load_bytes(skb, offset, to, len)`: 0, or -EFAULT and zeros.
    fn load_bytes(&mut self, skb: u64, offset: u64, to: u64, len: u64) -> Result<u64, Fault> {
        if !is_context(skb) {
            return Err(Fault::Argument);
        }
        let packet = self.packet;
        let offset = offset as u32;
        let end = u64::from(offset) + u64::from(len as u32);
        if offset > i32::MAX as u32 || end > u64::from(packet.len()) {
            self.fill(to, len, |_| 0)?;
            return Ok(failed());
        }
        if len == 0 {
            return Err(Fault::Argument);
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
        if len == 0 || len > MAX_LOAD {
            return Err(Fault::Argument);
        }
        for i in 0..len as u32 {
            self.store::<1>(to.wrapping_add(u64::from(i)), u64::from(byte(i)))?;
        }
        Ok(())
    }

    fn key(&self, map: &Map, address: u64) -> Result<([u8; crate::maps::MAX_KEY_BYTES as usize], usize), Fault> {
        let mut key = [0; crate::maps::MAX_KEY_BYTES as usize];
        let len = map.def().key_size as usize;
        self.copy_out(address, key.get_mut(..len).ok_or(Fault::Argument)?)?;
        Ok((key, len))
    }

    fn copy_out(&self, from: u64, into: &mut [u8]) -> Result<(), Fault> {
        for (i, byte) in (0u64..).zip(into) {
            *byte = self.load::<1>(from.wrapping_add(i))? as u8;
        }
        Ok(())
    }
}

fn failed() -> u64 {
    i64::from(-crate::errno::EFAULT) as u64
}

fn answer(result: Result<(), i32>) -> u64 {
    match result {
        Ok(()) => 0,
        Err(errno) => i64::from(-errno) as u64,
    }
}
