//! In which form a registry takes the bytes of a blob.

pub(super) const MIB: u64 = 1024 * 1024;
/// Chunk sizes that are tried, largest first; GHCR takes at most 4 MiB, AWS at least 5 MiB but says so.
const CHUNKS: [u64; 5] = [64 * MIB, 16 * MIB, 8 * MIB, 4 * MIB, MIB];
/// The form in which a registry takes blobs, as far as we have learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum UploadForm {
    /// One PATCH without a range, then an empty PUT.
    #[default]
    Patch,
    /// Everything in the PUT.
    Monolithic,
    /// PATCHes with ranges, at most so many bytes each.
    Chunked(u64),
}

impl UploadForm {
    /// Returns the form to try when this one was refused; `too_large` when the size of a body was the reason.
    pub(super) fn next(self, too_large: bool) -> Option<Self> {
        match self {
            Self::Patch if !too_large => Some(Self::Monolithic),
            _ if !too_large => None,
            Self::Patch | Self::Monolithic => CHUNKS.first().map(|size| Self::Chunked(*size)),
            Self::Chunked(size) => CHUNKS.into_iter().find(|smaller| *smaller < size).map(Self::Chunked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_forms_lead_to_smaller_ones_until_none_is_left() {
        let mut form = UploadForm::Patch;
        let mut seen = vec![form];
        while let Some(next) = form.next(true) {
            form = next;
            seen.push(form);
        }
        assert_eq!(seen.len(), 1 + CHUNKS.len());
        assert_eq!(seen.last(), Some(&UploadForm::Chunked(MIB)));
        assert_eq!(UploadForm::Patch.next(false), Some(UploadForm::Monolithic));
        assert_eq!(UploadForm::Monolithic.next(false), None);
    }
}
