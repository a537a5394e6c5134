//! How long the steps of pushes and collections may take. Source: docs/formats/store.md, "Deleting".

use std::time::Duration;

/// How long everything may take. Only tests have other times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    /// A writer writes its entries so long after it read the marks, or reads them again.
    pub(super) push: Duration,
    /// A collection deletes for so long.
    pub(super) sweep: Duration,
    /// A collection that began so long ago is dead.
    pub(super) started: Duration,
    /// Between two looks at a collection that is waited for.
    pub(super) pause: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self { push: minutes(60), sweep: minutes(5), started: minutes(30), pause: Duration::from_secs(1) }
    }
}
