//! `store gc`: which versions and blobs go, when, and what a push does meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::bucket::{BUCKET, BucketServer, Kind};
use testkit::fake_bucket::{FakeBucket, answer};

use super::bucket::with;
use super::folder::{digest_of, pack, url};
use super::tar_url::{rclone, remote};
use crate::lab::{Lab, lab};

/// Milliseconds of 25 hours, more than the usual grace.
const LONG: u64 = 25 * 60 * 60 * 1000;

/// Returns the names of the marks of a collection.
fn marks(store: &Path) -> Vec<String> {
    let listed = std::fs::read_dir(store.join("gc")).into_iter().flatten();
    let mut names: Vec<String> =
        listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// Makes every mark look as if it were written 25 hours ago: its name has the time, counted down.
fn age(store: &Path) {
    for name in marks(store) {
        let (time, rest) = name.split_once('-').unwrap();
        let older = format!("{:013}-{rest}", time.parse::<u64>().unwrap() + LONG);
        std::fs::rename(store.join("gc").join(&name), store.join("gc").join(older)).unwrap();
    }
}

fn blobs(store: &Path) -> usize {
    std::fs::read_dir(store.join("blobs/sha256")).unwrap().count()
}

/// Runs `store gc` by this, from the first run to the last blob, and looks at the files of the store.
fn collected(lab: &Lab, store: &str, folder: &Path, run: &dyn Fn(&[&str]) -> serde_json::Value) {
    let digests: Vec<String> = ["one", "two", "three"]
        .iter()
        .map(|content| {
            let digest = pack(lab, "app.tar", content);
            run(&["copy", "--tar", "app.tar", "--to-store", &format!("{store}:v1"), "--json"]);
            std::fs::rename(lab.path("app.tar"), lab.path(format!("{content}.tar"))).unwrap();
            digest
        })
        .collect();
    run(&["copy", "--tar", "one.tar", "--to-store", &format!("{store}:other"), "--json"]);
    let gc = |words: &[&str]| run(&[&["store", "gc", store, "--json", "--keep", "1"], words].concat());
    let numbers = |found: &serde_json::Value| {
        let removed = found["removed"].as_array().unwrap().len() as u64;
        [removed, found["deleted"].as_u64().unwrap(), found["waiting"].as_u64().unwrap()]
    };
    let before = blobs(folder);
    let dry = gc(&["--dry-run"]);
    // `one` is used by another tag; of `two` the manifest, the configuration and the layer are unused.
    assert_eq!(numbers(&dry), [2, 0, 3]);
    assert_eq!((blobs(folder), marks(folder).len()), (before, 0), "nothing was changed");
    let first = gc(&[]);
    assert_eq!((numbers(&first), &first["removed"][0]["digest"]), ([2, 0, 3], &digests[1].as_str().into()));
    assert_eq!(numbers(&gc(&[])), [0, 0, 3], "the grace is not over");
    assert_eq!((blobs(folder), marks(folder).len()), (before, 1));

    // A push that needs what is listed objects, and the collection leaves it.
    run(&["copy", "--tar", "two.tar", "--to-store", &format!("{store}:again"), "--json"]);
    assert_eq!(marks(folder).len(), 1 + 3);
    // One that crashed before its entry: the objections alone keep the blobs in this round.
    let again = std::fs::read_dir(folder.join("tags/again")).unwrap().next().unwrap().unwrap().path();
    let entry = std::fs::read(&again).unwrap();
    std::fs::remove_file(&again).unwrap();
    let index = std::fs::read(folder.join("index.json")).unwrap();
    std::fs::write(folder.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    age(folder);
    assert_eq!(numbers(&gc(&[])), [0, 0, 3]);
    assert_eq!((blobs(folder), marks(folder).len()), (before, 1), "listed anew, for the next round");
    std::fs::write(&again, entry).unwrap();
    std::fs::write(folder.join("index.json"), index).unwrap();
    run(&["verify", "--store", &format!("{store}:again"), "--json"]);

    // What is in use stays, also if it is in an old list.
    age(folder);
    assert_eq!(numbers(&gc(&[])), [0, 0, 0]);
    assert_eq!((blobs(folder), marks(folder).len()), (before, 0));
    std::fs::remove_dir_all(folder.join("tags/again")).unwrap();
    run(&["copy", "--tar", "three.tar", "--to-store", &format!("{store}:v1"), "--json"]);
    assert_eq!(numbers(&gc(&[])), [0, 0, 3]);
    age(folder);
    let last = gc(&[]);
    assert_eq!(numbers(&last), [0, 3, 0]);
    assert!(last["size"].as_u64().unwrap() > 500, "{last}");
    assert_eq!((blobs(folder), marks(folder).len()), (before - 3, 0));
    for tag in ["v1", "other"] {
        run(&["verify", "--store", &format!("{store}:{tag}"), "--json"]);
    }
}

#[test]
fn old_versions_go_at_once_and_blobs_after_the_grace_unless_a_push_objects() {
    let lab = lab();
    let store = url(&lab);
    collected(&lab, &store, &lab.path("store"), &|words| lab.run(words).succeeds().json());
    for (words, expected) in [
        (&["--grace", "1h"] as &[&str], "expected 2h or more"),
        (&["--keep", "0"], "`0` is not a number of 1 or more"),
        (&["--keep-for", "30"], "`30` is not a duration, expected a number with a unit such as `30d`"),
    ] {
        let _ = lab.run(&[&["store", "gc", &store], words].concat()).fails(2, &[expected]);
    }
    let by_age = lab.run(&["store", "gc", &store, "--keep-for", "30d", "--dry-run"]).succeeds();
    assert_eq!(
        by_age.one_line(),
        "0 unused blobs of 0 B would be deleted; 0 unused blobs until the grace is over"
    );
}

#[test]
fn old_versions_and_blobs_go_from_a_bucket() {
    // The store's time is the server's: 25 hours lie between the two.
    const DAYS: [&str; 2] = ["Tue, 06 May 2031 07:08:09 GMT", "Wed, 07 May 2031 08:08:09 GMT"];
    let (lab, day) = (lab(), Arc::new(AtomicUsize::new(0)));
    let own = Arc::clone(&day);
    let server = FakeBucket::start(move |request, _| {
        let is_first = request.method == "GET" && request.target == "/ci-images/app/oci-layout";
        let date = [("date", DAYS[own.load(Ordering::SeqCst)])];
        is_first.then(|| answer("200 X", &date, br#"{"imageLayoutVersion":"1.0.0"}"#))
    });
    let run = |words: &[&str]| with(&lab, &server.url(), words).succeeds().json();
    let count = |folder: &str| server.keys().iter().filter(|key| key.starts_with(folder)).count();
    for content in ["one", "two"] {
        let _ = pack(&lab, "app.tar", content);
        let _ = run(&["copy", "--tar", "app.tar", "--to-store", "s3://ci-images/app:v1", "--json"]);
    }
    let gc = || run(&["store", "gc", "s3://ci-images/app", "--json", "--keep", "1"]);
    let first = gc();
    assert_eq!((first["removed"].as_array().unwrap().len(), &first["waiting"]), (1, &3.into()));
    assert_eq!([count("app/tags/"), count("app/blobs/"), count("app/gc/")], [1, 6, 1]);
    day.store(1, Ordering::SeqCst);
    assert_eq!(gc()["deleted"], 3);
    assert_eq!([count("app/tags/"), count("app/blobs/"), count("app/gc/")], [1, 3, 0]);
    let _ = run(&["verify", "--store", "s3://ci-images/app:v1", "--json"]);
}

#[test]
fn old_versions_go_from_a_bucket_of_rclone() {
    let (lab, server) = (lab(), BucketServer::start(Kind::Rclone));
    let run = |words: &[&str]| with(&lab, &server.url(), words).succeeds().json();
    let (store, folder) = (format!("s3://{BUCKET}/team/app"), server.folder().join("team/app"));
    for content in ["one", "two"] {
        let _ = pack(&lab, "app.tar", content);
        let _ = run(&["copy", "--tar", "app.tar", "--to-store", &format!("{store}:v1"), "--json"]);
    }
    let first = run(&["store", "gc", &store, "--json", "--keep", "1"]);
    assert_eq!((first["removed"].as_array().unwrap().len(), &first["waiting"]), (1, &3.into()));
    assert_eq!((blobs(&folder), marks(&folder).len()), (6, 1));
    assert_eq!(std::fs::read_dir(folder.join("tags/v1")).unwrap().count(), 1);
    let _ = run(&["verify", "--store", &format!("{store}:v1"), "--json"]);
}

#[test]
fn both_phases_go_over_a_bucket_of_seaweedfs() {
    let (lab, server) = (lab(), BucketServer::start(Kind::Weed));
    let run = |words: &[&str]| with(&lab, &server.url(), words).succeeds().json();
    let store = format!("s3://{BUCKET}/team/app");
    let objects = |folder: &str| {
        let listed = rclone(&["lsf", "-R", "--files-only", &remote(&server, &format!("team/app/{folder}"))]);
        listed.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for content in ["one", "two"] {
        let _ = pack(&lab, "app.tar", content);
        let _ = run(&["copy", "--tar", "app.tar", "--to-store", &format!("{store}:v1"), "--json"]);
    }
    let gc = || run(&["store", "gc", &store, "--json", "--keep", "1"]);
    let first = gc();
    assert_eq!((first["removed"].as_array().unwrap().len(), &first["waiting"]), (1, &3.into()));
    assert_eq!((objects("blobs").len(), objects("gc").len(), objects("tags/v1").len()), (6, 1, 1));
    assert_eq!(gc()["deleted"], 0, "the grace is not over");
    // The list looks as if it were written 25 hours ago: its name has the time, counted down.
    let list = objects("gc").remove(0);
    let (time, rest) = list.split_once('-').unwrap();
    let older = format!("{:013}-{rest}", time.parse::<u64>().unwrap() + LONG);
    let key = |name: &str| remote(&server, &format!("team/app/gc/{name}"));
    let _ = rclone(&["moveto", &key(&list), &key(&older)]);
    let second = gc();
    assert_eq!(
        (&second["deleted"], &second["waiting"], &second["busy"]),
        (&3.into(), &0.into(), &false.into())
    );
    assert_eq!((objects("blobs").len(), objects("gc").len(), objects("tags/v1").len()), (3, 0, 1));
    let _ = run(&["verify", "--store", &format!("{store}:v1"), "--json"]);
}

#[test]
fn a_push_waits_while_blobs_are_deleted_and_not_for_a_collection_that_died() {
    let lab = lab();
    let store = url(&lab);
    let to = format!("{store}:v1");
    let digest = pack(&lab, "app.tar", "one");
    let words = ["copy", "--tar", "app.tar", "--to-store", &to];
    let _ = lab.run(&words).succeeds();
    let now = u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let name = format!("{:013}-0", 9_999_999_999_999 - now);
    let started = format!("store/gc/{name}.started-{name}");
    lab.write(&started, "");
    let mut waiting = lab.command(&words).spawn();
    waiting.wait_for_stderr("`store gc` is deleting unused blobs");
    let busy = lab.run(&["store", "gc", &store, "--json"]).succeeds();
    assert!(busy.stderr.contains("another `store gc` is deleting"), "{}", busy.stderr);
    assert_eq!(busy.json()["busy"], true);
    std::fs::remove_file(lab.path(&started)).unwrap();
    let pushed = waiting.wait().succeeds();
    assert_eq!(digest_of(pushed.one_line()), digest);
    lab.write(&started, "");
    age(&lab.path("store"));
    let old = format!("{:013}-0", 9_999_999_999_999 - now + LONG);
    std::fs::rename(
        lab.path(format!("store/gc/{old}.started-{name}")),
        lab.path(format!("store/gc/{old}.started-{old}")),
    )
    .unwrap();
    let _ = lab.run(&words).succeeds().never_says("waiting");
    let _ = lab.run(&["store", "gc", &store]).succeeds();
    assert_eq!(marks(&lab.path("store")), [""; 0]);
}
