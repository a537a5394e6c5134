//! How many signatures, attestations and other manifests are about images; for messages.

/// A number for each kind of what is attached to images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachedCounts {
    /// Signatures; a manifest of cosign's may hold several.
    pub signatures: usize,
    /// Signed statements.
    pub attestations: usize,
    /// Lists of components that are not signed.
    pub sboms: usize,
    /// Manifests of other types.
    pub referrers: usize,
}

impl AttachedCounts {
    /// Returns the number of all of them.
    #[must_use]
    pub fn total(&self) -> usize {
        self.signatures + self.attestations + self.sboms + self.referrers
    }
}

impl std::ops::AddAssign for AttachedCounts {
    fn add_assign(&mut self, other: Self) {
        self.signatures += other.signatures;
        self.attestations += other.attestations;
        self.sboms += other.sboms;
        self.referrers += other.referrers;
    }
}
