//! Options for gathering a collection.

/// How far a collection goes.
#[derive(Clone, Copy, Debug)]
pub struct Gathering {
    /// Find what bundles name, and what those name.
    pub thick: bool,
    /// What is looked for that says something about each image.
    pub attached: Attached,
    /// Images looked at at the same time.
    pub concurrency: usize,
}

/// What is looked for beside each image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Signatures, attestations and SBOMs under cosign's tags.
    pub cosign: bool,
    /// Manifests whose `subject` the image is.
    pub referrers: bool,
    /// Where a bundle's images are, as imgpkg writes it down. For looking at only: a copy writes its own.
    pub locations: bool,
}
