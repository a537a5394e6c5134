//! Facts that a layout says twice: `verify` reports all differences, and every command refuses those that make two
//! readers read two images.

use imgrelay::store::{self, StoreError};
use imgrelay::transfer::events::Silent;
use imgrelay::transfer::verify::{Fault, VerifyReport, verify};
use serde_json::{Value, json};
use testkit::scratch::Scratch;
use testkit::tarball::Tarball;

use crate::lab::lab;
use crate::layouts::{
    CONFIG, CONTAINERD_NAME, INDEX, LAYER_GZIP, Layout, MANIFEST, REF_NAME, gzip, hex, named, tar_of,
};

fn check(folder: &Scratch, bytes: impl AsRef<[u8]>) -> VerifyReport {
    let _ = std::fs::remove_file(folder.join("image.tar"));
    let path = folder.write("image.tar", bytes);
    verify(&store::open_to_inspect(&path, &std::env::temp_dir()).unwrap(), 2, &Silent).unwrap()
}

/// Two images of one layer each, `a` and `b`, with their entries in docker's table.
struct Two {
    layout: Layout,
    docker: [Value; 2],
}

impl Two {
    fn new() -> Self {
        let mut layout = Layout::default();
        let mut docker = Vec::new();
        for name in ["a", "b"] {
            let start = layout.blobs.len();
            let image = layout.image(&[Tarball::new().file(name, name).finish()]);
            let path = |at: usize| format!("blobs/sha256/{}", hex(&layout.blobs[start + at]));
            let full = format!("reg.example/{name}:v1");
            docker.push(json!({"Config": path(1), "RepoTags": [full], "Layers": [path(0)]}));
            layout.entries.push(named(image, &[(REF_NAME, "v1"), (CONTAINERD_NAME, &full)]));
        }
        Self { layout, docker: docker.try_into().unwrap() }
    }

    fn tar(&self, change: impl FnOnce(&mut [Value; 2])) -> Vec<u8> {
        let mut docker = self.docker.clone();
        change(&mut docker);
        self.tar_with(&json!(docker))
    }

    fn tar_with(&self, table: &Value) -> Vec<u8> {
        let mut files = self.layout.files();
        files.push(("manifest.json".into(), table.to_string().into_bytes()));
        tar_of(&files)
    }
}

#[test]
fn manifest_json_that_contradicts_index_json_is_refused_by_every_command() {
    let folder = Scratch::new("two-tables");
    let two = Two::new();
    assert!(check(&folder, two.tar(|_| {})).is_sound());
    assert!(
        check(&folder, two.tar_with(&json!([two.docker[0]]))).is_sound(),
        "docker's table may list fewer"
    );
    let stray = Tarball::new().file("evil", "evil").finish();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "another layer",
            two.tar(|docker| docker[0]["Layers"] = docker[1]["Layers"].clone()),
            "where manifest `",
        ),
        (
            "no layer",
            two.tar(|docker| docker[0]["Layers"] = json!([])),
            "`manifest.json` lists 0 layers, but",
        ),
        (
            "another name",
            two.tar(|docker| docker[0]["RepoTags"] = json!(["reg.example/b:v1"])),
            "gives the name `reg.example/b:v1` to",
        ),
        (
            "a configuration that nothing leads to",
            {
                let mut files = two.layout.files();
                let config =
                    br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
                files.push((format!("blobs/sha256/{}", hex(config)), config.to_vec()));
                let table = json!([{"Config": format!("blobs/sha256/{}", hex(config)), "RepoTags": ["x:1"], "Layers": []}]);
                files.push(("manifest.json".into(), table.to_string().into_bytes()));
                tar_of(&files)
            },
            "but no manifest that `index.json` leads to has it",
        ),
        (
            "a layer beside the blobs",
            {
                let mut files = two.layout.files();
                files.push(("layer.tar".into(), stray));
                let mut docker = two.docker;
                docker[1]["Layers"] = json!(["layer.tar"]);
                files.push(("manifest.json".into(), json!(docker).to_string().into_bytes()));
                tar_of(&files)
            },
            "(`layer.tar`) where manifest `",
        ),
    ];
    let lab = lab();
    for (case, tar, text) in &cases {
        let report = check(&folder, tar);
        let found: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        assert!(found.iter().any(|line| line.contains(text)), "{case}: {found:#?}");
        let contradiction = |fault: &Fault| matches!(fault, Fault::Contradiction { .. });
        assert!(report.problems.iter().any(|problem| contradiction(&problem.fault)), "{case}");
        let path = folder.join("image.tar");
        let refused = store::open(&path, &std::env::temp_dir());
        assert!(matches!(refused, Err(StoreError::Contradiction { .. })), "{case}: {refused:?}");
        lab.write("image.tar", tar);
        for words in [
            &["copy", "--tar", "image.tar", "--to-oci-tar", "out.tar"][..],
            &["pull", "--tar", "image.tar", "-o", "out"],
            &["describe", "--tar", "image.tar"],
        ] {
            let _ = lab.run(words).fails(3, &["`image.tar` contradicts itself: ", text, "hint: "]);
        }
        let _ = lab.run(&["verify", "--tar", "image.tar"]).ends_with(3).says("problem");
        assert!(!lab.path("out.tar").exists() && !lab.path("out").exists());
    }
}

#[test]
fn one_name_on_two_images_is_a_contradiction_and_one_tag_in_two_repositories_is_not() {
    let folder = Scratch::new("names");
    let mut two = Two::new();
    assert!(check(&folder, two.layout.tar()).is_sound(), "`v1` of two repositories");
    two.layout.entries[1]["annotations"][CONTAINERD_NAME] = json!("reg.example/a:v1");
    let report = check(&folder, two.layout.tar());
    let found: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    assert!(
        matches!(found.as_slice(), [one] if one.contains("the name `reg.example/a:v1` is that of two images")),
        "{found:?}"
    );
    for entry in &mut two.layout.entries {
        entry["annotations"] = json!({REF_NAME: "v1"});
    }
    let report = check(&folder, two.layout.tar());
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert!(report.problems[0].to_string().contains("the name `v1` is that of two images"));
}

/// A layout with an index of one image, after `change` to the image's entry in the index and `config` in place of its own.
fn indexed(config: &Value, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut layout = Layout::default();
    let tar = Tarball::new().file("f", "x").finish();
    let layer = layout.blob(LAYER_GZIP, gzip(&tar));
    let mut whole = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&tar))]}});
    for (key, value) in config.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let config = layout.blob(CONFIG, whole.to_string());
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let mut manifest = layout.blob(MANIFEST, manifest.to_string());
    change(&mut manifest);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
    let index = layout.blob(INDEX, index.to_string());
    layout.entries.push(named(index, &[(REF_NAME, "v1"), (CONTAINERD_NAME, "reg.example/team/app:v1")]));
    layout.tar()
}

#[test]
fn a_platform_that_is_not_the_configurations_is_a_contradiction() {
    let folder = Scratch::new("platforms");
    let platform = |text: &str| {
        let parts: Vec<&str> = text.split('/').collect();
        let mut platform = json!({"os": parts[0], "architecture": parts[1]});
        if let Some(variant) = parts.get(2) {
            platform["variant"] = json!(variant);
        }
        platform
    };
    for (said, own, agree) in [
        ("linux/amd64", "linux/amd64", true),
        ("linux/arm64", "linux/amd64", false),
        ("windows/amd64", "linux/amd64", false),
        ("linux/arm64/v8", "linux/arm64", true),
        ("linux/arm64", "linux/arm64/v8", true),
        ("linux/arm/v6", "linux/arm/v7", false),
        ("unknown/unknown", "linux/amd64", true),
    ] {
        let config = platform(own);
        let report = check(&folder, indexed(&config, |entry| entry["platform"] = platform(said)));
        let found: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        match agree {
            true => assert_eq!(found, Vec::<String>::new(), "{said} {own}"),
            false => assert!(
                matches!(found.as_slice(), [one] if one.contains(&format!("is for `{said}`, but its configuration"))),
                "{said} {own}: {found:?}"
            ),
        }
    }
    // The entry of `index.json` has another platform.
    let mut layout = Layout::default();
    let image = layout.image(&[Tarball::new().file("f", "x").finish()]);
    let mut entry = named(image, &[(REF_NAME, "v1")]);
    entry["platform"] = platform("linux/s390x");
    layout.entries.push(entry);
    let report = check(&folder, layout.tar());
    let found: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    assert!(
        matches!(found.as_slice(), [one] if one.contains("`index.json` says that image") && one.contains("is for `linux/s390x`")),
        "{found:?}"
    );
    // imgpkg leaves both out.
    let config = json!({"os": "", "architecture": ""});
    assert!(check(&folder, indexed(&config, |entry| entry["platform"] = platform("linux/amd64"))).is_sound());
}

#[test]
fn dates_that_programs_in_go_cannot_read_are_damage() {
    let folder = Scratch::new("dates");
    for (config, wrong) in [
        (json!({"created": "2026-11-29T18:00:00Z"}), None),
        (json!({"created": null}), None),
        (json!({"created": "yesterday"}), Some("has `created` `yesterday`, which is no date")),
        (
            json!({"history": [{"created": "2026-11-29"}]}),
            Some("has `history.created` `2026-11-29`, which is no date"),
        ),
    ] {
        let report = check(&folder, indexed(&config, |_| {}));
        let found: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        match wrong {
            None => assert_eq!(found, Vec::<String>::new(), "{config}"),
            Some(text) => {
                assert!(matches!(found.as_slice(), [one] if one.contains(text)), "{config}: {found:?}");
            }
        }
    }
}

#[test]
fn facts_that_no_reader_takes_for_another_image_are_warnings() {
    let folder = Scratch::new("fact-warnings");
    let attestation = |about: &str| {
        let about = about.to_owned();
        move |entry: &mut Value| {
            entry["platform"] = json!({"os": "unknown", "architecture": "unknown"});
            entry["annotations"] = json!({
                "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": about,
            });
        }
    };
    let absent = format!("sha256:{}", hex(b"absent"));
    let cases = [
        (
            indexed(&json!({"history": [{"empty_layer": true}]}), |_| {}),
            "history",
            "has 0 steps that make a layer, for 1 layers",
        ),
        (indexed(&json!({"os": ""}), |_| {}), "required", "has no `os`"),
        (indexed(&json!({}), attestation(&absent)), "attestation", "which index `"),
        (
            indexed(&json!({}), |entry| entry["artifactType"] = json!("application/x-sbom")),
            "artifact-type",
            "has artifact type `application/x-sbom`, its manifest says",
        ),
        (
            indexed(&json!({}), |entry| {
                entry["annotations"] = json!({"org.opencontainers.image.created": "today"});
            }),
            "date",
            "is `today`, which is no date",
        ),
    ];
    for (tar, fact, text) in cases {
        let report = check(&folder, tar);
        assert!(report.is_sound(), "{fact}: {:?}", report.problems);
        let json = serde_json::to_value(&report).unwrap();
        let warnings = json["warnings"].as_array().unwrap();
        let fits = |one: &&Value| one["fact"] == fact && one["text"].as_str().unwrap().contains(text);
        assert_eq!(warnings.iter().filter(fits).count(), 1, "{fact}: {warnings:#?}");
    }
    // One platform twice, one entry twice, and a list of referrers with what is about something else.
    let mut layout = Layout::default();
    let image = |layout: &mut Layout, name: &str| {
        let mut image = layout.image(&[Tarball::new().file(name, name).finish()]);
        image["platform"] = json!({"os": "linux", "architecture": "amd64"});
        image
    };
    let (a, b) = (image(&mut layout, "a"), image(&mut layout, "b"));
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [a, b, a]});
    let index = layout.blob(INDEX, index.to_string());
    let subject = format!("sha256-{}", hex(b"subject"));
    let referrers = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [a]});
    let referrers = layout.blob(INDEX, referrers.to_string());
    let index = named(index, &[(REF_NAME, "v1")]);
    layout.entries = vec![index.clone(), index, named(referrers, &[(REF_NAME, &subject)])];
    let report = check(&folder, layout.tar());
    assert!(report.is_sound(), "{:?}", report.problems);
    let json = serde_json::to_value(&report).unwrap();
    let found = |fact: &str, text: &str| {
        let fits = |one: &&Value| one["fact"] == fact && one["text"].as_str().unwrap().contains(text);
        json["warnings"].as_array().unwrap().iter().filter(fits).count()
    };
    assert_eq!(found("platform-twice", "has two images for `linux/amd64`"), 1, "{json:#}");
    assert_eq!((found("entry-twice", "index `sha256:"), found("entry-twice", "`index.json` lists")), (1, 1));
    assert_eq!(found("referrers", "whose `subject` is none"), 1, "{json:#}");
    // The tags in the two annotations.
    let mut layout = Layout::simple();
    layout.entries[0]["annotations"][CONTAINERD_NAME] = json!("reg.example/team/app:v2");
    let report = check(&folder, layout.tar());
    assert!(report.is_sound());
    let texts: Vec<String> = report.warnings.iter().map(ToString::to_string).collect();
    assert!(
        texts.iter().any(|text| text.contains("is named `v1` and `reg.example/team/app:v2`")),
        "{texts:#?}"
    );
}

#[test]
fn a_blob_that_nothing_refers_to_is_held_to_its_name() {
    let folder = Scratch::new("unreferenced");
    let mut files = Layout::simple().files();
    files.push((format!("blobs/sha256/{}", hex(b"orphan")), b"0rphan".to_vec()));
    let report = check(&folder, tar_of(&files));
    let found: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    assert!(
        matches!(found.as_slice(), [one] if one.contains("does not match: its 6 bytes have digest")),
        "{found:?}"
    );
}
