//! Tars that hold the images of some platforms of an index only, as docker with the containerd store and skopeo write.
//!
//! Such a tar is not damaged if it holds at least one image of the index. It can be described, verified and pulled; a
//! copy of the whole index is refused.

use crate::model::{Descriptor, Digest, ImageIndex};

use super::{ImageSource, TransferError};

/// Returns the manifests of an index that the source does not hold; none if it holds no image at all.
pub(super) fn lacking<'a>(source: &dyn ImageSource, index: &'a ImageIndex) -> Vec<&'a Descriptor> {
    let (lacking, there) = split(source, index);
    if there.is_empty() { Vec::new() } else { lacking }
}

fn split<'a>(source: &dyn ImageSource, index: &'a ImageIndex) -> (Vec<&'a Descriptor>, Vec<&'a Descriptor>) {
    let documents = index.manifests.iter().filter(|child| child.is_index() || child.is_manifest());
    let (lacking, there): (Vec<_>, Vec<_>) = documents.partition(|child| source.lacks(&child.digest));
    // A manifest without a platform was not left out for its platform.
    (lacking.into_iter().filter(|child| child.platform.is_some()).collect(), there)
}

/// Makes the error for work that needs the whole index.
pub(super) fn error(
    source: &dyn ImageSource,
    index: &ImageIndex,
    digest: &Digest,
    lacking: &[&Descriptor],
) -> TransferError {
    let (_, there) = split(source, index);
    let platform = |child: &&Descriptor| child.platform.clone().filter(|platform| platform.os != "unknown");
    TransferError::Sparse {
        place: source.label(),
        index: digest.clone(),
        lacking: lacking.iter().map(|child| name(child)).collect(),
        there: there.iter().filter_map(platform).map(|platform| platform.to_string()).collect(),
    }
}

/// Returns the name of an index entry for messages: its platform, or its kind.
pub(super) fn name(child: &Descriptor) -> String {
    match &child.platform {
        Some(platform) if platform.os != "unknown" => platform.to_string(),
        Some(_) => format!("attestation {}", child.digest.short()),
        None => child.digest.short(),
    }
}
