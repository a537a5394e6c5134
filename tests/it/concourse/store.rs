//! `source.store`: versions of a store between jobs, in a folder and in a bucket.

use std::slice::from_ref;

use serde_json::{Value, json};
use testkit::bucket::{ACCESS_KEY, BUCKET, BucketServer, Kind, SECRET_KEY};
use testkit::lab::Lab;
use testkit::readers::skopeo_digest;

use crate::concourse::{room, step};

fn answer(lab: &Lab, name: &str, request: &Value) -> Value {
    step(lab, name, request).succeeds().json()
}

/// Packs another image into `image/image.tar` in the put's folder.
fn other(lab: &Lab) -> String {
    lab.write("other/content", "another");
    let words =
        ["push", "-q", "-i", "reg.example/a:v1", "-f", "other", "--to-oci-tar", "put/image/image.tar"];
    let line = lab.run(&words).succeeds().one_line().to_owned();
    line.rsplit_once('@').unwrap().1.to_owned()
}

/// Pushes A, B, A under one tag, and follows the versions as a pipeline does.
fn follow(lab: &Lab, digest: &str, source: &Value) {
    let put = |params: Value| answer(lab, "out", &json!({"source": source, "params": params}));
    let check = |version: &Value| {
        let found = answer(lab, "check", &json!({"source": source, "version": version}));
        found.as_array().unwrap().clone()
    };
    assert_eq!(check(&Value::Null), Vec::<Value>::new(), "nothing was pushed yet");
    let image = json!({"image": "image/image.tar"});
    let first = put(image.clone())["version"].clone();
    assert_eq!((&first["tag"], &first["digest"]), (&"candidate".into(), &digest.into()));
    assert!(first["pushed"].as_str().unwrap().ends_with('Z'));
    assert_eq!(put(image.clone())["version"], first, "the same image again is no new version");
    assert_eq!(check(&Value::Null), from_ref(&first));
    assert_eq!(check(&first), from_ref(&first));

    let tar = std::fs::read(lab.path("put/image/image.tar")).unwrap();
    let second_digest = other(lab);
    let second = put(image.clone())["version"].clone();
    lab.write("put/image/image.tar", tar);
    let third = put(image)["version"].clone();
    assert_eq!(second["digest"], second_digest.as_str());
    assert_eq!((&third["digest"], third["pushed"] != first["pushed"]), (&digest.into(), true));
    assert_eq!(check(&first), [first.clone(), second.clone(), third.clone()], "a roll-back is a version");
    assert_eq!(check(&second), [second.clone(), third.clone()]);
    assert_eq!(check(&Value::Null), from_ref(&third));
    let gone = json!({"tag": "candidate", "digest": digest, "pushed": "2020-01-01T00:00:00.000Z"});
    assert_eq!(check(&gone), from_ref(&third), "a version that was removed is passed over");

    let get = |version: &Value, params: Value| {
        let _ = std::fs::remove_dir_all(lab.path("get"));
        step(lab, "in", &json!({"source": source, "version": version, "params": params}))
    };
    let got = get(&second, json!({"format": "files"})).succeeds().json();
    assert_eq!(got["version"], second);
    assert_eq!(lab.read("get/files/content"), b"another");
    assert_eq!(lab.read("get/digest"), second_digest.as_bytes());
    assert_eq!(lab.read("get/tag"), b"candidate");
    for (format, file) in [
        ("oci-tar", "image.tar"),
        ("oci", "image.tar"),
        ("oci-layout", "oci/index.json"),
        ("rootfs", "metadata.json"),
    ] {
        let _ = get(&first, json!({"format": format})).succeeds();
        assert!(lab.path("get").join(file).is_file(), "{format}");
    }
    let _ = get(&gone, json!({})).fails(1, &["tag `candidate` of", "has no version"]);

    // Versions of several tags.
    let numbers = |constraint: &str| {
        let mut source = source.clone();
        source.as_object_mut().unwrap().remove("tag");
        source["semver_constraint"] = constraint.into();
        let found = answer(lab, "check", &json!({"source": source}));
        let tags =
            found.as_array().unwrap().iter().map(|version| version["tag"].as_str().unwrap().to_owned());
        tags.collect::<Vec<_>>()
    };
    let bump = put(json!({"image": "image/image.tar", "version": "1.2.0", "bump_aliases": true}));
    let tags = bump["metadata"].as_array().unwrap().iter().find(|line| line["name"] == "tags").unwrap();
    assert_eq!(tags["value"], "candidate 1.2.0 latest 1 1.2");
    let _ = put(json!({"image": "image/image.tar", "version": "1.10.0"}));
    assert_eq!(numbers(">=1.10"), ["1.10.0"]);
    let mut of_regex = source.clone();
    of_regex.as_object_mut().unwrap().remove("tag");
    of_regex["tag_regex"] = "^1\\.".into();
    let by_regex = |version: &Value| {
        let found = answer(lab, "check", &json!({"source": of_regex, "version": version}));
        let versions = found.as_array().unwrap().clone();
        let tags = versions.iter().map(|version| version["tag"].as_str().unwrap().to_owned());
        (tags.collect::<Vec<_>>(), versions)
    };
    let (mut tags, versions) = by_regex(&Value::Null);
    assert_eq!(by_regex(&versions[1]).0, tags[1..], "from the cursor on");
    tags.sort_unstable();
    assert_eq!(tags, ["1.10.0", "1.2", "1.2.0"]);
    let expected = json!({"image": "image/image.tar", "expected_digest": second_digest});
    let _ = step(lab, "out", &json!({"source": source, "params": expected})).fails(3, &["has digest"]);
    let files = put(json!({"files": ["image"], "kind": "image"}))["version"].clone();
    assert_eq!(check(&Value::Null), [files]);
}

#[test]
fn a_store_in_a_folder_has_versions() {
    let (lab, digest) = room();
    let url = format!("file://{}", lab.path("store").display());
    follow(&lab, &digest, &json!({"store": url, "tag": "candidate"}));
    let image = format!("oci:{}:1.10.0", lab.path("store").display());
    assert_eq!(skopeo_digest(&image, &[]), digest);
}

#[test]
fn a_put_with_keep_removes_older_versions_of_its_tag_only() {
    let (lab, _) = room();
    let url = format!("file://{}", lab.path("store").display());
    let image = json!({"image": "image/image.tar"});
    let put = |source: Value| answer(&lab, "out", &json!({"source": source, "params": image}));
    for tag in ["candidate", "other"] {
        let _ = put(json!({"store": url, "tag": tag}));
    }
    let digest = other(&lab);
    for tag in ["candidate", "other"] {
        let _ = put(json!({"store": url, "tag": tag}));
    }
    let kept = put(json!({"store": url, "tag": "candidate", "keep": 1}));
    assert_eq!(kept["version"]["digest"], digest.as_str());
    let listed = |tag: &str| {
        let words = ["store", "list", &format!("{url}:{tag}"), "--json"];
        let list = lab.run(&words).succeeds().json();
        list["versions"].as_array().unwrap().clone()
    };
    let candidate = listed("candidate");
    assert_eq!((candidate.len(), &candidate[0]["digest"]), (1, &digest.as_str().into()));
    assert_eq!(listed("other").len(), 2);
    let _ = lab.run(&["verify", "--store", &url]).succeeds();
    let wrong = json!({"source": {"store": url, "tag": "candidate", "keep": "0"}, "params": image});
    let _ = step(&lab, "out", &wrong).fails(2, &["`source.keep`", "it is not a number of 1 or more"]);
}

#[test]
fn a_store_in_a_bucket_has_versions() {
    let (lab, digest) = room();
    let server = BucketServer::start(Kind::Rclone);
    let source = json!({
        "store": format!("s3://{BUCKET}/team/app"),
        "tag": "candidate",
        "endpoint": server.url(),
        "aws_access_key_id": ACCESS_KEY,
        "aws_secret_access_key": SECRET_KEY,
    });
    follow(&lab, &digest, &source);
}

#[test]
fn keys_of_other_resources_are_answered_with_what_to_write() {
    let (lab, _) = room();
    for (source, texts) in [
        (
            json!({"bucket": "b", "versioned_file": "x.tar"}),
            ["`source.bucket`", "write `store: s3://BUCKET/PREFIX`"],
        ),
        (
            json!({"store": "s3://images/a", "access_key_id": "x"}),
            ["`source.access_key_id`", "write `aws_access_key_id`"],
        ),
        (
            json!({"store": "s3://images/a", "use_path_style": true}),
            ["`source.use_path_style`", "leave it out"],
        ),
        (
            json!({"store": "s3://images/a", "repository": "r.example/a"}),
            ["exclude each other", "`source.store`"],
        ),
        (json!({"store": "s3://images/a:v1"}), ["has a tag or digest", "write the tag as `source.tag`"]),
        (json!({"store": "images/a"}), ["`source.store`", "does not begin with"]),
        (
            json!({"store": "s3://images/a", "tagg": "x"}),
            ["unknown field `source.tagg`", "did you mean `source.tag`?"],
        ),
    ] {
        let _ = step(&lab, "check", &json!({"source": source})).fails(2, &texts);
    }
}
