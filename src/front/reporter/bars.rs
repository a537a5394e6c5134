//! Bars on a terminal: one for each blob in transfer, one for all of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::model::Digest;
use crate::stream::lock;
use crate::transfer::events::Event;

/// Smaller blobs get no bar, because they are done before it could be read; bytes.
const SMALL: u64 = 256 * 1024;
/// Most bars at the same time; more would scroll off a terminal.
const MOST: usize = 8;

/// The bars of one command.
#[derive(Debug)]
pub(super) struct Bars {
    screen: MultiProgress,
    all: ProgressBar,
    blobs: Mutex<HashMap<Digest, ProgressBar>>,
    /// Bytes of blobs that moved; some move before the total is known.
    moved: AtomicU64,
    planned: AtomicBool,
}

impl Bars {
    pub(super) fn new(screen: &MultiProgress) -> Self {
        let all = screen.add(ProgressBar::no_length());
        all.set_style(style("{spinner} {msg} {bytes} {bytes_per_sec} {elapsed}"));
        all.enable_steady_tick(Duration::from_millis(150));
        let (moved, planned) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { screen: screen.clone(), all, blobs: Mutex::new(HashMap::new()), moved, planned }
    }

    fn blobs(&self) -> MutexGuard<'_, HashMap<Digest, ProgressBar>> {
        lock(&self.blobs)
    }

    /// Shows an event.
    pub(super) fn take(&self, event: Event<'_>) {
        match event {
            Event::Packed { bytes } => self.advance("packing", bytes),
            Event::Extracted { bytes } => self.advance("extracting", bytes),
            Event::Verified { bytes } => self.advance("verifying", bytes),
            Event::PackFinished { .. } => self.all.reset(),
            Event::Planned { bytes, .. } => {
                self.all.set_message("all");
                self.all.set_length(bytes);
                self.all.set_style(style(
                    "{spinner} {msg:20} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
                ));
                self.planned.store(true, Ordering::Relaxed);
                self.all.set_position(self.moved.load(Ordering::Relaxed));
            }
            Event::BlobStarted { descriptor } if descriptor.size >= SMALL => {
                let mut blobs = self.blobs();
                if blobs.len() < MOST {
                    let bar = self.screen.insert_before(&self.all, ProgressBar::new(descriptor.size));
                    bar.set_style(style("  {msg:20} [{bar:30}] {bytes}/{total_bytes}"));
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
            Event::BlobFinished { descriptor, .. } => {
                if let Some(bar) = self.blobs().remove(&descriptor.digest) {
                    bar.finish_and_clear();
                    self.screen.remove(&bar);
                }
            }
            Event::BlobStarted { .. }
            | Event::ManifestFinished { .. }
            | Event::TagWritten { .. }
            | Event::Gathering { .. }
            | Event::Warning(_) => {}
        }
    }

    fn advance(&self, what: &'static str, bytes: u64) {
        self.all.set_message(what);
        self.all.inc(bytes);
    }

    /// Takes all bars off the screen.
    pub(super) fn clear(&self) {
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
    use crate::transfer::events::BlobOutcome;

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
    fn templates_are_valid() {
        for template in [
            "{spinner} {msg} {bytes} {bytes_per_sec} {elapsed}",
            "  {msg:20} [{bar:30}] {bytes}/{total_bytes}",
        ] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
