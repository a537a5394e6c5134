//! `--without`: finds the layers that the target has already, and describes the blobs that a tar lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::looking::ALONE;
use super::open_source::Depth;
use super::open_source::OpenedSource;
use super::resolve::{CopyOptions, RegistryOptions, Source};
use super::stores::{open_depot_image, open_store, open_tar_url, read_lock};
use crate::front::context::Context;
use crate::front::failure::Failure;
use crate::front::text;
use crate::model::Digest;
use crate::store::{LeftOut, Store};
use crate::transfer::events::{Event, Observer, Warning};
use crate::transfer::{self, Collection, ImageLocator};

/// Finds the layers of a copy that the target has, each with the name of the image or tar that has it.
///
/// Errors: anything that cannot be read, because the tar would then hold too much or lack too much.
pub(super) fn layers_of_others(
    context: &Context<'_>,
    options: &CopyOptions,
    locator: &ImageLocator<'_>,
    collection: &Collection,
    observer: &dyn Observer,
) -> Result<BTreeMap<Digest, String>, Failure> {
    let mut others = blobs_of_others(context, &options.without, &options.registry, observer)?;
    transfer::keep_needed(locator, collection, &mut others)?;
    Ok(others)
}

/// Describes the blobs that a tar was written without.
pub(super) fn tell_left_out(context: &Context<'_>, left_out: &[LeftOut], observer: &dyn Observer) {
    if left_out.is_empty() {
        observer.event(Event::Warning(&Warning::NothingShared));
    } else {
        context.ui.note(&format!("left out {}", needed(left_out)));
    }
}

fn blobs_of_others(
    context: &Context<'_>,
    others: &[Source],
    registry: &RegistryOptions,
    observer: &dyn Observer,
) -> Result<BTreeMap<Digest, String>, Failure> {
    let mut all = BTreeMap::new();
    for other in others {
        let (name, blobs) = match other {
            Source::Tar(path) | Source::OciTar(path) | Source::Lock(path) => {
                of_file(context, path, registry, observer)?
            }
            Source::Image(reference) | Source::Bundle(reference) => {
                (reference.to_string(), of_source(context, other, registry, observer)?)
            }
            Source::WebTar(url) => {
                let store = open_tar_url(context, url, registry)?;
                (name_of(&store).unwrap_or_else(|| store.path().display().to_string()), blobs_of(&store))
            }
            Source::Store(reference) => {
                let store = open_depot_image(context, reference, registry)?.store;
                (reference.to_string(), blobs_of(&store))
            }
        };
        for blob in blobs {
            all.entry(blob).or_insert_with(|| name.clone());
        }
    }
    Ok(all)
}

/// Reads a tar, a folder, a lock file or a list of digests.
fn of_file(
    context: &Context<'_>,
    path: &Path,
    registry: &RegistryOptions,
    observer: &dyn Observer,
) -> Result<(String, BTreeSet<Digest>), Failure> {
    let file_name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    if !path.is_dir() && is_text(path) {
        let content = read_lock(path)?;
        let blobs = match digests(&content) {
            Some(blobs) => blobs,
            None => of_source(context, &Source::Lock(path.to_owned()), registry, observer)?,
        };
        return Ok((file_name, blobs));
    }
    let store = open_store(context, path)?;
    Ok((name_of(&store).unwrap_or(file_name), blobs_of(&store)))
}

/// Returns the blobs of a store; the target has those that a delta tar lacks, too.
fn blobs_of(store: &Store) -> BTreeSet<Digest> {
    let left_out = store.left_out().map(|blob| blob.digest.clone());
    store.blobs().into_iter().chain(left_out).collect()
}

/// Returns the name of a store's one image.
fn name_of(store: &Store) -> Option<String> {
    let marked = store.roots().iter().find(|root| root.is_root_bundle);
    let root = match (store.roots(), marked) {
        ([only], _) => only,
        (_, marked) => marked?,
    };
    root.image.names.iter().find_map(|name| name.reference.as_ref().map(ToString::to_string))
}

/// Tells whether a file begins like a text and not like an archive.
fn is_text(path: &Path) -> bool {
    let mut start = [0; 64];
    let count = std::fs::File::open(path).and_then(|mut file| std::io::Read::read(&mut file, &mut start));
    begins_as_text(&start[..count.unwrap_or(0)])
}

fn begins_as_text(start: &[u8]) -> bool {
    // The last character may continue after these bytes.
    let is_utf8 = std::str::from_utf8(start).map_or_else(|error| error.error_len().is_none(), |_| true);
    is_utf8 && !start.is_empty() && !start.contains(&0)
}

/// Reads a list of digests, one a line; text after the digest, and lines with `#`, are ignored.
fn digests(text: &str) -> Option<BTreeSet<Digest>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

fn of_source(
    context: &Context<'_>,
    source: &Source,
    registry: &RegistryOptions,
    observer: &dyn Observer,
) -> Result<BTreeSet<Digest>, Failure> {
    let depth = Depth { thick: true, ..ALONE };
    let opened = OpenedSource::open(context, source, registry, true)?;
    let locator = opened.locator()?;
    let collection = opened.gather(&locator, depth, registry, observer)?;
    if let (Source::Image(reference), Some(_)) =
        (source, collection.members.first().and_then(|member| member.bundle.as_ref()))
    {
        // A bundle includes its images, if it was given as a bundle.
        return of_source(context, &Source::Bundle(reference.clone()), registry, observer);
    }
    Ok(transfer::layers_of(&locator, &collection)?)
}

/// Describes the missing blobs: `7 blobs (1.2 GiB) of reg.example/app:v1`.
pub(super) fn needed(blobs: &[LeftOut]) -> String {
    let mut by_place: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for blob in blobs {
        let (count, size) = by_place.entry(&blob.from).or_default();
        *count += 1;
        *size += blob.size;
    }
    let part = |(place, (count, size)): (&str, (u64, u64))| {
        format!("{} ({}) of {}", text::counted(count, "blob"), text::bytes(size), text::escaped(place))
    };
    by_place.into_iter().map(part).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_a_digest_on_each_line() {
        let digest = Digest::sha256_of(b"a");
        let list =
            digests(&format!("# layers\n\n{digest}  12 bytes\n{}\n", Digest::sha256_of(b"b"))).unwrap();
        assert!(list.len() == 2 && list.contains(&digest));
        assert_eq!(digests("kind: ImagesLock\n"), None);
        assert_eq!(digests(&format!("{digest}\nno digest\n")), None);
    }

    #[test]
    fn a_text_may_be_cut_inside_its_last_character() {
        for (start, expected) in [
            (&b""[..], false),
            (b"sha256:", true),
            ("# Schichten für v1".as_bytes(), true),
            (&"# Schichten f\u{fc}r".as_bytes()[..14], true),
            (b"# f\xfcr v1", false),
            (b"a\0", false),
            (b"\x1f\x8b\x08", false),
        ] {
            assert_eq!(begins_as_text(start), expected, "{start:?}");
        }
    }

    #[test]
    fn what_is_needed_is_counted_by_where_it_was() {
        let blob = |content: &[u8], size, from: &str| LeftOut {
            digest: Digest::sha256_of(content),
            size,
            from: from.to_owned(),
        };
        let blobs = [blob(b"1", 1024, "a"), blob(b"2", 1024, "b\n"), blob(b"3", 512, "a")];
        assert_eq!(needed(&blobs), "2 blobs (1.5 KiB) of a, 1 blob (1.0 KiB) of b\\n");
    }
}
