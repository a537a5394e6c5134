//! `copy --resume` after a kill in the middle, at any concurrency: what was done is not fetched again.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use testkit::lab::Lab;
use testkit::registry::Registry;

use crate::carvel::bundle;
use crate::crashes::start;
use crate::lab::lab;

/// Images of the bundle: every third small, so that some are done long before others.
const IMAGES: usize = 15;
/// Tries to hit the middle of a copy.
const TRIES: usize = 10;
const SIGKILL: i32 = 9;

/// Pushes a bundle of images whose layers are worth keeping; returns its name and the digests of the layers.
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

/// The digests of the parts that are whole; what is still written has another name.
fn parts(lab: &Lab) -> BTreeSet<String> {
    let entries = std::fs::read_dir(lab.path("all.tar.parts")).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("sha256-")).map(|name| name.replacen('-', ":", 1)).collect()
}

/// Starts a copy and kills it when at least two layers are there and at least two are not; returns those that are.
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
fn a_killed_copy_goes_on_and_fetches_nothing_twice() {
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
