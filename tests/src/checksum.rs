//! Contents to send, and their checksums.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

const BLOCK: usize = 1 << 16;

/// Writes a file of pseudo-random contents and returns its SHA-256.
///
/// # Errors
/// When the file cannot be written.
pub fn random_file(path: &Path, bytes: u64, seed: u64) -> Result<String> {
    let mut generator = SmallRng::seed_from_u64(seed);
    let mut file = BufWriter::new(File::create(path).with_context(|| format!("creating {}", path.display()))?);
    let mut digest = Sha256::new();
    let mut block = [0; BLOCK];
    let mut left = bytes;
    while left > 0 {
        let part = &mut block[..left.min(BLOCK as u64) as usize];
        generator.fill_bytes(part);
        digest.update(&*part);
        file.write_all(part)?;
        left -= part.len() as u64;
    }
    file.flush()?;
    Ok(hex(digest))
}

/// SHA-256 of a file.
///
/// # Errors
/// When it cannot be read.
pub fn of_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut digest = Sha256::new();
    let mut block = [0; BLOCK];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hex(digest)),
            count => digest.update(&block[..count]),
        }
    }
}

/// Compares a received file with the checksum of what was sent.
///
/// # Errors
/// When they differ.
pub fn expect_file(path: &Path, sent: &str) -> Result<()> {
    let received = of_file(path)?;
    ensure!(received == sent, "{}: received {received}, sent {sent}", path.display());
    Ok(())
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_checksum_it_was_written_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("contents");
        let sent = random_file(&path, 3 * BLOCK as u64 + 17, 1).unwrap();
        assert_eq!(path.metadata().unwrap().len(), 3 * BLOCK as u64 + 17);
        assert!(expect_file(&path, &sent).is_ok());
        std::fs::write(&path, b"abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(expect_file(&path, known).is_ok());
        assert!(expect_file(&path, &sent).is_err());
    }
}
