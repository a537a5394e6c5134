//! `verify` finds all problems of an archive in one run, and none in a valid one.

use std::sync::atomic::{AtomicU64, Ordering};

use imgrelay::store::{self, Store};
use imgrelay::transfer::events::{Event, Observer, Silent};
use imgrelay::transfer::verify::{Fault, VerifyReport, verify};
use serde_json::json;
use testkit::scratch::Scratch;
use testkit::tarball::Tarball;

use crate::layouts::{
    CONFIG, CONTAINERD_NAME, INDEX, LAYER_GZIP, Layout, MANIFEST, REF_NAME, descriptor, gzip, hex, named,
    tar_of,
};

fn open(folder: &Scratch, bytes: impl AsRef<[u8]>) -> Store {
    // ext4 syncs a file that is truncated and written again, which takes time.
    let _ = std::fs::remove_file(folder.join("image.tar"));
    store::open(&folder.write("image.tar", bytes), &std::env::temp_dir()).unwrap()
}

fn check(folder: &Scratch, bytes: impl AsRef<[u8]>) -> VerifyReport {
    verify(&open(folder, bytes), 2, &Silent).unwrap()
}

fn problems(report: &VerifyReport) -> Vec<String> {
    report.problems.iter().map(ToString::to_string).collect()
}

/// An index of two images that share a layer, in a complete archive.
fn large() -> Layout {
    let mut layout = Layout::default();
    let base = Tarball::new().file("base", vec![b'b'; 50_000]).finish();
    let one = layout.image(&[base.clone(), Tarball::new().file("one", "1").finish()]);
    let two = layout.image(&[base, Tarball::new().file("two", "2").finish()]);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [one, two]});
    let index = layout.blob(INDEX, index.to_string());
    layout.blobs.dedup();
    layout.entries.push(named(index, &[(REF_NAME, "v1"), (CONTAINERD_NAME, "reg.example/team/app:v1")]));
    let mut seen = std::collections::BTreeSet::new();
    layout.blobs.retain(|blob| seen.insert(hex(blob)));
    layout
}

#[test]
fn a_sound_archive_has_no_problems_and_every_byte_is_counted_once() {
    struct Count(AtomicU64);
    impl Observer for Count {
        fn event(&self, event: Event<'_>) {
            if let Event::Verified { bytes } = event {
                self.0.fetch_add(bytes, Ordering::Relaxed);
            }
        }
    }
    let folder = Scratch::new("sound");
    let layout = large();
    let mut files = layout.files();
    files.push(("manifest.json".into(), b"[]".to_vec()));
    let store = open(&folder, tar_of(&files));
    let count = Count(AtomicU64::new(0));
    let report = verify(&store, 4, &count).unwrap();
    assert!(report.is_sound(), "{:?}", problems(&report));
    assert_eq!(report.warnings, []);
    assert_eq!((report.documents, report.blobs), (5, 3));
    let bytes: usize = layout.blobs.iter().map(Vec::len).sum();
    assert_eq!((report.bytes, count.0.into_inner()), (bytes as u64, bytes as u64));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["format"], "oci-layout-tar");
    assert_eq!(json["images"][0]["names"], json!(["reg.example/team/app:v1"]));
}

#[test]
fn a_flipped_byte_in_any_blob_is_found_wherever_it_is() {
    let folder = Scratch::new("flipped");
    let layout = large();
    for (at, blob) in layout.blobs.iter().enumerate() {
        let step = (blob.len() / 40).max(1);
        for position in (0..blob.len()).step_by(step).chain([blob.len() - 1]) {
            let mut files = layout.files();
            files[at + 2].1[position] ^= 0x20;
            let report = check(&folder, tar_of(&files));
            let name = format!("sha256:{}", hex(blob));
            let found = report.problems.iter().any(|problem| {
                problem.blob.to_string() == name && matches!(problem.fault, Fault::Digest { .. })
            });
            assert!(found, "blob {at} byte {position}: {:?}", problems(&report));
            assert_eq!(report.problems.len(), 1, "{:?}", problems(&report));
        }
    }
}

#[test]
fn all_problems_are_found_in_one_run_with_any_number_of_threads() {
    let folder = Scratch::new("all");
    let mut layout = Layout::default();
    let tar = Tarball::new().file("f", "x").finish();
    let other = Tarball::new().file("f", "y").finish();
    let diff_id = |bytes: &[u8]| format!("sha256:{}", hex(bytes));
    let absent = descriptor(LAYER_GZIP, b"never written");
    let foreign = descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"windows");
    let good = layout.blob(LAYER_GZIP, gzip(&tar));
    let plain = layout.blob(LAYER_GZIP, tar.clone());
    let broken = layout.blob(LAYER_GZIP, gzip(&other)[..30].to_vec());
    let mut wrong_size = layout.blob(LAYER_GZIP, gzip(&Tarball::new().file("s", "s").finish()));
    wrong_size["size"] = 1.into();
    let flipped = descriptor(LAYER_GZIP, b"promised");
    let ids: Vec<String> = [&tar, &tar, &other, &tar, &tar]
        .map(|bytes| diff_id(bytes))
        .into_iter()
        .chain([diff_id(b"-"), diff_id(b"-")])
        .collect();
    let config = json!({"rootfs": {"type": "layers", "diff_ids": ids}}).to_string();
    let config = layout.blob(CONFIG, config);
    let layers = [&good, &plain, &broken, &wrong_size, &flipped, &absent, &foreign];
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let manifest = layout.blob(MANIFEST, manifest.to_string());
    let short = layout.blob(CONFIG, r#"{"rootfs":{"type":"layers","diff_ids":[]}}"#);
    let counted = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": short, "layers": [good]});
    let counted = layout.blob(MANIFEST, counted.to_string());
    let ambiguous = layout.blob(MANIFEST, r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#);
    let repeated = format!(r#"{{"schemaVersion":2,"config":{short},"layers":[],"x":{{"a":1,"a":2}}}}"#);
    let repeated = layout.blob(MANIFEST, repeated);
    let artifact = layout.blob("application/x-helm", "chart");
    let missing_manifest = descriptor(MANIFEST, b"absent manifest");
    let index = json!({"schemaVersion": 2, "mediaType": INDEX,
        "manifests": [manifest, counted, ambiguous, repeated, missing_manifest, artifact]});
    let index = layout.blob(INDEX, index.to_string());
    layout.entries = vec![index];
    let mut files = layout.files();
    files.push((format!("blobs/sha256/{}", hex(b"promised")), b"pr0mised".to_vec()));
    files.push((format!("blobs/sha256/{}", hex(b"orphan")), b"orphan".to_vec()));

    let store = open(&folder, tar_of(&files));
    let report = verify(&store, 1, &Silent).unwrap();
    let found = problems(&report);
    let digest = |value: &serde_json::Value| value["digest"].as_str().unwrap().to_owned();
    let expected = [
        (digest(&wrong_size), "bytes, expected 1 (in `"),
        (digest(&wrong_size), "unpacks to"),
        (digest(&plain), "but its bytes are not compressed"),
        (digest(&broken), "cannot be unpacked"),
        (digest(&flipped), "does not match: its 8 bytes have digest `"),
        (digest(&absent), "is missing (in `"),
        (digest(&short), "has 0 diff_ids for 1 layers"),
        (digest(&ambiguous), "a manifest and an index at the same time"),
        (digest(&repeated), "member `a` is there twice"),
        (digest(&missing_manifest), "is missing"),
    ];
    for (blob, text) in &expected {
        assert!(
            found.iter().any(|line| line.contains(blob) && line.contains(text)),
            "{blob} {text}\n{found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    let warnings: Vec<String> = report.warnings.iter().map(ToString::to_string).collect();
    let count = |text: &str| warnings.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count("nothing refers to 1 of the blobs (6 bytes)"), 1, "{warnings:#?}");
    assert_eq!(count("1 non-distributable layers"), 1, "{warnings:#?}");
    for threads in [0, 2, 9, 1000] {
        assert_eq!(verify(&store, threads, &Silent).unwrap(), report, "{threads} threads");
    }
    let json = serde_json::to_value(&report.problems[0]).unwrap();
    assert!(
        json["problem"].is_string() && json["blob"].is_string() && json["referredBy"].is_array(),
        "{json}"
    );
}

#[test]
fn verify_warns_about_forms_that_some_reader_refuses() {
    let folder = Scratch::new("warned");
    let warnings = |bytes: Vec<u8>| -> Vec<serde_json::Value> {
        let report = check(&folder, bytes);
        assert!(report.is_sound(), "{:?}", problems(&report));
        let texts: Vec<String> = report.warnings.iter().map(ToString::to_string).collect();
        let json = serde_json::to_value(&report).unwrap();
        let warnings = json["warnings"].as_array().unwrap().clone();
        assert!(warnings.iter().map(|warning| &warning["text"]).eq(texts.iter()), "{warnings:?}");
        warnings
    };
    let mut layout = Layout::simple();
    let image = layout.image(&[]);
    let with = |entry: serde_json::Value| {
        let mut layout = layout.clone();
        layout.entries[0] = entry;
        layout.blobs.drain(..3);
        layout
    };
    let full = [(CONTAINERD_NAME, "reg.example/a:1")];
    let several = layout.entries.iter().cloned().chain([named(image.clone(), &full)]).collect();
    let several = Layout { entries: several, ..layout.clone() };
    let bare = with(named(image.clone(), &[(REF_NAME, "v1")])).tar();
    let complete = with(named(image.clone(), &full));
    let mut odd = complete.clone();
    odd.entries[0]["annotations"][REF_NAME] = json!("not a name!");
    let chart = odd.blob("application/x-helm", "chart");
    odd.entries.push(chart);
    let mut stray = complete.files();
    stray.push(("blobs/sha256/README".into(), b"x".to_vec()));
    let cases: [(Vec<u8>, &str, &str, &[&str]); 10] = [
        (bare.clone(), "bare-tag", "the tag `v1`: docker with the containerd store", &["docker", "podman"]),
        (bare, "bare-tag", "podman calls it `localhost/v1`", &["docker", "podman"]),
        (with(image).tar(), "no-name", "has no name: `ctr images import`", &["containerd"]),
        (
            gzip(&complete.tar()),
            "wrapped",
            "gzip-compressed as a whole: containerd 1.6 and 1.7",
            &["containerd"],
        ),
        (
            zstd::encode_all(&complete.tar()[..], 1).unwrap(),
            "wrapped",
            "zstd-compressed as a whole: containerd 1.6 and 1.7",
            &["containerd"],
        ),
        (
            several.tar(),
            "several-images",
            "lists 2 images side by side: podman and skopeo refuse",
            &["docker", "podman", "skopeo"],
        ),
        (complete.tar(), "no-docker-manifest", "no `manifest.json`: `docker load`", &["docker"]),
        (complete.tar()[..complete.tar().len() - 1024].to_vec(), "no-end-mark", "no end mark", &[]),
        (odd.tar(), "invalid-names", "`not a name!` is neither a tag nor a reference", &[]),
        (
            tar_of(&stray),
            "stray-blobs",
            "1 files below `blobs/` are not named by a digest: blobs/sha256/README",
            &[],
        ),
    ];
    for (bytes, kind, text, readers) in cases {
        let found = warnings(bytes);
        let fits = |warning: &&serde_json::Value| {
            warning["warning"] == kind && warning["text"].as_str().is_some_and(|found| found.contains(text))
        };
        let warning = found.iter().find(fits).unwrap_or_else(|| panic!("wanted: {text}\n  gave: {found:#?}"));
        assert_eq!(warning["readers"], json!(readers), "{kind}");
    }
    let found = warnings(odd.tar());
    assert!(found.iter().any(|warning| warning["warning"] == "foreign-root"), "{found:#?}");
}

#[test]
fn limits_on_depth_and_size_are_problems_and_not_crashes() {
    let folder = Scratch::new("limits");
    let nested = |levels: usize| {
        let mut layout = Layout::default();
        let mut top = layout.image(&[]);
        for _ in 1..levels {
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [top]});
            top = layout.blob(INDEX, index.to_string());
        }
        layout.entries.push(top);
        problems(&check(&folder, layout.tar()))
    };
    assert!(nested(16).is_empty());
    let found = nested(17);
    assert!(matches!(found.as_slice(), [one] if one.contains("17 levels deep, at most 16")), "{found:?}");

    let sized = |size: usize| {
        let mut layout = Layout::default();
        let start = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]"#);
        let index = layout.blob(INDEX, format!("{start}{}}}", " ".repeat(size - start.len() - 1)));
        layout.entries.push(index);
        problems(&check(&folder, layout.tar()))
    };
    assert!(sized(8 * 1024 * 1024).is_empty());
    let found = sized(8 * 1024 * 1024 + 1);
    assert!(matches!(found.as_slice(), [one] if one.contains("more than 8388608 bytes")), "{found:?}");
}

#[test]
fn references_that_contradict_each_other_are_problems() {
    let folder = Scratch::new("contradiction");
    let mut layout = Layout::default();
    let image = layout.image(&[]);
    let mut other = image.clone();
    other["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json");
    other["size"] = json!(7);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image, other]});
    let index = layout.blob(INDEX, index.to_string());
    layout.entries.push(index);
    let found = problems(&check(&folder, layout.tar()));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("bytes, expected 7"), "{found:?}");
    assert!(found[1].contains("is referred to as") && found[1].contains("and as"), "{found:?}");
}
