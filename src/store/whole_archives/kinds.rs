//! Which kind an archive is, what a folder holds, and how images are selected.

use serde_json::json;
use testkit::scratch::Scratch;
use testkit::tarball::Tarball;

use super::super::*;
use super::*;
use crate::model::{limits, media_type};

#[test]
fn the_entries_of_an_archive_decide_its_kind() {
    let image = Image::new("layer");
    let docker = || {
        let json = table(&[("config.json", &["reg.example/a:v1"], &["layer.tar"])]);
        Tarball::new()
            .file("config.json", &image.config)
            .file("layer.tar", &image.layer)
            .file("manifest.json", json)
    };
    let text =
        |bytes: &[u8]| json!({ "Digest": Digest::sha256_of(bytes), "Raw": String::from_utf8_lossy(bytes) });
    let mut manifest = text(&image.manifest);
    manifest["MediaType"] = media_type::OCI_MANIFEST.into();
    let imgpkg = json!([{ "Image": { "Config": text(&image.config), "Manifest": manifest, "Tag": "v1" } }]);
    let layer = format!("sha256-{}.tar.gz", Digest::sha256_of(&image.layer).hex());
    let imgpkg = Tarball::new().file(layer, &image.layer).file("manifest.json", imgpkg.to_string());
    for (tar, kind, name, described) in [
        (
            layout(&[image.entry(&json!({}))], &[&image]),
            StoreKind::OciLayoutTar,
            "oci-layout-tar",
            "OCI layout tar `",
        ),
        (docker(), StoreKind::DockerArchive, "docker-archive", "docker-save tar `"),
        (imgpkg, StoreKind::ImgpkgTar, "imgpkg-tar", "imgpkg tar `"),
    ] {
        let store = inspect(tar).unwrap();
        assert_eq!((store.kind(), store.kind().name()), (kind, name));
        assert!(store.describe().starts_with(described), "{}", store.describe());
        let [root] = store.roots() else { panic!("one image: {:?}", store.roots()) };
        let read = read_document(&store, &root.image.descriptor).unwrap();
        let manifest = read.manifest().expect("an image");
        assert_eq!(manifest.config.digest, Digest::sha256_of(&image.config));
        for (blob, bytes) in [(&manifest.config, &image.config), (&manifest.layers[0], &image.layer)] {
            assert_eq!(store.blob_size(&blob.digest), Some(bytes.len() as u64), "{kind:?}");
            assert_eq!(read_blob(&store, blob), *bytes);
        }
        assert!(!store.is_narrowed());
        assert!(store.blobs().contains(root_digest(root)));
        let absent = Digest::sha256_of(b"absent");
        assert!(matches!(store.open_unverified(&absent), Err(StoreError::Missing { .. })));
        assert!(matches!(store.place(&absent), Err(StoreError::Missing { .. })));
    }
    assert_eq!(StoreKind::OciLayoutDirectory.name(), "oci-layout-directory");
    let with_index = docker().file("index.json", "{}");
    assert_eq!(inspect(with_index).unwrap().kind(), StoreKind::DockerArchive);
}

#[test]
fn other_tars_say_what_they_are() {
    let expected = "expected an OCI layout (tar or folder), a docker-save tar or an imgpkg tar";
    for (tar, found) in [
        (Tarball::new(), "an empty tar".to_owned()),
        (
            Tarball::new().file("b", "").file("a", ""),
            "a tar without `index.json` or `manifest.json`; it has `a`".to_owned(),
        ),
    ] {
        let error = inspect(tar).unwrap_err();
        assert_eq!(error, format!("`images.tar` is not an image archive: it is {found}, {expected}"));
    }
    for (tar, expected) in [
        (Tarball::new().file("index.json", "{}"), "it has `index.json` but no `oci-layout`"),
        (Tarball::new().file("oci-layout", LAYOUT), "it has `oci-layout` but no `index.json`"),
        (
            Tarball::new().file("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#),
            "has version `2.0.0`, expected `1.0.0`",
        ),
        (Tarball::new().file("oci-layout", "{}").file("index.json", "{}"), "`oci-layout` is not valid"),
        (layout(&[], &[]), "it lists no image"),
        (Tarball::new().file("manifest.json", "[]"), "`manifest.json` lists no image"),
        (Tarball::new().file("manifest.json", "null"), "`manifest.json` lists no image"),
        (Tarball::new().file("manifest.json", "{}"), "`manifest.json` is not what docker writes"),
    ] {
        let error = inspect(tar).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_compressed_tar_is_unpacked_and_remarked() {
    let image = Image::new("layer");
    let tar = || layout(&[image.entry(&json!({}))], &[&image]).finish();
    for (bytes, compression) in
        [(zstd::encode_all(&tar()[..], 1).unwrap(), Compression::Zstd), (gzip(&tar()), Compression::Gzip)]
    {
        let scratch = Scratch::new("wrapped");
        let path = scratch.write("images.tar", bytes);
        let store = open_to_inspect(&path, &std::env::temp_dir()).unwrap();
        assert!(store.remarks().contains(&Remark::Wrapped(compression)));
        assert_eq!(store.roots().len(), 1);
    }
    for (name, bytes) in [
        ("gzip", gzip(&Tarball::new().file("a", "").finish())),
        ("zstd", zstd::encode_all(&b"text"[..], 1).unwrap()),
    ] {
        let scratch = Scratch::new("layer");
        let path = scratch.write("layer.tar", bytes);
        let error = open_to_inspect(&path, &std::env::temp_dir()).unwrap_err().to_string();
        assert!(error.contains(&format!("{name}-compressed")), "{error}");
    }
}

#[test]
fn a_folder_is_a_layout_or_has_one_archive_in_it() {
    let image = Image::new("layer");
    let tar = || layout(&[image.entry(&json!({}))], &[&image]).finish();
    let open = |scratch: &Scratch| {
        open_to_inspect(scratch.path(), &std::env::temp_dir()).map_err(|error| error.to_string())
    };
    let scratch = Scratch::new("folder");
    scratch.write("notes.txt", "text");
    let error = open(&scratch).unwrap_err();
    assert!(error.contains("no OCI layout and has no image archive directly in it"), "{error}");
    scratch.write("one.tar", tar());
    scratch.write("other.tar", Tarball::new().file("a", "").finish());
    let store = open(&scratch).unwrap();
    assert_eq!((store.kind(), store.path()), (StoreKind::OciLayoutTar, scratch.join("one.tar").as_path()));
    let inner = scratch.join("two");
    for (name, bytes) in [("oci-layout", LAYOUT), ("index.json", &index(&[image.entry(&json!({}))])[..])] {
        scratch.write(format!("two/{name}"), bytes);
    }
    scratch.write(format!("two/{}", blob_name(&image.manifest)), &image.manifest);
    let error = open(&scratch).unwrap_err();
    assert!(error.contains("a folder with 2 image archives, expected one: `one.tar`, `two`"), "{error}");
    let store = open_to_inspect(&inner, &std::env::temp_dir()).unwrap();
    assert_eq!(store.kind(), StoreKind::OciLayoutDirectory);
    assert!(store.describe().starts_with("OCI layout folder `"));
    let root = &store.roots()[0].image.descriptor;
    assert_eq!(read_blob(&store, root), image.manifest);
    assert_eq!(store.place(&root.digest).unwrap().size(), image.manifest.len() as u64);
    std::fs::write(scratch.join("one.tar"), "BZh9").unwrap();
    assert_eq!(open(&scratch).unwrap().path(), inner);
}

#[test]
fn blobs_of_a_layout_are_regular_files_named_by_digest() {
    let image = Image::new("layer");
    let entries = [image.entry(&json!({}))];
    let stray = |name: &str| Remark::StrayBlob(name.to_owned());
    let tar = layout(&entries, &[&image])
        .file("blobs/readme", "x")
        .file("blobs/sha256/abc", "x")
        .dir("blobs/sha256");
    let store = inspect(tar).unwrap();
    for name in ["blobs/readme", "blobs/sha256/abc"] {
        assert!(store.remarks().contains(&stray(name)), "{:?}", store.remarks());
    }
    let name = blob_name(b"other");
    for (tar, expected) in [
        (layout(&entries, &[&image]).symlink(&name, "x"), "is a link, but blobs"),
        (layout(&entries, &[&image]).hardlink(&name, "oci-layout"), "is a link, but blobs"),
    ] {
        let error = inspect(tar).unwrap_err();
        assert!(error.contains(&format!("`{name}` {expected}")), "{error}");
    }
    // The same in a folder.
    let scratch = Scratch::new("directory");
    scratch.write("oci-layout", LAYOUT);
    scratch.write("index.json", index(&entries));
    for bytes in [&image.config, &image.layer, &image.manifest] {
        scratch.write(blob_name(bytes), bytes);
    }
    scratch.write("blobs/sha256/abc", "x");
    let store = open(scratch.path(), &std::env::temp_dir()).unwrap();
    assert_eq!(store.remarks(), [stray("blobs/sha256/abc")]);
    assert_eq!(store.blobs().len(), 3);
    std::os::unix::fs::symlink("abc", scratch.join(&name)).unwrap();
    let error = open(scratch.path(), &std::env::temp_dir()).unwrap_err().to_string();
    assert!(error.contains("is not a regular file"), "{error}");
}

#[test]
fn an_index_json_beyond_its_limit_is_refused() {
    let scratch = Scratch::new("large");
    scratch.write("oci-layout", vec![b' '; usize::try_from(limits::OCI_LAYOUT_BYTES).unwrap() + 1]);
    let error = open(scratch.path(), &std::env::temp_dir());
    let Err(StoreError::UnknownKind { .. } | StoreError::TooLarge { limit: limits::OCI_LAYOUT_BYTES, .. }) =
        error
    else {
        panic!("{error:?}");
    };
}

#[test]
fn one_image_of_several_is_selected_or_all_are_named() {
    let (one, two) = (Image::new("one"), Image::new("two"));
    let named = |image: &Image, name: &str| image.entry(&json!({ keys::REF_NAME: name }));
    let entries = [named(&one, "reg.example/team/app:v1"), named(&two, "reg.example/team/app:v2")];
    let store = inspect(layout(&entries, &[&one, &two])).unwrap();
    let find =
        |text: &str| text.parse::<Selector>().unwrap().find(&store).map(|root| root_digest(&root).clone());
    for (text, expected) in [
        ("@0", &one),
        ("@1", &two),
        (&one.digest().to_string(), &one),
        ("v2", &two),
        ("reg.example/team/app:v1", &one),
    ] {
        assert_eq!(find(text).unwrap(), expected.digest(), "{text}");
    }
    for (text, count) in [("@2", 0), ("v3", 0), ("reg.example/team/app", 2), ("reg.example/team/other", 0)] {
        let error = find(text).unwrap_err();
        let StoreError::NotSelected { found, images, selector, .. } = &error else { panic!("{error}") };
        assert_eq!((*found, selector.as_str()), (count, text));
        assert_eq!(
            images,
            &[
                format!("`reg.example/team/app:v1` (`@0`, `{}`)", one.digest()),
                format!("`reg.example/team/app:v2` (`@1`, `{}`)", two.digest()),
            ]
        );
    }
    let mut store = store;
    let kept = store.roots()[1].clone();
    store.keep_only(kept);
    assert!(store.is_narrowed());
    assert_eq!(store.roots().len(), 1);
    assert_eq!(image_label(&[], 3, &one.digest()), format!("`@3` (`{}`)", one.digest()));
}

#[test]
fn an_image_that_an_index_lists_is_selected_by_its_digest() {
    let (one, two, absent) = (Image::new("one"), Image::new("two"), Image::new("absent"));
    let on = |image: &Image, architecture: &str| {
        let mut entry = descriptor(media_type::OCI_MANIFEST, &image.manifest);
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entry
    };
    let entries = [on(&one, "amd64"), on(&two, "arm64"), on(&absent, "s390x")];
    let listed = index(&entries);
    let mut named = descriptor(media_type::OCI_INDEX, &listed);
    named["annotations"] = json!({ keys::REF_NAME: "v1" });
    let flat = inspect(layout(&entries, &[&one, &two])).unwrap();
    let inside = layout(&[named], &[&one, &two]).file(blob_name(&listed), &listed);
    let inside = inspect(inside).unwrap();
    assert_eq!((flat.is_one_index(), inside.is_one_index()), (true, false));
    for store in [&flat, &inside] {
        assert_eq!(store.roots().len(), 1);
        let root = Selector::Digest(two.digest()).find(store).unwrap();
        assert_eq!(root_digest(&root), &two.digest());
        assert!(root.image.names.is_empty() && root.image.descriptor.platform.is_none());
        for other in [absent.digest(), Digest::sha256_of(b"other")] {
            let error = Selector::Digest(other).find(store).unwrap_err();
            assert!(matches!(error, StoreError::NotSelected { found: 0, .. }), "{error}");
        }
    }
}

#[test]
fn a_written_layout_is_read_again() {
    use std::io::Write as _;

    use super::super::layout::{DockerImage, LayoutIndex, LayoutTarWriter};
    use super::super::slots::LayoutTarget;
    use crate::model::RawDocument;

    let image = Image::new("layer");
    let scratch = Scratch::new("written");
    let path = scratch.join("out.tar");
    let mut writer = LayoutTarWriter::create(&LayoutTarget::File(path.clone())).unwrap();
    let manifest = RawDocument::parse(image.manifest.clone(), Some(media_type::OCI_MANIFEST)).unwrap();
    let (config, layer) = (Digest::sha256_of(&image.config), Digest::sha256_of(&image.layer));
    assert!(!writer.contains(&layer));
    let slot = writer.reserve(&layer, image.layer.len() as u64).unwrap().expect("a new blob");
    slot.writer().write_all(&image.layer).unwrap();
    assert!(writer.contains(&layer));
    assert!(writer.reserve(&layer, image.layer.len() as u64).unwrap().is_none(), "it has its place");
    for _ in 0..2 {
        writer.add_bytes(&config, &image.config).unwrap();
        writer.add_document(&manifest).unwrap();
    }
    let layers = manifest.manifest().unwrap().layers.clone();
    let docker = DockerImage::new(&config, &layers, vec!["reg.example/a:v1".to_owned()]);
    let index = LayoutIndex {
        manifests: vec![manifest.descriptor()],
        docker: Some(docker),
        ..LayoutIndex::default()
    };
    writer.finish(&index).unwrap();
    let store = open(&path, &std::env::temp_dir()).unwrap();
    assert!(store.remarks().is_empty(), "{:?}", store.remarks());
    assert_eq!(store.blobs().len(), 3);
    let table = json!([{
        "Config": blob_name(&image.config), "RepoTags": ["reg.example/a:v1"], "Layers": [blob_name(&image.layer)],
    }]);
    let bytes = std::fs::read(&path).unwrap();
    let text = table.to_string();
    let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    let docker = format!(
        r#"[{{"Config":"{}","RepoTags":["reg.example/a:v1"],"Layers":["{}"]}}]"#,
        blob_name(&image.config),
        blob_name(&image.layer)
    );
    assert!(has(docker.as_bytes()), "{text}");
}
