//! Several writers of one store at the same time, and one that is killed.

use testkit::readers::skopeo_digest;

use super::folder::{pack, url};
use crate::crashes::start;
use crate::lab::lab;

/// Writers at the same time.
const WRITERS: usize = 6;
/// Pushes of each.
const ROUNDS: usize = 4;

#[test]
fn six_writers_lose_no_version_and_the_last_one_completes_the_index() {
    let lab = lab();
    let store = url(&lab);
    let digests: Vec<Vec<String>> = (0..WRITERS)
        .map(|writer| {
            (0..ROUNDS)
                .map(|round| pack(&lab, &format!("{writer}-{round}.tar"), &format!("{writer} {round}")))
                .collect()
        })
        .collect();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (lab, store) = (&lab, &store);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let tar = format!("{writer}-{round}.tar");
                    let (shared, own) = (format!("{store}:shared"), format!("own-{writer}"));
                    let words = ["copy", "-q", "--tar", &tar, "--to-store", &shared, "--tag", &own];
                    // A temporary file of a running writer is not a leftover.
                    assert!(start(lab, &words).status().unwrap().success(), "{words:?}");
                }
            });
        }
    });
    let history = |tag: &str| -> Vec<String> {
        let listed = lab.run(&["store", "list", &format!("{store}:{tag}"), "--json"]).succeeds().json();
        let versions = listed["versions"].as_array().unwrap();
        versions.iter().map(|version| version["digest"].as_str().unwrap().to_owned()).collect()
    };
    let shared = history("shared");
    let mut sorted = shared.clone();
    sorted.sort_unstable();
    let mut expected: Vec<String> = digests.iter().flatten().cloned().collect();
    expected.sort_unstable();
    assert_eq!(sorted, expected, "every push of every writer is a version");
    let folder = lab.path("store").display().to_string();
    for (writer, pushed) in digests.iter().enumerate() {
        let own: Vec<String> = pushed.iter().rev().cloned().collect();
        assert_eq!(history(&format!("own-{writer}")), own, "newest first");
        let of_writer: Vec<&String> = shared.iter().filter(|digest| pushed.contains(digest)).collect();
        assert_eq!(of_writer, own.iter().collect::<Vec<_>>(), "a writer's pushes keep their order");
        assert_eq!(skopeo_digest(&format!("oci:{folder}:own-{writer}"), &[]), own[0]);
    }
    assert_eq!(skopeo_digest(&format!("oci:{folder}:shared"), &[]), shared[0]);
    let _ = lab.run(&["verify", "--store", &store]).succeeds();
    assert_eq!(lab.leftovers(), [""; 0].map(std::path::PathBuf::from));
}
