//! Output: one result on standard output, everything else on standard error, and files for other programs.

use serde_json::json;
use testkit::lab::Lab;
use testkit::registry::Registry;
use testkit::tools::{run, tool};

use crate::samples::{NAME, bundle, digest_in, packed};

const PUSH: [&str; 7] = ["push", "-b", NAME, "-f", "app", "--to-oci-tar", "app.tar"];

/// Each command once, in a lab with the bundle and a tar; `REPO` stands for a registry's repository.
const COMMANDS: [&[&str]; 10] = [
    &PUSH,
    &["push", "-b", "REPO:v1", "-f", "app"],
    &["copy", "--tar", "app.tar", "--to-repo", "REPO"],
    &["copy", "-b", "REPO:v1", "--to-oci-tar", "copy.tar"],
    &["pull", "--tar", "app.tar", "-o", "out", "--force"],
    &["pull", "-b", "REPO:v1", "-o", "out", "--force"],
    &["describe", "--tar", "app.tar"],
    &["verify", "--tar", "app.tar"],
    &["tag", "list", "-i", "REPO"],
    &["tag", "resolve", "-i", "REPO:v1"],
];

fn room() -> (Lab, Registry, String) {
    let (lab, digest) = packed();
    let registry = Registry::start();
    let place = format!("{}/team/app:v1", registry.host());
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-repo", &place]).succeeds();
    (lab, registry, digest)
}

fn words(command: &[&str], registry: &Registry) -> Vec<String> {
    let repository = format!("{}/team/app", registry.host());
    command.iter().map(|word| word.replace("REPO", &repository)).collect()
}

#[test]
fn every_command_prints_one_result_and_plain_lines_on_standard_error() {
    let (lab, registry, digest) = room();
    for command in COMMANDS {
        let words = words(command, &registry);
        let output = lab.run(&words).succeeds();
        assert!(!output.stdout.is_empty() && output.stdout.ends_with('\n'), "{output}");
        match command[0] {
            "describe" => assert!(output.stdout.starts_with(&format!("Bundle {digest}\n")), "{output}"),
            "tag" if command[1] == "list" => {
                assert!(output.stdout.lines().any(|line| line == "v1"), "{output}");
            }
            "verify" => assert!(output.one_line().ends_with(": verified"), "{output}"),
            _ => assert_eq!(digest_in(output.one_line()), digest),
        }
        for line in output.stderr.lines() {
            let plain = line.chars().all(|c| !c.is_control()) && !line.is_empty();
            assert!(plain, "not a plain line: {line:?}\n{output}");
        }
        let work = matches!(command[0], "push" | "copy" | "pull" | "verify");
        assert_eq!(output.stderr.lines().any(|line| line.starts_with("done in ")), work, "{output}");

        let quiet = lab.run(&[words.clone(), vec!["--quiet".into()]].concat()).succeeds();
        assert_eq!(quiet.stdout, output.stdout, "the result is the same");
        assert!(quiet.stderr.lines().all(|line| line.contains("warning:")), "{quiet}");

        let json = lab.run(&[words.clone(), vec!["--json".into()]].concat()).succeeds();
        assert_eq!(json.stdout.lines().count(), 1, "one document on one line\n{json}");
        assert!(json.json().is_object() && json.stdout.contains(&digest) || command[1] == "list", "{json}");

        // `--debug` adds only requests, and no password.
        let debug = lab.run(&[words, vec!["--debug".into()]].concat()).succeeds();
        assert_eq!(debug.stdout, output.stdout);
    }
}

#[test]
fn progress_is_lines_in_a_log_and_bars_on_a_terminal() {
    let (lab, registry, _) = room();
    let lab = lab.tree(&["f app/large random:30000000:5"]);
    let push = words(&["push", "-b", "REPO:bars", "-f", "app"], &registry);
    let on_terminal = |more: &[&str], term: &str| {
        // util-linux's `script` runs the program on a terminal of its own.
        let line: Vec<String> = std::iter::once(env!("CARGO_BIN_EXE_imgrelay").to_owned())
            .chain(push.iter().cloned())
            .chain(more.iter().map(|word| (*word).to_owned()))
            .collect();
        let mut script = tool("script");
        script.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]);
        let ran = run(script.current_dir(lab.work()).env("TERM", term).env_remove("NO_COLOR")).success();
        assert!(ran.stdout.contains("team/app@sha256:"), "{ran:?}");
        ran.stdout
    };
    let shown = on_terminal(&[], "xterm-256color");
    assert!(shown.contains("\x1b[") && shown.contains("packing"), "no bars: {shown:?}");
    for (more, term) in [
        (&["--progress", "plain"][..], "xterm"),
        (&[], "dumb"),
        (&["--quiet"], "xterm"),
        (&["--progress", "none"], "xterm"),
    ] {
        let shown = on_terminal(more, term);
        assert!(!shown.contains("\x1b["), "{more:?} {term}: {shown:?}");
    }
    let plain = lab.run(&push).succeeds();
    assert!(plain.stderr.contains("packed ") && plain.stderr.contains("done in "), "{plain}");
    let none = lab.run(&[push.clone(), vec!["--progress".into(), "none".into()]].concat()).succeeds();
    assert_eq!(none.stderr.lines().count(), 1, "the summary remains\n{none}");
}

#[test]
fn result_files_are_written_in_every_format() {
    let lab = bundle().tree(&["d tekton"]);
    let registry = Registry::start();
    let repository = format!("{}/team/app", registry.host());
    let results = ["json:r.json", "dotenv:r.env", "digest:r.digest", "github:r.github", "tekton:tekton"];
    let flags: Vec<String> =
        results.iter().flat_map(|result| ["--result".to_owned(), (*result).to_owned()]).collect();
    lab.write("r.github", "before=1\n");
    let with = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).chain(flags.clone()).collect();
        lab.run(&words).succeeds()
    };
    let text = |name: &str| String::from_utf8(lab.read(name)).unwrap();

    let output = with(&["push", "-b", &format!("{repository}:v1"), "-f", "app", "--tag", "v2"]);
    let digest = digest_in(output.one_line()).to_owned();
    let reference = format!("{repository}@{digest}");
    let size = serde_json::from_str::<serde_json::Value>(&text("r.json")).unwrap()["size"].clone();
    let expected = json!({
        "kind": "bundle", "digest": digest, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "size": size, "layers": 1, "image": repository, "ref": reference, "tags": ["v1", "v2"],
        "refs": [format!("{repository}:v1"), format!("{repository}:v2")],
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text("r.json")).unwrap(), expected);
    assert_eq!(
        text("r.env"),
        format!(
            "IMGRELAY_DIGEST={digest}\nIMGRELAY_KIND=bundle\nIMGRELAY_MEDIA_TYPE=application/vnd.oci.image.manifest.v1+json\n\
             IMGRELAY_REF={reference}\nIMGRELAY_REFS={repository}:v1,{repository}:v2\nIMGRELAY_REPOSITORY={repository}\n\
             IMGRELAY_SIZE={size}\nIMGRELAY_TAGS=v1,v2\n"
        )
    );
    assert_eq!(text("r.digest"), digest, "no line break");
    let github = text("r.github");
    assert!(github.starts_with("before=1\n"), "{github}");
    let outputs = github_outputs(&github["before=1\n".len()..]);
    assert_eq!(outputs["digest"], digest);
    assert_eq!(
        (outputs["image"].as_str(), outputs["ref"].as_str()),
        (repository.as_str(), reference.as_str())
    );
    assert_eq!(outputs["tags"], "v1\nv2");
    let tekton = |name: &str| text(&format!("tekton/{name}"));
    assert_eq!(
        (tekton("IMAGE_URL"), tekton("IMAGE_DIGEST"), tekton("IMAGE_REF")),
        (format!("{repository}:v1"), digest.clone(), reference)
    );

    // A tar's name is not a reference to an image in a registry.
    let lab2 = lab;
    let output = {
        std::fs::remove_dir_all(lab2.path("tekton")).unwrap();
        std::fs::create_dir(lab2.path("tekton")).unwrap();
        let words: Vec<String> = PUSH.iter().map(|word| (*word).to_owned()).chain(flags.clone()).collect();
        lab2.run(&words).succeeds()
    };
    assert_eq!(digest_in(output.one_line()), digest);
    let text = |name: &str| String::from_utf8(lab2.read(name)).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text("r.json")).unwrap();
    assert_eq!((&document["path"], &document["image"]), (&json!("app.tar"), &json!(null)));
    assert_eq!(testkit::tree::list_contents(&lab2.path("tekton")).lines().count(), 2);
    assert_eq!((text("tekton/LAYOUT_PATH"), text("tekton/LAYOUT_DIGEST")), ("app.tar".into(), digest));
    assert!(text("r.env").contains("IMGRELAY_PATH=app.tar\n") && !text("r.env").contains("IMGRELAY_REF="));
}

/// Reads step outputs as GitHub's runner does.
fn github_outputs(text: &str) -> std::collections::BTreeMap<String, String> {
    let mut found = std::collections::BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (name, delimiter) = line.split_once("<<").unwrap_or_else(|| panic!("`{line}`"));
        let value: Vec<&str> = lines.by_ref().take_while(|line| *line != delimiter).collect();
        found.insert(name.to_owned(), value.join("\n"));
    }
    found
}

#[test]
fn result_files_that_cannot_be_written_stop_the_work_before_it_begins() {
    let (lab, registry, _) = room();
    registry.forget_requests();
    let before = lab.list();
    for result in ["json:no/such/file", "tekton:no/such", "dotenv:app.tar/x"] {
        let words = words(&["push", "-b", "REPO:v9", "-f", "app", "--result", result], &registry);
        let _ = lab.run(&words).fails(1, &["cannot write result", "is not a folder", "hint: "]);
    }
    for result in ["jsn:x", "json", "github"] {
        let words = words(&["push", "-b", "REPO:v9", "-f", "app", "--result", result], &registry);
        let _ = lab.run(&words).fails(2, &["result"]);
    }
    assert_eq!((registry.requests(), lab.list()), (vec![], before));
}

#[test]
fn no_result_file_is_written_for_work_that_failed() {
    let (lab, registry, _) = room();
    let mut registry = registry;
    registry.set_read_only(true);
    lab.write("old.json", "the older result");
    let before = lab.list();
    let words = words(
        &["push", "-b", "REPO:v9", "-f", "app", "--result", "json:old.json", "--result", "digest:d"],
        &registry,
    );
    let _ = lab.run(&words).ends_with(1);
    assert_eq!(lab.list(), before);
}

#[test]
fn a_closed_standard_output_fails_only_when_it_receives_the_tar() {
    let (lab, registry, _) = room();
    let into_closed = |words: &[String]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_imgrelay"));
        command.args(words).current_dir(lab.work()).env_clear();
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for command in COMMANDS {
        let (code, stderr) = into_closed(&words(command, &registry));
        assert_eq!(code, Some(0), "{command:?}: {stderr}");
    }
    for command in [
        &["push", "-b", "-f", "app", "--to-oci-tar", "-"][..],
        &["copy", "--tar", "app.tar", "--to-oci-tar", "-"],
    ] {
        let (code, stderr) = into_closed(&words(command, &registry));
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("standard output"), "{stderr}");
    }
}

#[test]
fn a_tar_on_standard_output_moves_the_result_to_standard_error() {
    let lab = bundle();
    for (more, json) in [(&[][..], false), (&["--json"], true)] {
        let words = [&["push", "-b", NAME, "-f", "app", "--to-oci-tar", "-", "--quiet"], more].concat();
        let output = lab.run(&words).succeeds();
        let line = output.stderr.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n') && line.contains("sha256:") && line.starts_with('{') == json, "{line}");
    }
}
