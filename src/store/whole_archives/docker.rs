//! docker-save archives, and docker's table beside an `index.json`.

use serde_json::json;
use testkit::tarball::Tarball;

use super::super::*;
use super::*;
use crate::model::{limits, media_type};

#[test]
fn docker_saves_images_by_path_through_links() {
    let image = Image::new("layer");
    let tar = |config: &str, layers: &[&str]| {
        Tarball::new()
            .file("a/config.json", &image.config)
            .file("a/layer.tar", &image.layer)
            .symlink("b/link.tar", "../a/layer.tar")
            .hardlink("b/hard.tar", "a/layer.tar")
            .symlink("b/loop", "loop")
            .symlink("b/out", "../../x")
            .dir("b/folder")
            .file("manifest.json", table(&[(config, &["reg.example/a:v1", "not a name"], layers)]))
    };
    for layer in ["a/layer.tar", "./a//layer.tar", "b/link.tar", "b/hard.tar"] {
        let store = inspect(tar("a/config.json", &[layer])).unwrap();
        let [root] = store.roots() else { panic!("one image: {:?}", store.roots()) };
        assert_eq!(root.image.names.len(), 1, "the other text is no name");
        assert!(matches!(store.remarks()[0], Remark::InvalidNames { count: 1, .. }), "{:?}", store.remarks());
        let document = read_document(&store, &root.image.descriptor).unwrap();
        let manifest = document.manifest().unwrap();
        assert_eq!(manifest.layers[0].media_type, media_type::DOCKER_LAYER);
        assert_eq!(manifest.layers[0].digest, Digest::sha256_of(&image.layer));
    }
    for (config, layers, expected) in [
        ("a/none", &["a/layer.tar"][..], "names `a/none`, which is not in the archive"),
        ("a/config.json", &["../x"], "names `../x`, outside the archive"),
        ("a/config.json", &["b/out"], "`b/out` links to `../../x`, outside the archive"),
        ("a/config.json", &["b/loop"], "`b/loop` is a link through more than"),
        ("a/config.json", &["b/folder"], "`b/folder` is not a regular file"),
        ("a/config.json", &[], "lists 0 layers for an image whose configuration `a/config.json` has 1"),
        ("a/config.json", &["a/layer.tar", "a/layer.tar"], "lists 2 layers"),
        ("a/layer.tar", &["a/layer.tar"], "`a/layer.tar` is no image configuration"),
    ] {
        let error = inspect(tar(config, layers)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn layers_of_docker_save_get_the_type_of_their_compression() {
    for (layer, expected) in [
        (gzip(b"layer"), media_type::DOCKER_LAYER_GZIP),
        (zstd::encode_all(&b"layer"[..], 1).unwrap(), media_type::DOCKER_LAYER_ZSTD),
        (b"layer".to_vec(), media_type::DOCKER_LAYER),
        (Vec::new(), media_type::DOCKER_LAYER),
    ] {
        let config = Image::new("layer").config;
        let json = table(&[("c", &[], &["l"])]);
        let tar = Tarball::new().file("c", config).file("l", &layer).file("manifest.json", json);
        let store = inspect(tar).unwrap();
        let document = read_document(&store, &store.roots()[0].image.descriptor).unwrap();
        let found = &document.manifest().unwrap().layers[0];
        assert_eq!((found.media_type.as_str(), found.size), (expected, layer.len() as u64));
        assert_eq!(found.digest, Digest::sha256_of(&layer));
    }
}

#[test]
fn a_docker_table_with_too_many_texts_is_refused() {
    let texts = |count: usize| format!("[{}]", vec!["\"a\""; count].join(",")).into_bytes();
    assert!(docker_archive::check_texts(&texts(limits::TABLE_TEXTS)).is_ok());
    let error = docker_archive::check_texts(&texts(limits::TABLE_TEXTS + 1)).unwrap_err();
    assert_eq!(error, format!("`manifest.json` has more than {} texts", limits::TABLE_TEXTS));
}

#[test]
fn one_name_on_two_images_is_a_contradiction() {
    let (one, two) = (Image::new("one"), Image::new("two"));
    let named = |image: &Image, name: &str| image.entry(&json!({ keys::REF_NAME: name }));
    let tar = |first: &str, second: &str| layout(&[named(&one, first), named(&two, second)], &[&one, &two]);
    assert!(contradictions(tar("v1", "v2")).is_empty());
    let expected = format!("the name `v1` is that of two images, `{}` and `{}`", one.digest(), two.digest());
    assert_eq!(contradictions(tar("v1", "v1")), [expected]);
    let same = layout(&[named(&one, "v1"), named(&one, "v1")], &[&one]);
    assert!(contradictions(same).is_empty());
    let (_scratch, path) = write(tar("v1", "v1"));
    let error = open(&path, &std::env::temp_dir()).unwrap_err();
    assert!(matches!(&error, StoreError::Contradiction { problems, .. } if problems.len() == 1), "{error}");
}

#[test]
fn dockers_table_beside_an_index_json_has_to_agree_with_it() {
    let (one, two) = (Image::new("one"), Image::new("two"));
    let path = |bytes: &[u8]| blob_name(bytes);
    let (config, layer, other) = (path(&one.config), path(&one.layer), path(&two.layer));
    let entry = |image: &Image, name: &str| image.entry(&json!({ keys::CONTAINERD_NAME: name }));
    let entries = || [entry(&one, "reg.example/one:v1"), entry(&two, "reg.example/two:v1")];
    let tar = |images: &[Row]| {
        layout(&entries(), &[&one, &two]).file("layer.tar", &one.layer).file("manifest.json", table(images))
    };
    let config = config.as_str();
    let agreeing: [&[Row]; 5] = [
        &[(config, &["reg.example/one:v1"], &[&layer])],
        &[(config, &[], &[&layer])],
        &[(config, &["reg.example/new:v1", "no name at all"], &[&layer])],
        // A layer under another name than that of its digest.
        &[(config, &[], &["layer.tar"])],
        &[
            (config, &["reg.example/one:v1"], &[&layer]),
            (&path(&two.config), &["reg.example/two:v1"], &[&other]),
        ],
    ];
    for images in agreeing {
        assert_eq!(contradictions(tar(images)), Vec::<String>::new(), "{images:?}");
    }
    let manifest = one.digest();
    let digest = |bytes: &[u8]| Digest::sha256_of(bytes);
    let second = path(&two.config);
    for (images, expected) in [
        (
            vec![(config, &[][..], &[other.as_str()][..])],
            format!(
                "`manifest.json` has layer `{}` (`{other}`) where manifest `{manifest}` in `index.json` has `{}`",
                digest(&two.layer),
                digest(&one.layer)
            ),
        ),
        (
            vec![(config, &[], &[])],
            format!("`manifest.json` lists 0 layers, but manifest `{manifest}` in `index.json` has 1"),
        ),
        (
            vec![(config, &[], &["gone.tar"])],
            format!(
                "`manifest.json` has layer `gone.tar`, which is not in the tar, where manifest `{manifest}` in \
                 `index.json` has `{}`",
                digest(&one.layer)
            ),
        ),
        (
            vec![("layer.tar", &[], &[layer.as_str()])],
            format!(
                "`manifest.json` lists an image with configuration `{}`, but no manifest that `index.json` leads to has it",
                digest(&one.layer)
            ),
        ),
        (
            vec![(config, &["reg.example/two:v1"], &[layer.as_str()])],
            format!(
                "`manifest.json` gives the name `reg.example/two:v1` to manifest `{manifest}`, but `index.json` gives it to `{}`",
                two.digest()
            ),
        ),
        (
            vec![
                (config, &["reg.example/x:1"], &[layer.as_str()]),
                (&second, &["reg.example/x:1"], &[other.as_str()]),
            ],
            "`manifest.json` gives the name `reg.example/x:1` to two images".to_owned(),
        ),
    ] {
        assert_eq!(contradictions(tar(&images)), [expected], "{images:?}");
    }
}

#[test]
fn a_table_of_docker_that_cannot_be_compared_is_remarked_or_refused() {
    let one = Image::new("one");
    let tar = |table: &[u8]| layout(&[one.entry(&json!({}))], &[&one]).file("manifest.json", table);
    for table in [table(&[("gone.json", &[], &[])]), b"{".to_vec()] {
        let store = inspect(tar(&table)).unwrap();
        let unreadable = |remark: &Remark| matches!(remark, Remark::UnreadableDockerManifest(_));
        assert!(store.remarks().iter().any(unreadable), "{:?}", store.remarks());
    }
    // Members that readers in Go take for others.
    let twice = format!(r#"[{{"Config":"{}","config":"x","Layers":[]}}]"#, blob_name(&one.config));
    let found = contradictions(tar(twice.as_bytes()));
    assert!(matches!(found.as_slice(), [one] if one.starts_with("`manifest.json`: ")), "{found:?}");
}

#[test]
fn a_damaged_root_is_reported_by_reading_it_and_not_as_a_contradiction() {
    let one = Image::new("one");
    let gone = Image::new("gone");
    let json = table(&[(&blob_name(&gone.config), &[], &[&blob_name(&gone.layer)])]);
    let tar = layout(&[one.entry(&json!({})), gone.entry(&json!({}))], &[&one]);
    let tar = tar.file(blob_name(&gone.config), &gone.config).file("manifest.json", json);
    assert!(contradictions(tar).is_empty());
}

#[test]
fn images_of_nested_indexes_are_compared_with_dockers_table() {
    let one = Image::new("one");
    let inner = index(&[descriptor(media_type::OCI_MANIFEST, &one.manifest)]);
    let root = descriptor(media_type::OCI_INDEX, &inner);
    let json = |layer: &str| table(&[(&blob_name(&one.config), &[], &[layer])]);
    let tar = |layer: &str| {
        layout(std::slice::from_ref(&root), &[&one])
            .file(blob_name(&inner), &inner)
            .file("manifest.json", json(layer))
    };
    assert!(contradictions(tar(&blob_name(&one.layer))).is_empty());
    assert_eq!(contradictions(tar(&blob_name(&one.config))).len(), 1);
}

/// Returns the contradictions of images inside so many indexes, with a table that says another layer.
fn found_below(levels: usize) -> Vec<String> {
    let (image, entry, indexes) = elsewhere::nested(levels);
    let json = table(&[(&blob_name(&image.config), &[], &[&blob_name(&image.config)])]);
    let tar = layout(&[entry], &[&image]).file("manifest.json", json);
    contradictions(indexes.iter().fold(tar, |tar, bytes| tar.file(blob_name(bytes), bytes)))
}

#[test]
fn dockers_table_is_compared_with_images_16_indexes_deep() {
    for levels in [1, 16] {
        let found = found_below(levels);
        assert!(matches!(found.as_slice(), [one] if one.contains("has layer")), "{levels}: {found:?}");
    }
    let found = found_below(17);
    assert!(matches!(found.as_slice(), [one] if one.contains("but no manifest")), "{found:?}");
}

#[test]
fn an_absent_image_of_an_index_does_not_excuse_dockers_table() {
    let (one, gone) = (Image::new("one"), Image::new("gone"));
    let listed = [&one, &gone].map(|image| descriptor(media_type::OCI_MANIFEST, &image.manifest));
    let both = index(&listed);
    let json = table(&[(&blob_name(&gone.config), &[], &[])]);
    let tar = layout(&[descriptor(media_type::OCI_INDEX, &both)], &[&one]).file(blob_name(&both), &both);
    let found = contradictions(tar.file(blob_name(&gone.config), &gone.config).file("manifest.json", json));
    assert!(matches!(found.as_slice(), [one] if one.contains("but no manifest")), "{found:?}");
}

#[test]
fn a_table_is_compared_until_1000_remarks() {
    let one = Image::new("one");
    let rows: Vec<Row> = vec![("gone.json", &[], &[]); 1002];
    let store =
        inspect(layout(&[one.entry(&json!({}))], &[&one]).file("manifest.json", table(&rows))).unwrap();
    assert_eq!(store.remarks().len(), 1000);
}

#[test]
fn a_folder_under_the_name_of_a_blob_is_no_layer() {
    let one = Image::new("one");
    let absent = blob_name(b"absent");
    let json = table(&[(&blob_name(&one.config), &[], &[&absent])]);
    let tar = || layout(&[one.entry(&json!({}))], &[&one]).file("manifest.json", &json);
    let digest = Digest::sha256_of(b"absent").to_string();
    for (tar, expected) in [(tar(), digest.as_str()), (tar().dir(&absent), "which is not in the tar")] {
        let found = contradictions(tar);
        assert!(matches!(found.as_slice(), [one] if one.contains(expected)), "{expected}: {found:?}");
    }
}
