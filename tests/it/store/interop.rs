//! Archives of other programs are read completely: GNU tar, Python, skopeo, umoci, podman, docker, imgpkg.

use std::path::{Path, PathBuf};

use imgrelay::model::Descriptor;
use imgrelay::store::{self, Store, StoreKind};
use imgrelay::tar::{Extractor, Ownership, Policy};
use imgrelay::transfer::events::Silent;
use imgrelay::transfer::verify::{VerifyReport, verify};
use serde_json::{Value, json};
use testkit::readers::{Podman, gnu_untar, skopeo_copy};
use testkit::scratch::Scratch;
use testkit::tarball::Tarball;
use testkit::tools::{run, tool};
use testkit::tree;

use crate::layouts::{
    CONTAINERD_NAME, INDEX, Layout, MANIFEST, REF_NAME, descriptor, gzip, hex, named, tar_of,
};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

fn open(path: &Path) -> Store {
    store::open(path, &std::env::temp_dir()).unwrap_or_else(|error| panic!("{error}"))
}

/// Opens an archive and verifies everything in it.
#[track_caller]
fn sound(path: &Path) -> Store {
    let store = open(path);
    let report = verify(&store, 2, &Silent).unwrap();
    assert!(report.is_sound(), "{}: {:#?}", path.display(), report.problems);
    assert!(report.blobs > 0 && report.documents > 1, "{report:#?}");
    store
}

fn problems(store: &Store) -> Vec<String> {
    let report: VerifyReport = verify(store, 2, &Silent).unwrap();
    report.problems.iter().map(ToString::to_string).collect()
}

/// A layout with one image of two layers as skopeo and umoci can use it.
fn layout() -> Layout {
    let mut layout = Layout::default();
    let image = layout.image(&[
        Tarball::new().dir("etc").file("etc/motd", "hello\n").finish(),
        Tarball::new().file("etc/more", vec![b'm'; 40_000]).finish(),
    ]);
    layout.entries.push(named(image, &[(REF_NAME, "v1"), (CONTAINERD_NAME, "reg.example/team/app:v1")]));
    layout
}

fn names(store: &Store) -> Vec<String> {
    let names = store.roots().iter().flat_map(|root| &root.image.names);
    names.map(|name| name.reference.as_ref().map_or_else(String::new, ToString::to_string)).collect()
}

fn root(store: &Store) -> &Descriptor {
    &store.roots()[0].image.descriptor
}

fn transport(kind: &str, path: &Path, name: &str) -> String {
    format!("{kind}:{}:{name}", path.display())
}

#[test]
fn layouts_packed_by_gnu_tar_and_python_are_read() {
    let scratch = Scratch::new("packed");
    let folder = layout().write_folder(&scratch, "layout");
    let expected = root(&sound(&folder)).clone();
    for (name, options) in [
        ("pax", vec!["--format=pax"]),
        ("gnu", vec!["--format=gnu"]),
        ("ustar", vec!["--format=ustar"]),
        ("v7", vec!["--format=v7"]),
        ("gzip", vec!["--gzip"]),
        ("blocking", vec!["--blocking-factor=1"]),
        ("sorted", vec!["--sort=name", "--owner=user:12345678"]),
    ] {
        let path = scratch.join(format!("{name}.tar"));
        let mut tar = tool("tar");
        let _ =
            run(tar.arg("--create").args(options).arg("--file").arg(&path).arg("-C").arg(&folder).arg("."))
                .success();
        let store = sound(&path);
        assert_eq!((store.kind(), root(&store)), (StoreKind::OciLayoutTar, &expected), "{name}");
    }
    for format in ["USTAR", "GNU", "PAX"] {
        let path = scratch.join(format!("python-{format}.tar"));
        let script = "import sys, tarfile\n\
                      with tarfile.open(sys.argv[1], 'w', format=getattr(tarfile, sys.argv[3] + '_FORMAT')) as tar:\n    \
                      tar.add(sys.argv[2], arcname='')\n";
        let mut python = tool("python3");
        let _ = run(python.args(["-c", script]).arg(&path).arg(&folder).arg(format)).success();
        assert_eq!(root(&sound(&path)), &expected, "{format}");
    }
}

#[test]
fn archives_of_skopeo_are_read() {
    let scratch = Scratch::new("skopeo");
    let folder = layout().write_folder(&scratch, "layout");
    let from = transport("oci", &folder, "v1");
    let oci = scratch.join("oci.tar");
    let _ = skopeo_copy(&from, &transport("oci-archive", &oci, "reg.example/team/app:v1"), &[]).success();
    let store = sound(&oci);
    assert_eq!(store.kind(), StoreKind::OciLayoutTar);
    assert_eq!(root(&store).digest, root(&open(&folder)).digest, "byte for byte");
    assert_eq!(names(&store), ["reg.example/team/app:v1"]);

    let docker = scratch.join("docker.tar");
    let mut skopeo = tool("skopeo");
    let to = transport("docker-archive", &docker, "reg.example/team/app:v1");
    let _ = run(skopeo.args(["--insecure-policy", "copy", "--quiet", &from, &to])).success();
    let store = sound(&docker);
    assert_eq!(store.kind(), StoreKind::DockerArchive);
    assert_eq!(names(&store), ["reg.example/team/app:v1"]);
    let raw = store::read_document(&store, root(&store)).unwrap();
    let layers = &raw.manifest().unwrap().layers;
    let types: Vec<&str> = layers.iter().map(|layer| layer.media_type.as_str()).collect();
    assert_eq!((raw.media_type(), types), (DOCKER_MANIFEST, vec![DOCKER_LAYER; 2]));
}

#[test]
fn layouts_of_umoci_are_read() {
    let scratch = Scratch::new("umoci");
    let folder = scratch.join("layout");
    let image = format!("{}:v1", folder.display());
    let file = scratch.write("file", "content");
    let umoci = |words: &[&str]| {
        let _ = run(tool("umoci").args(words)).success();
    };
    umoci(&["init", "--layout", folder.to_str().unwrap()]);
    umoci(&["new", "--image", &image]);
    umoci(&["insert", "--rootless", "--image", &image, file.to_str().unwrap(), "/file"]);
    umoci(&["tag", "--image", &image, "v2"]);
    let store = sound(&folder);
    assert_eq!((store.kind(), store.roots().len()), (StoreKind::OciLayoutDirectory, 1));
    let mut tags: Vec<String> =
        store.roots()[0].image.names.iter().map(|name| name.tag.as_ref().unwrap().to_string()).collect();
    tags.sort();
    assert_eq!(tags, ["v1", "v2"]);
}

#[test]
fn archives_of_podman_are_read() {
    let scratch = Scratch::new("podman");
    let mut layout = layout();
    let other = layout.image(&[Tarball::new().file("other", "image").finish()]);
    let mut second = layout.clone();
    second.entries = vec![named(other, &[(REF_NAME, "reg.example/team/other:v2")])];
    layout.entries[0]["annotations"][REF_NAME] = json!("reg.example/team/app:v1");
    let podman = Podman::new();
    for (name, layout) in [("one", &layout), ("two", &second)] {
        let _ = podman.load(&scratch.write(format!("{name}.tar"), layout.tar()));
    }
    let save = |format: &str, output: &str, images: &[&str]| -> PathBuf {
        let path = scratch.join(output);
        let mut command = podman.command();
        let _ =
            run(command.args(["save", "--quiet", "--format", format, "--output"]).arg(&path).args(images))
                .success();
        path
    };
    let one = "reg.example/team/app:v1";
    let store = sound(&save("oci-archive", "oci.tar", &[one]));
    assert_eq!((store.kind(), names(&store)), (StoreKind::OciLayoutTar, vec![one.to_owned()]));
    let store = sound(&save("oci-dir", "oci-dir", &[one]));
    assert_eq!(store.kind(), StoreKind::OciLayoutDirectory);
    let store = sound(&save("docker-archive", "docker.tar", &[one]));
    assert_eq!((store.kind(), names(&store)), (StoreKind::DockerArchive, vec![one.to_owned()]));
    let both = save("docker-archive", "both.tar", &["-m", one, "reg.example/team/other:v2"]);
    let store = sound(&both);
    let mut found = names(&store);
    found.sort();
    assert_eq!(
        (store.roots().len(), found),
        (2, vec![one.to_owned(), "reg.example/team/other:v2".to_owned()])
    );
}

/// What docker before 25 wrote: a folder per layer, equal layers as links to the first.
fn docker_tar(change: impl Fn(Value) -> Value) -> Tarball {
    let layer = Tarball::new().file("a", "1").finish();
    let packed = gzip(&Tarball::new().file("b", "2").finish());
    let ids: Vec<String> = [&layer, &Tarball::new().file("b", "2").finish(), &layer]
        .map(|layer| format!("sha256:{}", hex(layer)))
        .into();
    let config =
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}})
            .to_string();
    let name = format!("{}.json", hex(config.as_bytes()));
    let table = change(json!([{"Config": name, "RepoTags": ["reg.example/app:1", "app:2", "<none>:<none>"],
        "Layers": ["one/layer.tar", "two/layer.tar", "three/layer.tar"]}]));
    Tarball::new()
        .dir("one")
        .file("one/VERSION", "1.0")
        .file("one/layer.tar", layer)
        .symlink("three/layer.tar", "../four/./layer.tar")
        .hardlink("four/layer.tar", "one/layer.tar")
        .file("two/layer.tar", packed)
        .file(&name, config)
        .file("manifest.json", table.to_string())
        .file("repositories", "{}")
}

#[test]
fn a_docker_save_tar_with_linked_layers_is_read() {
    let scratch = Scratch::new("docker");
    let store = sound(&scratch.write("d.tar", docker_tar(|table| table).finish()));
    assert_eq!(store.kind(), StoreKind::DockerArchive);
    assert_eq!(names(&store), ["reg.example/app:1", "docker.io/library/app:2"]);
    let raw = store::read_document(&store, root(&store)).unwrap();
    let layers = &raw.manifest().unwrap().layers;
    let types: Vec<&str> = layers.iter().map(|layer| layer.media_type.as_str()).collect();
    assert_eq!(types, [DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_LAYER]);
    assert_eq!(layers[0], layers[2]);
    assert_eq!(store.blobs().len(), 4, "manifest, configuration, two layers");
    assert_eq!(raw.manifest().unwrap().config.media_type, DOCKER_CONFIG);
}

#[test]
fn broken_docker_save_tars_are_refused_with_the_reason() {
    let scratch = Scratch::new("docker-broken");
    let layers = |names: &[&str]| {
        let names = names.to_vec();
        docker_tar(move |mut table| {
            table[0]["Layers"] = json!(names);
            table
        })
    };
    let three = |name| layers(&["one/layer.tar", "two/layer.tar", name]);
    let cases = [
        (docker_tar(|_| json!([])).finish(), "`manifest.json` lists no image"),
        (docker_tar(|_| json!({})).finish(), "is not what docker writes"),
        (docker_tar(|_| json!([{"Config": "absent.json"}])).finish(), "names `absent.json`, which is not in"),
        (
            docker_tar(|_| json!([{"Config": "one/VERSION"}])).finish(),
            "`one/VERSION` is no image configuration",
        ),
        (docker_tar(|_| json!([{"Config": "../x"}])).finish(), "names `../x`, outside the archive"),
        (layers(&["one/layer.tar"]).finish(), "lists 1 layers for an image whose configuration"),
        (three("one").finish(), "`one` is not a regular file"),
        (three("l").symlink("l", "/etc/passwd").finish(), "`l` links to `/etc/passwd`, outside the archive"),
        (three("l").symlink("l", "../etc/passwd").finish(), "links to `../etc/passwd`, outside"),
        (three("l").hardlink("l", "../x").finish(), "links to `../x`, outside"),
        (three("l").symlink("l", "m").symlink("m", "l").finish(), "through more than 40 links"),
    ];
    for (bytes, expected) in cases {
        let error = store::open(&scratch.write("d.tar", bytes), scratch.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "wanted: {expected}\n  gave: {error}");
    }
    // `verify` finds a layer with a wrong `diff_id`; opening does not.
    let store = open(&scratch.write("d.tar", three("two/layer.tar").finish()));
    assert!(problems(&store)[0].contains("unpacks to"), "{:?}", problems(&store));
}

/// An image as imgpkg stores it, and its layer's file.
fn imgpkg_image(content: &str, about: &Value) -> (Value, (String, Vec<u8>)) {
    let layer = Tarball::new().file("f", content).finish();
    let blob = gzip(&layer);
    let config = json!({"architecture": "", "os": "", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]}})
    .to_string();
    let manifest = json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
        "config": descriptor(DOCKER_CONFIG, config.as_bytes()), "layers": [descriptor(DOCKER_LAYER_GZIP, &blob)]}).to_string();
    let document = |text: &str, media_type: &str| json!({"MediaType": media_type, "Digest": format!("sha256:{}", hex(text.as_bytes())), "Raw": text});
    let mut image = json!({"Refs": ["reg.example/src/app@sha256:".to_owned() + &hex(manifest.as_bytes())], "Layers": [],
        "Config": document(&config, ""), "Manifest": document(&manifest, DOCKER_MANIFEST), "Tag": "", "OrigRef": "", "Labels": null});
    for (key, value) in about.as_object().unwrap() {
        image[key] = value.clone();
    }
    (image, (format!("sha256-{}.tar.gz", hex(&blob)), blob))
}

#[test]
fn an_imgpkg_tar_is_read() {
    let scratch = Scratch::new("imgpkg");
    let (bundle, one) =
        imgpkg_image("bundle", &json!({"Tag": "v1", "Labels": {"dev.carvel.imgpkg.copy.root-bundle": ""}}));
    let (child, two) = imgpkg_image("child", &json!({"OrigRef": "reg.example/orig/child:3"}));
    let manifest = child["Manifest"]["Raw"].as_str().unwrap();
    let raw = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(DOCKER_MANIFEST, manifest.as_bytes())]}).to_string();
    let index = json!({"Refs": ["reg.example/src/index@sha256:".to_owned() + &hex(raw.as_bytes())], "Images": [child.clone()],
        "Indexes": null, "MediaType": INDEX, "Digest": format!("sha256:{}", hex(raw.as_bytes())), "Raw": raw, "Tag": "",
        "OrigRef": "reg.example/orig/index@sha256:".to_owned() + &hex(raw.as_bytes()), "Labels": null});
    let table = |items: Value| ("manifest.json".to_owned(), items.to_string().into_bytes());
    let items = json!([{"ImageIndex": index, "Image": null}, {"ImageIndex": null, "Image": bundle}, {"ImageIndex": null, "Image": child}]);
    let store = sound(&scratch.write("i.tar", tar_of(&[table(items.clone()), one.clone(), two.clone()])));
    assert_eq!(store.kind(), StoreKind::ImgpkgTar);
    let roots: Vec<(bool, bool, String, usize)> = store
        .roots()
        .iter()
        .map(|root| {
            let origin =
                root.image.origin.as_ref().map(|origin| origin.repository.to_string()).unwrap_or_default();
            (root.image.descriptor.is_index(), root.is_root_bundle, origin, root.image.names.len())
        })
        .collect();
    let expected = [
        (true, false, "reg.example/orig/index".to_owned(), 0),
        (false, true, "reg.example/src/app".to_owned(), 1),
        (false, false, "reg.example/orig/child".to_owned(), 0),
    ];
    assert_eq!(roots, expected);
    assert_eq!(store.roots()[1].image.names[0].tag.as_ref().unwrap().as_str(), "v1");

    // The format has no checksum of the strings; the digest protects them.
    let mut changed = items.clone();
    let raw = changed[1]["Image"]["Config"]["Raw"].as_str().unwrap().replace("layers", "Layers");
    changed[1]["Image"]["Config"]["Raw"] = json!(raw);
    let store = open(&scratch.write("i.tar", tar_of(&[table(changed), one.clone(), two.clone()])));
    let found = problems(&store);
    assert!(matches!(found.as_slice(), [one] if one.contains("does not match")), "{found:#?}");

    let store = open(&scratch.write("i.tar", tar_of(&[table(items.clone()), one.clone()])));
    assert!(matches!(problems(&store).as_slice(), [one] if one.contains("is missing")));

    let both = json!([{"ImageIndex": items[0]["ImageIndex"], "Image": items[1]["Image"]}]);
    let mut twice = items;
    twice[2]["Image"]["Config"]["Raw"] = json!("other");
    for (items, expected) in [
        (json!(null), "lists no image"),
        (both, "is not exactly one image or index"),
        (json!([{"Image": {"Config": {}}}]), "is not what imgpkg writes: missing field"),
        (twice, "two different contents for"),
    ] {
        let path = scratch.write("i.tar", tar_of(&[table(items), one.clone(), two.clone()]));
        let error = store::open(&path, scratch.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "wanted: {expected}\n  gave: {error}");
    }
}

#[test]
fn a_layout_tar_with_dockers_manifest_is_a_layout() {
    let scratch = Scratch::new("both");
    let mut files = layout().files();
    files.insert(0, ("manifest.json".into(), b"[{\"Config\":\"absent\"}]".to_vec()));
    let store = sound(&scratch.write("both.tar", tar_of(&files)));
    // docker cannot load it, which is a warning and no damage.
    assert_eq!((store.kind(), store.remarks().len()), (StoreKind::OciLayoutTar, 1));
    assert_eq!(root(&store).media_type, MANIFEST);
}

#[test]
fn trees_packed_by_gnu_tar_in_each_format_come_out_as_gnu_tar_has_them() {
    let scratch = Scratch::new("formats");
    let long = format!("{}/{}", "long-folder-name".repeat(8), "n".repeat(120));
    let lines = [
        "d empty 755".to_owned(),
        "d folder 750".to_owned(),
        "f folder/tool 755 'run'".to_owned(),
        format!("f {long} 640 'deep'"),
        "l folder/link -> tool".to_owned(),
    ];
    let source = scratch.join("source");
    tree::make(&source, &lines);
    std::fs::hard_link(source.join("folder/tool"), source.join("hard")).unwrap();
    std::os::unix::fs::symlink("x".repeat(150), source.join("long-link")).unwrap();
    for format in ["pax", "gnu", "oldgnu", "posix"] {
        let path = scratch.join(format!("{format}.tar"));
        let mut tar = tool("tar");
        let format_option = format!("--format={format}");
        let _ =
            run(tar.args(["--create", &format_option, "--file"]).arg(&path).arg("-C").arg(&source).arg("."))
                .success();
        let (ours, theirs) =
            (scratch.join(format!("{format}-ours")), scratch.join(format!("{format}-theirs")));
        gnu_untar(&path, &theirs);
        std::fs::create_dir(&ours).unwrap();
        let root = std::os::fd::OwnedFd::from(std::fs::File::open(&ours).unwrap());
        let mut extractor = Extractor::new(root, Policy::rootfs(Ownership::Ignore));
        extractor.layer(std::fs::File::open(&path).unwrap(), &mut |_| {}).unwrap();
        let summary = extractor.finish().unwrap();
        assert_eq!(tree::list_contents(&ours), tree::list_contents(&theirs), "{format}");
        assert_eq!((summary.files, summary.links), (2, 3), "{format}");
    }
}
