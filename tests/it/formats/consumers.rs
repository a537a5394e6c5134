//! Images for other consumers: checks each consumer's rules on a pushed image and on a tar.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::lab::Lab;
use testkit::registry::Registry;
use testkit::tools::{run, tool};
use testkit::{oracle, tree};

use crate::lab::lab;

const FILES: [&str; 4] = [
    "f app/kustomization.yaml 'resources: []\\n'",
    "f app/b/run 755 'x'",
    "d app/empty",
    "l app/link -> b/run",
];

fn app() -> Lab {
    lab().tree(&FILES)
}

/// A layout tar, read as other readers of OCI layouts do.
struct Image {
    manifest: Value,
    config: Value,
    /// Layers, unpacked.
    tars: Vec<Vec<u8>>,
}

fn read(lab: &Lab, tar: &str) -> Image {
    let script = "
import gzip, json, sys, tarfile
t = tarfile.open(sys.argv[1])
read = lambda name: t.extractfile(name).read()
blob = lambda d: read('blobs/' + d['digest'].replace(':', '/'))
manifest = json.loads(blob(json.loads(read('index.json'))['manifests'][0]))
for number, layer in enumerate(manifest['layers']):
    open('layer%d.tar' % number, 'wb').write(gzip.decompress(blob(layer)))
print(json.dumps([manifest, json.loads(blob(manifest['config']))]))";
    let mut command = tool("python3");
    let output = run(command.args(["-c", script, tar]).current_dir(lab.work())).success();
    let [manifest, config]: [Value; 2] = serde_json::from_slice(output.stdout.as_ref()).unwrap();
    let count = manifest["layers"].as_array().unwrap().len();
    let tars = (0..count).map(|number| lab.read(&format!("layer{number}.tar"))).collect();
    Image { manifest, config, tars }
}

fn pack(lab: &Lab, format: &str, more: &[&str]) -> Image {
    let words = ["push", "-f", "app", "--format", format, "--to-oci-tar", "x.tar"];
    let _ = lab.run(&[&words, more].concat()).succeeds();
    oracle::validate_layout(lab.path("x.tar"));
    read(lab, "x.tar")
}

/// Every operation of imgrelay works with this image, and keeps its digest.
fn travels(lab: &Lab, registry: &Registry, format: &str, expected: &str) {
    let name = format!("{}/team/{format}:v1", registry.host());
    let pushed = lab.run(&["push", "-i", &name, "-f", "app", "--format", format, "--json"]).succeeds().json();
    let digest = pushed["digest"].as_str().unwrap();
    let _ = lab.run(&["copy", "-i", &name, "--to-oci-tar", "back.tar"]).succeeds();
    let _ = lab.run(&["verify", "--tar", "back.tar", "--expected-digest", digest]).succeeds();
    let described = lab.run(&["describe", "--tar", "back.tar", "--json"]).succeeds().json().to_string();
    assert!(described.contains(digest) && described.contains("\"diffId\""), "{described}");
    let from_folder =
        lab.run(&["push", "-i", "-f", "app", "--format", format, "--to-oci-tar", "again.tar", "--json"]);
    assert_eq!(from_folder.succeeds().json()["digest"], digest);
    for source in [["--tar", "back.tar"], ["-i", &name]] {
        let _ = std::fs::remove_dir_all(lab.path("out"));
        let _ = lab.run(&["pull", source[0], source[1], "-o", "out"]).succeeds();
        assert_eq!(tree::list_contents(&lab.path("out")), expected);
    }
    let copy = format!("{}/team/copy-{format}:v1", registry.host());
    let copied = lab.run(&["copy", "--tar", "back.tar", "--to-repo", &copy]).succeeds();
    assert!(copied.one_line().ends_with(digest), "{copied}");
    registry.storage().assert_sound();
}

/// Source: source-controller's OCIRepository with `fluxcd/pkg/oci` 2023 to 2026 (behaviour): an OCI image manifest; the
/// first layer is the content, in Flux's own media type, which is what a `layerSelector` names; it is gunzipped and
/// untarred, links are skipped and a name with `..` is an error. `flux push artifact` adds the time.
#[test]
fn flux_gets_its_media_types_one_gzip_layer_and_no_links() {
    let lab = app();
    let said = [
        "org.opencontainers.image.source=https://git.example/app",
        "org.opencontainers.image.revision=main@sha1:1",
    ];
    let image = pack(&lab, "flux", &["--annotation", said[0], "--annotation", said[1]]);
    let manifest = &image.manifest;
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.cncf.flux.config.v1+json");
    let layers: Vec<&Value> =
        manifest["layers"].as_array().unwrap().iter().map(|one| &one["mediaType"]).collect();
    assert_eq!(layers, ["application/vnd.cncf.flux.content.v1.tar+gzip"]);
    let annotations: BTreeMap<String, String> =
        serde_json::from_value(manifest["annotations"].clone()).unwrap();
    assert_eq!(annotations["org.opencontainers.image.created"], "1970-01-01T00:00:00Z");
    assert_eq!(annotations["org.opencontainers.image.source"], "https://git.example/app");
    assert_eq!(annotations["org.opencontainers.image.revision"], "main@sha1:1");
    // go-containerregistry, which source-controller uses, requires as many `diff_ids` as layers.
    assert_eq!(image.config["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
    let kinds = entries(&lab);
    assert!(kinds.iter().all(|(name, kind)| kind != "2" && !name.contains("..")), "{kinds:?}");
    assert!(kinds.contains(&("link".to_owned(), "0".to_owned())), "packed as a copy: {kinds:?}");
    // A given time is used.
    let timed =
        pack(&lab, "flux", &["--annotation", "org.opencontainers.image.created=2026-01-02T03:04:05Z"]);
    assert_eq!(timed.manifest["annotations"]["org.opencontainers.image.created"], "2026-01-02T03:04:05Z");
    let expected = lab.path("expected");
    tree::make(
        &expected,
        &["f kustomization.yaml 'resources: []\\n'", "f b/run 'x'", "d empty", "f link 'x'"],
    );
    travels(&lab, &Registry::start(), "flux", &tree::list_contents(&expected));
}

/// Names and types of the entries of the first layer.
fn entries(lab: &Lab) -> Vec<(String, String)> {
    let script = "
import tarfile
for entry in tarfile.open('layer0.tar'): print(entry.name, entry.type.decode(), sep='\\t')";
    let output = run(tool("python3").args(["-c", script]).current_dir(lab.work())).success();
    let text = String::from_utf8(output.stdout.as_bytes().to_vec()).unwrap();
    text.lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect()
}

/// Source: oras-go `content/file` (behaviour): a layer with a title becomes that file; with `unpack` it is gunzipped
/// and untarred into the folder of that name, whose name all entries begin with (any does for `.`); the digest of the
/// bytes that the reader read from the tar, which end after two zero blocks, has to be the annotation's; links stay
/// inside.
#[test]
fn oras_gets_a_folder_whose_tar_has_the_digest_it_compares() {
    let lab = app();
    let image = pack(&lab, "oras", &[]);
    let layer = &image.manifest["layers"][0];
    assert_eq!(image.manifest["layers"].as_array().unwrap().len(), 1);
    assert_eq!(
        layer["annotations"],
        json!({
            "io.deis.oras.content.digest": format!("sha256:{}", crate::layouts::hex(&image.tars[0])),
            "io.deis.oras.content.unpack": "true",
            "org.opencontainers.image.title": ".",
        })
    );
    let tar = &image.tars[0];
    let (content, end) = tar.split_at(tar.len() - 1024);
    assert!(end.iter().all(|byte| *byte == 0), "the tar ends with two zero blocks");
    assert!(content[content.len() - 512..].iter().any(|byte| *byte != 0), "and with no more than two");
    assert!(entries(&lab).iter().all(|(name, _)| !name.starts_with('/') && !name.contains("..")));
    // Everything else is an ordinary image, links included.
    let plain = lab.run(&["push", "-i", "-f", "app", "--to-oci-tar", "plain.tar"]).succeeds();
    drop(plain);
    assert_eq!(read(&lab, "plain.tar").tars, image.tars);
    travels(&lab, &Registry::start(), "oras", &tree::list_contents(&lab.path("app")));
}

/// Source: argo-cd `util/oci` (behaviour, defaults of the repo-server): exactly one layer, of the OCI types for a tar or a
/// gzip-compressed one, or Helm's; at most ten layers of any kind; links may not lead out.
#[test]
fn argo_cd_gets_one_layer_of_a_type_it_takes_by_default() {
    let lab = app();
    let image = pack(&lab, "argocd", &[]);
    let allowed = ["application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip"];
    let layers = image.manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1);
    assert!(allowed.contains(&layers[0]["mediaType"].as_str().unwrap()));
    assert_eq!(image.manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
    let _ = lab
        .run(&["push", "-f", "app", "--format", "argocd", "--compression", "zstd", "--to-oci-tar", "y.tar"])
        .fails(2, &["`--compression` other than gzip cannot be used with `--format argocd`"]);
    travels(&lab, &Registry::start(), "argocd", &tree::list_contents(&lab.path("app")));
}
