//! Bundles in tars: imgpkg's own byte for byte, docker's for one image, and all of them back into a registry.

use serde_json::{Value, json};
use testkit::oracle::{LayerOptions, imgpkg_diff_id, validate_layout};
use testkit::readers::{gnu_tar_list, skopeo_copy};
use testkit::registry::Registry;
use testkit::tarball::{Header, Tarball};

use crate::carvel::copy::nested;
use crate::carvel::{bundle, counts, dashed, digest, image};
use crate::lab::lab;
use crate::layouts::{descriptor, hex};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// imgpkg's entry for an image, made from the registry's storage.
fn imgpkg_item(registry: &Registry, reference: &str, about: [&str; 3]) -> (String, Vec<(String, Vec<u8>)>) {
    let (name, digest) = reference.split_once('@').unwrap();
    let repository = name.split_once('/').unwrap().1;
    let storage = registry.storage();
    let text = |digest: &str| String::from_utf8(storage.blob(digest).unwrap()).unwrap();
    let raw = String::from_utf8(storage.manifest(repository, digest).unwrap()).unwrap();
    let manifest: Value = serde_json::from_str(&raw).unwrap();
    let config_digest = manifest["config"]["digest"].as_str().unwrap();
    let config = text(config_digest);
    let parsed: Value = serde_json::from_str(&config).unwrap();
    let quoted = |text: &str| {
        let text = serde_json::to_string(text).unwrap();
        text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
    };
    let mut files = Vec::new();
    let mut layers = Vec::new();
    for (number, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
        let digest = layer["digest"].as_str().unwrap();
        layers.push(format!(
            "{{\"MediaType\":{},\"Digest\":\"{digest}\",\"DiffID\":{},\"Size\":{}}}",
            layer["mediaType"], parsed["rootfs"]["diff_ids"][number], layer["size"]
        ));
        files.push((format!("{}.tar.gz", digest.replace(':', "-")), storage.blob(digest).unwrap()));
    }
    let [tag, original, labels] = about;
    let item = format!(
        "{{\"ImageIndex\":null,\"Image\":{{\"Refs\":[\"{reference}\"],\"Layers\":[{}],\
         \"Config\":{{\"Digest\":\"{config_digest}\",\"Raw\":{}}},\
         \"Manifest\":{{\"MediaType\":{},\"Digest\":\"{digest}\",\"Raw\":{}}},\
         \"Tag\":\"{tag}\",\"OrigRef\":\"{original}\",\"Labels\":{labels}}}}}",
        layers.join(","),
        quoted(&config),
        manifest["mediaType"],
        quoted(&raw)
    );
    (item, files)
}

#[test]
fn an_imgpkg_tar_has_imgpkgs_bytes() {
    let (lab, source) = (lab(), Registry::start());
    let (one, two, inner, outer) = nested(&lab, source.host());
    let from = format!("{}/src/outer:v2", source.host());
    let _ = lab.run(&["copy", "-b", &from, "--to-tar", "all.tar"]).succeeds();
    let root = r#"{"dev.carvel.imgpkg.copy.root-bundle":""}"#;
    let mut items = [
        (digest(&one).to_owned(), imgpkg_item(&source, &one, ["", &one, "null"])),
        (digest(&two).to_owned(), imgpkg_item(&source, &two, ["", &two, "null"])),
        (digest(&inner).to_owned(), imgpkg_item(&source, &inner, ["", &inner, "null"])),
        (digest(&outer).to_owned(), imgpkg_item(&source, &outer, ["v2", &outer, root])),
    ];
    items.sort();
    let table: Vec<&str> = items.iter().map(|(_, (item, _))| item.as_str()).collect();
    let mut files: Vec<(String, Vec<u8>)> = items.iter().flat_map(|(_, (_, files))| files.clone()).collect();
    files.sort();
    files.dedup();
    let mut expected = Tarball::new();
    let table = format!("[{}]", table.join(","));
    for (name, data) in std::iter::once(("manifest.json".to_owned(), table.into_bytes())).chain(files) {
        // Go's headers have numbers for devices too.
        let mut header = Header::new(&name, b'0', data.len() as u64).mode(0o644).block();
        header[329..345].copy_from_slice(b"0000000\x000000000\0");
        testkit::tarball::seal(&mut header);
        expected = expected.raw(&header).raw(&data);
    }
    let found = lab.read("all.tar");
    let expected = expected.finish();
    let start = found.iter().zip(&expected).position(|(one, other)| one != other);
    assert_eq!((found.len(), start), (expected.len(), None), "{:?}", gnu_tar_list(&lab.path("all.tar")));
}

#[test]
fn a_locations_image_has_imgpkgs_layer_and_configuration() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    let (one, _, inner, outer) = nested(&lab, source.host());
    let to = format!("{}/dst", target.host());
    let _ = lab.run(&["copy", "-b", &outer, "--to-repo", &to]).succeeds();
    let yaml = format!(
        "---\napiVersion: imgpkg.carvel.dev/v1alpha1\nimages:\n- image: {inner}\n  isBundle: true\n\
         - image: {one}\n  isBundle: false\nkind: ImageLocations\n"
    );
    lab.write("locations/image-locations.yml", yaml);
    let diff_id = imgpkg_diff_id(&[lab.path("locations")], &LayerOptions::default());
    let config = format!(
        "{{\"architecture\":\"\",\"created\":\"0001-01-01T00:00:00Z\",\"history\":[{{\"author\":\"imgpkg\",\
         \"created\":\"0001-01-01T00:00:00Z\",\"created_by\":\"imgpkg\"}}],\"os\":\"\",\"rootfs\":{{\
         \"type\":\"layers\",\"diff_ids\":[\"{diff_id}\"]}},\"config\":{{}}}}"
    );
    let storage = target.storage();
    let tag = format!("{}.image-locations.imgpkg", dashed(&outer));
    let manifest: Value = serde_json::from_slice(&storage.manifest("dst", &tag).unwrap()).unwrap();
    assert_eq!(manifest["mediaType"], DOCKER_MANIFEST);
    assert_eq!(manifest["config"]["mediaType"], DOCKER_CONFIG);
    let written = storage.blob(manifest["config"]["digest"].as_str().unwrap()).unwrap();
    assert_eq!(String::from_utf8(written).unwrap(), config);
}

#[test]
fn an_index_in_an_imgpkg_tar_has_imgpkgs_fields_in_their_order() {
    let (lab, source) = (lab(), Registry::start());
    let (multi, digests) = crate::carvel::kinds::index(&lab, &source);
    let _ = lab.run(&["copy", "-i", &multi, "--to-tar", "index.tar"]).succeeds();
    let repository = multi.split_once('@').unwrap().0;
    let image = |digest: &str| {
        let (item, _) = imgpkg_item(&source, &format!("{repository}@{digest}"), ["", "", "null"]);
        item.strip_prefix(r#"{"ImageIndex":null,"Image":"#).unwrap().strip_suffix('}').unwrap().to_owned()
    };
    let index = |digest: &str, images: &str, indexes: &str| {
        let raw = String::from_utf8(source.storage().manifest("src/index", digest).unwrap()).unwrap();
        format!(
            "{{\"Refs\":[\"{repository}@{digest}\"],\"Images\":{images},\"Indexes\":{indexes},\
             \"MediaType\":\"{}\",\"Digest\":\"{digest}\",\"Raw\":{},\"Tag\":\"\",\"OrigRef\":\"\",\
             \"Labels\":null}}",
            crate::layouts::INDEX,
            serde_json::to_string(&raw).unwrap()
        )
    };
    let [first, second, third, inner, outer] = &digests[..] else { panic!("{digests:?}") };
    let inner = index(inner, &format!("[{}]", image(third)), "null");
    let images = format!("[{},{}]", image(first), image(second));
    let table =
        format!("[{{\"ImageIndex\":{},\"Image\":null}}]", index(outer, &images, &format!("[{inner}]")));
    let tar = lab.read("index.tar");
    let found = String::from_utf8(crate::samples::entry(&tar, "manifest.json").to_vec()).unwrap();
    assert_eq!(found, table);
}

#[test]
fn an_imgpkg_tar_is_imported_without_the_source_registry() {
    let (lab, mut source, target) = (lab(), Registry::start(), Registry::start());
    let (one, _, inner, outer) = nested(&lab, source.host());
    let from = format!("{}/src/outer:v2", source.host());
    let _ = lab.run(&["copy", "-b", &from, "--to-tar", "all.tar"]).succeeds();
    let _ = lab.run(&["copy", "--tar", "all.tar", "--to-oci-tar", "oci.tar"]).succeeds();
    validate_layout(lab.path("oci.tar"));
    source.stop();
    for (tar, repository) in [("all.tar", "a"), ("oci.tar", "b")] {
        let to = format!("{}/{repository}", target.host());
        let _ = lab.run(&["copy", "--tar", tar, "--to-repo", &to, "--lock-output", "l.yml"]).succeeds();
        let tags = target.storage().tags(repository);
        assert_eq!(tags["v2"], digest(&outer), "{tags:?}");
        for bundle in [&inner, &outer] {
            assert!(tags.contains_key(&format!("{}.image-locations.imgpkg", dashed(bundle))), "{tags:?}");
        }
        assert!(tags.contains_key(&format!("{}.imgpkg", dashed(&one))));
        let lock = String::from_utf8(lab.read("l.yml")).unwrap();
        assert!(lock.contains(&format!("{to}@{}\n  tag: v2", digest(&outer))), "{lock}");
    }
    target.forget_requests();
    let to = format!("{}/b", target.host());
    let _ = lab.run(&["copy", "--tar", "oci.tar", "--to-repo", &to]).succeeds();
    let requests = target.requests();
    assert!(requests.iter().all(|request| request.method == "HEAD"), "{:?}", counts(&requests));
}

#[test]
fn copying_to_a_tar_is_deterministic() {
    let (lab, source) = (lab(), Registry::start());
    let (_, _, _, outer) = nested(&lab, source.host());
    for to in ["--to-tar", "--to-oci-tar"] {
        for (name, concurrency) in [("one", "1"), ("two", "9")] {
            let _ = lab.run(&["copy", "-b", &outer, to, name, "--concurrency", concurrency]).succeeds();
        }
        assert!(lab.read("one") == lab.read("two"), "{to}");
    }
}

#[test]
fn to_docker_tar_writes_one_image() {
    let (lab, source) = (lab(), Registry::start());
    let host = source.host();
    let one = image(&lab, &format!("{host}/one"), "one");
    let from = format!("{host}/one:latest");
    let _ = lab.run(&["copy", "-i", &from, "--to-docker-tar", "d.tar"]).succeeds();
    assert_eq!(gnu_tar_list(&lab.path("d.tar")).len(), 3);
    let path = lab.path("d.tar");
    let _ = skopeo_copy(
        &format!("docker-archive:{}", path.display()),
        &format!("dir:{}", lab.path("skopeo").display()),
        &[],
    );
    let back = lab.run(&["describe", "--tar", "d.tar", "-o", "json"]).succeeds().json();
    assert_eq!(back["images"][0]["names"], json!([from]));

    let all = bundle(&lab, &format!("{host}/b"), "b", &[&one]);
    let _ = lab
        .run(&["copy", "-b", &all, "--to-docker-tar", "b.tar"])
        .fails(1, &["a docker tar holds one image, found 2"]);
    let _ = lab.run(&["copy", "-b", &all, "--to-docker-tar", "b.tar", "--thin"]).succeeds();
    let words = ["copy", "-b", &all, "--to-tar", "x.tar", "--lock-output", "l"];
    let _ = lab.run(&words).fails(2, &["cannot be used when a tar is written"]);
}

/// Pushes an image with a non-distributable layer; the layer's bytes only if requested.
pub(crate) fn foreign(registry: &Registry, repository: &str, with_layer: bool) -> (String, String) {
    let layer = crate::layouts::gzip(&Tarball::new().file("f", repository).finish());
    let kept = crate::layouts::gzip(&Tarball::new().file("g", "kept").finish());
    let config = json!({"architecture": "amd64", "os": "windows", "config": {}, "rootfs": {"type": "layers",
        "diff_ids": [format!("sha256:{}", hex(&layer)), format!("sha256:{}", hex(&kept))]}})
    .to_string();
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let gzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    // The registry accepts a foreign layer without its bytes only with a URL.
    let mut foreign = descriptor(foreign, &layer);
    foreign["urls"] = json!(["https://example.test/layer"]);
    let manifest = json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
        "config": descriptor(DOCKER_CONFIG, config.as_bytes()), "layers": [foreign, descriptor(gzip, &kept)]})
    .to_string();
    if with_layer {
        registry.put_blob(repository, &layer);
    }
    registry.put_blob(repository, &kept);
    registry.put_blob(repository, config.as_bytes());
    let digest = registry.put_manifest(repository, "latest", DOCKER_MANIFEST, manifest.as_bytes());
    (format!("{}/{repository}@{digest}", registry.host()), format!("sha256:{}", hex(&layer)))
}

#[test]
fn include_non_distributable_layers_copies_layers_otherwise_left_out() {
    let (lab, mut source, target) = (lab(), Registry::start(), Registry::start());
    let (reference, layer) = foreign(&source, "win", true);
    let has = |repository: &str| target.storage().layers(repository).contains(&layer);
    let to = |repository: &str| format!("{}/{repository}", target.host());
    const INCLUDE: &str = "--include-non-distributable-layers";

    let skipped = lab.run(&["copy", "-i", &reference, "--to-repo", &to("skipped")]).succeeds();
    let _ = skipped.says(&format!("1 layer of `{reference}` left out")).says(&layer);
    assert!(!has("skipped"));
    let _ = lab
        .run(&["copy", "-i", &reference, "--to-repo", &to("whole"), INCLUDE])
        .succeeds()
        .never_says("left out");
    assert!(has("whole"));

    for sink in ["--to-tar", "--to-oci-tar"] {
        let _ = lab.run(&["copy", "-i", &reference, sink, "thin"]).succeeds().says("left out");
        let _ =
            lab.run(&["copy", "-i", &reference, sink, "thick", INCLUDE]).succeeds().never_says("left out");
        let from = |tar: &str, repository: &str, more: &[&str]| {
            let to = to(repository);
            lab.run(&[&["copy", "--tar", tar, "--to-repo", &to][..], more].concat())
        };
        let name = sink.trim_start_matches('-').to_owned();
        let _ = from("thick", &format!("{name}-1"), &[INCLUDE]).succeeds();
        assert!(has(&format!("{name}-1")));
        let _ = from("thick", &format!("{name}-2"), &[]).succeeds().says("left out").never_says("``");
        assert!(!has(&format!("{name}-2")));
        // The tar lacks it, but records the image's origin.
        let _ = from("thin", &format!("{name}-3"), &[INCLUDE]).succeeds();
        assert!(has(&format!("{name}-3")), "fetched from the source");
    }
    source.stop();
    let words = ["copy", "--tar", "thin", "--to-repo", &to("gone"), INCLUDE];
    let _ = lab.run(&words).fails(4, &["connection refused"]);
    assert!(!target.storage().repositories().contains("gone") || target.storage().tags("gone").is_empty());
    let thin = lab.path("thin");
    let _ = lab.run(&["copy", "--tar", "thin", "--to-docker-tar", "d"]).fails(1, &["is non-distributable"]);
    let _ = skopeo_copy(
        &format!("oci-archive:{}", thin.display()),
        &format!("oci-archive:{}:x", lab.path("renamed").display()),
        &[],
    );

    let nothing = Registry::start();
    let plain = image(&lab, &format!("{}/plain", nothing.host()), "plain");
    let _ = lab
        .run(&["copy", "-i", &plain, "--to-oci-tar", "p.tar", INCLUDE])
        .succeeds()
        .says("no image has a layer that is marked as non-distributable");
}

#[test]
fn a_non_distributable_layer_missing_on_import_is_named() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    let (reference, layer) = foreign(&source, "win", true);
    const INCLUDE: &str = "--include-non-distributable-layers";
    for (number, sink) in ["--to-tar", "--to-oci-tar"].into_iter().enumerate() {
        let _ = lab.run(&["copy", "-i", &reference, sink, "first", INCLUDE]).succeeds();
        let to = format!("{}/win{number}", target.host());
        let _ = lab.run(&["copy", "--tar", "first", "--to-repo", &to]).succeeds().says("left out");
        let moved = format!("{to}@{}", digest(&reference));
        // The layer has the URL `https://example.test/layer`, which does not exist.
        let missed = format!(
            "cannot read blob `{layer}` from `{to}`: it is not held there, and its `urls` cannot be used"
        );
        let _ = lab.run(&["copy", "-i", &moved, sink, "second", INCLUDE]).fails(1, &[&missed, "hint: "]);
        assert!(!lab.path("second").exists());
        let again = format!("{}/again{number}", target.host());
        let _ = lab.run(&["copy", "-i", &moved, "--to-repo", &again, INCLUDE]).fails(1, &[&missed]);
        let _ = lab.run(&["copy", "-i", &moved, sink, "second"]).succeeds().says("left out");
        std::fs::remove_file(lab.path("second")).unwrap();
        // A second import with the flag also sends the layer, although the image was there.
        let import = || lab.run(&["copy", "--tar", "first", "--to-repo", &to, INCLUDE]).succeeds();
        let _ = import();
        assert!(target.storage().layers(&format!("win{number}")).contains(&layer));
        target.forget_requests();
        let _ = import();
        let requests = target.requests();
        assert!(requests.iter().all(|request| request.method == "HEAD"), "{:?}", counts(&requests));
        // An export with the flag has the layer, and no warning.
        let _ = lab.run(&["copy", "-i", &moved, sink, "second", INCLUDE]).succeeds().never_says("left out");
        std::fs::remove_file(lab.path("second")).unwrap();
    }
}
