//! Signals: a blocked program ends soon, with the signal's exit code.

use std::io::{PipeReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Starts the executable so that it blocks: its standard output is a pipe that is full and never read.
fn blocked() -> (Child, PipeReader) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let capacity = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
    writer.write_all(&vec![0; capacity]).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgrelay"));
    command.args(["completion", "bash"]).env_clear().stdout(writer).stderr(Stdio::piped());
    (command.spawn().unwrap(), reader)
}

/// Waits until the program has its signal handler; without this the test would race with its start.
fn wait_for_handler(child: &Child, signal: Signal) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
        if u64::from_str_radix(caught, 16).unwrap() & (1 << (signal.as_raw() - 1)) != 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the program does not catch {signal:?}");
}

fn end(signal: Signal, times: usize) -> (Option<i32>, String, Duration) {
    let (child, _reader) = blocked();
    wait_for_handler(&child, signal);
    let started = Instant::now();
    for _ in 0..times {
        kill_process(Pid::from_child(&child), signal).unwrap();
        // Two pending signals of one kind arrive as one.
        std::thread::sleep(Duration::from_millis(100));
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap(), started.elapsed())
}

#[test]
fn a_blocked_program_ends_within_a_second_of_the_first_signal() {
    // On a busy machine one attempt may be late, but not all.
    let in_time = (0..3).any(|_| {
        let (code, stderr, elapsed) = end(Signal::INT, 1);
        assert_eq!((code, stderr.as_str()), (Some(130), "imgrelay: error: stopped by SIGINT\n"));
        assert!(elapsed >= Duration::from_millis(700), "work gets its time to unwind, got {elapsed:?}");
        elapsed <= Duration::from_secs(1)
    });
    assert!(in_time, "later than a second each time");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    // On a busy machine one attempt may be late, but not all.
    let fast = (0..3).any(|_| {
        let (code, stderr, elapsed) = end(Signal::TERM, 2);
        assert_eq!((code, stderr.as_str()), (Some(143), "imgrelay: error: stopped by SIGTERM\n"));
        elapsed < Duration::from_millis(600)
    });
    assert!(fast, "the second signal made no difference");
}
