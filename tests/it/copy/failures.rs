//! Damaged tars and registries that refuse: message, hint, exit code, and no files left.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;

use testkit::lab::Lab;
use testkit::oracle;
use testkit::registry::{
    OTHER_PASSWORD, OTHER_USER, PASSWORD, Registry, Request, TokenOptions, USER, text, uploads,
};

use crate::push::failures::{has_open, refused};
use crate::samples::{self, Image, NAME, entries, pack, packed};

/// Arguments of each reading command for `bad.tar`; `HOST` is replaced by a registry's host.
const READERS: [&[&str]; 5] = [
    &["describe", "--tar", "bad.tar"],
    &["verify", "--tar", "bad.tar"],
    &["pull", "--tar", "bad.tar", "-o", "out"],
    &["copy", "--tar", "bad.tar", "--to-oci-tar", "old.tar"],
    &["copy", "--tar", "bad.tar", "--to-repo", "HOST/team/app"],
];

/// Runs a reader; standard output of `verify` is a list of problems and no result.
#[track_caller]
fn read_fails(lab: &Lab, registry: &Registry, words: &[&str], code: i32, texts: &[&str]) {
    let words: Vec<String> = words.iter().map(|word| word.replace("HOST", registry.host())).collect();
    let before = lab.list();
    let output = lab.run(&words).ends_with(code);
    let said = format!("{}{}", output.stdout, output.stderr);
    for text in texts {
        assert!(said.contains(text), "expected `{text}`\n{output}");
    }
    assert!(words[0] == "verify" || output.stdout.is_empty(), "{output}");
    assert!(output.stderr.contains("\n  hint: "), "no hint\n{output}");
    assert_eq!(lab.list(), before, "something has changed\n{output}");
}

fn damaged() -> (Lab, Vec<u8>) {
    let (lab, _) = packed();
    let tar = lab.read("app.tar");
    lab.write("old.tar", "the older output");
    (lab, tar)
}

#[test]
fn a_truncated_tar_is_reported_as_incomplete_wherever_it_ends() {
    let (lab, tar) = damaged();
    let registry = Registry::start();
    // In a header, directly after it, and inside the data; a file shorter than one header is no tar.
    let ends =
        entries(&tar).into_iter().flat_map(|(_, place)| [place.start - 300, place.start, place.start + 1]);
    let ends: Vec<usize> = ends.filter(|end| *end > 512).collect();
    for end in ends {
        let file = lab.write("bad.tar", &tar[..end]);
        for words in READERS {
            let texts = ["`bad.tar` is damaged: the tar ends at byte", "the file is not complete"];
            read_fails(&lab, &registry, words, 1, &texts);
        }
        // A new file, because truncating and writing the same one is slow on some file systems.
        std::fs::remove_file(file).unwrap();
    }
    assert_eq!(registry.requests(), [], "a registry is not asked about what is damaged here");
}

#[test]
fn a_flipped_byte_in_any_blob_is_found_by_every_reader() {
    let (lab, tar) = damaged();
    let Image { manifest, config, layer, .. } = samples::image(&lab.path("app.tar"));
    for (digest, readers) in [
        (&manifest, &READERS[..]),
        (&config, &READERS[1..]),
        // `describe` does not read layers.
        (&layer, &READERS[1..]),
    ] {
        let registry = Registry::start();
        let name = format!("blobs/{}", digest.replace(':', "/"));
        let place = entries(&tar).into_iter().find(|(entry, _)| *entry == name).unwrap().1;
        // In the header, the middle and the last byte of a gzip stream, and anywhere in a document.
        for at in [place.start, place.start + 3, usize::midpoint(place.start, place.end), place.end - 1] {
            let mut bad = tar.clone();
            bad[at] ^= 0x01;
            lab.write("bad.tar", &bad);
            for words in readers {
                read_fails(&lab, &registry, words, 3, &["bad.tar", digest, "does not match"]);
            }
        }
        let storage = registry.storage();
        assert_eq!((storage.tags("team/app").len(), storage.manifests("team/app").len()), (0, 0));
        assert!(!storage.blobs().contains(digest), "damaged bytes were taken for {digest}");
        storage.assert_sound();
        let attempts = registry.requests().iter().filter(|request| request.method == "PUT").count();
        assert!(attempts <= 4, "damaged bytes were sent again and again: {attempts}");
    }
}

#[test]
fn a_byte_flipped_in_the_index_is_never_taken_for_the_image() {
    let (lab, tar) = damaged();
    let registry = Registry::start();
    let place = entries(&tar).into_iter().find(|(entry, _)| entry == "index.json").unwrap().1;
    let digest = samples::image(&lab.path("app.tar")).manifest;
    let index = &tar[place.clone()];
    let find = |text: &str| {
        place.start + index.windows(text.len()).position(|part| part == text.as_bytes()).unwrap()
    };
    let broken = |at: usize| {
        let mut bad = tar.clone();
        bad[at] ^= 0x01;
        bad
    };
    let (digest_at, size_at) = (find(&digest), find("\"size\":") + 7);
    let other = broken(digest_at + 10);
    let other = String::from_utf8_lossy(&other[digest_at..digest_at + digest.len()]).into_owned();
    let size = |bytes: &[u8]| {
        let digits = bytes[size_at..].iter().take_while(|byte| byte.is_ascii_digit()).copied();
        String::from_utf8(digits.collect()).unwrap()
    };
    let (right, wrong) = (size(&tar), size(&broken(size_at)));
    let invalid = "`bad.tar` is damaged: `index.json` is not valid: ";
    // Not JSON; another version; another digest; another size. The finding of `verify`, if it checks blobs, and the
    // error of every other reader.
    let cases = [
        (place.start, 1, None, format!("{invalid}it is not a JSON object")),
        (find("schemaVersion"), 1, None, format!("{invalid}missing field `schemaVersion`")),
        (
            digest_at + 10,
            1,
            Some(format!("blob `{other}` is missing (in `index.json`)")),
            format!("`bad.tar` does not hold `{other}`, and no other place of it is known"),
        ),
        (
            size_at,
            3,
            Some(format!("blob `{digest}` has {right} bytes, expected {wrong} (in `index.json`)")),
            format!("`bad.tar` is damaged: blob `{digest}` ends after {right} bytes, expected {wrong}"),
        ),
    ];
    for (at, code, finding, error) in cases {
        lab.write("bad.tar", broken(at));
        for words in READERS {
            let words: Vec<String> = words.iter().map(|word| word.replace("HOST", registry.host())).collect();
            let before = lab.list();
            let output = lab.run(&words);
            match &finding {
                Some(finding) if words[0] == "verify" => {
                    let findings: Vec<&str> =
                        output.stdout.lines().filter(|line| line.starts_with("blob ")).collect();
                    assert_eq!(
                        (output.code, findings),
                        (Some(3), vec![finding.as_str()]),
                        "byte {at}\n{output}"
                    );
                    assert!(output.stderr.contains("`bad.tar` is damaged: 1 problem found"), "{output}");
                }
                _ => {
                    assert_eq!(
                        (output.code, output.stdout.as_str()),
                        (Some(code), ""),
                        "byte {at}\n{output}"
                    );
                    let errors: Vec<&str> = output
                        .stderr
                        .lines()
                        .filter_map(|line| line.strip_prefix("imgrelay: error: "))
                        .collect();
                    assert!(errors.len() == 1 && errors[0].starts_with(&error), "byte {at}\n{output}");
                }
            }
            assert_eq!(lab.list(), before, "{output}");
        }
    }
    assert_eq!(uploads(&registry.requests()), [] as [&Request; 0]);
}

#[test]
fn a_wrong_size_is_a_difference_with_both_numbers() {
    let (lab, tar) = damaged();
    let registry = Registry::start();
    let Image { manifest, .. } = samples::image(&lab.path("app.tar"));
    let size = samples::blob(&tar, &manifest).len();
    let place = entries(&tar).into_iter().find(|(entry, _)| entry == "index.json").unwrap().1;
    let (old, new) = (format!("\"size\":{size}"), format!("\"size\":{}", size + 1));
    assert_eq!(old.len(), new.len());
    let text = String::from_utf8(tar[place.clone()].to_vec()).unwrap();
    assert!(text.contains(&old), "{text}");
    let mut bad = tar;
    bad[place].copy_from_slice(text.replace(&old, &new).as_bytes());
    lab.write("bad.tar", &bad);
    for words in READERS {
        let (found, expected) = (size.to_string(), (size + 1).to_string());
        read_fails(&lab, &registry, words, 3, &["bad.tar", &manifest, &found, &expected]);
    }
}

#[test]
fn a_file_of_an_unknown_kind_is_named_by_what_it_is() {
    let (lab, _) = damaged();
    let registry = Registry::start();
    for (bytes, kind) in [
        (&b"hello\n"[..], "it is a text file"),
        (b"", "it is an empty file"),
        (b"\x7fELF\x02\x01\x01\0", "`bad.tar` is not an image archive"),
        (b"{\"schemaVersion\":2}", "`bad.tar` is not an image archive"),
    ] {
        lab.write("bad.tar", bytes);
        for words in READERS {
            read_fails(&lab, &registry, words, 1, &["`bad.tar`", kind]);
        }
    }
    let missing: Vec<&str> =
        READERS[2].iter().map(|word| if *word == "bad.tar" { "none.tar" } else { word }).collect();
    let _ = refused(&lab, lab.command(&missing), 1, &["`none.tar`", "No such file"]);
}

#[test]
fn a_folder_that_cannot_be_filled_is_refused() {
    let (lab, _) = packed();
    let lab = lab.tree(&["f full/x", "f file"]);
    for (target, texts) in [
        ("full", &["`full` is not empty", "--force"][..]),
        ("no/such/out", &["no/such", "No such file"]),
        ("file", &["cannot write to `file`: Not a directory"]),
        ("file/out", &["cannot write to `file/out`: Not a directory"]),
        ("/proc/out", &["cannot create a folder in `/proc`"]),
    ] {
        let _ = refused(&lab, lab.command(&["pull", "--tar", "app.tar", "-o", target]), 1, texts);
    }
}

#[test]
fn a_registry_that_is_down_gives_the_exit_code_for_retrying() {
    let (lab, _) = packed();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let place = format!("127.0.0.1:{port}/team/app");
    for words in [
        ["push", "-b", &place, "-f", "app"].as_slice(),
        &["copy", "--tar", "app.tar", "--to-repo", &place],
        &["copy", "-i", &place, "--to-oci-tar", "out.tar"],
        &["pull", "-b", &place, "-o", "out"],
        &["describe", "-i", &place],
        &["tag", "list", "-i", &place],
        &["tag", "resolve", "-i", &place],
    ] {
        let run = lab.command(words).env("IMGRELAY_REGISTRY_RETRY_COUNT", "2");
        let texts = [place.as_str(), "after 2 attempts", "connection refused", "try again later"];
        let _ = refused(&lab, run, 4, &texts);
    }
}

#[test]
fn wrong_credentials_an_unknown_ca_and_a_denied_repository_have_different_errors() {
    let (lab, _) = packed();
    let basic = Registry::with().tls().htpasswd().start();
    let tokens = Registry::with().tls().tokens(TokenOptions::default()).start();
    let ca = basic.ca_path();
    for registry in [&basic, &tokens] {
        let (place, host) = (format!("{}/team/app:v1", registry.host()), registry.host());
        for words in [
            ["push", "-b", &place, "-f", "app"].as_slice(),
            &["copy", "--tar", "app.tar", "--to-repo", &place],
            &["pull", "-b", &place, "-o", "out"],
        ] {
            let with = |more: &[&str]| lab.command(&[words, more].concat());
            let trusting = ["--registry-ca-cert-path", text(&ca)];
            let _ = refused(&lab, with(&[]), 1, &["cannot trust", host, "--registry-ca-cert-path"]);
            let _ = refused(&lab, with(&trusting), 1, &["no credentials for", host, "401"]);
            let wrong = with(&[&trusting[..], &["--registry-username", USER]].concat());
            let wrong = wrong.env("IMGRELAY_REGISTRY_PASSWORD", "wr0ng-secret");
            let _ = refused(&lab, wrong, 1, &["401", host, "check the user name and password"])
                .never_says("wr0ng-secret");
            if registry.tokens().is_some() {
                let other =
                    with(&trusting).env("DOCKER_CONFIG", registry.docker_config(OTHER_USER, OTHER_PASSWORD));
                let texts = ["401", "`team/app`", "that the account may use `team/app`"];
                let _ = refused(&lab, other, 1, &texts).never_says(OTHER_PASSWORD);
            }
        }
        assert_eq!(registry.storage().tags("team/app").len(), 0);
        // And the right ones are accepted.
        let right = ["push", "-b", &place, "-f", "app", "--registry-ca-cert-path", text(&ca)];
        let right = lab.command(&right).env("DOCKER_CONFIG", registry.docker_config(USER, PASSWORD));
        let _ = right.run().succeeds().never_says(PASSWORD);
    }
}

#[test]
fn missing_images_and_unwritable_outputs_are_named() {
    let (lab, _) = packed();
    let mut registry = Registry::start();
    let place = format!("{}/team/app:v1", registry.host());
    for words in [
        ["pull", "-b", &place, "-o", "out"].as_slice(),
        &["copy", "-i", &place, "--to-oci-tar", "out.tar"],
        &["tag", "resolve", "-i", &place],
    ] {
        let before = lab.list();
        let _ = lab.run(words).fails(1, &["team/app", "has no manifest `v1`"]);
        assert_eq!(lab.list(), before);
    }
    registry.set_read_only(true);
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-repo", &place]).fails(1, &["405", "team/app"]);
}

#[test]
fn a_bundle_and_an_image_are_not_pulled_as_each_other() {
    let (lab, _) = packed();
    let registry = Registry::start();
    let (bundle, image) = (format!("{}/b:v1", registry.host()), format!("{}/i:v1", registry.host()));
    let _ = lab.run(&["push", "-b", &bundle, "-f", "app"]).succeeds();
    let _ = lab.run(&["push", "-i", &image, "-f", "app/config"]).succeeds();
    let pull = |flag: &str, name: &str| ["pull", flag, name, "-o", "out"].map(str::to_owned);
    let _ = refused(&lab, lab.command(&pull("-i", &bundle)), 1, &[&bundle, "is a bundle", "use `-b`"]);
    let _ = refused(&lab, lab.command(&pull("-b", &image)), 1, &[&image, "is a plain image", "use `-i`"]);
}

/// A lab with a tar whose file is so large when unpacked that there is time to interrupt.
fn large() -> Lab {
    let lab = crate::lab::lab().tree(&["f app/huge zeros:1500000000", "f old.tar 'the older output'"]);
    pack(&lab, &["-i", NAME, "-f", "app", "--compression", "gzip:1"], "large.tar");
    std::fs::remove_dir_all(lab.path("app")).unwrap();
    lab
}

#[test]
fn a_signal_while_pulling_leaves_no_folder() {
    let lab = large();
    let before = lab.list();
    let mut running = lab.command(&["pull", "--tar", "large.tar", "-o", "out"]).spawn();
    running.wait_until("writing the file", |running| has_open(running.id(), "huge"));
    running.signal("INT");
    let _ = running.wait().fails(130, &["stopped by SIGINT"]);
    assert_eq!(lab.list(), before);
}

#[test]
fn a_signal_while_reading_a_pipe_leaves_the_older_output() {
    let (lab, tar) = damaged();
    let lab = lab.tree(&["p pipe"]);
    let before = lab.list();
    for words in [
        ["copy", "--tar", "pipe", "--to-oci-tar", "old.tar"].as_slice(),
        &["pull", "--tar", "pipe", "-o", "out"],
    ] {
        let running = lab.command(words).spawn();
        // Opened when the program has opened its end, and kept open, so that the program waits for the rest.
        let mut pipe = std::fs::File::options().write(true).open(lab.path("pipe")).unwrap();
        pipe.write_all(&tar[..5000]).unwrap();
        running.signal("INT");
        let _ = running.wait().fails(130, &["stopped by SIGINT"]);
        assert_eq!(lab.list(), before);
    }
}

#[test]
fn a_signal_while_a_registry_is_silent_leaves_nothing() {
    let (lab, _) = damaged();
    let before = lab.list();
    for words in [
        ["push", "-b", "HOST/team/app:v1", "-f", "app"].as_slice(),
        &["copy", "--tar", "app.tar", "--to-repo", "HOST/team/app:v1"],
        &["copy", "-i", "HOST/team/app:v1", "--to-oci-tar", "old.tar"],
        &["pull", "-b", "HOST/team/app:v1", "-o", "out"],
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let words: Vec<String> = words.iter().map(|word| word.replace("HOST", &host)).collect();
        let running = lab.command(&words).spawn();
        let (_silent, _) = listener.accept().unwrap();
        running.signal("INT");
        let _ = running.wait().fails(130, &["stopped by SIGINT"]);
        assert_eq!(lab.list(), before);
    }
}

#[test]
fn a_blob_with_a_wrong_digest_twice_is_never_written() {
    let (lab, _) = damaged();
    let registry = Registry::start();
    let place = format!("{}/team/app:v1", registry.host());
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-repo", &place]).succeeds();
    // The registry does not verify its storage; only the client does.
    let layer = samples::image(&lab.path("app.tar")).layer;
    let hex = &layer["sha256:".len()..];
    let root = registry.ca_path().with_file_name("data");
    let data = root.join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
    let file = std::fs::File::options().write(true).open(data).unwrap();
    file.write_all_at(b"#", 100).unwrap();
    for words in
        [["copy", "-b", &place, "--to-oci-tar", "old.tar"].as_slice(), &["pull", "-b", &place, "-o", "out"]]
    {
        let before = lab.list();
        let _ = lab.run(words).fails(3, &[&layer, "does not match"]);
        assert_eq!(lab.list(), before);
    }
    assert!(!oracle::layout_problems(lab.path("old.tar")).is_empty(), "the validator can object");
}
