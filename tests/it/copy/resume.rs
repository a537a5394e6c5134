//! `copy --resume` after an error, and after a kill in the middle at any concurrency: no layer is fetched twice.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use testkit::lab::Lab;
use testkit::registry::{Registry, Request};

use crate::carvel::bundle;
use crate::crashes::start;
use crate::lab::lab;

/// Images of the bundle: every third one is small, so that some are done long before others.
const IMAGES: usize = 15;
/// Attempts to kill a copy in its middle.
const TRIES: usize = 10;
const SIGKILL: i32 = 9;

/// Pushes a bundle of images whose layers are large enough for the cache; returns its name and the layers' digests.
fn scene(registry: &Registry) -> (Lab, String, BTreeSet<String>) {
    let lines: Vec<String> = (0..IMAGES)
        .map(|number| {
            let size = if number % 3 == 0 { 100_000 } else { 5_000_000 };
            format!("f image{number}/data random:{size}:{number}")
        })
        .collect();
    let lab = lab().tree(&lines);
    let (mut references, mut layers) = (Vec::new(), BTreeSet::new());
    for number in 0..IMAGES {
        let to = format!("{}/src/image{number}:v1", registry.host());
        let folder = format!("image{number}");
        references.push(lab.run(&["push", "-i", &to, "-f", &folder]).succeeds().one_line().to_owned());
        let manifest = registry.storage().manifest(&format!("src/image{number}"), "v1").unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let _ = layers.insert(manifest["layers"][0]["digest"].as_str().unwrap().to_owned());
    }
    let references: Vec<&str> = references.iter().map(String::as_str).collect();
    let name = format!("{}/src/bundle:v1", registry.host());
    let _ = bundle(&lab, &name, "b", &references);
    (lab, name, layers)
}

/// The digests of the complete parts; a part that is being written has another name.
fn parts(lab: &Lab) -> BTreeSet<String> {
    let entries = std::fs::read_dir(lab.path("all.tar.parts")).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("sha256-")).map(|name| name.replacen('-', ":", 1)).collect()
}

#[test]
fn two_copies_with_resume_to_one_tar_wait_for_each_other() {
    let registry = Registry::start();
    let (lab, name, layers) = scene(&registry);
    let words = ["copy", "-b", &name, "--to-oci-tar", "all.tar", "--resume"];
    let mut copies: Vec<_> = (0..2).map(|_| start(&lab, &words).spawn().unwrap()).collect();
    for copy in &mut copies {
        assert!(copy.wait().unwrap().success());
    }
    let _ = lab.run(&["verify", "--tar", "all.tar"]).succeeds();
    assert_eq!(parts(&lab), BTreeSet::new());
    assert!(!lab.path("all.tar.parts").exists(), "{}", lab.list());
    // Each run found a complete tar or its own parts; none read a file that the other was still writing.
    let fetched = registry.requests().into_iter().filter(|request| request.method == "GET");
    let fetched = fetched.filter(|request| layers.iter().any(|layer| request.path.contains(layer.as_str())));
    assert_eq!(fetched.count(), 2 * layers.len());
}

/// Starts a copy and kills it when at least two layers are fetched and at least two are not; returns the fetched ones.
fn kill_in_the_middle(lab: &Lab, words: &[&str]) -> BTreeSet<String> {
    for _ in 0..TRIES {
        let mut child = start(lab, words).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while parts(lab).len() < 2 && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "nothing was fetched within a minute");
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = child.kill();
        let status = child.wait().unwrap();
        let kept = parts(lab);
        if status.signal() == Some(SIGKILL) && (2..IMAGES - 1).contains(&kept.len()) {
            assert!(!lab.path("all.tar").exists(), "nothing that looks complete");
            return kept;
        }
        let _ = std::fs::remove_file(lab.path("all.tar"));
        let _ = std::fs::remove_dir_all(lab.path("all.tar.parts"));
    }
    panic!("{words:?}: {TRIES} copies were over before they could be killed");
}

#[test]
fn resume_after_a_kill_fetches_nothing_twice() {
    let registry = Registry::start();
    let (lab, name, layers) = scene(&registry);
    assert_eq!(layers.len(), IMAGES);
    for sink in ["--to-oci-tar", "--to-tar"] {
        let _ = lab.run(&["copy", "-b", &name, sink, "whole.tar"]).succeeds();
        for concurrency in ["1", "5", "20"] {
            let words = ["copy", "-b", &name, sink, "all.tar", "--resume", "--concurrency", concurrency];
            let kept = kill_in_the_middle(&lab, &words);
            registry.forget_requests();
            let _ = lab.run(&words).succeeds();
            let requests = registry.requests();
            let fetched: BTreeSet<String> = requests
                .iter()
                .filter(|request| request.method == "GET")
                .filter_map(|request| {
                    request.path.rsplit_once("/blobs/").map(|(_, digest)| digest.to_owned())
                })
                .filter(|digest| layers.contains(digest))
                .collect();
            let expected: BTreeSet<String> = layers.difference(&kept).cloned().collect();
            assert_eq!(fetched, expected, "{sink} {concurrency}: {} were kept", kept.len());
            assert!(lab.read("all.tar") == lab.read("whole.tar"), "{sink} {concurrency}");
            assert!(!lab.path("all.tar.parts").exists());
            std::fs::remove_file(lab.path("all.tar")).unwrap();
        }
    }
}

/// Pushes an image whose layer is large enough for the cache; returns its reference and the digest of the layer.
fn large(lab: &Lab, registry: &Registry, name: &str) -> (String, String) {
    let mut content = vec![0; 200 * 1024];
    let mut state =
        name.bytes().fold(7u32, |state, byte| state.wrapping_mul(31).wrapping_add(u32::from(byte)));
    for byte in &mut content {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    lab.write(&format!("{name}/data"), &content);
    let to = format!("{}/src/{name}:v1", registry.host());
    let reference = lab.run(&["push", "-i", &to, "-f", name]).succeeds().one_line().to_owned();
    let manifest = registry.storage().manifest(&format!("src/{name}"), "v1").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    (reference, manifest["layers"][0]["digest"].as_str().unwrap().to_owned())
}

#[test]
fn resume_continues_a_copy_that_failed() {
    let (lab, source) = (lab(), Registry::start());
    let images: Vec<(String, String)> =
        (0..8).map(|number| large(&lab, &source, &format!("image{number}"))).collect();
    let references: Vec<&str> = images.iter().map(|(reference, _)| reference.as_str()).collect();
    let name = format!("{}/b:v1", source.host());
    let _ = bundle(&lab, &name, "b", &references);
    let last = &images[7].1;
    let bytes = source.storage().blob(last).unwrap();
    for to in ["--to-oci-tar", "--to-tar"] {
        let answer = source.ask("DELETE", &format!("/v2/src/image7/blobs/{last}"), &[], &[]);
        assert_eq!(answer.status, 202, "{}", answer.text());
        let copy = |words: &[&str]| lab.run(&[&["copy", "-b", &name, to, "all.tar"], words].concat());
        // The tar has its layers in order of digest, so the missing one may come at any time.
        let _ = copy(&["--resume", "--concurrency", "4"]).fails(1, &[last]);
        assert!(!lab.path("all.tar").exists());
        let kept = std::fs::read_dir(lab.path("all.tar.parts")).unwrap().count();
        // A part that was damaged meanwhile is fetched again.
        if let Some(part) = std::fs::read_dir(lab.path("all.tar.parts")).unwrap().next() {
            std::fs::write(part.unwrap().path(), "damaged").unwrap();
        }
        source.put_blob("src/image7", &bytes);
        source.forget_requests();
        let _ = copy(&["--resume", "--concurrency", "4"]).succeeds();
        assert!(!lab.path("all.tar.parts").exists());
        let is_layer = |request: &&Request| {
            images.iter().any(|(_, layer)| request.path.ends_with(layer)) && request.method == "GET"
        };
        let fetched = source.requests().iter().filter(is_layer).count();
        assert_eq!(fetched, 8 - kept.saturating_sub(1), "{kept} were kept");
        let resumed = lab.read("all.tar");
        let _ = copy(&[]).succeeds();
        assert!(lab.read("all.tar") == resumed);
        std::fs::remove_file(lab.path("all.tar")).unwrap();
    }
    let words = ["copy", "-b", &name, "--to-repo", &format!("{}/x", source.host()), "--resume"];
    let _ = lab.run(&words).fails(2, &["`--resume` works when a tar is written"]);
}
