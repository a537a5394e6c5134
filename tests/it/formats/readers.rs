//! Real readers accept every kind of tar that is written, and other tools' tars are relayed unchanged.

use testkit::lab::Lab;
use testkit::oracle;
use testkit::readers::{self, Podman, skopeo_copy, skopeo_digest};
use testkit::registry::Registry;
use testkit::tools::{run, tool};
use testkit::tree;

use crate::lab::lab;
use crate::samples::{self, NAME, blob, digest_in, pack, packed};

/// The kinds of tar: arguments of `push`.
const KINDS: [&[&str]; 11] = [
    &["-b", NAME, "-f", "app"],
    &["-b", NAME, "-f", "app", "--tag", "v2,stable"],
    &["-i", NAME, "-f", "app/config"],
    &["-i", "registry.example:5000/a/b", "-f", "app/config"],
    &["-i", "alpine:3.20", "-f", "app/config"],
    &["-i", NAME, "-f", "app/data"],
    &["-i", NAME, "-f", "app/empty"],
    &["-b", NAME, "-f", "app", "--media-types", "docker"],
    &["-b", NAME, "-f", "app", "--compression", "zstd"],
    &["-b", NAME, "-f", "app", "--compression", "none"],
    &["-b", NAME, "-f", "app", "--platform", "linux/arm64/v8", "-l", "a=<b>", "--annotation", "c=d"],
];

#[test]
fn every_kind_of_tar_is_sound_and_skopeo_keeps_its_digest() {
    let lab = samples::bundle();
    let registry = Registry::start();
    for (number, words) in KINDS.iter().enumerate() {
        let digest = pack(&lab, words, "app.tar");
        oracle::validate_layout(lab.path("app.tar"));
        // Several tags are several entries, so skopeo needs a tag.
        let tag = if words.contains(&"--tag") { ":v2" } else { "" };
        let from = format!("oci-archive:{}{tag}", lab.path("app.tar").display());
        assert_eq!(skopeo_digest(&from, &[]), digest, "{words:?}");
        let to = format!("docker://{}/kind-{number}:v1", registry.host());
        let _ = skopeo_copy(&from, &to, &["--dest-tls-verify=false"]).success();
        assert_eq!(registry.storage().tags(&format!("kind-{number}"))["v1"], digest, "{words:?}");
        // A copy of it is valid, too.
        let _ = lab.run(&["copy", "--tar", "app.tar", "--to-oci-tar", "copy.tar"]).succeeds();
        oracle::validate_layout(lab.path("copy.tar"));
        let _ = lab.run(&["verify", "--tar", "app.tar", "--expected-digest", &digest]).succeeds();
    }
    let unnamed = pack(&lab, &["-f", "app"], "app.tar");
    oracle::validate_layout(lab.path("app.tar"));
    assert_eq!(skopeo_digest(&format!("oci-archive:{}", lab.path("app.tar").display()), &[]), unnamed);
    registry.storage().assert_sound();
}

#[test]
fn umoci_podman_and_skopeo_unpack_what_was_packed() {
    let lab = samples::bundle().tree(&["f 'app/ünïcödé 名前' 'x'", "l app/link -> data"]);
    let digest = pack(&lab, &["-b", NAME, "-f", "app"], "app.tar");
    let expected = tree::list_contents(&lab.path("app"));
    let tar = lab.path("app.tar");

    let rootfs = readers::umoci_unpack(&tar, "v1", &lab.path("umoci"));
    assert_eq!(tree::list_contents(&rootfs), expected);

    let podman = Podman::new();
    assert_eq!(podman.load(&tar), [NAME]);
    assert_eq!(podman.digest(NAME), digest);
    podman.export(NAME, &lab.path("podman"));
    let exported = tree::list_contents(&lab.path("podman"));
    assert!(expected.lines().all(|line| exported.contains(line)), "{exported}");

    let config = samples::image(&tar).config;
    let id = Podman::new().pull(&format!("oci-archive:{}", tar.display()), &[]);
    assert_eq!(format!("sha256:{id}"), config);

    // With docker's table of contents, which is in the same tar.
    let folder = format!("dir:{}", lab.path("dir").display());
    let mut skopeo = tool("skopeo");
    skopeo.args([
        "--insecure-policy",
        "copy",
        "--quiet",
        &format!("docker-archive:{}", tar.display()),
        &folder,
    ]);
    let _ = run(&mut skopeo).success();
    let hex = &config["sha256:".len()..];
    assert_eq!(lab.read(&format!("dir/{hex}")), blob(&lab.read("app.tar"), &config));

    let _ = lab.run(&["pull", "--tar", "app.tar", "-o", "out"]).succeeds();
    assert_eq!(tree::list_contents(&lab.path("out")), expected);
}

#[test]
fn podman_finds_an_image_by_each_of_its_tags() {
    let lab = samples::bundle();
    pack(&lab, &["-b", NAME, "-f", "app", "--tag", "v2"], "app.tar");
    let config = samples::image(&lab.path("app.tar")).config;
    let podman = Podman::new();
    for tag in ["v1", "v2"] {
        let id = podman.pull(&format!("oci-archive:{}:{tag}", lab.path("app.tar").display()), &[]);
        assert_eq!(format!("sha256:{id}"), config, "{tag}");
    }
}

#[test]
fn tar_programs_see_fixed_headers_in_a_fixed_order() {
    let (lab, _) = packed();
    let entries = readers::python_tar_entries(&lab.path("app.tar"));
    let names: Vec<&str> = entries.iter().filter_map(|entry| entry["name"].as_str()).collect();
    assert_eq!(names.len(), readers::gnu_tar_list(&lab.path("app.tar")).len());
    assert!(
        names.contains(&"oci-layout") && names.contains(&"index.json") && names.contains(&"manifest.json")
    );
    for entry in &entries {
        let numbers = ["uid", "gid", "mtime"].map(|field| entry[field].as_f64());
        assert_eq!(numbers, [Some(0.0); 3], "{entry}");
        assert_eq!((&entry["uname"], &entry["gname"]), (&"".into(), &"".into()), "{entry}");
        let mode = if entry["kind"] == "folder" { 0o755 } else { 0o644 };
        assert_eq!(entry["mode"], mode, "{entry}");
        if let Some(hex) = entry["name"].as_str().and_then(|name| name.strip_prefix("blobs/sha256/")) {
            assert!(hex.is_empty() || entry["kind"] == "folder" || entry["sha256"] == hex, "{entry}");
        }
    }
}

/// Relays a tar or folder into a registry; returns the digest, after comparing each manifest with the original.
#[track_caller]
fn relayed(lab: &Lab, source: &str, registry: &Registry, repository: &str) -> String {
    let place = format!("{}/{repository}", registry.host());
    let output = lab.run(&["copy", "--tar", source, "--to-repo", &place]).succeeds();
    registry.storage().assert_sound();
    let digest = digest_in(output.one_line()).to_owned();
    assert!(registry.storage().manifests(repository).contains(&digest), "{output}");
    let _ = lab.run(&["verify", "--tar", source]).succeeds();
    digest
}

#[test]
fn tars_of_other_programs_are_relayed_byte_for_byte() {
    let (lab, digest) = packed();
    let registry = Registry::start();
    let from = format!("oci-archive:{}", lab.path("app.tar").display());

    let _ = skopeo_copy(&from, &format!("oci-archive:{}:{NAME}", lab.path("skopeo.tar").display()), &[])
        .success();
    assert_eq!(relayed(&lab, "skopeo.tar", &registry, "skopeo"), digest);
    assert_eq!(registry.storage().tags("skopeo").get("v1"), Some(&digest));
    let _ = skopeo_copy(&from, &format!("oci:{}:v1", lab.path("skopeo").display()), &[]).success();
    assert_eq!(relayed(&lab, "skopeo", &registry, "skopeo-folder"), digest);

    let podman = Podman::new();
    let _ = podman.load(&lab.path("app.tar"));
    let mut save = podman.command();
    save.args(["save", "--quiet", "--format", "oci-archive", "--output"])
        .arg(lab.path("podman.tar"))
        .arg(NAME);
    let _ = run(&mut save).success();
    let by_podman = relayed(&lab, "podman.tar", &registry, "podman");
    let blob_in_tar = lab.read("podman.tar");
    let stored = registry.storage().manifest("podman", &by_podman).unwrap();
    let entries = readers::python_tar_entries(&lab.path("podman.tar"));
    let name = format!("blobs/sha256/{}", &by_podman["sha256:".len()..]);
    let same = entries.iter().any(|entry| entry["name"] == name.as_str() && entry["size"] == stored.len());
    assert!(
        same && blob_in_tar.windows(stored.len()).any(|part| part == stored),
        "the manifest is not podman's"
    );
}

#[test]
fn what_buildah_and_umoci_build_is_relayed_and_pulled() {
    let lab = lab().tree(&["f in/hello 'hello'"]);
    let registry = Registry::start();
    lab.write("policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
    let script = "set -e; b() { buildah --root $PWD/root --runroot $PWD/run --storage-driver vfs \"$@\"; }
        c=$(b from scratch); b copy --quiet $c in/hello /hello >&2
        b commit --quiet --signature-policy policy.json $c oci-archive:$PWD/buildah.tar:registry.example/team/app:v1
        b rm $c; umoci init --layout umoci; umoci new --image umoci:v1; umoci insert --rootless --image umoci:v1 in/hello /hello
        umoci tag --image umoci:v1 v2; rm -rf root run";
    let mut shell = tool("bash");
    shell
        .arg("-c")
        .arg(script)
        .current_dir(lab.work())
        .env("TMPDIR", lab.work())
        .env("XDG_RUNTIME_DIR", lab.work());
    let _ = run(&mut shell).success();
    for (source, repository, tags) in
        [("buildah.tar", "buildah", &["v1"][..]), ("umoci", "umoci", &["v1", "v2"])]
    {
        let digest = relayed(&lab, source, &registry, repository);
        let stored = registry.storage().tags(repository);
        for tag in tags {
            assert_eq!(stored.get(*tag), Some(&digest), "{source}");
        }
        let image = format!("{}/{repository}:v1", registry.host());
        for (from, out) in [(["-i", image.as_str()], "pulled"), (["--tar", source], "unpacked")] {
            let out = format!("{out}-{repository}");
            let _ = lab.run(&["pull", from[0], from[1], "-o", &out]).succeeds();
            assert_eq!(lab.read(&format!("{out}/hello")), b"hello");
        }
    }
}
