//! The whole executable: streams, exit codes, help, version, completion, environment.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::lab::lab;

/// Runs the real executable with only these variables.
fn imgrelay(words: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgrelay"));
    command.args(words).env_clear().envs(env.iter().copied()).stdin(Stdio::null());
    command.output().expect("the executable starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text is UTF-8")
}

/// Exit code, standard output and standard error in one text.
fn shown(output: &Output) -> String {
    format!(
        "exit {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().expect("not ended by a signal"),
        text(&output.stdout),
        text(&output.stderr)
    )
}

#[test]
fn version_is_one_line_or_one_document() {
    let expected = "exit 0\n--- stdout\nimgrelay version 0.1.0\n--- stderr\n";
    for words in [["version"].as_slice(), &["--version"], &["-V"], &["version", "--quiet"]] {
        assert_eq!(shown(&imgrelay(words, &[])), expected, "{words:?}");
    }
    let json = "exit 0\n--- stdout\n{\"name\":\"imgrelay\",\"version\":\"0.1.0\"}\n--- stderr\n";
    assert_eq!(shown(&imgrelay(&["version", "--json"], &[])), json);
    assert_eq!(shown(&imgrelay(&["--json", "version"], &[])), json);
    assert_eq!(shown(&imgrelay(&["version"], &[("IMGRELAY_JSON", "true")])), json);
    assert_eq!(shown(&imgrelay(&["version", "--json=false"], &[("IMGRELAY_JSON", "true")])), expected);
}

#[test]
fn help_goes_to_standard_output_and_fits_eighty_columns() {
    let mut pages = vec![vec!["--help"], vec!["-h"]];
    let top = imgrelay(&["--help"], &[]);
    for line in text(&top.stdout).lines().skip_while(|line| *line != "Commands:").skip(1) {
        match line.split_whitespace().next() {
            // A line with more indentation continues the description above it.
            Some(_) if line.starts_with("   ") => {}
            Some(name) if line.starts_with("  ") => pages.push(vec![name, "--help"]),
            _ => break,
        }
    }
    assert!(pages.len() > 3, "{}", shown(&top));
    for words in pages {
        // A password in the environment must not be shown as a default.
        let output = imgrelay(&words, &[("IMGRELAY_JSON", "true"), ("IMGPKG_PASSWORD", "hunter2")]);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", shown(&output));
        assert_eq!(text(&output.stderr), "");
        let page = text(&output.stdout);
        assert!(page.contains("Usage: imgrelay") && !page.contains("hunter2"), "{page}");
        for line in page.lines() {
            assert!(line.chars().count() <= 80, "{words:?}: {} columns: {line}", line.chars().count());
        }
    }
}

#[test]
fn misuse_is_exit_code_2_with_an_empty_standard_output() {
    /// Arguments, environment, expected output.
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let cases: &[Case<'_>] = &[
        (
            &["--jsn", "version"],
            &[],
            "imgrelay: error: unknown flag `--jsn`\n  hint: did you mean `--json`?\n  hint: see `imgrelay version --help`\n",
        ),
        (
            &["version", "--quite=hunter2"],
            &[],
            "imgrelay: error: unknown flag `--quite`\n  hint: did you mean `--quiet`?\n  \
             hint: see `imgrelay version --help`\n",
        ),
        (
            &["versoin"],
            &[],
            "imgrelay: error: unknown command `versoin`\n  hint: did you mean `version`?\n  \
             hint: see `imgrelay --help`\n",
        ),
        (
            &["version", "x\x1b[2J"],
            &[],
            "imgrelay: error: unexpected argument `x\\u{1b}[2J`\n  hint: see `imgrelay version --help`\n",
        ),
        (&[], &[], "imgrelay: error: no command was given\n  hint: see `imgrelay --help`\n"),
        (
            &["completion", "tcsh"],
            &[],
            "imgrelay: error: `SHELL` cannot be `tcsh`, expected one of `bash`, `elvish`, `fish`, `powershell`, \
             `zsh`\n  hint: did you mean `zsh`?\n  hint: see `imgrelay completion --help`\n",
        ),
        (
            &["version", "--progress", "bars"],
            &[],
            "imgrelay: error: `--progress` cannot be `bars`, expected one of `auto`, `plain`, `bar`, `none`\n  \
             hint: did you mean `bar`?\n  hint: see `imgrelay version --help`\n",
        ),
        (
            &["version"],
            &[("IMGRELAY_PROGRESS", "bars")],
            "imgrelay: error: environment variable `IMGRELAY_PROGRESS` cannot be `bars`, expected one of `auto`, \
             `plain`, `bar`, `none`\n  hint: did you mean `bar`?\n  hint: see `imgrelay version --help`\n",
        ),
        (
            &["version", "--json=yes"],
            &[],
            "imgrelay: error: `--json` cannot be `yes`: expected `true` or `false`\n  \
             hint: see `imgrelay version --help`\n",
        ),
        (
            &["push", "-i", "r.example/a", "-f", "x", "--tls-verify=maybe"],
            &[],
            "imgrelay: error: `--tls-verify` cannot be `maybe`: expected `true` or `false`\n  \
             hint: see `imgrelay push --help`\n",
        ),
        (
            &["push", "-i", "r.example/a", "-f", "x", "--registry-verify-certs", "--tls-verify-x"],
            &[],
            "imgrelay: error: unknown flag `--tls-verify-x`\n  hint: did you mean `--tls-verify`?\n  \
             hint: see `imgrelay push --help`\n",
        ),
        (
            &["push", "-i", "r.example/a", "-f", "x"],
            &[("IMGRELAY_TLS_VERIFY", "maybe")],
            "imgrelay: error: environment variable `IMGRELAY_TLS_VERIFY` cannot be `maybe`: expected `true` or \
             `false`\n  hint: see `imgrelay push --help`\n",
        ),
        (
            &["version", "--quiet", "--debug"],
            &[],
            "imgrelay: error: `--quiet` and `--debug` exclude each other\n",
        ),
        (
            &["copy", "--tar", "a.tar", "--tar", "b.tar", "--to-oci-tar", "x.tar"],
            &[],
            "imgrelay: error: `--tar` is given twice, but takes one value\n  hint: `imgrelay index` joins images of \
             several platforms into one; `--append` collects others in one tar, one copy after the other\n",
        ),
        (
            &["push", "-i", "r.example/a", "-f", "x"],
            &[("IMGRELAY_TLS_VERIFY", "false"), ("IMGRELAY_REGISTRY_VERIFY_CERTS", "true")],
            "imgrelay: error: environment variables `IMGRELAY_REGISTRY_VERIFY_CERTS` and `IMGRELAY_TLS_VERIFY` are \
             the same flag, but differ\n  hint: unset one of them\n",
        ),
    ];
    for (words, env, expected) in cases {
        let output = imgrelay(words, env);
        assert_eq!(shown(&output), format!("exit 2\n--- stdout\n--- stderr\n{expected}"), "{words:?}");
    }
}

#[test]
fn variables_of_others_are_a_warning_at_most() {
    let version = "exit 0\n--- stdout\nimgrelay version 0.1.0\n--- stderr\n";
    let links = [
        ("IMGRELAY_PORT", "tcp://10.0.0.1:80"),
        ("IMGRELAY_SERVICE_HOST", "10.0.0.1"),
        ("IMGRELAY_SERVICE_PORT", "80"),
        ("IMGRELAY_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("IMGRELAY_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("IMGPKG_REGISTRY_SERVICE_HOST", "10.0.0.2"),
    ];
    assert_eq!(shown(&imgrelay(&["version"], &links)), version, "a Kubernetes Service named `imgrelay`");
    let own = [("IMGRELAY_JSN", "1"), ("IMGRELAY_SHA256", "x")];
    let expected = format!(
        "{version}imgrelay: warning: environment variables `IMGRELAY_JSN`, `IMGRELAY_SHA256` belong to no flag; did you \
         mean `IMGRELAY_JSON`?\n"
    );
    assert_eq!(shown(&imgrelay(&["version"], &own)), expected);
    // They do not change a Concourse step.
    let request = r#"{"source":{"repository":"127.0.0.1:1/a","tag":"1"}}"#;
    let lab = lab();
    let ended = |env: &[(&str, &str)]| {
        let command = lab.command(&["check"]).stdin(request);
        env.iter().fold(command, |command, (name, value)| command.env(name, value)).run().code
    };
    assert_eq!(ended(&links), ended(&[]));
    assert_eq!(ended(&links), Some(4));
}

#[test]
fn empty_variables_and_empty_flags_are_not_given() {
    let env = [("IMGRELAY_JSON", ""), ("IMGRELAY_PROGRESS", ""), ("IMGRELAY_UNKNOWN", ""), ("NO_COLOR", "")];
    let output = imgrelay(&["version", "--progress=", "--json="], &env);
    assert_eq!(shown(&output), "exit 0\n--- stdout\nimgrelay version 0.1.0\n--- stderr\n");
}

#[test]
fn color_is_used_off_a_terminal_only_when_asked_for() {
    let stderr = |words: &[&str]| text(&imgrelay(words, &[]).stderr).to_owned();
    assert!(!stderr(&["version", "--quiet", "--debug"]).contains('\x1b'));
    assert!(stderr(&["nonsense", "--color"]).starts_with("imgrelay: error:"), "flags are not known yet");
}

#[test]
fn completion_scripts_are_accepted_by_their_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let output = imgrelay(&["completion", shell], &[]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(text(&output.stderr), "");
        let script = text(&output.stdout);
        assert!(script.contains("imgrelay") && script.contains("version"), "{script}");
        // Not every machine has every shell; bash is on every machine with the tests.
        let Ok(mut child) =
            Command::new(shell).arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()
        else {
            assert_ne!(shell, "bash", "bash is needed to run the tests");
            continue;
        };
        child.stdin.take().unwrap().write_all(&output.stdout).unwrap();
        let checked = child.wait_with_output().unwrap();
        assert!(checked.status.success(), "{shell}: {}", text(&checked.stderr));
    }
}

#[test]
fn a_closed_standard_output_is_success() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgrelay"));
    command.args(["completion", "bash"]).env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn a_full_disk_behind_standard_output_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgrelay"));
    let output = command.arg("version").env_clear().stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = "imgrelay: error: cannot write to standard output: No space left on device (os error 28)\n  \
                    hint: free some space, or choose a path on another file system\n";
    assert_eq!(text(&output.stderr), expected);
}

#[test]
fn a_tar_and_an_app_are_read_from_standard_input() {
    let lab = lab();
    lab.write("app/index.html", "hello");
    let _ =
        lab.run(&["push", "-i", "registry.example/a:v1", "-f", "app", "--to-oci-tar", "a.tar"]).succeeds();
    for tar in [lab.read("a.tar"), zstd_of(&lab.read("a.tar"))] {
        let copy = lab.command(&["copy", "--tar", "-", "--to-oci-tar", "b.tar"]).stdin(&tar);
        let _ = copy.run().succeeds();
        assert!(lab.read("b.tar") == lab.read("a.tar"), "every byte");
        let _ = lab.command(&["verify", "--oci-tar", "-"]).stdin(&tar).run().succeeds();
        let _ = lab.command(&["pull", "--tar=-", "-o", "out", "--force"]).stdin(&tar).run().succeeds();
        assert_eq!(lab.read("out/index.html"), b"hello");
    }
    let copy = lab.command(&["copy", "--tar", "-", "--to-oci-tar", "c.tar"]).stdin("no tar");
    let _ = copy.run().fails(1, &["is not an image archive"]);
    let zip = "cd app && zip -qr ../app.zip .";
    let _ = testkit::tools::run(testkit::tools::tool("bash").arg("-ec").arg(zip).current_dir(lab.work()))
        .success();
    let push =
        |words: &[&str]| lab.command(&[&["push", "-s", "", "-f"], words].concat()).stdin(lab.read("app.zip"));
    let _ = push(&["-", "--to-oci-tar", "piped.tar"]).run().succeeds();
    let _ = push(&["app.zip", "--to-oci-tar", "named.tar"]).run().succeeds();
    assert!(lab.read("piped.tar") == lab.read("named.tar"), "the same image");
    let empty = lab.command(&["push", "-s", "", "-f", "-", "--to-oci-tar", "no.tar"]).stdin("no zip");
    let _ = empty.run().fails(1, &[]);
    let words = ["match", "--tar", "-"];
    let _ = lab.command(&words).stdin("{}").run().fails(2, &["standard input holds the request"]);
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory can be compressed")
}
