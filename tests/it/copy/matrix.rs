//! `copy`: every source into every sink, the digest unchanged, or a refusal that says why.

use std::collections::BTreeSet;

use serde_json::Value;
use testkit::lab::Lab;
use testkit::oracle::validate_layout;
use testkit::readers::gnu_tar_list;
use testkit::registry::Registry;
use testkit::tools::{run, tool};

use crate::carvel::kinds::index;
use crate::carvel::{bundle, digest, image, images_lock};
use crate::lab::lab;

const SINKS: [&str; 4] = ["--to-repo", "--to-oci-tar", "--to-tar", "--to-docker-tar"];
/// Why docker's archive cannot hold everything.
const ONE_IMAGE: &str = "a docker tar holds one image, found ";

/// Arguments for a source.
struct Source {
    name: &'static str,
    words: Vec<String>,
    /// Digests of all manifests and indexes that have to arrive.
    all: BTreeSet<String>,
    /// The one image that docker's archive gets, or none.
    docker: Option<String>,
}

/// Everything in a registry, and everything of that in files.
fn sources(lab: &Lab, registry: &Registry) -> Vec<Source> {
    let host = registry.host();
    let one = image(lab, &format!("{host}/src/one"), "one");
    let (multi, mut below) = index(lab, registry);
    let inner = bundle(lab, &format!("{host}/src/inner:v1"), "inner", &[&one]);
    let outer = bundle(lab, &format!("{host}/src/outer:v1"), "outer", &[&inner, &multi]);
    below.extend([&one, &inner, &outer].map(|reference| digest(reference).to_owned()));
    let everything: BTreeSet<String> = below.into_iter().collect();
    let only = |reference: &str| BTreeSet::from([digest(reference).to_owned()]);
    let children: BTreeSet<String> = everything
        .iter()
        .filter(|one| ![&inner, &outer].iter().any(|bundle| digest(bundle) == **one))
        .cloned()
        .collect();
    let index_alone: BTreeSet<String> =
        children.iter().filter(|child| **child != digest(&one)).cloned().collect();
    lab.write(
        "bundle.yml",
        format!("apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: BundleLock\nbundle:\n  image: {outer}\n"),
    );
    lab.write("images.yml", images_lock(&[&one, &multi]));
    let make = |words: &[&str]| drop(lab.run(&[&["copy"], words].concat()).succeeds());
    make(&["-b", &outer, "--to-oci-tar", "oci.tar"]);
    make(&["-b", &outer, "--to-tar", "imgpkg.tar"]);
    make(&["-i", &one, "--to-docker-tar", "docker.tar"]);
    make(&["-i", &one, "--to-oci-tar", "one.tar"]);
    let shell = "mkdir folder && tar -xf oci.tar -C folder && gzip -k oci.tar && zstd -q one.tar && mkdir holder && \
                 cp imgpkg.tar holder/";
    let _ = run(tool("bash").arg("-ec").arg(shell).current_dir(lab.work())).success();
    // docker's archive has no manifest; the one that is made for it is the same each time.
    let archived = lab.run(&["describe", "--tar", "docker.tar", "-o", "json"]).succeeds().json();
    let archived = archived["images"][0]["digest"].as_str().unwrap().to_owned();
    let source = |name, words: &[&str], all: &BTreeSet<String>, docker: Option<&str>| Source {
        name,
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        all: all.clone(),
        docker: docker.map(str::to_owned),
    };
    let single = Some(digest(&one));
    vec![
        source("a bundle", &["-b", &outer], &everything, None),
        source("an image", &["-i", &one], &only(&one), single),
        source("an index", &["-i", &multi], &index_alone, None),
        source("a BundleLock", &["--lock", "bundle.yml"], &everything, None),
        source("an ImagesLock", &["--lock", "images.yml"], &children, None),
        source("an OCI tar", &["--tar", "oci.tar"], &everything, None),
        source("an OCI tar, named so", &["--oci-tar", "oci.tar"], &everything, None),
        source("an OCI tar in gzip", &["--tar", "oci.tar.gz"], &everything, None),
        source("an OCI tar of one image in zstd", &["--tar", "one.tar.zst"], &only(&one), single),
        source("an OCI folder", &["--tar", "folder"], &everything, None),
        source("imgpkg's tar", &["--tar", "imgpkg.tar"], &everything, None),
        source("a folder with imgpkg's tar", &["--tar", "holder"], &everything, None),
        source("docker's archive", &["--tar", "docker.tar"], &[archived.clone()].into(), Some(&archived)),
    ]
}

/// Checks that a repository has everything, without problems in its storage.
fn arrived(registry: &Registry, repository: &str, source: &Source, sink: &str) {
    let there = registry.storage().manifests(repository);
    let lost: Vec<&String> = source.all.difference(&there).collect();
    assert!(lost.is_empty(), "{} {sink}: lost {lost:?}", source.name);
    registry.storage().assert_sound();
}

/// The image that docker loads: the digests of configuration and layers as they are stored.
fn blobs_of(described: &Value) -> (Value, Vec<Value>) {
    let image = &described["images"][0];
    let layers = image["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].clone());
    (image["config"].clone(), layers.collect())
}

#[test]
fn every_source_goes_into_every_sink_with_its_digest() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    let sources = sources(&lab, &source);
    for (row, from) in sources.iter().enumerate() {
        for sink in SINKS {
            let repository = format!("r{row}{sink}");
            let to = format!("{}/{repository}", target.host());
            let out = format!("out{row}{sink}");
            let place = if sink == "--to-repo" { to.as_str() } else { out.as_str() };
            let mut words = vec!["copy"];
            words.extend(from.words.iter().map(String::as_str));
            words.extend([sink, place]);
            let output = lab.run(&words);
            match (sink, &from.docker) {
                ("--to-docker-tar", None) => {
                    // Its images have no platform, and docker loads only one image.
                    let why = if from.name == "an index" { "no image for `linux/amd64`" } else { ONE_IMAGE };
                    let _ = output.fails(1, &[why]);
                    assert!(!lab.path(&out).exists());
                    continue;
                }
                ("--to-docker-tar", Some(_)) => {
                    let _ = output.succeeds();
                    let written = lab.run(&["describe", "--tar", &out, "-o", "json"]).succeeds().json();
                    let (config, layers) = blobs_of(&written);
                    let names = gnu_tar_list(&lab.path(&out));
                    assert_eq!(names.len(), 2 + layers.len(), "{}: {names:?}", from.name);
                    let words = [&["describe"], &words[1..3], &["-o", "json"]].concat();
                    let original = lab.run(&words).succeeds().json();
                    assert_eq!((config, layers), blobs_of(&original), "{}", from.name);
                    continue;
                }
                ("--to-repo", _) => {
                    let _ = output.succeeds();
                }
                _ => {
                    let _ = output.succeeds();
                    if sink == "--to-oci-tar" {
                        validate_layout(lab.path(&out));
                    }
                    let _ = lab.run(&["copy", "--tar", &out, "--to-repo", &to]).succeeds();
                }
            }
            arrived(&target, &repository, from, sink);
        }
    }
}

#[test]
fn a_bundle_exported_again_after_its_import_has_the_same_images() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    let host = source.host();
    let one = image(&lab, &format!("{host}/src/one"), "one");
    let inner = bundle(&lab, &format!("{host}/src/inner:v1"), "inner", &[&one]);
    let outer = bundle(&lab, &format!("{host}/src/outer:v1"), "outer", &[&inner, &one]);
    let to = format!("{}/dst", target.host());
    for sink in ["--to-oci-tar", "--to-tar"] {
        let _ = lab.run(&["copy", "-b", &outer, sink, "first"]).succeeds();
        let _ = lab.run(&["copy", "--tar", "first", "--to-repo", &to]).succeeds();
        let moved = format!("{to}@{}", digest(&outer));
        let _ = lab.run(&["copy", "-b", &moved, sink, "second"]).succeeds();
        let images = |tar: &str| {
            let described = lab.run(&["describe", "--tar", tar, "-o", "json"]).succeeds().json();
            described.to_string().matches("\"digest\"").count()
        };
        assert_eq!(images("first"), images("second"), "{sink}");
        let blobs = |tar: &str| {
            let mut names = gnu_tar_list(&lab.path(tar));
            // Only these files record the origin.
            names.retain(|name| name.contains("sha256"));
            names.sort();
            names
        };
        assert_eq!(blobs("first"), blobs("second"), "{sink}");
    }
}

#[test]
fn tag_list_hides_imgpkgs_internal_tags() {
    let (lab, registry) = (lab(), Registry::start());
    let name = format!("{}/app", registry.host());
    let one = image(&lab, &name, "one");
    let default = format!("sha256-{}.imgpkg", digest(&one).trim_start_matches("sha256:"));
    let list = |words: &[&str]| {
        let output = lab.run(&[&["tag", "list", "-i", &name], words].concat()).succeeds();
        output.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let plain = list(&[]);
    assert!(plain.len() == 1 && plain[0].contains("latest") && !plain[0].contains("sha256"), "{plain:?}");
    let with_digests = list(&["--digests"]);
    assert!(with_digests.len() == 1 && with_digests[0].contains(digest(&one)), "{with_digests:?}");
    let all = list(&["--imgpkg-internal-tags"]);
    assert!(all.len() == 2 && all.iter().any(|line| line.contains(&default)), "{all:?}");
}

#[test]
fn tag_list_has_imgpkgs_table_and_columns_and_describe_its_layers_flag() {
    let (lab, registry) = (lab(), Registry::start());
    let name = format!("{}/app", registry.host());
    let one = image(&lab, &name, "one");
    let list = |words: &[&str]| lab.run(&[&["tag", "list", "-i", &name, "--digests"], words].concat());
    let found = list(&["--json"]).succeeds().json();
    let rows = serde_json::json!([{"name": "latest", "digest": digest(&one)}]);
    assert_eq!((&found["Tables"][0]["Rows"], &found["Tables"][0]["Content"]), (&rows, &"Tags".into()));
    assert_eq!(found["tags"], serde_json::json!([{"tag": "latest", "digest": digest(&one)}]));
    assert_eq!(list(&["--column", "name"]).succeeds().stdout, "latest\n");
    assert_eq!(list(&["--column=Digest"]).succeeds().stdout, format!("{}\n", digest(&one)));
    let _ = list(&["--column", "size"])
        .fails(2, &["`--column` cannot be `size`, expected one of `name`, `digest`"]);
    let layers = |words: &[&str]| {
        let found = lab.run(&[&["describe", "-i", &one, "--json"], words].concat()).succeeds().json();
        found["images"][0]["layers"].as_array().map(Vec::len)
    };
    assert_eq!((layers(&[]), layers(&["--layers"]), layers(&["--layers=false"])), (Some(1), Some(1), None));
    // What a script reads from a file has a line break at its end.
    let resolved = lab.run(&["tag", "resolve", "-i", &format!("{name}:latest")]).succeeds().stdout;
    assert!(resolved.ends_with('\n'));
    let again = lab.run(&["tag", "resolve", "-i", &resolved]).succeeds();
    assert_eq!(again.one_line(), one);
    let expected = format!("{}\n", digest(&one));
    let pull = ["pull", "-i", &one, "-o", "out", "--expected-digest", &expected];
    let _ = lab.run(&pull).succeeds();
}

#[test]
fn platform_chooses_the_image_of_a_docker_tar() {
    let lab = lab();
    let mut layout = crate::layouts::Layout::default();
    let mut entries = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let content = testkit::tarball::Tarball::new().file("architecture", architecture).finish();
        let mut entry = layout.image_for(architecture, &[content]);
        entry["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
        entries.push(entry);
    }
    let index =
        serde_json::json!({"schemaVersion": 2, "mediaType": crate::layouts::INDEX, "manifests": entries});
    let index = layout.blob(crate::layouts::INDEX, index.to_string());
    layout.entries.push(index);
    lab.write("multi.tar", layout.tar());
    for (flags, expected) in [
        (&[][..], "amd64"),
        (&["--platform", "linux/arm64"], "arm64"),
        (&["--platform", "linux/amd64"], "amd64"),
    ] {
        let words = [&["copy", "--tar", "multi.tar", "--to-docker-tar", "d.tar"], flags].concat();
        let _ = lab.run(&words).succeeds();
        let _ = lab.run(&["pull", "--tar", "d.tar", "-o", "out", "--force"]).succeeds();
        assert_eq!(lab.read("out/architecture"), expected.as_bytes());
    }
    let words = ["copy", "--tar", "multi.tar", "--to-docker-tar", "d.tar", "--platform", "linux/s390x"];
    let _ = lab.run(&words).fails(1, &["no image for `linux/s390x`", "it has `linux/amd64`, `linux/arm64`"]);
    let words = ["copy", "--tar", "multi.tar", "--to-docker-tar", "d.tar"];
    let two = [&words[..], &["--platform", "linux/arm64,linux/amd64"]].concat();
    let _ = lab.run(&two).fails(2, &["docker's tar holds one platform, found 2"]);
}
