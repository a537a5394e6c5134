//! `index` and `copy --platform`: one multi-platform image of several tars, and some platforms of one.
//!
//! `buildkit/*.tar` were written by BuildKit 0.13 with `--provenance=mode=max`, one platform each: an index with the
//! image and its attestation.

use std::fs;

use serde_json::Value;
use testkit::oracle::validate_layout;
use testkit::registry::Registry;
use testkit::tools::{run, tool};

use crate::lab::{Lab, lab};

const AMD64: &str = "sha256:0334751df20d6559ca89a26133adf7b3462fceaf5f9c745c7288308837a750fa";

/// A lab with `amd64.tar` and `arm64.tar` of BuildKit.
pub(crate) fn lab_with_tars() -> Lab {
    let lab = lab();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/copy/buildkit");
    for name in ["amd64.tar", "arm64.tar"] {
        fs::copy(format!("{folder}/{name}"), lab.path(name)).unwrap();
    }
    lab
}

/// The output of `describe` for a tar.
fn index_of(lab: &Lab, tar: &str) -> Value {
    lab.run(&["describe", "--tar", tar, "--json"]).succeeds().json()
}

#[test]
fn index_joins_buildkits_tars_and_their_order_changes_no_byte() {
    let lab = lab_with_tars();
    let join = |first: &str, second: &str, to: &str| {
        lab.run(&["index", "--tar", first, "--tar", second, "--to-oci-tar", to]).succeeds()
    };
    let _ = join("amd64.tar", "arm64.tar", "all.tar");
    let _ = join("arm64.tar", "amd64.tar", "other.tar");
    assert!(lab.read("all.tar") == lab.read("other.tar"), "the order of the tars is in the bytes");
    validate_layout(lab.path("all.tar"));
    let _ = lab.run(&["verify", "--tar", "all.tar"]).succeeds();
    // The name of both tars is kept, and each child has BuildKit's digest.
    let text = index_of(&lab, "all.tar").to_string();
    assert!(text.contains("registry.example/team/app:v1"), "{text}");
    for tar in ["amd64.tar", "arm64.tar"] {
        let children = index_of(&lab, tar);
        let digests: Vec<&str> = find_digests(&children);
        assert!(digests.iter().skip(1).all(|digest| text.contains(digest)), "{tar}: {digests:?} {text}");
    }
}

fn find_digests(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(members) => members
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(text) if key == "digest" && text.starts_with("sha256:") => vec![text.as_str()],
                other => find_digests(other),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(find_digests).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn index_refuses_a_platform_twice_a_missing_one_and_an_empty_pattern() {
    let lab = lab_with_tars();
    lab.write("files/x", "x");
    let _ = lab.run(&["push", "-f", "files", "--to-oci-tar", "mine.tar"]).succeeds();
    let twice = ["index", "--tar", "amd64.tar", "--tar", "mine.tar", "--to-oci-tar", "x.tar"];
    let _ = lab.run(&twice).fails(1, &["amd64.tar", "mine.tar", "linux/amd64"]);
    let missing = ["index", "--tar", "amd64.tar", "--to-oci-tar", "x.tar", "--require-platform"];
    let missing: Vec<&str> = missing.into_iter().chain(["linux/amd64,linux/arm64"]).collect();
    let _ = lab.run(&missing).fails(1, &["no image for `linux/arm64`; there is one for `linux/amd64`"]);
    let pattern = ["index", "--tar", "dist/*.tar", "--to-oci-tar", "x.tar"];
    let _ = lab.run(&pattern).fails(2, &["`--tar`: `dist/*.tar` finds no file"]);
    assert!(!lab.path("x.tar").exists());
    // The same image twice is listed once.
    let same = ["index", "--tar", "amd64.tar", "--tar", "amd64.tar", "--to-oci-tar", "x.tar"];
    let _ = lab.run(&same).succeeds();
}

#[test]
fn index_goes_to_a_registry_and_copy_takes_a_platform_back() {
    let (lab, registry) = (lab_with_tars(), Registry::start());
    let to = format!("{}/team/app:v1", registry.host());
    let _ = lab.run(&["index", "--tar", "*64.tar", "--to-repo", &to]).succeeds();
    let tags = registry.storage().tags("team/app");
    assert_eq!(tags.keys().collect::<Vec<_>>(), ["v1"], "one tag, on the index");
    let mut skopeo = tool("skopeo");
    let raw =
        run(skopeo.args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{to}")])).success();
    let raw: Value = serde_json::from_str(&raw.stdout).unwrap();
    let platforms: Vec<String> = raw["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|child| format!("{}/{}", child["platform"]["os"], child["platform"]["architecture"]))
        .map(|text| text.replace('"', ""))
        .collect();
    assert_eq!(platforms, ["linux/amd64", "unknown/unknown", "linux/arm64", "unknown/unknown"]);
    let _ = lab.run(&["copy", "-i", &to, "--platform", "linux/arm64", "--to-oci-tar", "arm.tar"]).succeeds();
    validate_layout(lab.path("arm.tar"));
    let arm = find_digests(&index_of(&lab, "arm.tar")).first().map(|digest| (*digest).to_owned());
    assert_eq!(arm.as_deref(), raw["manifests"][2]["digest"].as_str(), "the plain image that is left");
    let all = ["copy", "-i", &to, "--platform", "linux/arm64,linux/amd64", "--to-oci-tar", "all.tar"];
    let _ = lab.run(&all).succeeds();
    assert_eq!(find_digests(&index_of(&lab, "all.tar"))[0], tags["v1"], "all platforms: the index itself");
    let none = ["copy", "-i", &to, "--platform", "linux/s390x", "--to-oci-tar", "none.tar"];
    let _ = lab.run(&none).fails(1, &["no image for `linux/s390x`"]);
}

#[test]
fn index_of_one_tar_is_flat() {
    let lab = lab_with_tars();
    let _ = lab.run(&["index", "--tar", "amd64.tar", "--to-oci-tar", "x.tar"]).succeeds();
    // BuildKit's own index has the same entries in the same order.
    assert!(index_of(&lab, "amd64.tar").to_string().contains(AMD64));
    let first = find_digests(&index_of(&lab, "x.tar")).len();
    assert_eq!(first, find_digests(&index_of(&lab, "amd64.tar")).len());
}

#[test]
fn describe_shows_the_platforms_of_an_index_as_a_table_first() {
    let lab = lab_with_tars();
    let made = lab.run(&["index", "--tar", "amd64.tar", "arm64.tar", "--to-oci-tar", "all.tar", "--json"]);
    let made = made.succeeds().json();
    let json = index_of(&lab, "all.tar");
    let image = &json["images"][0];
    assert_eq!(image["platforms"], made["platforms"], "`index --json` and `describe --json` say the same");
    let rows = image["platforms"].as_array().unwrap();
    let platforms: Vec<&str> = rows.iter().map(|row| row["platform"].as_str().unwrap()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    let kind = "https://slsa.dev/provenance/v0.2";
    for (row, place) in rows.iter().zip([0, 2]) {
        let (member, attestation) = (&image["manifests"][place], &image["manifests"][place + 1]);
        assert_eq!((&row["digest"], &row["size"]), (&member["digest"], &member["size"]));
        assert_eq!(row["attestations"][0]["digest"], attestation["digest"]);
        assert_eq!(row["attestations"][0]["predicateTypes"][0], kind);
        assert_eq!(attestation["kind"], "attestation");
        assert_eq!(
            (&attestation["subject"], &attestation["predicateTypes"][0]),
            (&row["digest"], &kind.into())
        );
        assert!(attestation.get("platform").is_none() && attestation.get("artifactType").is_none());
    }
    let text = lab.run(&["describe", "--tar", "all.tar"]).succeeds().stdout;
    let short = |row: &Value| row["digest"].as_str().unwrap()[..19].to_owned();
    let table = text.split_once("  Platforms:\n").unwrap().1;
    for (line, row) in table.lines().zip(rows) {
        let start = format!("    {}", row["platform"].as_str().unwrap());
        assert!(line.starts_with(&start) && line.contains(&short(row)), "{line}");
        assert!(line.ends_with("provenance") && line.len() <= 80, "{line}");
    }
    let of = format!("    Of: {}\n    Statement: {kind}\n", rows[0]["digest"].as_str().unwrap());
    assert!(text.contains(&of) && !text.contains("unknown/unknown"), "{text}");
    assert!(text.find("  Platforms:") < text.find("  Image sha256:"), "{text}");
}

/// Joins the tars of [`lab_with_tars`] in crane's shape: `index.json` is the list of the platforms itself.
fn flat_layout(lab: &Lab) {
    let _ = lab.run(&["index", "--tar", "amd64.tar", "arm64.tar", "--to-oci-tar", "all.tar"]).succeeds();
    fs::create_dir(lab.path("flat")).unwrap();
    let mut tar = tool("tar");
    let _ = run(tar.arg("-xf").arg(lab.path("all.tar")).arg("-C").arg(lab.path("flat"))).success();
    let top: Value = serde_json::from_slice(&lab.read("flat/index.json")).unwrap();
    let digest = top["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    let index = lab.path("flat/blobs").join(digest);
    fs::rename(index, lab.path("flat/index.json")).unwrap();
    let mut tar = tool("tar");
    let _ = run(tar.arg("-cf").arg(lab.path("flat.tar")).arg("-C").arg(lab.path("flat")).arg(".")).success();
}

#[test]
fn a_flat_list_of_platforms_is_one_image() {
    let (lab, registry) = (lab_with_tars(), Registry::start());
    flat_layout(&lab);
    let whole = index_of(&lab, "all.tar")["images"][0]["digest"].as_str().unwrap().to_owned();
    for source in ["flat", "flat.tar"] {
        // The bytes of the list are those of the index that was there before.
        assert_eq!(index_of(&lab, source)["images"][0]["digest"], whole.as_str());
        let _ = lab.run(&["verify", "--tar", source, "--expected-digest", &whole]).succeeds();
        let to = format!("{}/team/{}:v1", registry.host(), source.replace('.', "-"));
        let _ = lab.run(&["copy", "--tar", source, "--to-repo", &to, "--expected-digest", &whole]).succeeds();
        assert_eq!(registry.storage().tags(&format!("team/{}", source.replace('.', "-")))["v1"], whole);
        let _ = lab.run(&["copy", "--tar", source, "--to-oci-tar", "copy.tar"]).succeeds();
        validate_layout(lab.path("copy.tar"));
        assert_eq!(index_of(&lab, "copy.tar")["images"][0]["digest"], whole.as_str());
        let _ = lab
            .run(&["index", "--tar", source, "--to-oci-tar", "same.tar", "--expected-digest", &whole])
            .succeeds();
        // Every sink accepts one platform of it.
        let platform = ["copy", "--tar", source, "--platform", "linux/arm64"];
        let arm = &index_of(&lab, source)["images"][0]["platforms"][1]["digest"].clone();
        let to = format!("{}/team/arm:v1", registry.host());
        for sink in [
            ["--to-oci-tar", "one.tar"],
            ["--to-docker-tar", "docker.tar"],
            ["--to-tar", "imgpkg.tar"],
            ["--to-repo", &to],
        ] {
            let done = lab.run(&[&platform[..], &sink[..]].concat()).succeeds();
            let (line, arm) = (done.one_line(), arm.as_str().unwrap());
            assert!(line.ends_with(arm), "{line}");
            // The warning has both digests, and says that signatures of the first are not valid for the second.
            let warning = format!("`{arm}` replaces `{whole}`; signatures of `{whole}` do not cover");
            let _ = done.says(&warning);
        }
        assert_eq!(Some(registry.storage().tags("team/arm")["v1"].as_str()), arm.as_str());
        assert_eq!(&index_of(&lab, "one.tar")["images"][0]["digest"], arm);
        assert_eq!(index_of(&lab, "docker.tar")["images"][0]["platform"], "linux/arm64");
        let _ = lab.run(&["verify", "--tar", "imgpkg.tar"]).succeeds();
    }
    registry.storage().assert_sound();
}

#[test]
fn a_damaged_blob_of_a_joined_tar_is_reported_with_the_tar_that_it_is_in() {
    let (lab, registry) = (lab_with_tars(), Registry::start());
    // Only its layer begins like gzip.
    let mut bytes = lab.read("arm64.tar");
    let layer = bytes.windows(3).position(|start| start == [0x1f, 0x8b, 0x08]).unwrap();
    bytes[layer + 20] ^= 1;
    lab.write("damaged.tar", bytes);
    let repository = format!("{}/team/app:v1", registry.host());
    for sink in [["--to-oci-tar", "x.tar"], ["--to-repo", &*repository]] {
        let words = [&["index", "--tar", "amd64.tar", "--tar", "damaged.tar"][..], &sink].concat();
        let _ = lab.run(&words).fails(3, &["`damaged.tar`: blob", "does not match"]);
    }
    assert!(!lab.path("x.tar").exists());
}

#[test]
fn index_refuses_what_cannot_be_one_image_before_anything_is_written() {
    let (lab, registry) = (lab_with_tars(), Registry::start());
    let _ = lab.run(&["index", "--tar", "amd64.tar", "arm64.tar", "--to-oci-tar", "all.tar"]).succeeds();
    lab.write("files/x", "x");
    lab.write(
        "b/.imgpkg/images.yml",
        "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages: []\n",
    );
    let _ = lab.run(&["push", "-b", "-f", "b", "--to-oci-tar", "bundle.tar"]).succeeds();
    let other = ["push", "-i", "registry.example/other/app:v1", "-f", "files", "--platform", "linux/s390x"];
    let _ = lab.run(&[&other[..], &["--to-oci-tar", "other.tar"]].concat()).succeeds();
    let repository = format!("{}/team/app", registry.host());
    let no_platform = without_platform(&lab);
    let widow = without_image(&lab);
    for (sources, expected) in [
        (vec!["bundle.tar", "amd64.tar"], "`bundle.tar` holds a bundle"),
        (vec![no_platform, "arm64.tar"], "names no operating system and architecture"),
        (vec![widow], "which is not among the images"),
        (vec!["amd64.tar", "other.tar"], "the images have different names"),
    ] {
        for sink in [["--to-oci-tar", "x.tar"], ["--to-repo", &*repository]] {
            let words = [&["index", "--tar"], &sources[..], &sink[..]].concat();
            let _ = lab.run(&words).fails(1, &[expected]);
        }
    }
    assert!(!lab.path("x.tar").exists());
    assert_eq!(registry.requests(), []);
    // Each error has a hint.
    let given =
        ["index", "--tar", no_platform, "arm64.tar", "--platform", "linux/amd64", "--to-oci-tar", "p.tar"];
    let _ = lab.run(&given).succeeds();
    assert_eq!(index_of(&lab, "p.tar")["images"][0]["platforms"][0]["platform"], "linux/amd64");
    let named = ["index", "--tar", "amd64.tar", "other.tar", "--name", "registry.example/team/app:v2"];
    let _ = lab.run(&[&named[..], &["--to-oci-tar", "n.tar"]].concat()).succeeds();
}

/// Writes a layout folder with an image whose configuration names no platform.
fn without_platform(lab: &Lab) -> &'static str {
    let (folder, config) = ("no-platform", r#"{"rootfs":{"type":"layers","diff_ids":[]}}"#);
    let config = blob(lab, folder, "application/vnd.oci.image.config.v1+json", config);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [],
    });
    let manifest = blob(lab, folder, "application/vnd.oci.image.manifest.v1+json", &manifest.to_string());
    layout(lab, folder, &manifest);
    folder
}

/// Writes a layout folder with an index that has the attestation of an image, and not the image.
fn without_image(lab: &Lab) -> &'static str {
    let folder = "widow";
    let children = index_of(lab, "all.tar");
    let image = children["images"][0]["platforms"][0]["digest"].as_str().unwrap().to_owned();
    fs::create_dir(lab.path(folder)).unwrap();
    let mut tar = tool("tar");
    let _ = run(tar.arg("-xf").arg(lab.path("all.tar")).arg("-C").arg(lab.path(folder))).success();
    let top: Value = serde_json::from_slice(&lab.read("widow/index.json")).unwrap();
    let index = top["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    let mut index: Value = serde_json::from_slice(&lab.read(&format!("widow/blobs/{index}"))).unwrap();
    index["manifests"].as_array_mut().unwrap().retain(|child| child["digest"] != image.as_str());
    let index = blob(lab, folder, "application/vnd.oci.image.index.v1+json", &index.to_string());
    layout(lab, folder, &index);
    folder
}

/// Writes a blob of a layout folder and returns its descriptor.
fn blob(lab: &Lab, folder: &str, media_type: &str, content: &str) -> Value {
    let digest = testkit::digest::of(content.as_bytes());
    lab.write(&format!("{folder}/blobs/{}", digest.replace(':', "/")), content);
    serde_json::json!({"mediaType": media_type, "digest": digest, "size": content.len()})
}

fn layout(lab: &Lab, folder: &str, root: &Value) {
    lab.write(&format!("{folder}/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [root]});
    lab.write(&format!("{folder}/index.json"), index.to_string());
}
