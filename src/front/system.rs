//! Values of the machine: temporary folder, umask, clock, number of processors.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::Mode;

use super::env::{self, Env};
use crate::registry::Clock;

/// Returns the folder for temporary files.
#[must_use]
pub fn temporary_folder(env: &Env) -> PathBuf {
    env.path(env::TMPDIR).unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// Returns the umask of the process.
#[must_use]
pub fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let shown = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    if let Some(umask) = shown.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()) {
        return umask;
    }
    // The alternative, `umask()`, changes it for a moment, which other threads would see.
    let old = rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::umask(old);
    old.bits()
}

/// Returns the clock; only logins read it, because they sign requests with the time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "no output depends on it")]
pub fn clock() -> Clock {
    let since = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Arc::new(move || since().as_secs())
}

/// Returns the number of threads that compute at the same time.
#[must_use]
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
