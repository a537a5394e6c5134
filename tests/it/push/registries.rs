//! From the tar or directly from the folder into real registries and back; checks the registry's storage and log.

use serde_json::{Value, json};
use testkit::lab::{Lab, Output};
use testkit::registry::{PASSWORD, Registry, Request, TokenOptions, USER, text};
use testkit::tarball::Tarball;
use testkit::tools::{run, tool};
use testkit::tree;

use crate::lab::lab;
use crate::layouts::{CONFIG, CONTAINERD_NAME, INDEX, Layout, REF_NAME, descriptor, hex, named};
use crate::samples::{self, NAME, blob, digest_in, entries, packed};

/// A registry and how a user reaches it: name, registry, arguments, environment.
type Mode = (&'static str, Registry, Vec<String>, Vec<(&'static str, String)>);

const SHORT_LIVED: &str = "tokens that live a second";

fn modes() -> Vec<Mode> {
    let config =
        |registry: &Registry| ("DOCKER_CONFIG", text(&registry.docker_config(USER, PASSWORD)).to_owned());
    let trusting = |registry: &Registry| {
        ["--registry-ca-cert-path", text(&registry.ca_path())].map(str::to_owned).to_vec()
    };
    let password = || {
        vec![
            ("IMGRELAY_REGISTRY_USERNAME", USER.to_owned()),
            ("IMGRELAY_REGISTRY_PASSWORD", PASSWORD.to_owned()),
        ]
    };
    let (plain, tls) = (Registry::start(), Registry::with().tls().start());
    let basic = Registry::with().htpasswd().start();
    let tls_basic = Registry::with().tls().htpasswd().start();
    let tokens = Registry::with().tokens(TokenOptions::default()).start();
    let short =
        Registry::with().tls().tokens(TokenOptions { life_seconds: 1, ..TokenOptions::default() }).start();
    let imgpkg = Registry::with().htpasswd().start();
    let imgpkgs = vec![
        ("IMGPKG_REGISTRY_HOSTNAME_0", imgpkg.host().to_owned()),
        ("IMGPKG_REGISTRY_USERNAME_0", USER.to_owned()),
        ("IMGPKG_REGISTRY_PASSWORD_0", PASSWORD.to_owned()),
    ];
    let mode = |name, registry: Registry, words: Vec<String>, env| (name, registry, words, env);
    let (trust_tls, trust_basic, trust_short) = (trusting(&tls), trusting(&tls_basic), trusting(&short));
    let (basic_config, tokens_config) = (config(&basic), config(&tokens));
    vec![
        mode("anonymous", plain, vec![], vec![]),
        mode("private authority", tls, trust_tls, vec![]),
        mode("password in docker's file", basic, vec![], vec![basic_config]),
        mode("password in variables, private authority", tls_basic, trust_basic, password()),
        mode("password in imgpkg's variables", imgpkg, vec![], imgpkgs),
        mode("tokens", tokens, vec![], vec![tokens_config]),
        mode(SHORT_LIVED, short, trust_short, password()),
    ]
}

#[test]
fn what_was_packed_arrives_unchanged_in_every_kind_of_registry() {
    let (lab, digest) = packed();
    let contents = tree::list_contents(&lab.path("app"));
    for (mode, registry, words, env) in modes() {
        let run = |before: &[&str]| {
            let all: Vec<String> =
                before.iter().map(|word| (*word).to_owned()).chain(words.clone()).collect();
            let run = env.iter().fold(lab.command(&all), |run, (name, value)| run.env(name, value));
            let output = run.run().succeeds().never_says(PASSWORD);
            eprintln!("{mode}: {}", output.line);
            output
        };
        let name = |repository: &str| format!("{}/{repository}", registry.host());
        let (straight, relayed) = (name("team/straight:v1"), name("team/relayed"));
        let line = |output: &Output| digest_in(output.one_line()).to_owned();
        assert_eq!(line(&run(&["push", "-b", &straight, "-f", "app", "--tag", "v2,stable"])), digest);
        assert_eq!(line(&run(&["copy", "--tar", "app.tar", "--to-repo", &relayed])), digest);
        let image = run(&["push", "-i", &name("image"), "-f", "app/config"]);
        let storage = registry.storage();
        storage.assert_sound();
        let straight_tags = storage.tags("team/straight");
        for tag in ["v1", "v2", "stable"] {
            assert_eq!(straight_tags.get(tag), Some(&digest), "{mode} {tag}");
        }
        assert_eq!(storage.tags("team/relayed").get("v1"), Some(&digest), "{mode}: the recorded tag is kept");
        assert_eq!(storage.tags("image").get("latest"), Some(&line(&image)), "{mode}");
        same_bytes(&lab, "app.tar", &registry, "team/relayed");
        // A token with a life of a second may expire again before the last request of a session arrives;
        // `habits::a_session_is_ended_also_when_the_token_for_that_is_gone` tests that request alone.
        if mode != SHORT_LIVED {
            for repository in ["team/straight", "team/relayed"] {
                assert_eq!(storage.open_uploads(repository), 0, "{mode}: an upload was not ended");
            }
        }
        let _ = run(&["pull", "-b", &straight, "-o", "out"]);
        assert_eq!(tree::list_contents(&lab.path("out")), contents, "{mode}");
        std::fs::remove_dir_all(lab.path("out")).unwrap();
        let by_digest = format!("{relayed}@{digest}");
        assert_eq!(line(&run(&["tag", "resolve", "-i", &format!("{relayed}:v1")])), digest);
        assert!(run(&["describe", "-b", &by_digest]).stdout.contains(&digest));
        let _ = run(&["copy", "-b", &by_digest, "--to-oci-tar", "back.tar"]);
        assert_eq!(samples::image(&lab.path("back.tar")), samples::image(&lab.path("app.tar")), "{mode}");
    }
}

#[test]
fn client_certificates_are_found_in_the_users_folder() {
    let (lab, digest) = packed();
    let registry = Registry::with().mutual_tls().start();
    let place = format!("{}/team/app", registry.host());
    let words = ["copy", "--tar", "app.tar", "--to-repo", &place];
    let _ =
        lab.run(&[&words[..], &["--registry-ca-cert-path", text(&registry.ca_path())]].concat()).ends_with(1);
    let folder = lab.home().join(".config/containers/certs.d").join(registry.host());
    std::fs::create_dir_all(&folder).unwrap();
    for (from, to) in [
        (registry.ca_path(), "ca.crt"),
        (registry.client_certificate_path(), "client.cert"),
        (registry.client_key_path(), "client.key"),
    ] {
        std::fs::copy(from, folder.join(to)).unwrap();
    }
    let _ = lab.run(&words).succeeds();
    assert_eq!(registry.storage().tags("team/app").get("v1"), Some(&digest));
}

/// Checks that the blobs and manifests of a tar that a repository has are the same bytes there, at least one image.
#[track_caller]
fn same_bytes(lab: &Lab, tar: &str, registry: &Registry, repository: &str) {
    let (tar, storage) = (lab.read(tar), registry.storage());
    let there: Vec<String> =
        storage.layers(repository).into_iter().chain(storage.manifests(repository)).collect();
    let mut same = 0;
    for digest in there {
        let in_tar = entries(&tar).iter().any(|(name, _)| name.ends_with(&digest["sha256:".len()..]));
        if in_tar {
            same += 1;
            assert!(storage.blob(&digest).unwrap() == blob(&tar, &digest), "{digest} is not the same");
        }
    }
    assert!(same >= 3, "layer, configuration and manifest are there");
}

/// Tells whether a tag is one of imgpkg's own, as tools that relay bundles write them.
fn is_internal(reference: &str) -> bool {
    reference.starts_with("sha256-") && reference.ends_with(".imgpkg")
}

/// The writing requests in order: `blob <digest>`, `manifest <tag or digest>`.
fn writes(requests: &[Request]) -> Vec<String> {
    let done = requests.iter().filter(|request| request.method == "PUT" && request.status == 201);
    done.map(|request| match request.path.split_once("/manifests/") {
        Some((_, reference)) => format!("manifest {reference}"),
        None => {
            let digest = request.query.split('&').find_map(|part| part.strip_prefix("digest="));
            format!("blob {}", digest.expect("an upload ends with a digest").replace("%3A", ":"))
        }
    })
    .collect()
}

#[track_caller]
fn blobs_then_manifests_then_tags(requests: &[Request], tags: &[&str]) -> Vec<String> {
    let writes = writes(requests);
    let rank = |write: &String| match write.split_once(' ') {
        Some((_, reference)) if tags.contains(&reference) => 1,
        _ => 0,
    };
    assert!(writes.is_sorted_by_key(rank), "{writes:#?}");
    // An image's blobs are there before its manifest; a bundle's list of locations is an image of its own.
    let first = writes.iter().position(|write| write.starts_with("manifest ")).unwrap_or(0);
    assert!(writes.iter().take(first).filter(|write| write.starts_with("blob ")).count() >= 2, "{writes:#?}");
    let mut once = writes.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), writes.len(), "something was uploaded twice: {writes:#?}");
    writes
}

#[test]
fn blobs_come_first_tags_last_and_nothing_twice() {
    let (lab, digest) = packed();
    let image = samples::image(&lab.path("app.tar"));
    let registry = Registry::start();
    let place = format!("{}/team/app", registry.host());
    let copy = |more: &[&str]| {
        registry.forget_requests();
        let words = [&["copy", "--tar", "app.tar", "--to-repo", &place], more].concat();
        let output = lab.run(&words).succeeds();
        assert_eq!(digest_in(output.one_line()), digest);
        registry.requests()
    };
    let requests = copy(&["--tag", "v2"]);
    let written = blobs_then_manifests_then_tags(&requests, &["v1", "v2"]);
    for blob in [&image.config, &image.layer] {
        assert!(written.contains(&format!("blob {blob}")), "{written:#?}");
        let path = format!("/v2/team/app/blobs/{blob}");
        let position = |method: &str| {
            requests.iter().position(|request| request.method == method && request.path == path)
        };
        assert!(position("HEAD").is_some(), "it was not asked for first");
    }
    assert_eq!(written.last().map(String::as_str), Some("manifest v2"), "{written:#?}");
    // The second push sends only a few HEAD requests.
    for more in [&["--tag", "v2"][..], &[]] {
        let again = copy(more);
        assert!(again.iter().all(|request| request.method == "HEAD"), "{again:#?}");
        assert!(again.len() <= 5, "{again:#?}");
    }
    // A further tag costs one document.
    let further = copy(&["--tag", "v3"]);
    assert_eq!(writes(&further), ["manifest v3"], "{further:#?}");
    assert!(further.iter().all(|request| !request.path.contains("/blobs/")), "{further:#?}");
    // The same folder, packed and pushed directly, gives the same image, so nothing is sent.
    registry.forget_requests();
    let _ = lab.run(&["push", "-b", &format!("{place}:v1"), "-f", "app"]).succeeds();
    assert!(registry.requests().iter().all(|request| request.method == "HEAD"), "{:#?}", registry.requests());
    registry.storage().assert_sound();
}

#[test]
fn a_changed_folder_moves_the_tag_and_sends_only_what_is_new() {
    let (lab, first) = packed();
    let registry = Registry::start();
    let place = format!("{}/team/app:v1", registry.host());
    let push = ["push", "-i", &place, "-f", "app/config"];
    let before = digest_in(lab.run(&push).succeeds().one_line()).to_owned();
    lab.write("app/config/b.yml", "b: 2\n");
    registry.forget_requests();
    let after = digest_in(lab.run(&push).succeeds().one_line()).to_owned();
    assert_ne!((&before, &first), (&after, &before));
    let mut written = blobs_then_manifests_then_tags(&registry.requests(), &["v1"]);
    written.retain(|write| !is_internal(write.trim_start_matches("manifest ")));
    assert_eq!(written.len(), 3, "layer, configuration, manifest: {written:#?}");
    assert_eq!(registry.storage().tags("team/app")["v1"], after);
    // To another repository of the same registry blobs are mounted, not sent.
    registry.forget_requests();
    let other = format!("{}/team/other", registry.host());
    let _ = lab.run(&["copy", "-i", &place, "--to-repo", &other]).succeeds();
    assert_eq!(registry.storage().tags("team/other")["v1"], after);
    let is_sent = |path: &str| path.contains("/blobs/uploads/");
    let requests = registry.requests().into_iter();
    let sent: Vec<_> =
        requests.filter(|request| request.method != "POST" && is_sent(&request.path)).collect();
    assert_eq!(sent, [], "a blob was sent that could be mounted");
}

#[test]
fn locks_are_written_as_imgpkg_does_and_pulled() {
    use std::os::unix::fs::PermissionsExt as _;
    let (lab, digest) = packed();
    let registry = Registry::start();
    let place = format!("{}/team/app", registry.host());
    for (reference, words, tag) in [
        (format!("{place}:v1"), vec![], "v1"),
        (place.clone(), vec![], "latest"),
        (format!("{place}:v1"), vec!["--tag", "v2"], "v1"),
    ] {
        let push = [&["push", "-b", &reference, "-f", "app", "--lock-output", "lock.yml"], words.as_slice()]
            .concat();
        let _ = lab.run(&push).succeeds();
        let expected = format!(
            "---\napiVersion: imgpkg.carvel.dev/v1alpha1\nbundle:\n  image: {place}@{digest}\n  tag: {tag}\nkind: BundleLock\n"
        );
        assert_eq!(String::from_utf8(lab.read("lock.yml")).unwrap(), expected);
        let mode = std::fs::metadata(lab.path("lock.yml")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "as imgpkg's");
    }
    let output = lab.run(&["pull", "--lock", "lock.yml", "-o", "out"]).succeeds();
    assert_eq!(digest_in(output.one_line()), digest);
    assert_eq!(tree::list_contents(&lab.path("out")), tree::list_contents(&lab.path("app")));
}

/// Two platforms with a shared layer, an attestation, and an index around them, nested in another; tags `v1`, `v2`.
fn multi_platform() -> Layout {
    let mut layout = Layout::default();
    let shared = Tarball::new().file("shared", vec![b's'; 30_000]).finish();
    let amd = layout.image(&[shared.clone(), Tarball::new().file("arch", "amd64").finish()]);
    let arm = layout.image_for("arm64", &[shared, Tarball::new().file("arch", "arm64").finish()]);
    let statement = r#"{"_type":"https://in-toto.io/Statement/v0.1"}"#;
    let predicate = layout.blob("application/vnd.in-toto+json", statement);
    let rootfs = json!({"type": "layers", "diff_ids": [format!("sha256:{}", hex(statement.as_bytes()))]});
    let config = json!({"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": rootfs});
    let config = layout.blob(CONFIG, config.to_string());
    // Members and blanks that no tool writes, which must be kept.
    let attestation = format!(
        "{{ \"schemaVersion\": 2,\n\t\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\", \"x-unknown\": [1.0, null],\n \"config\": {config}, \"layers\": [{predicate}] }}\n"
    );
    let attestation = layout.blob("application/vnd.oci.image.manifest.v1+json", attestation);
    let with = |mut descriptor: Value, os: &str, architecture: &str| {
        descriptor["platform"] = json!({"os": os, "architecture": architecture});
        descriptor
    };
    let mut attestation = with(attestation, "unknown", "unknown");
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": amd["digest"]});
    let inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [with(amd, "linux", "amd64"), with(arm, "linux", "arm64"), attestation]});
    let inner = layout.blob(INDEX, inner.to_string());
    for tag in ["v1", "v2"] {
        let full = format!("reg.example/team/app:{tag}");
        layout.entries.push(named(inner.clone(), &[(REF_NAME, tag), (CONTAINERD_NAME, &full)]));
    }
    let mut seen = std::collections::BTreeSet::new();
    layout.blobs.retain(|blob| seen.insert(hex(blob)));
    layout
}

#[test]
fn an_index_of_several_platforms_is_forwarded_byte_for_byte_in_every_wrapping() {
    let layout = multi_platform();
    let lab = lab();
    lab.write("plain.tar", layout.tar());
    for (file, bytes) in layout.files() {
        lab.write(&format!("folder/{file}"), bytes);
    }
    std::fs::create_dir(lab.path("holder")).unwrap();
    let script = "gzip -k plain.tar && zstd -q -k plain.tar && cat plain.tar.gz > two.tgz && \
        cp plain.tar.zst holder/image.tar && tar -C folder -cf dotted.tar . && tar -C folder -cf pax.tar --format=pax blobs index.json oci-layout";
    let _ = run(tool("sh").arg("-c").arg(script).current_dir(lab.work())).success();
    let digest = layout.entries[0]["digest"].as_str().unwrap();
    for source in ["plain.tar", "plain.tar.gz", "plain.tar.zst", "folder", "holder", "dotted.tar", "pax.tar"]
    {
        let registry = Registry::start();
        let place = format!("{}/team/app", registry.host());
        let output = lab.run(&["copy", "--tar", source, "--to-repo", &place]).succeeds();
        assert_eq!(digest_in(output.one_line()), digest, "{source}");
        let storage = registry.storage();
        storage.assert_sound();
        let tags = storage.tags("team/app");
        assert_eq!((tags.get("v1"), tags.get("v2")), (Some(&digest.to_owned()), Some(&digest.to_owned())));
        for bytes in &layout.blobs {
            let stored = storage.blob(&format!("sha256:{}", hex(bytes)));
            assert_eq!(stored.as_ref(), Some(bytes), "{source}");
        }
        let written = blobs_then_manifests_then_tags(&registry.requests(), &["v1", "v2"]);
        assert_eq!(
            written.iter().filter(|write| write.starts_with("manifest sha256:")).count(),
            3,
            "{written:#?}"
        );
    }
}

#[test]
fn a_platform_is_chosen_from_an_index_wherever_it_is() {
    let layout = multi_platform();
    let lab = lab();
    lab.write("app.tar", layout.tar());
    let registry = Registry::start();
    let place = format!("{}/team/app", registry.host());
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-repo", &place]).succeeds();
    let image = format!("{place}:v2");
    for (number, source) in [["--tar", "app.tar"], ["-i", &image]].into_iter().enumerate() {
        for (platform, expected) in
            [(None, "amd64"), (Some("linux/arm64"), "arm64"), (Some("linux/arm64/v8"), "arm64")]
        {
            let out = format!("out-{number}-{}", platform.unwrap_or("default").replace('/', "-"));
            let mut words = vec!["pull", source[0], source[1], "-o", &out];
            words.extend(platform.iter().flat_map(|platform| ["--platform", platform]));
            let _ = lab.run(&words).succeeds();
            assert_eq!(lab.read(&format!("{out}/arch")), expected.as_bytes(), "{words:?}");
        }
        let words = ["pull", source[0], source[1], "-o", "none", "--platform", "linux/s390x"];
        let texts = ["no image for `linux/s390x`", "`linux/amd64`, `linux/arm64`", "--platform"];
        let _ = lab.run(&words).fails(1, &texts);
    }
    // Round trip: from the registry into a tar, with unchanged documents.
    let _ = lab.run(&["copy", "-i", &image, "--to-oci-tar", "back.tar"]).succeeds();
    let back = lab.read("back.tar");
    for bytes in &layout.blobs {
        assert_eq!(blob(&back, &format!("sha256:{}", hex(bytes))), bytes);
    }
    testkit::oracle::validate_layout(lab.path("back.tar"));
}

#[test]
fn images_of_a_tar_keep_their_tags_and_a_tag_for_several_is_refused() {
    let mut layout = Layout::simple();
    let other = layout.image(&[Tarball::new().file("other", "other").finish()]);
    layout.entries.push(named(other.clone(), &[(REF_NAME, "other")]));
    let lab = lab();
    lab.write("two.tar", layout.tar());
    let registry = Registry::start();
    let place = format!("{}/team/app", registry.host());
    let _ = lab.run(&["copy", "--tar", "two.tar", "--to-repo", &place]).succeeds();
    let tags = registry.storage().tags("team/app");
    let digest = |entry: &Value| Some(entry["digest"].as_str().unwrap().to_owned());
    assert_eq!(tags.get("v1").cloned(), digest(&layout.entries[0]));
    assert_eq!(tags.get("other").cloned(), digest(&other));
    registry.forget_requests();
    let _ = lab
        .run(&["copy", "--tar", "two.tar", "--to-repo", &format!("{place}:new")])
        .fails(2, &["`--to-repo` has a tag", "2 images"]);
    assert_eq!(registry.requests(), []);
}

#[test]
fn a_tar_without_a_name_is_pushed_under_the_tag_given_or_by_digest() {
    let lab = samples::bundle();
    let digest = samples::pack(&lab, &["-f", "app"], "app.tar");
    let registry = Registry::start();
    let place = format!("{}/team/app", registry.host());
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-repo", &place]).succeeds();
    assert!(registry.storage().manifests("team/app").contains(&digest));
    assert!(!registry.storage().tags("team/app").keys().any(|tag| tag == "latest" || tag == "v1"));
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-repo", &format!("{place}:v7")]).succeeds();
    assert_eq!(registry.storage().tags("team/app").get("v7"), Some(&digest));
    let wrong = format!("sha256:{}", "0".repeat(64));
    registry.forget_requests();
    let words = ["copy", "--tar", "app.tar", "--to-repo", &place, "--expected-digest", &wrong];
    let _ = lab.run(&words).fails(3, &[&digest, &wrong]);
    assert_eq!(registry.requests(), [], "refused before anything is asked");
}

#[test]
fn an_archive_of_docker_save_is_pushed_as_it_is() {
    let (lab, _) = packed();
    let archive = format!("docker-archive:{}:{NAME}", lab.path("docker.tar").display());
    let mut skopeo = tool("skopeo");
    skopeo.args([
        "--insecure-policy",
        "copy",
        "--quiet",
        &format!("oci-archive:{}", lab.path("app.tar").display()),
        &archive,
    ]);
    let _ = run(&mut skopeo).success();
    let registry = Registry::start();
    let place = format!("{}/team/app", registry.host());
    let output = lab.run(&["copy", "--tar", "docker.tar", "--to-repo", &place]).succeeds();
    let storage = registry.storage();
    storage.assert_sound();
    assert_eq!(storage.tags("team/app")["v1"], digest_in(output.one_line()));
    // The configuration is the archive's own file.
    let tar = lab.read("docker.tar");
    let table: Value = serde_json::from_slice(samples::entry(&tar, "manifest.json")).unwrap();
    let config = samples::entry(&tar, table[0]["Config"].as_str().unwrap());
    let manifest: Value = serde_json::from_slice(&storage.manifest("team/app", "v1").unwrap()).unwrap();
    let about = descriptor("", config);
    assert_eq!(
        (&manifest["config"]["digest"], &manifest["config"]["size"]),
        (&about["digest"], &about["size"])
    );
    let _ = lab.run(&["pull", "-b", &format!("{place}:v1"), "-o", "out"]).succeeds();
    assert_eq!(tree::list_contents(&lab.path("out")), tree::list_contents(&lab.path("app")));
}
