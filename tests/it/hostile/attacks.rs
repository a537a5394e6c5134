//! Attacks: bombs, names with a meaning elsewhere, text with control sequences for a terminal, races.

use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use imgrelay::tar::{Extractor, Ownership, Policy};
use serde_json::json;
use testkit::http::read_request;
use testkit::lab::{Lab, Output};
use testkit::registry::Registry;
use testkit::scratch::Scratch;
use testkit::tarball::{Header, Tarball};
use testkit::tree;

use crate::lab::lab;
use crate::layouts::{CONFIG, LAYER_GZIP, Layout, MANIFEST, REF_NAME, descriptor, gzip, hex, named, tar_of};

/// While layers are extracted, another process replaces their folders by links to the outside, and back.
#[test]
fn a_folder_swapped_for_a_symlink_during_extraction_does_not_lead_outside() {
    let place = Scratch::new("race");
    place.write("outside/victim", "safe");
    place.write("outside/f0", "safe");
    let outside = || tree::list_contents(&place.join("outside"));
    let before = outside();
    let mut tar = Tarball::new();
    for at in 0..400 {
        tar = tar.file(format!("d/f{at}"), "evil").file(format!("e/d/f{at}"), "evil");
    }
    let lower = tar.finish();
    let upper = Tarball::new().file("d/.wh..wh..opq", "").file("e/d/.wh.victim", "").file("d/victim", "evil");
    let upper = upper.entry(&Header::new("d", b'5', 0).mode(0o777), b"").finish();
    let (stop, swaps) = (AtomicBool::new(false), std::sync::atomic::AtomicUsize::new(0));
    let swap = |folder: &Path, pause: u64| {
        let aside = folder.with_extension("aside");
        while !stop.load(Ordering::Relaxed) {
            if std::fs::rename(folder, &aside).is_ok() && symlink(place.join("outside"), folder).is_ok() {
                swaps.fetch_add(1, Ordering::Relaxed);
                let _ = std::fs::remove_file(folder);
                // Removes the folder that the extraction made meanwhile.
                let _ = std::fs::rename(&aside, folder);
            }
            let _ = std::fs::remove_dir_all(&aside);
            std::thread::sleep(std::time::Duration::from_micros(pause));
        }
    };
    let mut ended = [0, 0];
    for round in 0..30 {
        let root = place.join(format!("root{round}"));
        std::fs::create_dir(&root).unwrap();
        stop.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let pause = 100 << (round % 12);
            let swap = &swap;
            let (one, other) = (root.join("d"), root.join("e/d"));
            scope.spawn(move || swap(&one, pause));
            scope.spawn(move || swap(&other, pause));
            for policy in [Policy::contents(0o022), Policy::rootfs(Ownership::Ignore)] {
                let mut extractor = Extractor::new(OwnedFd::from(File::open(&root).unwrap()), policy);
                let done = extractor.layer(&lower[..], &mut |_| {});
                let done = done.and_then(|()| extractor.layer(&upper[..], &mut |_| {}));
                let done = done.and_then(|()| extractor.finish().map(drop));
                ended[usize::from(done.is_err())] += 1;
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(outside(), before, "round {round}");
        std::fs::remove_dir_all(&root).unwrap();
    }
    eprintln!("{} swaps; {} extractions went through, {} failed", swaps.into_inner(), ended[0], ended[1]);
}

#[test]
fn a_folder_swapped_for_a_symlink_does_not_lead_an_ordinary_user_outside() {
    crate::pull::extraction::again_as_an_ordinary_user(
        "hostile::attacks::a_folder_swapped_for_a_symlink_during_extraction_does_not_lead_outside",
    );
}

/// An image of one layer with the given bytes.
fn image_of(lab: &Lab, layer: Vec<u8>, diff_id: &[u8]) {
    let mut layout = Layout::default();
    let layer = layout.blob(LAYER_GZIP, layer);
    let config = json!({"rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(diff_id))]}});
    let config = layout.blob(CONFIG, config.to_string());
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let manifest = layout.blob(MANIFEST, manifest.to_string());
    layout.entries.push(manifest);
    lab.write("in.tar", layout.tar());
}

/// A gzip stream of so many MiB of zeros: a thousandth of that.
fn zeros(mib: usize) -> Vec<u8> {
    gzip(&vec![0; 1 << 20]).repeat(mib)
}

#[test]
fn decompression_bombs_cost_neither_memory_nor_more_than_the_disk_has() {
    const MIB: usize = 512;
    let frugal = |output: &Output| {
        let peak = output.peak_kib.unwrap();
        assert!(peak < 150_000, "{peak} KiB\n{output}");
    };
    // A file of zeros in a layer, onto a disk that is too small for it.
    let room = lab();
    let header = Header::new("zeros", b'0', (MIB as u64) << 20).block();
    let layer = [gzip(&header), zeros(MIB), gzip(&[0; 1024])].concat();
    image_of(&room, layer, b"unknown");
    let pull = ["pull", "-q", "--tar", "in.tar", "-o", "disk/out"];
    let output = room.command(&pull).small_disk(room.path("disk"), "8m").run();
    let output = output.fails(1, &["`zeros`", "No space left on device"]);
    assert_eq!(output.on_disk, Vec::<String>::new(), "{output}");
    // The same file without an end: only zeros after the end mark.
    let room = lab();
    image_of(&room, zeros(MIB), b"unknown");
    let output = room.command(&["pull", "-q", "--tar", "in.tar", "-o", "out"]).measured().run();
    frugal(&output);
    assert!(!room.path("out").exists() || output.code == Some(0), "{output}");
    // Of gzip in gzip one layer is decompressed.
    let room = lab();
    image_of(&room, gzip(&zeros(MIB)), b"unknown");
    let output = room.command(&["pull", "-q", "--tar", "in.tar", "-o", "out"]).measured().run();
    frugal(&output);
    let _ = output.fails(1, &["layer `sha256:"]);
    assert!(!room.path("out").exists());
    // A compressed archive that is a bomb, with a small temporary folder.
    let room = lab();
    room.write("in.tar.gz", zeros(MIB));
    let copy = ["copy", "-q", "--tar", "in.tar.gz", "--to-oci-tar", "out.tar"];
    let temporary = room.path("disk");
    let output = room.command(&copy).env("TMPDIR", &temporary).small_disk(&temporary, "8m").run();
    let output = output.fails(1, &["No space left on device"]);
    assert_eq!(output.on_disk, Vec::<String>::new(), "{output}");
}

#[test]
fn a_digest_that_is_a_path_is_refused_wherever_it_stands() {
    let path = "sha256:../../../../etc/passwd";
    let change = |which: &str| {
        let mut layout = Layout::default();
        let mut layer = descriptor(LAYER_GZIP, b"x");
        let mut config = layout.blob(CONFIG, "{}");
        match which {
            "layer" => layer["digest"] = json!(path),
            "config" => config["digest"] = json!(path),
            _ => {}
        }
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let mut manifest = layout.blob(MANIFEST, manifest.to_string());
        if which == "index.json" {
            manifest["digest"] = json!(path);
        }
        layout.entries.push(manifest);
        layout.tar()
    };
    for which in ["layer", "config", "index.json"] {
        let lab = lab();
        lab.write("in.tar", change(which));
        let copy = lab.run(&["copy", "-q", "--tar", "in.tar", "--to-oci-tar", "out.tar"]);
        let _ = copy.fails(1, &["../../../../etc/passwd"]);
        assert!(!lab.path("out.tar").exists(), "{which}");
    }
    let lab = lab();
    let lock = format!(
        "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: BundleLock\nbundle:\n  image: reg.example/a@{path}\n"
    );
    lab.write("lock.yml", lock);
    let output = lab.run(&["copy", "--lock", "lock.yml", "--to-oci-tar", "out.tar"]);
    let _ = output.fails(2, &["passwd"]);
}

/// Bytes after the end of an archive are not part of it, as for every other reader.
#[test]
fn a_second_archive_behind_the_first_is_not_read() {
    let lab = lab();
    let first = Layout::simple();
    let mut second = Layout::default();
    let image = second.image(&[Tarball::new().file("evil", "evil").finish()]);
    second.entries.push(named(image, &[(REF_NAME, "evil")]));
    lab.write("in.tar", [first.tar(), second.tar()].concat());
    let output = lab.run(&["pull", "-q", "--tar", "in.tar", "-o", "out"]);
    if output.code == Some(0) {
        assert_eq!(tree::list_contents(&lab.path("out")).matches("evil").count(), 0);
    }
    // Without an end mark between them the names are there twice, which is refused.
    let mut joined = first.tar();
    joined.truncate(joined.len() - 1024);
    lab.write("twice.tar", [joined, second.tar()].concat());
    let _ = lab.run(&["pull", "-q", "--tar", "twice.tar", "-o", "out2"]).fails(1, &["oci-layout"]);
}

/// Text from outside is shown without characters that move a cursor, begin a line, or change the direction of writing.
#[test]
fn terminal_escapes_from_outside_are_not_printed() {
    const EVIL: &str = "\u{1b}[2J\u{1b}]0;x\u{7}\r\n::set-output name=x::y\u{202e}";
    let mut layout = Layout::default();
    let config = json!({"architecture": EVIL, "os": "linux", "author": EVIL,
        "config": {"Labels": {EVIL: EVIL}, "User": EVIL, "Env": [EVIL], "Cmd": [EVIL]},
        "history": [{"created_by": EVIL}], "rootfs": {"type": "layers", "diff_ids": []}});
    let config = layout.blob(CONFIG, config.to_string());
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [],
        "annotations": {EVIL: EVIL}});
    let manifest = layout.blob(MANIFEST, manifest.to_string());
    layout.entries.push(named(manifest, &[(REF_NAME, EVIL), ("x", EVIL)]));
    let mut broken = layout.clone();
    broken.blobs.clear();
    broken.entries[0]["mediaType"] = json!(EVIL);
    let mut strange = layout.files();
    strange.push((format!("blobs/sha256/{EVIL}"), b"x".to_vec()));
    let mut image = Layout::default();
    let evil = image
        .image(&[Tarball::new().file(EVIL, "x").symlink(format!("l{EVIL}"), format!("/{EVIL}")).finish()]);
    image.entries.push(evil);
    let lab = lab();
    lab.write("in.tar", layout.tar());
    lab.write("broken.tar", broken.tar());
    lab.write("strange.tar", tar_of(&strange));
    lab.write("image.tar", image.tar());
    lab.write("text.tar", EVIL);
    lab.write("lock.yml", format!("apiVersion: {EVIL}\nkind: {EVIL}\n"));
    let mut runs = Vec::new();
    for file in ["in.tar", "broken.tar", "strange.tar", "image.tar", "text.tar"] {
        runs.push(vec!["describe", "--tar", file]);
        runs.push(vec!["verify", "--tar", file]);
        runs.push(vec!["pull", "--tar", file, "-o", "out", "--force"]);
        runs.push(vec!["copy", "--tar", file, "--to-oci-tar", "out.tar", "--debug"]);
    }
    runs.push(vec!["copy", "--lock", "lock.yml", "--to-oci-tar", "out.tar"]);
    runs.push(vec!["pull", "-i", EVIL, "-o", "out"]);
    runs.push(vec!["push", "-i", "reg.example/a", "-f", EVIL]);
    for words in runs {
        let output = lab.run(&words);
        assert_ne!(output.code, Some(70), "{output}");
        for text in [&output.stdout, &output.stderr] {
            let steers = text.chars().any(|c| c.is_control() && c != '\n' && c != '\t' || c == '\u{202e}');
            assert!(!steers && !text.contains("\n::"), "{words:?}: {text:?}");
        }
    }
}

#[test]
fn names_with_meaning_to_shells_and_other_systems_are_kept_as_names() {
    let lab = lab();
    let mut layout = Layout::default();
    let long = "n".repeat(255);
    let names =
        ["A", "a", "a\\..\\b", "C:", "con", "e\u{301}", "\u{e9}", "-rf", "~", "$HOME", "*", long.as_str()];
    let tar = names.iter().fold(Tarball::new(), |tar, name| tar.file(name, name));
    let image = layout.image(&[tar.finish()]);
    layout.entries.push(image);
    lab.write("in.tar", layout.tar());
    let _ = lab.run(&["pull", "-q", "--tar", "in.tar", "-o", "out"]).succeeds();
    for name in names {
        assert_eq!(lab.read(&format!("out/{name}")), name.as_bytes());
    }
    assert_eq!(std::fs::read_dir(lab.path("out")).unwrap().count(), names.len());
}

#[test]
fn a_name_longer_than_a_file_can_have_is_an_error_that_shows_it() {
    let lab = lab();
    let mut layout = Layout::default();
    let long = "n".repeat(256);
    let image = layout.image(&[Tarball::new()
        .file("before", "x")
        .pax(&[("path", long.as_bytes())])
        .file("x", "")
        .finish()]);
    layout.entries.push(image);
    lab.write("in.tar", layout.tar());
    let _ = lab
        .run(&["pull", "-q", "--tar", "in.tar", "-o", "out"])
        .fails(1, &["File name too long", &long[..200]]);
    assert!(!lab.path("out").exists());
}

/// One compression is removed, for every content.
#[test]
fn compression_inside_compression_is_not_undone() {
    let lab = lab();
    let tar = Tarball::new().file("f", "x").finish();
    image_of(&lab, gzip(&gzip(&tar)), &tar);
    let _ = lab.run(&["pull", "-q", "--tar", "in.tar", "-o", "out"]).ends_with(1);
    assert!(!lab.path("out").exists());
    let found = lab.run(&["verify", "--tar", "in.tar"]).ends_with(3);
    assert!(found.stdout.contains("diff_id") || found.stdout.contains("unpacks to"), "{found}");
    // It unpacks to a gzip file, which is no layer either.
    image_of(&lab, gzip(&gzip(&tar)), &gzip(&tar));
    let _ = lab
        .run(&["pull", "-q", "--tar", "in.tar", "-o", "out"])
        .fails(1, &["layer `sha256:", "the tar ends at byte"]);
    lab.write("twice.tar.gz", gzip(&gzip(&Layout::simple().tar())));
    let _ = lab
        .run(&["copy", "--tar", "twice.tar.gz", "--to-oci-tar", "out.tar"])
        .fails(1, &["gzip-compressed, and inside is"]);
}

/// A wrong size reserves neither memory nor disk space.
#[test]
fn a_size_that_no_blob_has_is_a_difference_and_costs_nothing() {
    for size in [u64::MAX, 1 << 62, 1 << 46, 1 << 40] {
        let mut layout = Layout::default();
        let mut layer = layout.blob(LAYER_GZIP, gzip(&Tarball::new().file("f", "x").finish()));
        layer["size"] = size.into();
        let config = json!({"rootfs": {"type": "layers", "diff_ids": [descriptor(CONFIG, b"x")["digest"]]}});
        let config = layout.blob(CONFIG, config.to_string());
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let manifest = layout.blob(MANIFEST, manifest.to_string());
        layout.entries.push(manifest);
        let lab = lab();
        lab.write("in.tar", layout.tar());
        for words in [
            &["pull", "-q", "--tar", "in.tar", "-o", "out"][..],
            &["copy", "-q", "--tar", "in.tar", "--to-oci-tar", "out.tar"],
            &["verify", "--tar", "in.tar"],
        ] {
            let output = lab.command(words).measured().run();
            assert!(matches!(output.code, Some(1 | 3)), "{output}");
            let said = format!("{}{}", output.stdout, output.stderr);
            let reasons = ["at most 70368744177664 bytes are accepted", "File too large", layer_name(&layer)];
            assert!(reasons.iter().any(|reason| said.contains(reason)), "{output}");
            assert!(output.peak_kib.unwrap() < 100_000, "{output}");
            assert!(!lab.path("out").exists() && !lab.path("out.tar").exists());
        }
    }
}

fn layer_name(layer: &serde_json::Value) -> &str {
    layer["digest"].as_str().unwrap()
}

/// Unknown members are kept, with their spaces.
#[test]
fn unknown_fields_arrive_byte_for_byte() {
    let mut layout = Layout::default();
    let layer = layout.blob(LAYER_GZIP, gzip(&Tarball::new().file("f", "x").finish()));
    let config =
        layout.blob(CONFIG, r#"{ "rootfs":{"type":"layers","diff_ids":[]},"future":[1, 2.50,null] }"#);
    let manifest = format!(
        "{{\n  \"schemaVersion\" : 2,\"mediaType\":\"{MANIFEST}\",\"future\":{{\"a\":1e3}},\"config\":{config},\"layers\":[{layer}]}}\n"
    );
    let entry = layout.blob(MANIFEST, manifest.as_str());
    layout.entries.push(entry.clone());
    let lab = lab();
    lab.write("in.tar", layout.tar());
    let registry = Registry::start();
    let name = format!("{}/team/app:v1", registry.host());
    let _ = lab.run(&["copy", "-q", "--tar", "in.tar", "--to-repo", &name]).succeeds();
    let _ = lab.run(&["copy", "-q", "-i", &name, "--to-oci-tar", "out.tar"]).succeeds();
    let out = lab.read("out.tar");
    for document in [manifest.as_bytes(), &layout.blobs[1]] {
        assert!(out.windows(document.len()).any(|bytes| bytes == document), "a document was changed");
    }
    assert_eq!(entry["digest"], json!(format!("sha256:{}", hex(manifest.as_bytes()))));
}

/// Headers without an end use a bounded amount of memory.
#[test]
fn endless_tar_headers_are_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = read_request(&stream);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
            let line = format!("x-filler: {}\r\n", "f".repeat(8000));
            while stream.write_all(line.as_bytes()).is_ok() {}
        }
    });
    let lab = lab();
    let words = ["pull", "-i", &format!("{host}/team/app:v1"), "-o", "out", "--registry-retry-count", "1"];
    let output = lab.command(&words).measured().run();
    assert!(matches!(output.code, Some(1 | 4)), "{output}");
    assert!(output.stderr.contains("imgrelay: error: ") && output.peak_kib.unwrap() < 60_000, "{output}");
}
