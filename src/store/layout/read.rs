//! Reading OCI image layouts: version file, `index.json`, and where each blob is.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::path::Path;

use serde::Deserialize;

use crate::model::{
    Descriptor, Digest, DocumentError, RawDocument, Reference, Schema, Tag, keys, limits, media_type,
    read_json,
};
use crate::tar::display_name;

use super::super::archive::{Archive, Node};
use super::super::left_out;
use super::super::listed::listed;
use super::super::opened::{Backing, Delta, Held, Store};
use super::super::root_list::RootList;
use super::super::{ImageName, Remark, Root, StoreError, StoreKind};
use super::directory::Directory;

const VERSION_FILE: &str = "oci-layout";
const INDEX_FILE: &str = "index.json";
const VERSION: &str = "1.0.0";

/// Opens an indexed tar that has `oci-layout` or `index.json`.
pub(in crate::store) fn open_tar(archive: Archive, path: &Path) -> Result<Store, StoreError> {
    let version = archive.read_small(VERSION_FILE, limits::OCI_LAYOUT_BYTES)?;
    let index = archive.read_small(INDEX_FILE, limits::TABLE_OF_CONTENTS_BYTES)?;
    let mut remarks = Vec::new();
    let Top { roots, mut held, delta } = read_top(path, version, index, &mut remarks)?;
    for (name, node) in archive.nodes() {
        let Some(below) = name.strip_prefix(b"blobs/") else { continue };
        let problem = |text: &str| StoreError::damaged(path, format!("`{}` {text}", display_name(name)));
        match (blob_digest(below), node) {
            (_, Node::Directory) => {}
            (Some(digest), Node::File(span)) => {
                held.insert(digest, Held::Archive(*span));
            }
            // A link could make one blob's name stand for another's bytes in readers that unpack.
            (Some(_), Node::Symlink(_) | Node::HardLink(_)) => {
                return Err(problem(
                    "is a link, but blobs of an OCI layout are regular files; `tar --dereference --hard-dereference` packs them so",
                ));
            }
            (Some(_), Node::Other) => return Err(problem("is a device or pipe, expected a regular file")),
            (None, _) => remarks.push(Remark::StrayBlob(display_name(name))),
        }
    }
    // docker loads no tar that lacks layers.
    let lacks_table = archive.node(b"manifest.json").is_none() && delta.left_out.is_empty();
    let mut store = Store::of_archive(path, StoreKind::OciLayoutTar, roots, held, archive, remarks);
    if lacks_table {
        store.remarks.push(Remark::NoDockerManifest);
    }
    Ok(without_children(Store { delta, ..store }))
}

/// Opens a folder that has `oci-layout` or `index.json`.
pub(in crate::store) fn open_directory(root: OwnedFd, path: &Path) -> Result<Store, StoreError> {
    let directory = Directory::open(root, path)?;
    let version = directory.read_small(VERSION_FILE, limits::OCI_LAYOUT_BYTES)?;
    let index = directory.read_small(INDEX_FILE, limits::TABLE_OF_CONTENTS_BYTES)?;
    let mut remarks = Vec::new();
    let Top { roots, mut held, delta } = read_top(path, version, index, &mut remarks)?;
    let blobs = directory.list(&mut remarks)?;
    held.extend(blobs.into_iter().map(|(digest, size)| (digest, Held::Directory(size))));
    let (path, kind) = (path.to_owned(), StoreKind::OciLayoutDirectory);
    let backing = Backing::Directory(directory);
    Ok(without_children(Store { path, kind, roots, held, backing, remarks, is_narrowed: false, delta }))
}

/// Drops roots without a name that another root's index names: oras lists the children of an index again.
fn without_children(mut store: Store) -> Store {
    if !store.roots.iter().any(is_bare) {
        return store;
    }
    let children = listed(&store);
    store.roots.retain(|root| !is_bare(root) || !children.contains_key(&root.image.descriptor.digest));
    store
}

fn is_bare(root: &Root) -> bool {
    root.image.names.is_empty() && root.image.origin.is_none() && !root.is_root_bundle
}

/// Reads `<algorithm>/<hex>`.
fn blob_digest(name: &[u8]) -> Option<Digest> {
    let name = std::str::from_utf8(name).ok()?;
    let (algorithm, hex) = name.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    image_layout_version: String,
}

/// What the version file and `index.json` say.
pub(in crate::store) struct Top {
    pub(in crate::store) roots: Vec<Root>,
    /// `index.json` itself, where it is the image.
    pub(in crate::store) held: BTreeMap<Digest, Held>,
    pub(in crate::store) delta: Delta,
}

fn read_top(
    path: &Path,
    version: Option<Vec<u8>>,
    index: Option<Vec<u8>>,
    remarks: &mut Vec<Remark>,
) -> Result<Top, StoreError> {
    let damaged = |problem: String| StoreError::damaged(path, problem);
    let version = version.ok_or_else(|| {
        damaged(format!("it has `{INDEX_FILE}` but no `{VERSION_FILE}`, so it is no whole OCI layout"))
    })?;
    check_version(&version).map_err(damaged)?;
    let bytes = index.ok_or_else(|| {
        damaged(format!("it has `{VERSION_FILE}` but no `{INDEX_FILE}`, so it is no whole OCI layout"))
    })?;
    top_of_index(&bytes, remarks)
        .map_err(|problem| damaged(format!("`{INDEX_FILE}` is not valid: {problem}")))
}

/// Checks the file `oci-layout`.
///
/// Errors: what is wrong with it, with its name.
pub fn check_version(bytes: &[u8]) -> Result<(), String> {
    let version: Version = read_json(bytes, &Schema::Object(&[("imageLayoutVersion", Schema::Value)]))
        .map_err(|error| format!("`{VERSION_FILE}` is not valid: {error}"))?;
    if version.image_layout_version == VERSION {
        return Ok(());
    }
    let found = display_name(version.image_layout_version.as_bytes());
    Err(format!("`{VERSION_FILE}` has version `{found}`, expected `{VERSION}`"))
}

/// Reads `index.json`: a list of images, or an image that is the list of its platforms.
pub(in crate::store) fn top_of_index(bytes: &[u8], remarks: &mut Vec<Remark>) -> Result<Top, String> {
    let raw = RawDocument::parse(bytes, Some(media_type::OCI_INDEX)).map_err(|error| match error {
        DocumentError::TypeMismatch { found, expected, .. } => {
            format!("its type is `{}`, expected `{expected}`", display_name(found.as_bytes()))
        }
        DocumentError::Json { source, .. } => source.to_string(),
        DocumentError::Members { source, .. } => source.to_string(),
        DocumentError::NotAnObject { .. } => "it is not a JSON object".to_owned(),
        other => other.to_string(),
    })?;
    let entries = raw.index().map(|index| index.manifests.as_slice()).unwrap_or_default();
    if entries.len() > limits::DOCUMENTS {
        return Err(format!("it lists {} images, at most {} are accepted", entries.len(), limits::DOCUMENTS));
    }
    let roots = roots_of(entries, remarks)?;
    if is_flat_list(entries, &roots) {
        let root = Root::new(raw.descriptor());
        let held = BTreeMap::from([(raw.digest().clone(), Held::Memory(bytes.into()))]);
        return Ok(Top { roots: vec![root], held, delta: Delta::default() });
    }
    let without =
        raw.document().annotations().get(keys::WITHOUT).map(|text| left_out::parse(text)).transpose();
    let without = without.map_err(|problem| format!("annotation `{}`: {problem}", keys::WITHOUT))?;
    let delta = Delta { left_out: without.unwrap_or_default(), bases: Vec::new() };
    Ok(Top { roots, held: BTreeMap::new(), delta })
}

/// Tells whether `index.json` is itself the index of one image: every entry an image for a platform of its own.
///
/// crane and Concourse's registry-image write this shape. Several images in one layout look different: they have
/// names, or no platform, or one platform more than once.
fn is_flat_list(entries: &[Descriptor], roots: &[Root]) -> bool {
    let mut platforms = BTreeSet::new();
    for entry in entries.iter().filter(|entry| entry.attested_image().is_none()) {
        match entry.platform.as_ref().filter(|platform| platform.is_complete() && entry.is_manifest()) {
            Some(platform) if platforms.insert(platform.sort_key()) => {}
            _ => return false,
        }
    }
    platforms.len() > 1 && roots.iter().all(is_bare)
}

/// Makes roots of the entries; those on one digest become one root with several names.
fn roots_of(entries: &[Descriptor], remarks: &mut Vec<Remark>) -> Result<Vec<Root>, String> {
    let mut roots = RootList::default();
    let mut first: HashMap<&Digest, &Descriptor> = HashMap::new();
    for entry in entries {
        match first.entry(&entry.digest) {
            Entry::Occupied(known) if *known.get() == entry => {
                remarks.push(Remark::EntryTwice(entry.digest.clone()));
            }
            known => {
                known.or_insert(entry);
            }
        }
        if !entry.is_index() && !entry.is_manifest() {
            // image-index.md: types an implementation does not know MUST be ignored.
            remarks.push(Remark::ForeignRoot(Box::new(entry.clone())));
            continue;
        }
        let at = roots.add(entry)?;
        let root = roots.root(at);
        if (&root.image.descriptor.media_type, root.image.descriptor.size) != (&entry.media_type, entry.size)
        {
            return Err(format!("two entries for `{}` differ in size or type", entry.digest));
        }
        root.image.origin = root.image.origin.take().or_else(|| origin(entry));
        root.is_root_bundle |= is_marked(entry);
        if let Some(name) = name(entry, &mut roots) {
            roots.name(at, name)?;
        }
    }
    let mut roots = roots.finish(remarks);
    cosign_names(entries, &mut roots);
    match (roots.is_empty(), entries.first()) {
        (false, _) => Ok(roots),
        (true, None) => Err("it lists no image".to_owned()),
        (true, Some(entry)) => {
            let found = display_name(entry.media_type.as_bytes());
            Err(format!("it lists no image, only content of type `{found}`"))
        }
    }
}

/// Gives signatures, attestations and SBOMs in a layout of `cosign save` the tags that cosign finds them by.
///
/// Source: cosign's `pkg/oci/layout`: the annotation `kind` says what an entry is. Newer versions, and hauler, record
/// the image's own name with each of them too, which tells several images apart.
fn cosign_names(entries: &[Descriptor], roots: &mut [Root]) {
    const PREFIX: &str = "dev.cosignproject.cosign/";
    let kind = |entry: &Descriptor| entry.annotations.get("kind")?.strip_prefix(PREFIX).map(str::to_owned);
    // By the recorded name; two images with one name cannot be distinguished.
    let mut images: HashMap<Option<&String>, Option<&Descriptor>> = HashMap::new();
    for entry in entries.iter().filter(|entry| matches!(kind(entry).as_deref(), Some("image" | "imageIndex")))
    {
        let name = entry.annotations.get(keys::REF_NAME);
        images.entry(name).and_modify(|image| *image = None).or_insert(Some(entry));
    }
    if images.is_empty() {
        return;
    }
    let mut by_digest: HashMap<Digest, &mut Root> =
        roots.iter_mut().map(|root| (root.image.descriptor.digest.clone(), root)).collect();
    for entry in entries {
        let what = match kind(entry).as_deref() {
            Some("sigs") => "sig",
            Some("atts") => "att",
            Some("sboms") => "sbom",
            _ => continue,
        };
        let name = entry.annotations.get(keys::REF_NAME);
        let Some(Some(image)) = images.get(&name) else { continue };
        let tag = format!("{}-{}.{what}", image.digest.algorithm().name(), image.digest.hex());
        let Ok(tag) = tag.parse::<Tag>() else { continue };
        let reference: Option<Reference> = name.and_then(|name| name.parse().ok());
        let reference = reference.filter(|name| name.digest.is_none() && name.tag.is_some());
        let reference = reference.map(|name| name.repository.with_tag(tag.clone()));
        if let Some(root) = by_digest.get_mut(&entry.digest).filter(|_| entry.digest != image.digest) {
            root.image.names = vec![ImageName { tag: Some(tag), reference }];
        }
    }
}

fn origin(entry: &Descriptor) -> Option<Reference> {
    entry.annotations.get(keys::ORIGIN)?.parse().ok()
}

fn is_marked(entry: &Descriptor) -> bool {
    entry.annotations.get(keys::ROOT).is_some_and(|value| value == "true")
}

/// Reads the name of an entry: `ref.name` may be a tag or a full reference, containerd's is a full reference.
///
/// Other text does not make the image invalid: tools put file names and titles there.
fn name(entry: &Descriptor, roots: &mut RootList) -> Option<ImageName> {
    let mut name = ImageName::default();
    let mut invalid = |text: &str| roots.invalid_name(text);
    if let Some(text) = entry.annotations.get(keys::REF_NAME) {
        match (text.parse::<Tag>(), text.parse::<Reference>()) {
            (Ok(tag), _) => name.tag = Some(tag),
            (Err(_), Ok(reference)) => name.reference = Some(reference),
            (Err(_), Err(_)) => invalid(text),
        }
    }
    if let Some(text) = entry.annotations.get(keys::CONTAINERD_NAME) {
        match text.parse::<Reference>() {
            Ok(reference) => name.reference = Some(reference),
            Err(_) => invalid(text),
        }
    }
    if name.tag.is_none() {
        name.tag = name.reference.as_ref().and_then(|reference| reference.tag.clone());
    }
    (name != ImageName::default()).then_some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use testkit::scratch::Scratch;

    use super::*;

    /// Writes a layout folder with these entries in `index.json` and these blobs.
    fn layout(entries: &[Value], blobs: &[&[u8]]) -> Scratch {
        let scratch = Scratch::new("layout");
        scratch.write(VERSION_FILE, r#"{"imageLayoutVersion":"1.0.0"}"#);
        scratch.write(INDEX_FILE, json!({ "schemaVersion": 2, "manifests": entries }).to_string());
        for blob in blobs {
            scratch.write(format!("blobs/sha256/{}", Digest::sha256_of(blob).hex()), blob);
        }
        scratch
    }

    fn entry(media_type: &str, blob: &[u8]) -> Value {
        json!({ "mediaType": media_type, "digest": Digest::sha256_of(blob).to_string(), "size": blob.len() })
    }

    fn open(scratch: &Scratch) -> Result<Store, StoreError> {
        let folder = std::fs::File::open(scratch.path()).unwrap();
        open_directory(folder.into(), scratch.path())
    }

    #[test]
    fn what_a_listed_index_names_is_no_root_of_its_own() {
        let (amd64, arm64) = (&b"amd64"[..], &b"arm64"[..]);
        let child = |blob| entry(media_type::OCI_MANIFEST, blob);
        let inner = json!({ "schemaVersion": 2, "manifests": [child(arm64)] }).to_string();
        let inner = inner.as_bytes();
        let outer =
            json!({ "schemaVersion": 2, "manifests": [child(amd64), entry(media_type::OCI_INDEX, inner)] });
        let outer = outer.to_string();
        let outer = outer.as_bytes();
        let mut named = child(arm64);
        named["annotations"] = json!({ keys::REF_NAME: "arm" });
        let index = entry(media_type::OCI_INDEX, outer);
        for (entries, expected) in [
            (vec![index.clone(), child(amd64), child(arm64)], vec![outer]),
            (vec![child(amd64), index.clone()], vec![outer]),
            (vec![index.clone(), named], vec![outer, arm64]),
            (vec![child(amd64), child(arm64)], vec![amd64, arm64]),
        ] {
            let store = open(&layout(&entries, &[amd64, arm64, inner, outer])).unwrap();
            let roots: Vec<_> =
                store.roots().iter().map(|root| root.image.descriptor.digest.clone()).collect();
            let expected: Vec<_> = expected.into_iter().map(Digest::sha256_of).collect();
            assert_eq!(roots, expected, "{entries:?}");
        }
        let absent = open(&layout(&[index, child(amd64)], &[amd64])).unwrap();
        assert_eq!(absent.roots().len(), 2, "an index that is not there names nothing");
    }

    #[test]
    fn a_list_of_platforms_in_index_json_is_one_image() {
        let (amd64, arm64) = (&b"amd64"[..], &b"arm64"[..]);
        let on = |blob: &[u8], os: &str, architecture: &str| {
            let mut entry = entry(media_type::OCI_MANIFEST, blob);
            entry["platform"] = json!({ "os": os, "architecture": architecture });
            entry
        };
        let with = |mut entry: Value, annotations: Value| {
            entry["annotations"] = annotations;
            entry
        };
        let both = || vec![on(amd64, "linux", "amd64"), on(arm64, "linux", "arm64")];
        let about = json!({
            keys::REFERENCE_TYPE: keys::ATTESTATION_MANIFEST,
            keys::REFERENCE_DIGEST: Digest::sha256_of(amd64).to_string(),
        });
        let attested = [both(), vec![with(on(b"statement", "unknown", "unknown"), about)]].concat();
        for entries in [both(), attested] {
            let scratch = layout(&entries, &[amd64, arm64]);
            let bytes = std::fs::read(scratch.join(INDEX_FILE)).unwrap();
            let store = open(&scratch).unwrap();
            let [root] = store.roots() else { panic!("one image: {:?}", store.roots()) };
            assert_eq!(root.image.descriptor.digest, Digest::sha256_of(&bytes));
            assert_eq!(store.blob_size(&root.image.descriptor.digest), Some(bytes.len() as u64));
            let read = crate::store::read_document(&store, &root.image.descriptor).unwrap();
            assert_eq!(read.bytes(), bytes);
        }
        let named = |tag: &str| json!({ keys::REF_NAME: tag });
        let origin = json!({ keys::ORIGIN: "reg.example/a:v1" });
        for entries in [
            vec![on(amd64, "linux", "amd64"), on(arm64, "linux", "amd64")],
            vec![on(amd64, "linux", "arm64"), with(on(arm64, "linux", "arm64"), json!({}))],
            vec![on(amd64, "linux", "amd64"), entry(media_type::OCI_MANIFEST, arm64)],
            vec![on(amd64, "linux", "amd64"), on(arm64, "unknown", "unknown")],
            vec![
                with(on(amd64, "linux", "amd64"), named("v1")),
                with(on(arm64, "linux", "arm64"), named("v2")),
            ],
            vec![with(on(amd64, "linux", "amd64"), origin), on(arm64, "linux", "arm64")],
        ] {
            let store = open(&layout(&entries, &[amd64, arm64])).unwrap();
            assert_eq!(store.roots().len(), 2, "{entries:?}");
        }
    }

    #[test]
    fn names_of_an_entry_are_tags_or_references() {
        let blob = b"image";
        let named = |annotations: Value| {
            let mut entry = entry(media_type::OCI_MANIFEST, blob);
            entry["annotations"] = annotations;
            entry
        };
        let store = open(&layout(
            &[
                named(json!({ keys::REF_NAME: "v1" })),
                named(json!({ keys::REF_NAME: "v1" })),
                named(json!({ keys::REF_NAME: "reg.example/a:v2" })),
                named(json!({ keys::REF_NAME: "v3", keys::CONTAINERD_NAME: "reg.example/a:v3" })),
                named(json!({ keys::REF_NAME: "not a name" })),
                named(json!({ keys::ORIGIN: "reg.example/b:1", keys::ROOT: "true" })),
            ],
            &[blob],
        ))
        .unwrap();
        let [root] = store.roots() else { panic!("one image: {:?}", store.roots()) };
        let names: Vec<_> = root
            .image
            .names
            .iter()
            .map(|name| {
                let reference = name.reference.as_ref().map(ToString::to_string);
                (
                    name.tag.as_ref().map(ToString::to_string).unwrap_or_default(),
                    reference.unwrap_or_default(),
                )
            })
            .collect();
        let expected = [("v1", ""), ("v2", "reg.example/a:v2"), ("v3", "reg.example/a:v3")];
        assert_eq!(names, expected.map(|(tag, name)| (tag.to_owned(), name.to_owned())));
        assert_eq!(root.image.origin.as_ref().map(ToString::to_string).as_deref(), Some("reg.example/b:1"));
        assert!(root.is_root_bundle);
        assert_eq!(
            store.remarks(),
            [
                Remark::EntryTwice(Digest::sha256_of(blob)),
                Remark::InvalidNames { count: 1, names: vec!["not a name".to_owned()] }
            ]
        );
    }

    #[test]
    fn layouts_that_contradict_themselves_are_damage() {
        let blob = b"image";
        let image = || entry(media_type::OCI_MANIFEST, blob);
        let mut other_size = image();
        other_size["size"] = json!(7);
        let foreign = entry("text/plain", blob);
        for (entries, expected) in [
            (vec![], "it lists no image"),
            (vec![foreign], "it lists no image, only content of type `text/plain`"),
            (vec![image(), other_size], "differ in size or type"),
        ] {
            let error = open(&layout(&entries, &[blob])).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        for (file, content, expected) in [
            (VERSION_FILE, r#"{"imageLayoutVersion":"2.0.0"}"#, "has version `2.0.0`, expected `1.0.0`"),
            (VERSION_FILE, "{}", "`oci-layout` is not valid"),
            (INDEX_FILE, "[]", "`index.json` is not valid: it is not a JSON object"),
        ] {
            let scratch = layout(&[image()], &[blob]);
            scratch.write(file, content);
            let error = open(&scratch).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        for (file, expected) in [(VERSION_FILE, "but no `oci-layout`"), (INDEX_FILE, "but no `index.json`")] {
            let scratch = layout(&[image()], &[blob]);
            std::fs::remove_file(scratch.join(file)).unwrap();
            let error = open(&scratch).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn what_cosign_saved_gets_the_tags_of_cosign() {
        let image = |content: &str, kind: &str, name: Option<&str>| {
            let descriptor = Descriptor::of_bytes(media_type::OCI_MANIFEST, content.as_bytes());
            let mut entry = json!({
                "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size,
                "annotations": { "kind": format!("dev.cosignproject.cosign/{kind}") },
            });
            if let Some(name) = name {
                entry["annotations"][keys::REF_NAME] = name.into();
            }
            entry
        };
        let names = |entries: &[Value]| -> Vec<String> {
            let bytes = json!({ "schemaVersion": 2, "manifests": entries }).to_string();
            let roots = top_of_index(bytes.as_bytes(), &mut Vec::new()).unwrap().roots;
            let name = |root: &Root| match root.image.names.first() {
                Some(ImageName { reference: Some(reference), .. }) => reference.to_string(),
                Some(ImageName { tag: Some(tag), .. }) => tag.to_string(),
                _ => String::new(),
            };
            roots.iter().map(name).collect()
        };
        let hex = |content: &str| Digest::sha256_of(content.as_bytes()).hex().to_owned();
        let saved = [
            image("a", "image", None),
            image("a.sig", "sigs", None),
            image("a.att", "atts", None),
            image("a.sbom", "sboms", None),
        ];
        let tag = |end: &str| format!("sha256-{}.{end}", hex("a"));
        assert_eq!(names(&saved), ["".to_owned(), tag("sig"), tag("att"), tag("sbom")]);
        let (a, b) = (Some("reg.example/a:v1"), Some("reg.example/b:v1"));
        let several = [
            image("a", "image", a),
            image("b", "imageIndex", b),
            image("b.sig", "sigs", b),
            image("c.sig", "sigs", Some("reg.example/c:v1")),
        ];
        let expected = [
            "reg.example/a:v1",
            "reg.example/b:v1",
            &format!("reg.example/b:sha256-{}.sig", hex("b")),
            "reg.example/c:v1",
        ];
        assert_eq!(names(&several), expected, "without its image it stays what it is");
    }
}
