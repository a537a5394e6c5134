//! Handles SIGINT, SIGTERM and panics.
//!
//! The first signal makes all work unwind, which removes temporary files; the second one, or 0.8 seconds later, ends
//! the process. A closed pipe is not a signal here: Rust ignores SIGPIPE, and writers see the error.

use std::io::Write as _;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};

use super::exit;
use super::failure::{Failure, Kind};
use crate::stream::{cancel, lock, temporary};

/// How long work may take to unwind; a blocked read of a socket does not unwind. The process ends within a second, as
/// supervisors and users expect.
const PATIENCE: Duration = Duration::from_millis(800);

/// The number of the first signal, or zero.
static RECEIVED: AtomicI32 = AtomicI32::new(0);

/// The function that gets the signals instead of the work.
type Taker = Box<dyn Fn(i32) -> bool + Send>;
static TAKER: Mutex<Option<Taker>> = Mutex::new(None);
/// Adds signals to the caught ones.
static HANDLE: OnceLock<Handle> = OnceLock::new();

/// While this exists, signals go to a function.
#[derive(Debug)]
#[must_use]
pub struct Taken(());

impl Drop for Taken {
    fn drop(&mut self) {
        *lock(&TAKER) = None;
    }
}

/// Passes each signal to `taker` from now on, also those that would end the process: a command that runs another one
/// passes them on, and a server ends its connections. A signal that `taker` refuses has its usual effect.
pub fn take(taker: impl Fn(i32) -> bool + Send + 'static) -> Taken {
    *lock(&TAKER) = Some(Box::new(taker));
    if let Some(handle) = HANDLE.get() {
        for signal in [SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2] {
            // A signal that cannot be caught keeps its default.
            let _ = handle.add_signal(signal);
        }
    }
    Taken(())
}

/// Starts the thread that waits for signals.
pub fn listen() {
    // With a handler, a file that exceeds `ulimit -f` is an error of the write; without one, SIGXFSZ ends the process.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    // Without handlers the signals do what they do by default: end the process.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
    let _ = HANDLE.set(signals.handle());
    let listening = move || {
        for signal in signals.forever() {
            if lock(&TAKER).as_ref().is_some_and(|taker| taker(signal)) {
                continue;
            }
            if RECEIVED.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_err() {
                leave();
            }
            cancel::cancel();
            let _ = std::thread::Builder::new().name("patience".into()).spawn(|| {
                std::thread::sleep(PATIENCE);
                leave();
            });
        }
    };
    let _ = std::thread::Builder::new().name("signals".into()).spawn(listening);
}

/// Returns the failure for a signal, if one came; it replaces the failures that the signal caused.
pub fn explain(failure: Failure) -> Failure {
    stopped().unwrap_or(failure)
}

fn stopped() -> Option<Failure> {
    match RECEIVED.load(Ordering::SeqCst) {
        0 => None,
        SIGINT => Some(Failure::new(Kind::Interrupted, "stopped by SIGINT")),
        _ => Some(Failure::new(Kind::Terminated, "stopped by SIGTERM")),
    }
}

/// Clears the screen before the last message, if the process ends without waiting for the work.
type Cleaner = Box<dyn Fn() + Send>;
static CLEANER: Mutex<Option<Cleaner>> = Mutex::new(None);
/// How long clearing may take: a blocked thread may hold a lock that it needs.
const CLEANING: Duration = Duration::from_millis(100);

/// Sets the function that runs before the last message; `None` removes it.
pub fn clear_with(cleaner: Option<Cleaner>) {
    *lock(&CLEANER) = cleaner;
}

fn clear_screen() {
    let Some(cleaner) = lock(&CLEANER).take() else { return };
    let (done, waiting) = mpsc::channel();
    let clearing = move || {
        cleaner();
        let _ = done.send(());
    };
    if std::thread::Builder::new().name("clearing".into()).spawn(clearing).is_ok() {
        let _ = waiting.recv_timeout(CLEANING);
    }
}

/// Ends the process at once.
fn leave() -> ! {
    let failure = stopped().unwrap_or_else(|| Failure::new(Kind::Terminated, "stopped"));
    end(&failure);
}

/// Prints, removes temporary files and exits, without waiting for other threads.
#[expect(clippy::exit, reason = "other threads may be blocked and cannot be asked to return")]
fn end(failure: &Failure) -> ! {
    // This bypasses the guard of GitHub's log, so no workflow command may begin inside the line.
    let text = failure.render(false).replace("##[", "# #[");
    clear_screen();
    let _ = std::io::stderr().write_all(text.as_bytes());
    temporary::remove_all();
    std::process::exit(i32::from(exit::code(failure.kind)));
}

/// Turns a panic, which is always a bug of this program, into a message and an exit code of its own.
pub fn report_panics() {
    std::panic::set_hook(Box::new(on_panic));
}

fn on_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    end(&bug(text.unwrap_or("unknown"), info.location().map(ToString::to_string)));
}

fn bug(what: &str, place: Option<String>) -> Failure {
    let place = place.map(|place| format!(" at {place}")).unwrap_or_default();
    Failure::bug(format!("internal error{place}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_says_where_and_asks_for_a_report() {
        let text = bug("index out of bounds", Some("src/pack/layer.rs:1:2".into())).render(false);
        assert!(
            text.starts_with(
                "imgrelay: error: internal error at src/pack/layer.rs:1:2: index out of bounds\n"
            ),
            "{text}"
        );
        assert!(text.contains("hint: this is a bug; please report it"), "{text}");
    }

    #[test]
    fn without_a_signal_a_failure_stays_what_it_is() {
        assert_eq!(explain(Failure::refused("no")), Failure::refused("no"));
    }
}
