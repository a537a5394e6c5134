//! With a command: its words, environment, signals, exit code. Without one: the address, the ready file, SIGTERM.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use super::Served;
use crate::lab::lab;
use crate::layouts::Layout;

const TAR: [&str; 3] = ["serve", "--tar", "app.tar"];

fn room() -> crate::lab::Lab {
    let lab = lab();
    lab.write("app.tar", Layout::simple().tar());
    lab
}

#[test]
fn a_command_gets_the_address_in_its_words_and_in_its_environment() {
    let lab = room();
    let script = "echo \"$1 $SERVED_REGISTRY\"; curl -sS \"http://$SERVED_REGISTRY/v2/x/tags/list\"";
    let words = [&TAR[..], &["--", "sh", "-c", script, "sh", "docker://{registry}/a:{registry}"]].concat();
    let output = lab.run(&words).succeeds();
    let lines: Vec<&str> = output.stdout.lines().collect();
    let (word, address) = lines[0].rsplit_once(' ').unwrap();
    assert_eq!(word, format!("docker://{address}/a:{address}"));
    assert!(address.starts_with("127.0.0.1:"), "{output}");
    assert_eq!(lines[1..], [r#"{"name":"x","tags":["latest","v1"]}"#], "nothing else is on standard output");
}

#[test]
fn the_exit_code_is_the_commands() {
    let lab = room();
    let run = |script: &str| lab.run(&[&TAR[..], &["--", "sh", "-c", script]].concat());
    let _ = run("exit 0").succeeds();
    let _ = run("exit 7").fails(7, &["`sh` ended with exit code 7"]);
    let _ = run("kill -9 $$").fails(137, &["`sh` was ended by signal 9"]);
    let _ = lab.run(&[&TAR[..], &["--", "./none"]].concat()).fails(1, &["cannot run `./none`: "]);
    let _ =
        lab.run(&["serve", "--tar", "none.tar", "--", "touch", "ran"]).fails(1, &["cannot open `none.tar`"]);
    assert!(!lab.path("ran").exists(), "the command does not run without the images");
}

#[test]
fn signals_reach_the_command_and_its_end_decides() {
    for (signal, caught) in [("TERM", "TERM"), ("INT", "INT"), ("HUP", "HUP"), ("USR1", "USR1")] {
        let lab = room();
        let script =
            format!("trap 'echo {caught} >got; exit 5' {caught}; : >begun; while :; do sleep 0.05; done");
        let mut running = lab.command(&[&TAR[..], &["--", "sh", "-c", &script]].concat()).spawn();
        running.wait_until("the command", |_| lab.path("begun").exists());
        running.signal(signal);
        let _ = running.wait().fails(5, &["`sh` ended with exit code 5"]);
        assert_eq!(lab.read("got"), format!("{caught}\n").into_bytes());
    }
}

#[test]
fn an_imgrelay_that_the_command_runs_takes_nothing_for_a_flag() {
    let lab = room();
    let program = env!("CARGO_BIN_EXE_imgrelay");
    let words = ["--", program, "copy", "-q", "-i", "{registry}/team/app:v1", "--to-oci-tar", "copied.tar"];
    let _ = lab.run(&[&TAR[..], &words].concat()).succeeds();
    let _ = lab.run(&["verify", "-q", "--tar", "copied.tar"]).succeeds();
}

#[test]
fn without_a_command_the_ready_file_has_the_address_and_sigterm_ends_it() {
    let lab = room();
    lab.write("ready", "of an earlier run");
    let served = Served::start(&lab, &["--tar", "app.tar", "--json"]);
    let host = served.host().to_owned();
    // An open connection does not delay the end of the server.
    let open = served.connect();
    let output = served.stop().succeeds();
    drop(open);
    let printed = output.json();
    assert_eq!(printed["registry"], host.as_str());
    assert_eq!(printed["refs"][0], format!("{host}/team/app:v1"));
    assert!(!lab.path("ready").exists(), "the next run must not be taken for ready");
    let served = Served::start(&lab, &["--tar", "app.tar"]);
    let host = served.host().to_owned();
    assert_eq!(served.stop().succeeds().stdout, format!("{host}\n"));
}

#[test]
fn sigterm_ends_it_within_a_second_with_clients_in_every_state() {
    let lab = lab().tree(&["f root/data random:20000000:3"]);
    crate::samples::pack(&lab, &["-i", crate::samples::NAME, "-f", "root"], "app.tar");
    // On a busy machine one attempt may be late, but not all.
    let in_time = (0..3).any(|_| {
        let served = Served::start(&lab, &["--tar", "app.tar"]);
        let manifest = served.get("/v2/team/app/manifests/v1");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest.body).unwrap();
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        let (idle, mut half, mut unread) = (served.connect(), served.connect(), served.connect());
        half.write_all(b"GET /v2/ HT").unwrap();
        unread.write_all(format!("GET /v2/a/blobs/{layer} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        // The response has begun when its first bytes arrive.
        unread.read_exact(&mut [0; 100]).unwrap();
        let started = Instant::now();
        let _ = served.stop().succeeds();
        let elapsed = started.elapsed();
        drop((idle, half, unread));
        println!("ended after {elapsed:?}");
        elapsed <= Duration::from_secs(1)
    });
    assert!(in_time, "later than a second each time");
}

#[test]
fn other_machines_are_warned_of_and_a_port_in_use_is_named() {
    let lab = room();
    let script = "echo {registry}";
    let words = [&TAR[..], &["--listen", "0.0.0.0:0", "--", "sh", "-c", script]].concat();
    let output = lab
        .run(&words)
        .succeeds()
        .says("warning: other machines can read these images, without a password, at `0.0.0.0:");
    assert!(output.stdout.starts_with("127.0.0.1:"), "{output}");
    let served = Served::start(&lab, &["--tar", "app.tar"]);
    let words = [&TAR[..], &["--listen", served.host(), "--", "true"]].concat();
    let _ = lab.run(&words).fails(1, &["cannot listen on `127.0.0.1:", "hint: choose another port"]);
    let _ = served.stop().succeeds();
}
