//! Several layers packed at the same time, into files without names.
//!
//! Between the end of one layer and the beginning of the next a single packer would leave all but one thread idle.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::pack::{AppEntry, AppTree, LayerEncoding, PackedLayer};
use crate::stream::{WriteFrom, into_value, lock, nameless_file};
use crate::transfer::events::{Event, Observer};
use crate::transfer::produce::{Spooled, with_path};
use crate::transfer::{TransferError, workers};

use super::Base;

/// Most layers packed at the same time, each with three blocks of memory where one thread does it.
const PACKERS: usize = 16;
/// Most blocks of memory for all layers together that several threads compress.
const MOST_BLOCKS: usize = 64;

/// A layer, and where it is; nowhere if the base has it.
pub(super) type Placed = (PackedLayer, Option<Spooled>);

/// Takes a layer as soon as it is packed; from several threads.
pub(in crate::transfer) type Ready<'a> = &'a (dyn Fn(&Spooled) -> Result<(), TransferError> + Sync);

/// Finds a group's layer in the base; costs one reading of the group's files.
pub(super) fn reused(
    tree: &AppTree,
    group: &[usize],
    encoding: LayerEncoding,
    base: Option<&Base<'_>>,
    progress: &dyn Fn(u64),
) -> Result<Option<PackedLayer>, TransferError> {
    let Some(base) = base.filter(|base| base.has_layers()) else { return Ok(None) };
    let layer = tree.hash(group, &|_| ())?;
    let Some(found) = base.find(&layer.diff_id, encoding) else { return Ok(None) };
    progress(layer.size);
    Ok(Some(PackedLayer {
        descriptor: crate::model::Descriptor::new(&found.media_type, found.digest.clone(), found.size),
        diff_id: layer.diff_id,
        uncompressed_size: layer.size,
        entries: layer.entries,
        links_left_out: 0,
    }))
}

/// Files without names; each is lent to one thread at a time, which appends a layer.
pub(super) struct Spools<'a> {
    folder: &'a Path,
    /// Files that no thread writes to now.
    free: Mutex<Vec<Spool>>,
}

/// A file that grows at its end.
pub(super) struct Spool {
    pub(super) file: Arc<File>,
    pub(super) end: u64,
}

impl<'a> Spools<'a> {
    pub(super) fn new(folder: &'a Path) -> Self {
        Self { folder, free: Mutex::default() }
    }

    /// Lends a file that no layer is written to, or a new one.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut Spool) -> Result<T, TransferError>,
    ) -> Result<T, TransferError> {
        let free = lock(&self.free).pop();
        let mut spool = match free {
            Some(spool) => spool,
            None => Spool { file: Arc::new(nameless_file(self.folder)?), end: 0 },
        };
        let result = work(&mut spool);
        lock(&self.free).push(spool);
        result
    }
}

/// Returns the groups' numbers, each behind the size of its contents, the largest first.
fn by_size(tree: &AppTree, groups: &[Vec<usize>]) -> Vec<(u64, usize)> {
    let size = |group: &[usize]| -> u64 {
        group.iter().filter_map(|entry| tree.entries().get(*entry)).map(AppEntry::size).sum()
    };
    let mut sizes: Vec<_> = groups.iter().enumerate().map(|(number, group)| (size(group), number)).collect();
    sizes.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    sizes
}

/// Returns how many threads compress each of `large` layers; 0 if the packing thread compresses alone.
fn threads_each(threads: usize, large: usize) -> usize {
    let large = large.max(1);
    // What `stream::compress` takes: five blocks for each thread, and five more.
    let afforded = (MOST_BLOCKS / large).saturating_sub(5) / 5;
    let several = (threads / large).min(afforded);
    // One extra thread would cost the hand-over of blocks and gain no parallelism.
    if several == 1 && large > 1 { 0 } else { several }
}

/// Packs every group that the base has no layer for, and passes each packed layer to `ready`.
///
/// Shape: the bytes of a layer depend neither on how many are packed at the same time nor on their order.
pub(super) fn pack_layers(
    tree: &AppTree,
    groups: &[Vec<usize>],
    encoding: LayerEncoding,
    base: Option<&Base<'_>>,
    folder: &Path,
    observer: &dyn Observer,
    ready: Ready<'_>,
) -> Result<Vec<Placed>, TransferError> {
    let packers = encoding.threads.clamp(1, PACKERS);
    // The largest first, so that no large layer is packed alone at the end.
    let order = by_size(tree, groups);
    let total: u64 = order.iter().map(|(size, _)| size).sum();
    // One thread for each layer gives the best total time. A layer larger than a packer's share would finish last, so
    // several threads compress it.
    let share = total / packers as u64;
    let is_large = |size: u64| size > share || groups.len() == 1;
    let several = threads_each(packers, order.iter().filter(|(size, _)| is_large(*size)).count());
    let spools = Spools::new(folder);
    let done = Mutex::new(BTreeMap::new());
    let progress = |bytes| observer.event(Event::Packed { bytes });
    workers::for_each(&order, packers, |(size, number)| {
        let encoding = LayerEncoding { threads: if is_large(*size) { several } else { 0 }, ..encoding };
        let group = groups.get(*number).map_or(&[][..], Vec::as_slice);
        let layer = match reused(tree, group, encoding, base, &progress)? {
            Some(layer) => (layer, None),
            None => {
                let (layer, spooled) = spools.with(|spool| {
                    let offset = spool.end;
                    let mut sink = WriteFrom::new(&spool.file, offset);
                    let layer = tree.pack(group, encoding, &mut sink, &progress);
                    spool.end = sink.position();
                    let layer = layer.map_err(|error| with_path(error, folder))?;
                    let descriptor = layer.descriptor.clone();
                    Ok((layer, Spooled { descriptor, file: spool.file.clone(), offset }))
                })?;
                ready(&spooled)?;
                (layer, Some(spooled))
            }
        };
        lock(&done).insert(*number, layer);
        Ok(())
    })?;
    Ok(into_value(done).into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_layers_share_threads_and_memory() {
        let cases = [
            (1, 1, 1),
            (2, 1, 2),
            (8, 1, 8),
            (16, 1, 11),
            (8, 2, 4),
            (8, 3, 2),
            (16, 3, 3),
            (8, 5, 0),
            (16, 15, 0),
        ];
        for (threads, large, each) in cases {
            assert_eq!(threads_each(threads, large), each, "{threads} threads, {large} large layers");
            assert!(large * (5 * each + 5) <= MOST_BLOCKS || each == 0);
        }
    }
}
