//! Writes signatures beside their images: in a layout tar, which is rewritten, in a layout folder, or in a registry.

use std::collections::HashSet;

use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::model::{Annotations, Digest, Repository, Target, keys, limits, media_type};
use crate::registry::{Client, PushStart};
use crate::store::layout::LayoutTarget;
use crate::store::{ImageName, NamedImage, Store, StoreError};
use crate::stream::{AtomicFile, FileError, read_text_file};

use super::super::events::{Event, Observer};
use super::super::root_names::{ListedEntry, cosign_kinds, index_entries, set_kind};
use super::super::{CombinedSource, Graph, LayoutRequest, TransferError, confirm, copy_delta_to_layout};
use super::make::Addition;

const MODE: u32 = 0o644;

fn named(addition: &Addition) -> NamedImage {
    let name = addition.tag.as_ref().map(|tag| ImageName { tag: Some(tag.clone()), reference: None });
    NamedImage { names: name.into_iter().collect(), ..NamedImage::unnamed(addition.manifest.descriptor()) }
}

/// Rewrites a layout tar with the additions; images keep their bytes, and a delta tar stays one.
///
/// Atomicity: the file is replaced as a whole, or stays as it was.
/// Cost: writes the tar once.
pub fn add_to_layout(
    store: &Store,
    additions: &[Addition],
    concurrency: usize,
    observer: &dyn Observer,
) -> Result<(), TransferError> {
    let is_replaced = |digest: &Digest| additions.iter().any(|one| one.replaced.as_ref() == Some(digest));
    let kept = store.roots().iter().map(|root| root.image.clone());
    let mut roots: Vec<NamedImage> = kept.filter(|root| !is_replaced(&root.descriptor.digest)).collect();
    roots.extend(additions.iter().map(named));
    let source = CombinedSource::new(store.path().display().to_string(), vec![store])
        .with(additions.iter().map(|one| one.manifest.clone()))
        .with_blobs(additions.iter().flat_map(|one| one.blobs.iter().cloned()));
    let request = LayoutRequest {
        target: LayoutTarget::File(store.path().to_owned()),
        roots,
        concurrency,
        include_non_distributable: false,
    };
    let left_out = store.lacking().map(|blob| (blob.digest.clone(), blob.from.clone())).collect();
    copy_delta_to_layout(&source, &request, &left_out, observer)?;
    Ok(())
}

/// Writes the additions into a layout folder: blobs, then manifests, `index.json` last.
///
/// Atomicity: each file appears whole; nothing points at them before `index.json` is written.
pub fn add_to_folder(store: &Store, additions: &[Addition]) -> Result<(), TransferError> {
    let folder = store.path();
    let write = |digest: &Digest, bytes: &[u8]| {
        let parent = folder.join("blobs").join(digest.algorithm().name());
        std::fs::create_dir_all(&parent).map_err(|error| FileError::io("create", &parent, error))?;
        let path = parent.join(digest.hex());
        if store.blob_size(digest).is_none() {
            AtomicFile::write_whole(&path, bytes, MODE)?;
        }
        Ok::<(), TransferError>(())
    };
    for addition in additions {
        for (descriptor, bytes) in &addition.blobs {
            write(&descriptor.digest, bytes)?;
        }
        write(addition.manifest.digest(), addition.manifest.bytes())?;
    }
    let path = folder.join("index.json");
    let index = with_entries(&read_text_file(&path, limits::TABLE_OF_CONTENTS_BYTES)?, additions);
    let index = index.map_err(|error| {
        let problem = format!("`index.json` is not valid: {error}");
        StoreError::Damaged { path: folder.to_owned(), problem }
    })?;
    AtomicFile::write_whole(&path, index.as_bytes(), MODE)?;
    remove_replaced(store, additions)
}

/// Removes blobs that only a replaced manifest pointed at. After a failure an unreferenced file stays.
fn remove_replaced(store: &Store, additions: &[Addition]) -> Result<(), TransferError> {
    let replaced: Vec<&Digest> = additions.iter().filter_map(|one| one.replaced.as_ref()).collect();
    let (mut old, mut kept) = (Graph::default(), Graph::default());
    for root in store.roots() {
        let descriptor = &root.image.descriptor;
        let graph = if replaced.contains(&&descriptor.digest) { &mut old } else { &mut kept };
        graph.add(store, descriptor)?;
    }
    let new = additions.iter().flat_map(|one| {
        let below = one.manifest.manifest().into_iter().flat_map(|manifest| &manifest.layers);
        below.map(|layer| &layer.digest).chain(one.blobs.iter().map(|(blob, _)| &blob.digest))
    });
    let needed: HashSet<&Digest> = kept.digests().chain(new).collect();
    for digest in old.digests().filter(|digest| !needed.contains(digest)) {
        let path = store.path().join("blobs").join(digest.algorithm().name()).join(digest.hex());
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Pushes the additions: blobs, then the manifest, by its tag or digest.
///
/// If two signers add to one tag at the same moment, the later write replaces the earlier one, as with cosign.
pub fn add_to_registry(
    client: &Client,
    repository: &Repository,
    additions: &[Addition],
    observer: &dyn Observer,
) -> Result<(), TransferError> {
    for addition in additions {
        for (descriptor, bytes) in &addition.blobs {
            client.push_blob(repository, descriptor, bytes, PushStart::Ask(&[]), &|_| {})?;
        }
        let digest = addition.manifest.digest();
        let target = match &addition.tag {
            Some(tag) => Target::Tag(tag.clone()),
            None => Target::Digest(digest.clone()),
        };
        client.push_manifest(repository, &target, &addition.manifest)?;
        if let Some(tag) = &addition.tag {
            confirm(client, repository, tag, digest, observer)?;
        }
        observer
            .event(Event::ManifestFinished { descriptor: &addition.manifest.descriptor(), present: false });
        if let Some(tag) = &addition.tag {
            observer.event(Event::TagWritten { repository, tag, digest, unchanged: false });
        }
    }
    Ok(())
}

/// Sets cosign's kind of each entry, as a new layout has it.
fn mark(entries: &mut [Value]) {
    let listed = |entry: &Value| {
        let digest = entry["digest"].as_str()?.parse().ok()?;
        let tag = entry["annotations"][keys::REF_NAME].as_str().map(str::to_owned);
        let is_index = entry["mediaType"].as_str().is_some_and(media_type::is_index);
        Some((digest, tag, is_index))
    };
    let Some(listed) = entries.iter().map(listed).collect::<Option<Vec<(Digest, _, _)>>>() else { return };
    let listed: Vec<ListedEntry<'_>> = listed
        .iter()
        .map(|(digest, tag, is_index)| ListedEntry {
            digest: digest.clone(),
            tag: tag.as_deref(),
            is_index: *is_index,
        })
        .collect();
    for (entry, kind) in entries.iter_mut().zip(cosign_kinds(&listed)) {
        let Some(entry) = entry.as_object_mut() else { continue };
        let annotations = entry.entry("annotations").or_insert_with(|| json!({}));
        let Ok(mut all) = Annotations::deserialize(&*annotations) else { continue };
        set_kind(&mut all, kind);
        match all.is_empty() {
            true => drop(entry.remove("annotations")),
            false => *annotations = json!(all),
        }
    }
}

/// Adds entries to an `index.json` and removes those of replaced manifests; everything else stays.
fn with_entries(index: &str, additions: &[Addition]) -> Result<String, serde_json::Error> {
    let mut index: Value = serde_json::from_str(index)?;
    let new = index_entries(&additions.iter().map(named).collect::<Vec<_>>());
    let replaced: Vec<String> =
        additions.iter().filter_map(|one| one.replaced.as_ref()).map(Digest::to_string).collect();
    if let Some(entries) = index.get_mut("manifests").and_then(Value::as_array_mut) {
        entries.retain(|entry| {
            !entry["digest"].as_str().is_some_and(|digest| replaced.iter().any(|one| one == digest))
        });
        for entry in new {
            entries.push(serde_json::to_value(entry)?);
        }
        mark(entries);
    }
    serde_json::to_string(&index)
}
