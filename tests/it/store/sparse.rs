//! Tars that hold the images of some platforms of an index only, as docker with the containerd store and skopeo write.

use serde_json::json;
use testkit::fault::{Access, FaultRegistry};
use testkit::tarball::Tarball;

use crate::lab::{Lab, lab};
use crate::layouts::{CONTAINERD_NAME, INDEX, Layout, REF_NAME, hex, named};

/// Writes `sparse.tar`: an index for `amd64` and `arm64`, with the blobs of these architectures only.
fn sparse(lab: &Lab, there: &[&str]) {
    let mut layout = Layout::default();
    let mut of = Vec::new();
    let entries: Vec<_> = ["amd64", "arm64"]
        .into_iter()
        .map(|architecture| {
            let start = layout.blobs.len();
            let layer = Tarball::new().file(architecture, architecture).finish();
            let mut image = layout.image_for(architecture, &[layer]);
            image["platform"] = json!({"os": "linux", "architecture": architecture});
            of.push((architecture, layout.blobs[start..].to_vec()));
            image
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    let index = layout.blob(INDEX, index);
    layout.entries.push(named(index, &[(REF_NAME, "1"), (CONTAINERD_NAME, "reg.example/app:1")]));
    for (_, blobs) in of.iter().filter(|(architecture, _)| !there.contains(architecture)) {
        let absent: Vec<_> = blobs.iter().map(|blob| hex(blob)).collect();
        layout.blobs.retain(|blob| !absent.contains(&hex(blob)));
    }
    lab.write("sparse.tar", layout.tar());
}

#[test]
fn an_index_of_which_one_platform_is_there_is_described_verified_and_pulled() {
    let lab = lab();
    for (there, other) in [("amd64", "arm64"), ("arm64", "amd64")] {
        sparse(&lab, &[there]);
        let said =
            format!("1 images that an index lists are not in the tar, others of it are: `linux/{other}`");
        let _ = lab.run(&["verify", "--tar", "sparse.tar"]).succeeds().says(&said);
        let described = lab.run(&["describe", "--tar", "sparse.tar"]).succeeds();
        assert_eq!(described.stdout.matches("Not in the tar").count(), 1, "{described}");
        assert_eq!(described.stdout.matches("  not in the tar").count(), 1, "{described}");
        let described = lab.run(&["describe", "--tar", "sparse.tar", "--json"]).succeeds().json();
        let text = described.to_string();
        assert_eq!(text.matches(r#""absent":true"#).count(), 2, "the table and the image: {text}");
        let _ = lab.run(&["pull", "--tar", "sparse.tar", "-o", "out", "--force"]).succeeds();
        assert_eq!(lab.read(&format!("out/{there}")), there.as_bytes());
        let _ = lab.run(&["copy", "--tar", "sparse.tar", "--to-docker-tar", "docker.tar"]).succeeds();
        let absent = ["pull", "--tar", "sparse.tar", "-o", "none", "--platform", &format!("linux/{other}")];
        let expected = format!("no image for `linux/{other}` in `sparse.tar`; it has `linux/{there}`");
        let _ = lab.run(&absent).fails(1, &[&expected]);
    }
    sparse(&lab, &[]);
    let output = lab.run(&["verify", "--tar", "sparse.tar"]).ends_with(3);
    assert_eq!(output.stdout.matches("is missing").count(), 2, "{output}");
}

#[test]
fn a_push_of_such_a_tar_names_what_is_missing_and_the_choice() {
    let (lab, registry) = (lab(), FaultRegistry::start(Access::Open, vec![]));
    sparse(&lab, &["amd64"]);
    let to = format!("{}/app:1", registry.host());
    let words = ["copy", "--tar", "sparse.tar", "--to-repo", &to];
    let _ = lab.run(&words).fails(
        1,
        &[
            "`sparse.tar` does not hold the whole index `sha256:",
            "`linux/arm64` is not in it; it has `linux/amd64`",
            "`--platform linux/amd64`",
        ],
    );
    assert!(registry.tag("app", "1").is_none());
    let _ = lab.run(&[&words[..], &["--platform", "linux/amd64"]].concat()).succeeds();
    assert_eq!(registry.check_image("app", "1"), Ok(()));
}
