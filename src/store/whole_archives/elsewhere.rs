//! Stores whose blobs are somewhere else: left out of a delta tar, or fetched one by one.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::super::layout::{LayoutIndex, LayoutTarWriter};
use super::super::slots::LayoutTarget;
use super::*;
use crate::model::{keys, limits, media_type};
use crate::stream::FileError;

/// A tar of an image without its layer, which `from` had.
fn delta(image: &Image, from: &str) -> Tarball {
    let left_out = LeftOut {
        digest: Digest::sha256_of(&image.layer),
        size: image.layer.len() as u64,
        from: from.to_owned(),
    };
    let index = json!({
        "schemaVersion": 2,
        "manifests": [image.entry(&json!({}))],
        "annotations": { keys::WITHOUT: left_out_to_text(&[left_out]) },
    });
    Tarball::new()
        .file("oci-layout", LAYOUT)
        .file("index.json", index.to_string())
        .file(blob_name(&image.config), &image.config)
        .file(blob_name(&image.manifest), &image.manifest)
}

#[test]
fn a_delta_takes_what_it_lacks_from_its_bases_and_nothing_else() {
    let image = Image::new("layer");
    let (_scratch, path) = write(delta(&image, "registry.example/app:v1"));
    let mut store = open(&path, &std::env::temp_dir()).unwrap();
    let layer = Digest::sha256_of(&image.layer);
    let lacking = |store: &Store| store.lacking().map(|blob| blob.from.clone()).collect::<Vec<_>>();
    assert_eq!(lacking(&store), ["registry.example/app:v1"]);
    assert_eq!(store.blob_size(&layer), None);
    assert!(matches!(store.open_unverified(&layer), Err(StoreError::LeftOut { .. })));
    assert!(matches!(store.place(&layer), Err(StoreError::LeftOut { .. })));
    assert_eq!(store.path_of(&layer), path);

    let other = Image::new("other");
    let (_other, other_path) = write(layout(&[other.entry(&json!({}))], &[&other]));
    let (_base, base_path) = write(layout(&[image.entry(&json!({}))], &[&image]));
    let open = |path: &Path| open(path, &std::env::temp_dir()).unwrap();
    store.complete_from(open(&other_path));
    store.complete_from(open(&base_path));
    assert_eq!(lacking(&store), [""; 0]);
    assert_eq!(store.left_out().count(), 1, "what was left out stays known");
    assert_eq!(store.blob_size(&layer), Some(5));
    assert_eq!(store.path_of(&layer), base_path);
    assert_eq!(store.path_of(&image.digest()), path, "what the tar holds is read from it");
    let descriptor = Descriptor::new(media_type::OCI_LAYER, layer.clone(), 5);
    assert_eq!(read_blob(&store, &descriptor), b"layer");
    assert_eq!(store.place(&layer).unwrap().size(), 5);
    let unrelated = Digest::sha256_of(&other.layer);
    assert_eq!(store.blob_size(&unrelated), None, "a base gives only what was left out");
}

/// A server of blobs: what it has, what fails, and what was requested.
#[derive(Debug, Default)]
struct Blobs {
    there: HashMap<Digest, Vec<u8>>,
    unreachable: Option<Digest>,
    asked: std::sync::Arc<Mutex<Vec<Digest>>>,
}

impl RemoteBlobs for Blobs {
    fn open(&self, digest: &Digest, _: u64, from: u64) -> Result<Box<dyn Read + Send + '_>, StoreError> {
        self.asked.lock().unwrap().push(digest.clone());
        let path = || Path::new("s3://bucket/app").to_owned();
        if self.unreachable.as_ref() == Some(digest) {
            let problem = "no connection".to_owned();
            return Err(StoreError::Remote { path: path(), problem, is_unreachable: true });
        }
        match self.there.get(digest) {
            Some(bytes) => Ok(Box::new(Cursor::new(bytes[usize::try_from(from).unwrap()..].to_vec()))),
            None => Err(StoreError::Gone { place: "`s3://bucket/app`".to_owned(), digest: digest.clone() }),
        }
    }

    fn has(&self, digest: &Digest, _: u64) -> Result<bool, StoreError> {
        Ok(self.there.contains_key(digest))
    }
}

fn blobs(all: &[&[u8]]) -> Blobs {
    let there = all.iter().map(|bytes| (Digest::sha256_of(bytes), bytes.to_vec())).collect();
    Blobs { there, ..Blobs::default() }
}

fn remote(entries: &[Value], blobs: Blobs) -> Result<Store, String> {
    let opened = open_remote(Path::new("s3://bucket/app"), &index(entries), "index.json", Box::new(blobs));
    opened.map_err(|error| error.to_string())
}

#[test]
fn a_remote_image_is_opened_by_its_documents_alone() {
    let image = Image::new("layer");
    let server = blobs(&[&image.config, &image.layer, &image.manifest]);
    let asked = std::sync::Arc::clone(&server.asked);
    let entry = image.entry(&json!({ keys::ENTRY: "7", "kept": "yes" }));
    let store = remote(&[entry], server).unwrap();
    assert_eq!(*asked.lock().unwrap(), [image.digest()], "no layer is fetched");
    assert_eq!(
        (store.kind().name(), store.describe().as_str()),
        ("image-store", "image store `s3://bucket/app`")
    );
    assert!(store.is_narrowed());
    let annotations = &store.roots()[0].image.descriptor.annotations;
    assert_eq!(annotations.keys().collect::<Vec<_>>(), ["kept"]);
    let layer = Descriptor::new(media_type::OCI_LAYER, Digest::sha256_of(&image.layer), 5);
    assert_eq!(store.blob_size(&layer.digest), Some(5));
    assert_eq!(read_blob(&store, &layer), b"layer");
    read_document(&store, &store.roots()[0].image.descriptor).unwrap();
    assert_eq!(asked.lock().unwrap().len(), 2, "a document is fetched once");
    let nothing = remote(&[], blobs(&[])).unwrap_err();
    assert!(nothing.contains("is not valid"), "{nothing}");
}

#[test]
fn an_index_may_be_there_with_some_of_its_images_but_a_root_has_to_be() {
    let (here, absent) = (Image::new("here"), Image::new("absent"));
    let both = index(&[here.entry(&json!({})), absent.entry(&json!({}))]);
    let entry = descriptor(media_type::OCI_INDEX, &both);
    let server = || blobs(&[&both, &here.config, &here.layer, &here.manifest]);
    let store = remote(std::slice::from_ref(&entry), server()).unwrap();
    assert!(store.blob_size(&here.digest()).is_some());
    assert_eq!(store.blob_size(&absent.digest()), None);
    let error = remote(&[absent.entry(&json!({}))], server()).unwrap_err();
    assert!(error.contains("has no blob"), "{error}");
    let failing = Blobs { unreachable: Some(absent.digest()), ..server() };
    assert!(remote(&[entry], failing).unwrap_err().contains("no connection"), "silence is not absence");
}

#[test]
fn a_damaged_remote_document_is_reported_by_reading_it() {
    let image = Image::new("layer");
    let mut server = blobs(&[&image.config, &image.layer]);
    server.there.insert(image.digest(), b"another".to_vec());
    let store = remote(&[image.entry(&json!({}))], server).unwrap();
    let error = read_document(&store, &store.roots()[0].image.descriptor).unwrap_err();
    assert!(matches!(error, StoreError::Mismatch { .. }), "{error}");
}

#[test]
fn layers_from_elsewhere_may_be_absent_from_a_remote_image() {
    let mut image = Image::new("layer");
    let foreign = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(media_type::OCI_CONFIG, &image.config),
        "layers": [descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar", &image.layer)],
    });
    image.manifest = foreign.to_string().into_bytes();
    let layer = Digest::sha256_of(&image.layer);
    let without = remote(&[image.entry(&json!({}))], blobs(&[&image.config, &image.manifest])).unwrap();
    assert_eq!(without.blob_size(&layer), None);
    let with = blobs(&[&image.config, &image.manifest, &image.layer]);
    assert_eq!(remote(&[image.entry(&json!({}))], with).unwrap().blob_size(&layer), Some(5));
}

#[test]
fn a_document_beyond_its_limit_is_not_read() {
    let image = Image::new("layer");
    let mut entry = image.entry(&json!({}));
    entry["size"] = (limits::DOCUMENT_BYTES + 1).into();
    let store = inspect(layout(&[entry], &[&image]));
    let error = match store {
        Ok(store) => read_document(&store, &store.roots()[0].image.descriptor).unwrap_err().to_string(),
        Err(error) => error,
    };
    assert!(error.contains("bytes"), "{error}");
}

#[test]
fn a_blob_of_unknown_size_is_written_once_and_read_again() {
    let image = Image::new("layer");
    let scratch = Scratch::new("store-stream");
    let path = scratch.join("out.tar");
    let mut writer = LayoutTarWriter::create(&LayoutTarget::File(path.clone())).unwrap();
    let layer = Digest::sha256_of(&image.layer);
    for number in 1..=2 {
        let result = writer.add_stream(|sink| {
            sink.write_all(&image.layer).unwrap();
            Ok::<_, FileError>((layer.clone(), 5, number))
        });
        assert_eq!(result.unwrap(), number);
        assert!(writer.contains(&layer));
    }
    writer.add_bytes(&Digest::sha256_of(&image.config), &image.config).unwrap();
    writer.add_bytes(&image.digest(), &image.manifest).unwrap();
    assert!(writer.reserve(&layer, 5).unwrap().is_none(), "it has its place");
    let manifests =
        vec![Descriptor::new(media_type::OCI_MANIFEST, image.digest(), image.manifest.len() as u64)];
    writer.finish(&LayoutIndex { manifests, ..LayoutIndex::default() }).unwrap();
    let store = open(&path, &std::env::temp_dir()).unwrap();
    let descriptor = Descriptor::new(media_type::OCI_LAYER, layer, 5);
    assert_eq!(read_blob(&store, &descriptor), b"layer");
    assert_eq!(store.blobs().len(), 3);
}

/// Returns an image inside of so many indexes, one in the other, with the outermost as entry of `index.json`.
pub(super) fn nested(levels: usize) -> (Image, Value, Vec<Vec<u8>>) {
    let image = Image::new("layer");
    let mut entry = descriptor(media_type::OCI_MANIFEST, &image.manifest);
    let mut indexes = Vec::new();
    for _ in 0..levels {
        let outer = index(std::slice::from_ref(&entry));
        entry = descriptor(media_type::OCI_INDEX, &outer);
        indexes.push(outer);
    }
    (image, entry, indexes)
}

#[test]
fn indexes_are_followed_16_levels_deep() {
    for (levels, followed) in [(1, true), (15, true), (16, true), (17, false)] {
        let (image, entry, indexes) = nested(levels);
        let layer = Digest::sha256_of(&image.layer);
        let tar = layout(std::slice::from_ref(&entry), &[&image]);
        let tar = indexes.iter().fold(tar, |tar, bytes| tar.file(blob_name(bytes), bytes));
        let listed = Selector::Digest(image.digest()).find(&inspect(tar).unwrap());
        assert_eq!(listed.is_ok(), followed, "{levels}");
        let mut all: Vec<&[u8]> = indexes.iter().map(Vec::as_slice).collect();
        all.extend([&image.config[..], &image.layer, &image.manifest]);
        let store = remote(&[entry], blobs(&all)).unwrap();
        assert_eq!(store.blob_size(&layer).is_some(), followed, "{levels}");
    }
}

#[test]
fn a_remote_list_of_platforms_is_one_image_and_each_document_is_fetched_once() {
    let (one, two) = (Image::new("one"), Image::new("two"));
    let on = |image: &Image, architecture: &str| {
        let mut entry = image.entry(&json!({}));
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entry
    };
    let all = blobs(&[&one.config, &one.layer, &one.manifest, &two.config, &two.layer, &two.manifest]);
    let asked = std::sync::Arc::clone(&all.asked);
    let store = remote(&[on(&one, "amd64"), on(&two, "arm64")], all).unwrap();
    assert_eq!(store.roots().len(), 1);
    for bytes in [&one.layer, &two.layer] {
        assert_eq!(store.blob_size(&Digest::sha256_of(bytes)), Some(bytes.len() as u64));
    }
    assert_eq!(asked.lock().unwrap().len(), 2);
    // Two indexes that list one image.
    let both = [json!({}), json!({ "annotations": { "a": "b" } })].map(|more| {
        let mut index = json!({ "schemaVersion": 2, "manifests": [one.entry(&json!({}))] });
        index.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        index.to_string().into_bytes()
    });
    let all = blobs(&[&both[0], &both[1], &one.config, &one.layer, &one.manifest]);
    let asked = std::sync::Arc::clone(&all.asked);
    remote(&both.each_ref().map(|index| descriptor(media_type::OCI_INDEX, index)), all).unwrap();
    assert_eq!(asked.lock().unwrap().len(), 3);
}
