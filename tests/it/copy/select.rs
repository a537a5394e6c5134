//! `--select`: one image of a tar that has several, for every command that reads a tar, and `--keep-names`.

use testkit::oracle::validate_layout;
use testkit::readers::skopeo_digest;
use testkit::registry::Registry;
use testkit::tools::{run, tool};

use crate::carvel::{bundle, digest, image};
use crate::lab::{Lab, lab};
use crate::samples::entries;

/// Writes `all.tar` with `registry.example/a:v1`, `registry.example/b:v1` and an image without a name; returns their digests.
pub(crate) fn several(lab: &Lab) -> [String; 3] {
    let names = ["registry.example/a:v1", "registry.example/b:v1", ""];
    let digests = names.map(|name| {
        let folder = format!("files-{}", name.len() + name.matches('b').count());
        lab.write(&format!("{folder}/content"), name);
        let words = ["push", "-i", name, "-f", &folder, "--to-oci-tar", "one.tar"];
        let line = lab.run(&words).succeeds().one_line().to_owned();
        let words = ["copy", "--tar", "one.tar", "--to-oci-tar", "all.tar", "--append"];
        let _ = lab.run(&words).succeeds();
        digest(&line).split(' ').next().unwrap().to_owned()
    });
    assert!(digests[0] != digests[1] && digests[1] != digests[2]);
    digests
}

#[test]
fn select_chooses_an_image_by_name_tag_digest_or_position() {
    let lab = lab();
    let [a, b, bare] = several(&lab);
    let taken = |select: &str| {
        let words = ["copy", "--tar", "all.tar", "--select", select, "--to-oci-tar", "x.tar"];
        let line = lab.run(&words).succeeds().one_line().to_owned();
        validate_layout(lab.path("x.tar"));
        let found = lab.run(&["describe", "--tar", "x.tar", "--json"]).succeeds().json();
        assert_eq!(found["images"].as_array().unwrap().len(), 1, "{found}");
        assert_eq!(found["images"][0]["digest"], digest(&line));
        digest(&line).to_owned()
    };
    for (select, expected) in [
        ("registry.example/b:v1", &b),
        ("registry.example/a", &a),
        ("@0", &a),
        ("@2", &bare),
        (bare.as_str(), &bare),
    ] {
        assert_eq!(&taken(select), expected, "{select}");
    }
    for (select, texts) in [
        ("v1", ["holds 2 images that are `v1`; it has", "`registry.example/b:v1` (`@1`, `sha256:"]),
        ("v2", ["holds no image `v2`; it has", "`@2` (`sha256:"]),
        ("@3", ["holds no image `@3`", "`registry.example/a:v1` (`@0`"]),
    ] {
        let words = ["copy", "--tar", "all.tar", "--select", select, "--to-oci-tar", "no.tar"];
        let _ = lab.run(&words).fails(1, &texts);
        assert!(!lab.path("no.tar").exists());
    }
    let words = ["copy", "--tar", "all.tar", "--select", "@x", "--to-oci-tar", "no.tar"];
    let _ = lab.run(&words).fails(2, &["`--select`: position `@x` is not `@` and a number"]);
    let words = ["copy", "-i", "registry.example/a", "--select", "@0", "--to-oci-tar", "no.tar"];
    let _ = lab.run(&words).fails(2, &["`--select` works with `--tar` only"]);
}

#[test]
fn select_works_with_every_sink_and_every_command_that_reads_a_tar() {
    let (lab, registry) = (lab(), Registry::start());
    let [a, b, _] = several(&lab);
    let with = |words: &[&str]| {
        lab.run(&[words, &["--tar", "all.tar", "--select", "registry.example/b:v1"]].concat())
    };
    let to = format!("{}/team/b", registry.host());
    assert!(with(&["copy", "--to-repo", &format!("{to}:v9")]).succeeds().stdout.contains(&b));
    assert_eq!(registry.storage().tags("team/b"), [("v9".to_owned(), b.clone())].into());
    let _ = with(&["copy", "--to-docker-tar", "docker.tar"]).succeeds();
    let archive = format!("docker-archive:{}", lab.path("docker.tar").display());
    assert!(skopeo_digest(&archive, &[]).starts_with("sha256:"));
    let _ = with(&["copy", "--to-tar", "imgpkg.tar"]).succeeds();
    assert_eq!(
        lab.run(&["describe", "--tar", "imgpkg.tar", "--json"]).succeeds().json()["images"][0]["digest"],
        b
    );
    let _ = with(&["pull", "-o", "out"]).succeeds();
    assert_eq!(lab.read("out/content"), b"registry.example/b:v1");
    let found = with(&["describe", "--json"]).succeeds().json();
    assert_eq!(
        (found["images"].as_array().unwrap().len(), &found["images"][0]["digest"]),
        (1, &b.as_str().into())
    );
    let verified = with(&["verify", "--expected-digest", &b]).succeeds();
    assert!(verified.stdout.contains(&b) && !verified.stdout.contains(&a), "{verified}");
    let _ = with(&["verify", "--expected-digest", &a]).ends_with(3).says("expected `sha256:");
    // Without `--select` each command says how to select.
    for words in [
        &["pull", "-o", "no"][..],
        &["copy", "--to-docker-tar", "no.tar", "--expected-digest", &b],
        &["verify", "--expected-digest", &b],
    ] {
        let _ = lab.run(&[words, &["--tar", "all.tar"]].concat()).fails(
            1,
            &[
                "holds 3 images, expected one",
                "`registry.example/a:v1` (`@0`",
                "hint: choose one with `--select IMAGE`",
            ],
        );
    }
    let variable =
        lab.command(&["pull", "--tar", "all.tar", "-o", "by-variable"]).env("IMGRELAY_SELECT", "@0");
    let _ = variable.run().succeeds();
    assert_eq!(lab.read("by-variable/content"), b"registry.example/a:v1");
}

#[test]
fn match_selects_an_image_too() {
    let lab = lab();
    for app in ["one", "two"] {
        lab.write(&format!("{app}/app.txt"), app);
        let name = format!("registry.example/{app}:v1");
        let _ = lab.run(&["push", "-s", &name, "-f", app, "--to-oci-tar", "app.tar"]).succeeds();
        let _ = lab.run(&["copy", "--tar", "app.tar", "--to-oci-tar", "all.tar", "--append"]).succeeds();
    }
    // The SHA-1 of `two`.
    let request = r#"{"resources":[{"checksum":{"value":"ad782ecdac770fc6eb9a62e44f90873fb97fb26b"},"size_in_bytes":3}]}"#;
    let ask = |select: &[&str]| {
        lab.command(&[&["match", "--tar", "all.tar"], select].concat()).stdin(request).run()
    };
    let count =
        |select: &str| ask(&["--select", select]).succeeds().json()["resources"].as_array().unwrap().len();
    assert_eq!((count("registry.example/two"), count("@0")), (1, 0));
    let _ = ask(&[]).fails(1, &["holds 2 images, expected one", "`--select IMAGE`"]);
}

#[test]
fn a_damaged_neighbour_and_what_is_not_chosen_do_not_matter() {
    let lab = lab();
    let [a, b, _] = several(&lab);
    let shell = format!(
        "mkdir all && tar -xf all.tar -C all && printf damaged > all/blobs/sha256/{}",
        a.strip_prefix("sha256:").unwrap()
    );
    let _ = run(tool("bash").arg("-ec").arg(shell).current_dir(lab.work())).success();
    let _ = lab.run(&["verify", "--tar", "all"]).ends_with(3).says("is damaged");
    assert!(lab.run(&["verify", "--tar", "all", "--select", "@1"]).succeeds().stdout.contains(&b));
    let words = ["copy", "--tar", "all", "--select", "@1", "--to-oci-tar", "b.tar"];
    assert!(lab.run(&words).succeeds().stdout.contains(&b));
    let _ = lab.run(&["verify", "--tar", "b.tar"]).succeeds();
}

#[test]
fn what_belongs_to_the_selected_image_comes_along() {
    let (lab, mut registry) = (lab(), Registry::start());
    let host = registry.host().to_owned();
    let one = image(&lab, &format!("{host}/one"), "one");
    let two = image(&lab, &format!("{host}/two"), "two");
    let outer = bundle(&lab, &format!("{host}/outer:v1"), "outer", &[&one]);
    let signature = format!("{host}/two:{}.sig", digest(&two).replace(':', "-"));
    let _ = lab.run(&["push", "-i", &signature, "-f", "outer/config.yml"]).succeeds();
    let add = |words: &[&str]| {
        let _ = lab.run(&[words, &["--to-oci-tar", "all.tar", "--append"]].concat()).succeeds();
    };
    add(&["copy", "-b", &format!("{host}/outer:v1")]);
    add(&["copy", "-i", &format!("{host}/two:latest"), "--cosign-signatures"]);
    registry.stop();
    let copied = |select: &str| {
        let words = ["copy", "--tar", "all.tar", "--select", select, "--to-oci-tar", "x.tar"];
        let _ = lab.run(&words).succeeds().never_says("warning");
        lab.read("x.tar")
    };
    let tar = copied("v1");
    for (reference, is_there) in [(&outer, true), (&one, true), (&two, false)] {
        let name = format!("blobs/sha256/{}", digest(reference).strip_prefix("sha256:").unwrap());
        assert_eq!(entries(&tar).iter().any(|(entry, _)| *entry == name), is_there, "{reference}");
    }
    let digests = |select: &str| {
        let _ = copied(select);
        let found = lab.run(&["describe", "--tar", "x.tar", "--json"]).succeeds().json();
        let images = found["images"].as_array().unwrap().iter();
        images.map(|image| image["digest"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(digests(digest(&one)), [digest(&one)]);
    let both = digests(digest(&two));
    assert_eq!((both.len(), both[0].as_str()), (2, digest(&two)));
}

#[test]
fn two_images_for_one_tag_are_refused_before_anything_is_sent() {
    let (lab, registry) = (lab(), Registry::start());
    let [a, b, _] = several(&lab);
    // What `docker save a:v1 b:v1` writes.
    let shell = "for n in 0 1; do imgrelay=\"$1\"; \"$imgrelay\" copy --tar all.tar --select @$n --to-docker-tar d$n.tar; \
                 mkdir -p docker t$n; tar -xf d$n.tar -C t$n; cp -r t$n/. docker/; done; \
                 python3 -c 'import json; both = [json.load(open(f\"t{n}/manifest.json\"))[0] for n in (0, 1)]; \
                 json.dump(both, open(\"docker/manifest.json\", \"w\"))'; tar -cf docker.tar -C docker .";
    let program = env!("CARGO_BIN_EXE_imgrelay");
    let _ = run(tool("bash").arg("-ec").arg(shell).arg("-").arg(program).current_dir(lab.work())).success();
    let to = format!("{}/team", registry.host());
    for tar in ["all.tar", "docker.tar"] {
        let target = format!("two images would be `{to}:v1`: `registry.example/a:v1` (`sha256:");
        let copy = lab.run(&["copy", "--tar", tar, "--to-repo", &to]);
        let copy = copy
            .fails(1, &[&target, "`registry.example/b:v1` (`sha256:", "`--select IMAGE`", "`--keep-names`"]);
        if tar == "all.tar" {
            let _ = copy.says(&a).says(&b);
        }
    }
    assert!(registry.requests().iter().all(|request| request.method != "POST"), "something was sent");
    let words = ["copy", "--tar", "docker.tar", "--select", "registry.example/b:v1", "--to-repo", &to];
    let line = lab.run(&words).succeeds().one_line().to_owned();
    assert_eq!(registry.storage().tags("team")["v1"], digest(&line));
}

#[test]
fn keep_names_pushes_each_image_below_the_prefix() {
    let (lab, registry) = (lab(), Registry::start());
    let [a, b, bare] = several(&lab);
    let to = format!("{}/mirror", registry.host());
    let keep = |words: &[&str]| lab.run(&[&["copy", "--to-repo", &to, "--keep-names"], words].concat());
    let text = format!("image `{bare}` has no recorded name");
    let _ = keep(&["--tar", "all.tar"]).fails(1, &[&text, "`--to-repo REPOSITORY:TAG`"]);
    let line = keep(&["--tar", "all.tar", "--select", "@0", "--tag", "v2"]).succeeds().one_line().to_owned();
    assert_eq!(line, format!("{to}/a@{a}"));
    let _ = keep(&["--tar", "all.tar", "--select", "@1", "--lock-output", "l.yml"]).succeeds();
    assert!(String::from_utf8(lab.read("l.yml")).unwrap().contains(&format!("image: {to}/b@{b}")));
    let tags = |repository: &str| registry.storage().tags(repository);
    assert_eq!(tags("mirror/a"), [("v1".to_owned(), a.clone()), ("v2".to_owned(), a)].into());
    assert_eq!(tags("mirror/b"), [("v1".to_owned(), b)].into());
    for (words, text) in [
        (
            &["copy", "--tar", "all.tar", "--to-oci-tar", "x.tar", "--keep-names"][..],
            "works with `--to-repo` only",
        ),
        (
            &["copy", "--tar", "all.tar", "--to-repo", &format!("{to}:v1"), "--keep-names"],
            "`--keep-names` keeps the recorded tags too",
        ),
    ] {
        let _ = lab.run(words).fails(2, &[text]);
    }
}

#[test]
fn index_takes_the_selected_image_of_each_tar() {
    let lab = lab();
    let [_, b, _] = several(&lab);
    let words = ["index", "--tar", "all.tar", "--to-oci-tar", "index.tar"];
    // All three are for this machine's platform.
    let _ = lab.run(&words).fails(1, &["both hold an image for", "`--select IMAGE`"]);
    assert!(!lab.path("index.tar").exists());
    let selected = [&words[..], &["--select", "registry.example/b:v1", "--json"]].concat();
    let made = lab.run(&selected).succeeds().json();
    validate_layout(lab.path("index.tar"));
    assert_eq!(made["platforms"].as_array().map(Vec::len), Some(1), "{made}");
    assert_eq!(made["platforms"][0]["digest"], b, "{made}");
    let unknown = [&words[..], &["--select", "registry.example/c:v1"]].concat();
    let _ = lab.run(&unknown).fails(1, &["holds no image `registry.example/c:v1`"]);
}
