//! Options for gathering a collection.

/// Which images a collection includes.
#[derive(Clone, Copy, Debug)]
pub struct Gathering {
    /// Find what bundles name, and what those name.
    pub thick: bool,
    /// Which attached manifests are looked for.
    pub attached: Attached,
    /// Images read at the same time.
    pub concurrency: usize,
}

/// Which attached manifests are looked for beside each image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Signatures, attestations and SBOMs under cosign's tags.
    pub cosign: bool,
    /// Manifests whose `subject` the image is.
    pub referrers: bool,
    /// imgpkg's locations images. Only for descriptions: a copy writes its own.
    pub locations: bool,
}
