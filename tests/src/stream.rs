//! Contents of connections: bytes that tell where they belong.

/// Bytes of the stream `number` from `start` on: every eight of them say where they stand.
pub fn fill(number: u64, start: u64, out: &mut [u8]) {
    for (at, byte) in (start..).zip(out) {
        let word = (at / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number << 48;
        *byte = word.to_le_bytes()[(at % 8) as usize];
    }
}
