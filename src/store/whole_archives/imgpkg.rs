//! imgpkg's table.

use serde_json::{Value, json};
use testkit::tarball::Tarball;

use super::super::*;
use super::*;
use crate::model::{limits, media_type};

#[test]
fn imgpkgs_table_gives_images_with_origin_tag_and_mark() {
    let (one, two) = (Image::new("one"), Image::new("two"));
    let with = |mut item: Value, about: &Value| {
        for (key, value) in about.as_object().unwrap() {
            item[key] = value.clone();
        }
        item
    };
    let nested = index(&[descriptor(media_type::OCI_MANIFEST, &two.manifest)]);
    let nested_item = |inner: Vec<Value>| {
        json!({
            "MediaType": media_type::OCI_INDEX, "Digest": Digest::sha256_of(&nested),
            "Raw": String::from_utf8_lossy(&nested), "Images": [imgpkg_item(&two)], "Indexes": inner,
        })
    };
    let label = imgpkg_tar::ROOT_LABEL;
    let table = json!([
        { "Image": with(imgpkg_item(&one), &json!({ "Tag": "v1", "OrigRef": "reg.example/a:1", "Labels": { label: "" } })) },
        { "Image": with(imgpkg_item(&one), &json!({ "Tag": "v2", "Refs": ["reg.example/b:1"] })) },
        { "Image": with(imgpkg_item(&one), &json!({ "Tag": "not a tag" })) },
        { "ImageIndex": with(nested_item(vec![]), &json!({ "Refs": ["no reference", "reg.example/c:1"] })) },
    ]);
    let tar = |table: &Value| Tarball::new().file("manifest.json", table.to_string());
    let store = inspect(tar(&table)).unwrap();
    let [first, second] = store.roots() else { panic!("two images: {:?}", store.roots()) };
    assert_eq!((root_digest(first), root_digest(second)), (&one.digest(), &Digest::sha256_of(&nested)));
    let tags: Vec<String> =
        first.image.names.iter().filter_map(|name| name.tag.as_ref()).map(ToString::to_string).collect();
    assert_eq!(tags, ["v1", "v2"]);
    let origin = |root: &Root| root.image.origin.as_ref().map(ToString::to_string);
    assert_eq!(origin(first), Some("reg.example/a:1".to_owned()));
    assert_eq!(origin(second), Some("reg.example/c:1".to_owned()));
    assert!(first.is_root_bundle && !second.is_root_bundle);
    for bytes in [&one.config, &one.manifest, &two.config, &two.manifest, &nested] {
        assert_eq!(store.blob_size(&Digest::sha256_of(bytes)), Some(bytes.len() as u64));
    }
    assert!(matches!(store.remarks()[0], Remark::InvalidNames { count: 1, .. }), "{:?}", store.remarks());

    let mut other = imgpkg_item(&one);
    other["Manifest"]["Raw"] = "{}".into();
    let mut deep = nested_item(vec![]);
    for _ in 0..limits::NESTING {
        deep = nested_item(vec![deep]);
    }
    for (table, expected) in [
        (json!([{ "Image": imgpkg_item(&one), "Config": "c" }]), "is docker's and imgpkg's at the same time"),
        (json!([{ "Image": imgpkg_item(&one), "Layers": [] }]), "is docker's and imgpkg's at the same time"),
        (
            json!([{ "Image": imgpkg_item(&one), "ImageIndex": nested_item(vec![]) }]),
            "is not exactly one image or index",
        ),
        (json!([{ "Image": imgpkg_item(&one) }, {}]), "is not exactly one image or index"),
        (json!([{ "Image": imgpkg_item(&one) }, { "Image": other }]), "has two different contents for"),
        (json!([{ "ImageIndex": deep }]), "nests indexes more than"),
        (json!([{ "Image": { "Config": {} } }]), "is not what imgpkg writes"),
    ] {
        let error = inspect(tar(&table)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let layer = format!("sha256-{}.tar.gz", "0".repeat(64));
    let linked = tar(&json!([{ "Image": imgpkg_item(&one) }])).symlink(&layer, "manifest.json");
    let error = inspect(linked).unwrap_err();
    assert!(error.contains(&format!("`{layer}` is not a regular file")), "{error}");
    let mut inner = nested_item(vec![]);
    for _ in 1..limits::NESTING {
        inner = nested_item(vec![inner]);
    }
    assert!(inspect(tar(&json!([{ "ImageIndex": inner }]))).is_ok());
}
