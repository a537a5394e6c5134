//! Bars on a terminal: one for each blob in transfer, one for all of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::model::Digest;
use crate::stream::lock;
use crate::transfer::events::{BlobOutcome, Event};

/// Blobs below this size, bytes, get no bar, because they are done before a user could read it.
const SMALL: u64 = 256 * 1024;
/// Most bars at the same time; more would scroll off a terminal.
const MOST: usize = 8;

/// A counter without a known end.
const COUNTER: &str = "{spinner} {msg} {binary_bytes} {binary_bytes_per_sec} {elapsed}";
/// All blobs together; the bar takes the columns that are left, so that a line fits any terminal.
const TOTAL: &str =
    "{spinner} {msg} [{wide_bar}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
/// One blob.
const BLOB: &str = "  {msg:20} [{wide_bar}] {binary_bytes}/{binary_total_bytes}";

/// The bars of one command.
#[derive(Debug)]
pub(super) struct Bars {
    screen: MultiProgress,
    all: ProgressBar,
    blobs: Mutex<HashMap<Digest, ProgressBar>>,
    /// Bytes of blobs that moved; some move before the total is known.
    moved: AtomicU64,
    planned: AtomicBool,
    planned_bytes: AtomicU64,
    /// Bytes of blobs that the target had already, also of blobs that were not planned yet.
    spared_bytes: AtomicU64,
    /// Extracted bytes are more than fetched ones, and have a line of their own.
    extracted: OnceLock<ProgressBar>,
}

impl Bars {
    pub(super) fn new(screen: &MultiProgress) -> Self {
        let all = screen.add(ProgressBar::no_length());
        all.set_style(style(COUNTER));
        all.set_message("working");
        all.enable_steady_tick(Duration::from_millis(150));
        let (moved, planned) = (AtomicU64::new(0), AtomicBool::new(false));
        let blobs = Mutex::new(HashMap::new());
        let (planned_bytes, spared_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let (screen, extracted) = (screen.clone(), OnceLock::new());
        Self { screen, all, blobs, moved, planned, planned_bytes, spared_bytes, extracted }
    }

    fn blobs(&self) -> MutexGuard<'_, HashMap<Digest, ProgressBar>> {
        lock(&self.blobs)
    }

    /// Shows an event.
    pub(super) fn take(&self, event: Event<'_>) {
        match event {
            Event::Packed { bytes } => self.advance("packing", bytes),
            Event::Extracted { bytes } => self.extracted().inc(bytes),
            Event::Verified { bytes } => self.advance("checking", bytes),
            Event::Planned { bytes, .. } => {
                self.all.set_message("all");
                self.planned_bytes.fetch_add(bytes, Ordering::Relaxed);
                self.all.set_length(self.to_move());
                self.all.set_style(style(TOTAL));
                if !self.planned.swap(true, Ordering::Relaxed) {
                    // The rate so far is the rate of packing.
                    self.all.reset();
                }
                self.all.set_position(self.moved.load(Ordering::Relaxed));
            }
            Event::BlobStarted { descriptor } if descriptor.size >= SMALL => {
                let mut blobs = self.blobs();
                if blobs.len() < MOST {
                    let bar = self.screen.insert_before(&self.all, ProgressBar::new(descriptor.size));
                    bar.set_style(style(BLOB));
                    bar.set_message(descriptor.digest.short());
                    blobs.insert(descriptor.digest.clone(), bar);
                }
            }
            Event::BlobProgress { digest, bytes } => {
                self.moved.fetch_add(bytes, Ordering::Relaxed);
                // Until then the line shows the packing.
                if self.planned.load(Ordering::Relaxed) {
                    self.all.inc(bytes);
                }
                if let Some(bar) = self.blobs().get(digest) {
                    bar.inc(bytes);
                }
            }
            Event::BlobRestarted { digest } => {
                if let Some(bar) = self.blobs().get(digest) {
                    let again = bar.position();
                    let before = self.moved.fetch_sub(again, Ordering::Relaxed);
                    if self.planned.load(Ordering::Relaxed) {
                        self.all.set_position(before.saturating_sub(again));
                    }
                    bar.reset();
                }
            }
            Event::BlobFinished { descriptor, outcome } => {
                // A blob that is there already is not moved.
                if matches!(outcome, BlobOutcome::Present | BlobOutcome::Mounted) {
                    self.spared_bytes.fetch_add(descriptor.size, Ordering::Relaxed);
                    if self.planned.load(Ordering::Relaxed) {
                        self.all.set_length(self.to_move());
                    }
                }
                if let Some(bar) = self.blobs().remove(&descriptor.digest) {
                    bar.finish_and_clear();
                    self.screen.remove(&bar);
                }
            }
            Event::BlobStarted { .. }
            | Event::PackFinished { .. }
            | Event::ManifestFinished { .. }
            | Event::TagWritten { .. }
            | Event::Gathering { .. }
            | Event::Warning(_) => {}
        }
    }

    fn to_move(&self) -> u64 {
        self.planned_bytes.load(Ordering::Relaxed).saturating_sub(self.spared_bytes.load(Ordering::Relaxed))
    }

    fn advance(&self, what: &'static str, bytes: u64) {
        self.all.set_message(what);
        self.all.inc(bytes);
    }

    fn extracted(&self) -> &ProgressBar {
        self.extracted.get_or_init(|| {
            let line = self.screen.insert_after(&self.all, ProgressBar::no_length());
            line.set_style(style(COUNTER));
            line.set_message("extracted");
            line
        })
    }

    /// Removes all bars from the screen.
    pub(super) fn clear(&self) {
        if let Some(line) = self.extracted.get() {
            line.finish_and_clear();
        }
        for (_, bar) in self.blobs().drain() {
            bar.finish_and_clear();
        }
        self.all.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Descriptor, media_type};

    #[test]
    fn bars_follow_the_bytes_and_leave_nothing_behind() {
        let screen = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden());
        let bars = Bars::new(&screen);
        let layer = Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::sha256_of(b"x"), SMALL);
        bars.take(Event::Planned { blobs: 1, bytes: SMALL });
        bars.take(Event::BlobStarted { descriptor: &layer });
        bars.take(Event::BlobProgress { digest: &layer.digest, bytes: 1000 });
        assert_eq!(bars.all.position(), 1000);
        bars.take(Event::BlobRestarted { digest: &layer.digest });
        assert_eq!((bars.all.position(), bars.blobs().len()), (0, 1));
        bars.take(Event::BlobFinished { descriptor: &layer, outcome: BlobOutcome::Transferred });
        assert_eq!(bars.blobs().len(), 0);
        bars.clear();
        assert!(bars.all.is_finished());
    }

    #[test]
    fn what_moved_while_others_were_packed_counts_when_the_whole_is_known() {
        let screen = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden());
        let bars = Bars::new(&screen);
        let layer = Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::sha256_of(b"x"), SMALL);
        bars.take(Event::BlobStarted { descriptor: &layer });
        bars.take(Event::Packed { bytes: 5000 });
        bars.take(Event::BlobProgress { digest: &layer.digest, bytes: 1000 });
        assert_eq!(bars.all.position(), 5000, "so much is packed");
        bars.take(Event::PackFinished { entries: 1, uncompressed: 5000, compressed: SMALL });
        bars.take(Event::Planned { blobs: 1, bytes: SMALL });
        bars.take(Event::BlobProgress { digest: &layer.digest, bytes: 200 });
        assert_eq!(bars.all.position(), 1200);
    }

    #[test]
    fn what_is_there_already_is_no_part_of_what_is_to_move() {
        let screen = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden());
        let bars = Bars::new(&screen);
        let layer = |size| Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::sha256_of(b"x"), size);
        bars.take(Event::Planned { blobs: 2, bytes: 300 });
        bars.take(Event::Planned { blobs: 1, bytes: 50 });
        assert_eq!(bars.all.length(), Some(350));
        for outcome in [BlobOutcome::Present, BlobOutcome::Mounted] {
            bars.take(Event::BlobFinished { descriptor: &layer(100), outcome });
        }
        bars.take(Event::BlobFinished { descriptor: &layer(150), outcome: BlobOutcome::Transferred });
        assert_eq!(bars.all.length(), Some(150));
    }

    #[test]
    fn extracted_bytes_do_not_fill_the_bar_of_what_is_fetched() {
        let screen = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden());
        let bars = Bars::new(&screen);
        let layer = Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::sha256_of(b"x"), SMALL);
        bars.take(Event::Planned { blobs: 1, bytes: SMALL });
        bars.take(Event::BlobProgress { digest: &layer.digest, bytes: 1000 });
        bars.take(Event::Extracted { bytes: 5000 });
        assert_eq!((bars.all.position(), bars.extracted().position()), (1000, 5000));
        bars.clear();
        assert!(bars.extracted().is_finished());
    }

    #[test]
    fn templates_are_valid() {
        for template in [COUNTER, TOTAL, BLOB] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
