//! Files of an earlier image that an upload left out: read from its verified layers, compared by SHA-1 and size.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::model::FileSum;
use crate::pack::{Resource, RestoredFile, RestoredFiles};
use crate::stream::{FileError, WriteFrom, into_value, lock};
use crate::tar::display_name;
use crate::transfer::layer_files::for_each_file;
use crate::transfer::{TransferError, workers};

use super::Base;
use super::packing::Spools;

/// Finds resources among the files of an earlier image and copies them into files without names in `folder`.
///
/// Shape: one entry for each resource, also where two have the same bytes.
/// Errors: a resource for which no file of the image has the same SHA-1 and size.
/// Cost: reads the image's layers; as much space as the resources have bytes.
pub(super) fn restore_files(
    base: Option<&Base<'_>>,
    resources: &[Resource],
    folder: &Path,
    concurrency: usize,
) -> Result<RestoredFiles, TransferError> {
    let wanted: HashSet<FileSum> = resources.iter().map(|resource| resource.sum).collect();
    let sizes: HashSet<u64> = wanted.iter().map(|sum| sum.size).collect();
    let spools = Spools::new(folder);
    let found: Mutex<HashMap<FileSum, (Arc<File>, u64)>> = Mutex::default();
    if let Some(base) = base.filter(|_| !wanted.is_empty()) {
        workers::for_each(&base.files, concurrency, |layer| {
            spools.with(|spool| {
                for_each_file(base.source, layer, |file| {
                    if !sizes.contains(&file.entry.size) {
                        return Ok(());
                    }
                    let start = spool.end;
                    let mut copy = WriteFrom::new(&spool.file, start);
                    let write = |error| FileError::io("write", folder, error);
                    let sum = file.hash(|bytes| Ok(copy.write_all(bytes).map_err(write)?))?;
                    let end = copy.position();
                    if wanted.contains(&sum) {
                        // Only a wanted file that is not kept yet keeps its space; the next file overwrites any other.
                        lock(&found).entry(sum).or_insert_with(|| {
                            spool.end = end;
                            (spool.file.clone(), start)
                        });
                    }
                    Ok(())
                })
            })
        })?;
    }
    let found = into_value(found);
    let place = |resource: &Resource| match found.get(&resource.sum) {
        Some((file, offset)) => {
            Ok(RestoredFile { resource: resource.clone(), file: file.clone(), offset: *offset })
        }
        None => Err(TransferError::NoSuchFile {
            place: base.map(|base| base.source.label()),
            path: display_name(&resource.path),
            sha1: resource.sum.to_string(),
            size: resource.sum.size,
        }),
    };
    let entries = resources.iter().map(place).collect::<Result<_, _>>()?;
    Ok(RestoredFiles { entries })
}
