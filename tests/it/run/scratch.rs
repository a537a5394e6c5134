//! Images from scratch: paths, modes and owners of files, and the configuration.

use serde_json::json;

use super::{Made, make};
use crate::lab::{Lab, lab};

fn program() -> Lab {
    lab().tree(&[
        "f out/srv 755 '#!/bin/sh\\n'",
        "f static/css/a.css 600 'a'",
        "f static/run 711 'r'",
        "f static/open 666 'o'",
        "d static/empty 700",
        "f ca.pem 400 'ca'",
    ])
}

#[test]
fn each_destination_is_a_layer_with_readable_modes_and_its_parents() {
    let words = ["-i", "-f", "out/srv:/usr/local/bin/srv", "-f", "static:/srv/static", "-f", "ca.pem:/etc/"];
    let made = make(&program(), &[&words[..], &["--entrypoint", "/usr/local/bin/srv"]].concat());
    assert_eq!(made.layers(), 3);
    let folders = ["usr", "usr/local", "usr/local/bin"].map(|name| format!("drwxr-xr-x 0/0 {name}"));
    assert_eq!(made.layer(0), [&folders[..], &["-rwxr-xr-x 0/0 usr/local/bin/srv".to_owned()]].concat());
    let expected = [
        "drwxr-xr-x 0/0 srv",
        "drwxr-xr-x 0/0 srv/static",
        "drwxr-xr-x 0/0 srv/static/css",
        "-rw-r--r-- 0/0 srv/static/css/a.css",
        "drwxr-xr-x 0/0 srv/static/empty",
        "-rw-r--r-- 0/0 srv/static/open",
        "-rwxr-xr-x 0/0 srv/static/run",
    ];
    assert_eq!(made.layer(1), expected);
    assert_eq!(made.layer(2), ["drwxr-xr-x 0/0 etc", "-rw-r--r-- 0/0 etc/ca.pem"]);
    let steps: Vec<&str> = made.config["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["created_by"].as_str().unwrap())
        .collect();
    let expected = [
        "COPY /usr/local/bin/srv # imgrelay",
        "COPY /srv/static # imgrelay",
        "COPY /etc/ # imgrelay",
        "ENTRYPOINT [\"/usr/local/bin/srv\"] # imgrelay",
    ];
    assert_eq!(steps, expected);
}

#[test]
fn owner_and_mode_are_those_asked_for() {
    let lab = program();
    let layer = |words: &[&str]| make(&lab, &[&["-i", "-f", "static:/app/s"], words].concat()).layer(0);
    let owned = layer(&["--owner", "65532:70000000", "--mode", "0640"]);
    let expected = [
        "drwxr-xr-x 0/0 app",
        "drwxr-x--- 65532/70000000 app/s",
        "drwxr-x--- 65532/70000000 app/s/css",
        "-rw-r----- 65532/70000000 app/s/css/a.css",
        "drwxr-x--- 65532/70000000 app/s/empty",
        "-rw-r----- 65532/70000000 app/s/open",
        "-rw-r----- 65532/70000000 app/s/run",
    ];
    assert_eq!(owned, expected);
    for words in [&["--mode", "keep"], &["--preserve-permissions", "--cmd=x"]] {
        let kept = layer(words);
        assert!(kept.contains(&"-rw------- 0/0 app/s/css/a.css".to_owned()), "{kept:?}");
        assert!(kept.contains(&"drwx------ 0/0 app/s/empty".to_owned()), "{kept:?}");
    }
}

#[test]
fn the_configuration_says_what_was_asked_for_and_nothing_of_the_machine() {
    let lab = program();
    let words: Vec<&str> = concat!(
        "-i registry.example/team/srv:v1 -f out/srv:/srv --entrypoint [\"/srv\"] --cmd -v --env PORT=8080 ",
        "--env LIST=a,b --user 65532 --workdir /data --port 8080,53/udp --volume /data --stop-signal SIGINT ",
        "--created epoch:1764374400 -l k=v --annotation a=b --platform linux/arm64/v8"
    )
    .split(' ')
    .collect();
    let made = make(&lab, &words);
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let expected = json!({
        "Env": [path, "PORT=8080", "LIST=a,b"],
        "Entrypoint": ["/srv"],
        "Cmd": ["-v"],
        "User": "65532",
        "WorkingDir": "/data",
        "StopSignal": "SIGINT",
        "ExposedPorts": {"8080/tcp": {}, "53/udp": {}},
        "Volumes": {"/data": {}},
        "Labels": {"k": "v"},
    });
    assert_eq!(made.config["config"], expected);
    assert_eq!(made.config["created"], "2025-11-29T00:00:00Z");
    let platform = ["os", "architecture", "variant"].map(|name| made.config[name].as_str().unwrap());
    assert_eq!(platform, ["linux", "arm64", "v8"]);
    let annotations = json!({"a": "b", "org.opencontainers.image.created": "2025-11-29T00:00:00Z"});
    assert_eq!(made.manifest["annotations"], annotations);
    // The same files in another lab, as another user, with another umask, give the same image.
    let other = program();
    let run = other.command(&[&["push"], &words[..], &["--to-oci-tar", "made.tar"]].concat());
    let _ = run.umask("077").as_ordinary_user().run().succeeds();
    assert_eq!(Made::read(&other, "made.tar").digest, made.digest);
    testkit::oracle::validate_layout(lab.path("made.tar"));
}

#[test]
fn links_are_kept_with_their_text_or_left_out_and_counted() {
    let root =
        ["f r/usr/bin/sh 755 'x'", "l r/bin -> usr/bin", "l r/etc/mtab -> /proc/mounts", "f r/etc/a 'a'"];
    let lab = lab().tree(&root);
    let words = ["-i", "-f", "r", "--cmd", "/bin/sh", "--symlinks"];
    let run =
        |policy: &str| lab.run(&[&["push"], &words[..], &[policy, "--to-oci-tar", "made.tar"]].concat());
    let _ = run("keep").fails(
        1,
        &["r/etc/mtab` -> `/proc/mounts` cannot be packed", "`--symlinks verbatim` keeps every link"],
    );
    let kept = make(&lab, &[&words[..], &["verbatim"]].concat()).layer(0);
    assert!(kept.contains(&"lrwxrwxrwx 0/0 bin -> usr/bin".to_owned()), "{kept:?}");
    assert!(kept.contains(&"lrwxrwxrwx 0/0 etc/mtab -> /proc/mounts".to_owned()), "{kept:?}");
    let _ = run("omit").succeeds().says("warning: 2 symbolic links left out");
    let left = Made::read(&lab, "made.tar").layer(0).join("\n");
    assert!(left.ends_with("usr/bin/sh") && !left.contains("mtab"), "{left}");
    // Bundles and plain images report their number too.
    let plain = ["push", "-i", "-f", "r", "--symlinks", "omit", "--to-oci-tar", "made.tar"];
    let _ = lab.run(&plain).succeeds().says("2 symbolic links left out");
    let _ = lab
        .run(&["push", "-b", "-f", "r", "--symlinks", "verbatim", "--to-oci-tar", "x"])
        .fails(2, &["`--symlinks verbatim` works with `--image` only"]);
}

#[test]
fn what_cannot_be_made_is_refused_and_leaves_nothing() {
    let lab = program();
    let cases: &[(&[&str], i32, &[&str])] = &[
        (
            &["-i", "-f", "out/srv:/app", "-f", "static:/app"],
            1,
            &[
                "`static` would put a folder at `/app`, where a file is, which comes from `out/srv`",
                "SRC:DEST",
            ],
        ),
        (
            &["-i", "-f", "static:/app", "-f", "out/srv:/app"],
            1,
            &["`out/srv` would put a file at `/app`, where a folder is, which comes from `static`"],
        ),
        (&["-i", "-f", "static:/app/", "-f", "static:/app/"], 1, &["is in more than one of the given paths"]),
        (&["-i", "-f", "out/srv:/a/.wh.b"], 1, &["would act as a whiteout"]),
        (&["-i", "-f", "missing:/a"], 1, &["missing"]),
        (&["-b", "-f", "static", "--entrypoint", "/x"], 2, &["`--entrypoint` works with `--image` only"]),
        (&["-s", "-f", "static", "--owner", "1"], 2, &["`--owner` works with `--image` only"]),
        (
            &["-i", "-f", "static", "--format", "flux", "--cmd", "x"],
            2,
            &["an image that runs cannot have `--format flux`"],
        ),
        (
            &["-i", "-f", "static", "--cmd", "a | b"],
            2,
            &["`--cmd`: `|` is shell syntax", r#"--cmd '["/bin/sh","-c","a | b"]'"#],
        ),
        (&["-i", "-f", "out/srv:/srv", "--user", "web"], 1, &["`web` is not in `/etc/passwd` of the base"]),
    ];
    for (words, code, texts) in cases {
        let words = [&["push"], *words, &["--to-oci-tar", "made.tar"]].concat();
        let _ = lab.run(&words).fails(*code, texts);
        assert!(!lab.path("made.tar").exists(), "{words:?}");
    }
}

#[test]
fn a_plain_image_without_these_flags_is_what_it_was() {
    let made = make(&program(), &["-i", "-f", "static"]);
    assert_eq!(made.layer(0)[0], "drwx------ 0/0 .");
    assert_eq!(made.config["config"], json!({}));
}
