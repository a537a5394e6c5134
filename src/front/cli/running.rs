//! Runs the user's command: arguments, environment, signals, exit code.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU8;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, Sender};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpgrp, kill_process, waitid};
use rustix::termios::tcgetpgrp;
use signal_hook::consts::SIGINT;

use crate::front::failure::{Failure, Kind};

/// The variable with the address. It does not begin with `IMGRELAY_`: an `imgrelay` that the command runs would read it
/// as a flag.
pub(super) const VARIABLE: &str = "SERVED_REGISTRY";
/// The text that is replaced by the address in the command's arguments.
const PLACE: &[u8] = b"{registry}";

/// Events while a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// This process got a signal.
    Signal(i32),
    /// The command ended.
    Ended,
}

/// Runs a command to its end, and passes on the signals that `events` has.
///
/// Errors: [`Kind::Command`] with the command's exit code, 128 and the signal's number if one ended it; a command
/// that cannot be started.
pub(super) fn run(
    command: &[OsString],
    registry: &str,
    sender: &Sender<Event>,
    events: &Receiver<Event>,
) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let shown = program.to_string_lossy();
    let mut child = Command::new(program)
        .args(arguments.iter().map(|word| with_address(word, registry)))
        .env(VARIABLE, registry)
        .spawn()
        .map_err(|error| Failure::refused(format!("cannot run `{shown}`: {error}")))?;
    let pid = Pid::from_child(&child);
    let sender = sender.clone();
    let wait = move || {
        // The process id belongs to the command until `child.wait`, so that no signal goes to another process.
        while let Err(rustix::io::Errno::INTR) =
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        {}
        let _ = sender.send(Event::Ended);
    };
    let failed = |error: std::io::Error| Failure::refused(format!("cannot wait for `{shown}`: {error}"));
    if let Err(error) = std::thread::Builder::new().name("command".into()).spawn(wait) {
        end(&mut child);
        return Err(failed(error));
    }
    while let Ok(Event::Signal(signal)) = events.recv() {
        pass_on(signal, pid);
    }
    outcome(&shown, child.wait().map_err(failed)?)
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Replaces the placeholder in an argument.
fn with_address(word: &OsStr, registry: &str) -> OsString {
    let mut rest = word.as_bytes();
    let mut replaced = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        match rest.strip_prefix(PLACE) {
            Some(after) => {
                replaced.extend_from_slice(registry.as_bytes());
                rest = after;
            }
            None => {
                replaced.push(rest[0]);
                rest = &rest[1..];
            }
        }
    }
    OsString::from_vec(replaced)
}

/// Sends a signal to the command, unless the terminal has sent it already: Ctrl-C sends SIGINT to all foreground
/// processes, and many programs end at once after a second SIGINT.
fn pass_on(signal: i32, pid: Pid) {
    if signal == SIGINT && is_in_front_of_terminal() {
        return;
    }
    if let Some(signal) = Signal::from_named_raw(signal) {
        let _ = kill_process(pid, signal);
    }
}

fn is_in_front_of_terminal() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(&terminal).is_ok_and(|group| group == getpgrp()))
}

fn outcome(shown: &str, status: ExitStatus) -> Result<(), Failure> {
    let (code, text) = match (status.code(), status.signal()) {
        (Some(0), _) => return Ok(()),
        (Some(code), _) => (code, format!("`{shown}` ended with exit code {code}")),
        // The shell's convention.
        (None, Some(signal)) => (128 + signal, format!("`{shown}` was ended by signal {signal}")),
        (None, None) => (1, format!("`{shown}` ended without an exit code")),
    };
    let code = u8::try_from(code).ok().and_then(NonZeroU8::new).unwrap_or(NonZeroU8::MIN);
    Err(Failure::new(Kind::Command(code), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_in_a_word_gets_the_address() {
        let replaced = |word: &str| with_address(OsStr::new(word), "h:1").into_string().unwrap();
        assert_eq!(replaced("docker://{registry}/a,{registry}"), "docker://h:1/a,h:1");
        assert_eq!(replaced("{registry"), "{registry");
        assert_eq!(replaced("{{registry}}"), "{h:1}");
        assert_eq!(replaced(""), "");
        let invalid = OsString::from_vec(b"\xff{registry}".to_vec());
        assert_eq!(with_address(&invalid, "h").as_bytes(), b"\xffh");
    }

    #[test]
    fn the_commands_exit_code_is_passed_on() {
        let of = |raw: i32| outcome("x", ExitStatus::from_raw(raw)).map_err(|failure| failure.kind);
        let command = |code| Err(Kind::Command(NonZeroU8::new(code).unwrap()));
        assert_eq!(of(0), Ok(()));
        assert_eq!(of(3 << 8), command(3));
        assert_eq!(of(9), command(137));
    }
}
