//! Waiting for a condition.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Polls until the condition holds.
///
/// # Errors
/// The condition's own error, or that it did not hold within the limit.
pub fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    const PERIOD: Duration = Duration::from_millis(2);
    let deadline = Instant::now() + limit;
    while !holds()? {
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain until {what}");
        }
        sleep(PERIOD);
    }
    Ok(())
}
