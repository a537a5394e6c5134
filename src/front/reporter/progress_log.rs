//! Counts events and makes the lines and the summary of them. Pure: the time is a parameter.

use std::collections::HashMap;
use std::time::Duration;

use crate::front::text;
use crate::model::Digest;
use crate::transfer::events::{BlobOutcome, Event};

/// Tells whether a line is printed for each thing that is finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lines {
    /// Yes, so that the summary need not repeat what stands alone in one of them.
    Printed,
    /// No.
    #[default]
    Hidden,
}

/// The events so far.
#[derive(Debug, Default)]
pub(super) struct ProgressLog {
    /// The word for a finished blob: `uploaded`, `written`.
    verb: &'static str,
    lines: Lines,
    /// Bytes of blobs that are on their way, by blob.
    moving: HashMap<Digest, u64>,
    planned_blobs: u64,
    planned_bytes: u64,
    transferred: Counted,
    mounted: u64,
    present: u64,
    skipped: u64,
    manifests: u64,
    restarts: u64,
    packed: u64,
    pack: Option<Pack>,
    extracted: u64,
    verified: u64,
    /// When the last line was printed, and how many bytes had been seen then.
    last_line: Duration,
    last_bytes: u64,
    /// When a byte was last seen.
    last_moved: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    blobs: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Pack {
    entries: u64,
    uncompressed: u64,
    compressed: u64,
}

impl ProgressLog {
    pub(super) fn new(verb: &'static str, lines: Lines) -> Self {
        Self { verb, lines, ..Self::default() }
    }

    /// Counts an event; returns a line if the event finishes something.
    pub(super) fn take(&mut self, event: Event<'_>, now: Duration) -> Option<String> {
        let line = match event {
            Event::PackFinished { entries, uncompressed, compressed } => {
                self.pack = Some(Pack { entries, uncompressed, compressed });
                Some(format!("packed {}", self.packed_text()?))
            }
            Event::BlobFinished { descriptor, outcome } => {
                self.moving.remove(&descriptor.digest);
                let word = self.count(outcome, descriptor.size);
                Some(format!("{word} {} ({})", descriptor.digest.short(), text::bytes(descriptor.size)))
            }
            Event::ManifestFinished { descriptor, present } => {
                self.manifests += 1;
                let word = if present { "already there:" } else { self.verb };
                let kind = if descriptor.is_index() { "index" } else { "manifest" };
                Some(format!("{word} {kind} {}", descriptor.digest.short()))
            }
            Event::TagWritten { repository, tag, digest } => {
                Some(format!("tagged {repository}:{tag} as {}", digest.short()))
            }
            Event::BlobRestarted { digest } => {
                self.restarts += 1;
                self.moving.remove(digest).map(|bytes| {
                    // The bytes are transferred again, and are counted once.
                    self.last_bytes = self.last_bytes.saturating_sub(bytes);
                    format!("restarting {} after {}", digest.short(), text::bytes(bytes))
                })
            }
            Event::Planned { blobs, bytes } => {
                (self.planned_blobs, self.planned_bytes) = (blobs, bytes);
                None
            }
            Event::BlobStarted { descriptor } => {
                self.moving.insert(descriptor.digest.clone(), 0);
                None
            }
            Event::BlobProgress { digest, bytes } => {
                self.last_moved = now;
                *self.moving.entry(digest.clone()).or_default() += bytes;
                None
            }
            Event::Packed { bytes } => {
                self.last_moved = now;
                self.packed += bytes;
                None
            }
            Event::Extracted { bytes } => {
                self.last_moved = now;
                self.extracted += bytes;
                None
            }
            Event::Verified { bytes } => {
                self.last_moved = now;
                self.verified += bytes;
                None
            }
            Event::Gathering { images } => Some(format!("found {}", text::counted(images, "image"))),
            Event::Warning(_) => None,
        };
        if line.is_some() {
            self.mark(now);
        }
        line
    }

    fn count(&mut self, outcome: BlobOutcome, size: u64) -> &'static str {
        match outcome {
            BlobOutcome::Transferred => {
                self.transferred.blobs += 1;
                self.transferred.bytes += size;
                self.verb
            }
            BlobOutcome::Mounted => {
                self.mounted += 1;
                "mounted"
            }
            BlobOutcome::Present => {
                self.present += 1;
                "already there:"
            }
            BlobOutcome::Skipped => {
                self.skipped += 1;
                "left out"
            }
        }
    }

    /// Returns the bytes of all events, to tell whether data moves.
    fn seen(&self) -> u64 {
        self.packed + self.extracted + self.verified + self.moved()
    }

    fn moved(&self) -> u64 {
        self.transferred.bytes + self.moving.values().sum::<u64>()
    }

    fn mark(&mut self, now: Duration) {
        self.last_line = now;
        self.last_bytes = self.seen();
    }

    /// Returns a line about the work in progress, if no line was printed for `interval`.
    pub(super) fn line_if_due(&mut self, now: Duration, interval: Duration) -> Option<String> {
        let since = now.saturating_sub(self.last_line);
        if since < interval {
            return None;
        }
        let new_bytes = self.seen().saturating_sub(self.last_bytes);
        self.mark(now);
        if new_bytes == 0 {
            let stalled = now.saturating_sub(self.last_moved);
            return Some(format!("still working; no data moved for {}", text::duration(stalled)));
        }
        let rate = text::rate(new_bytes, since).map(|rate| format!(", {rate}")).unwrap_or_default();
        Some(format!("{}{rate}", self.position()))
    }

    /// Returns how far the work is.
    fn position(&self) -> String {
        if self.moved() > 0 || self.planned_bytes > 0 {
            let moved = self.moved();
            let done = self.transferred.blobs + self.mounted + self.present + self.skipped;
            if self.planned_bytes >= moved && self.planned_bytes > 0 {
                let percent = u128::from(moved) * 100 / u128::from(self.planned_bytes);
                return format!(
                    "{} {} of {} ({percent} %), {done} of {}",
                    self.verb,
                    text::bytes(moved),
                    text::bytes(self.planned_bytes),
                    text::counted(self.planned_blobs, "blob")
                );
            }
            return format!("{} {} so far", self.verb, text::bytes(moved));
        }
        let (verb, bytes) = match (self.extracted, self.verified) {
            (0, 0) => ("packed", self.packed),
            (0, verified) => ("verified", verified),
            (extracted, _) => ("extracted", extracted),
        };
        format!("{verb} {} so far", text::bytes(bytes))
    }

    fn packed_text(&self) -> Option<String> {
        let pack = self.pack?;
        let (entries, size) = (text::counted(pack.entries, "entry"), text::bytes(pack.uncompressed));
        Some(format!("{entries} ({size}, as stored {})", text::bytes(pack.compressed)))
    }

    /// Returns the line for the end of the work.
    pub(super) fn summary(&self, elapsed: Duration, retries: u64) -> String {
        let mut parts = Vec::new();
        if let Some(packed) = self.packed_text().filter(|_| self.lines == Lines::Hidden) {
            parts.push(format!("packed {packed}"));
        }
        if self.transferred.blobs > 0 {
            let Counted { blobs, bytes } = self.transferred;
            let rate = text::rate(bytes, elapsed).map(|rate| format!(", {rate}")).unwrap_or_default();
            parts.push(format!(
                "{} {} ({}{rate})",
                text::counted(blobs, "blob"),
                self.verb,
                text::bytes(bytes)
            ));
        }
        for (count, word) in
            [(self.mounted, "mounted"), (self.present, "already there"), (self.skipped, "left out")]
        {
            if count > 0 {
                let noun = if parts.iter().any(|part| part.contains("blob")) {
                    count.to_string()
                } else {
                    text::counted(count, "blob")
                };
                parts.push(format!("{noun} {word}"));
            }
        }
        for (bytes, word) in [(self.extracted, "extracted"), (self.verified, "verified")] {
            if bytes > 0 {
                parts.push(format!("{word} {}", text::bytes(bytes)));
            }
        }
        if self.restarts > 0 {
            parts.push(format!("{} restarted", text::counted(self.restarts, "blob")));
        }
        if retries > 0 {
            parts.push(text::counted(retries, "retry"));
        }
        let time = text::duration(elapsed);
        if parts.is_empty() {
            format!("done in {time}")
        } else {
            format!("done in {time}: {}", parts.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Descriptor, media_type};

    const TEN: Duration = Duration::from_secs(10);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn layer(size: u64) -> Descriptor {
        Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::sha256_of(&size.to_le_bytes()), size)
    }

    #[test]
    fn a_long_upload_says_how_far_it_is_every_ten_seconds() {
        let mut log = ProgressLog::new("uploaded", Lines::Printed);
        let (large, small) = (layer(100 << 20), layer(10));
        let planned = Event::Planned { blobs: 2, bytes: large.size + small.size };
        assert_eq!(log.take(planned, seconds(0)), None);
        log.take(Event::BlobFinished { descriptor: &small, outcome: BlobOutcome::Transferred }, seconds(1))
            .unwrap();
        log.take(Event::BlobStarted { descriptor: &large }, seconds(1));
        log.take(Event::BlobProgress { digest: &large.digest, bytes: 50 << 20 }, seconds(9));
        assert_eq!(log.line_if_due(seconds(10), TEN), None, "nine seconds after the last line");
        assert_eq!(
            log.line_if_due(seconds(11), TEN).as_deref(),
            Some("uploaded 50.0 MiB of 100.0 MiB (50 %), 1 of 2 blobs, 5.0 MiB/s")
        );
        assert_eq!(log.line_if_due(seconds(12), TEN), None);
    }

    #[test]
    fn a_stall_is_reported_and_a_restart_does_not_count_twice() {
        let mut log = ProgressLog::new("uploaded", Lines::Printed);
        let blob = layer(100);
        log.take(Event::BlobStarted { descriptor: &blob }, seconds(0));
        log.take(Event::BlobProgress { digest: &blob.digest, bytes: 40 }, seconds(1));
        assert!(log.line_if_due(seconds(10), TEN).unwrap().starts_with("uploaded 40 B so far"));
        for (now, expected) in [(20, "19.0 s"), (30, "29.0 s")] {
            let line = log.line_if_due(seconds(now), TEN).unwrap();
            assert_eq!(line, format!("still working; no data moved for {expected}"));
        }
        let line = log.take(Event::BlobRestarted { digest: &blob.digest }, seconds(31)).unwrap();
        assert!(line.starts_with("restarting sha256:") && line.ends_with("after 40 B"), "{line}");
        log.take(Event::BlobProgress { digest: &blob.digest, bytes: 100 }, seconds(32));
        log.take(Event::BlobFinished { descriptor: &blob, outcome: BlobOutcome::Transferred }, seconds(32));
        assert_eq!(
            log.summary(seconds(22), 2),
            "done in 22.0 s: 1 blob uploaded (100 B, 4 B/s), 1 blob restarted, 2 retries"
        );
    }

    #[test]
    fn the_summary_counts_every_outcome() {
        let mut log = ProgressLog::new("uploaded", Lines::Printed);
        for (size, outcome) in [
            (1, BlobOutcome::Present),
            (2, BlobOutcome::Present),
            (3, BlobOutcome::Mounted),
            (4, BlobOutcome::Skipped),
        ] {
            log.take(Event::BlobFinished { descriptor: &layer(size), outcome }, seconds(1)).unwrap();
        }
        assert_eq!(
            log.summary(Duration::from_millis(50), 0),
            "done in 0.0 s: 1 blob mounted, 2 already there, 1 left out"
        );
        assert_eq!(ProgressLog::new("uploaded", Lines::Printed).summary(seconds(1), 0), "done in 1.0 s");
    }

    #[test]
    fn packing_extracting_and_verifying_have_their_own_words() {
        let mut log = ProgressLog::new("written", Lines::Hidden);
        log.take(Event::Packed { bytes: 2048 }, seconds(1));
        assert_eq!(log.line_if_due(TEN, TEN).as_deref(), Some("packed 2.0 KiB so far, 204 B/s"));
        let finished = Event::PackFinished { entries: 3, uncompressed: 4096, compressed: 1024 };
        let line = log.take(finished, seconds(11));
        assert_eq!(line.as_deref(), Some("packed 3 entries (4.0 KiB, as stored 1.0 KiB)"));
        assert_eq!(
            log.summary(seconds(12), 0),
            "done in 12.0 s: packed 3 entries (4.0 KiB, as stored 1.0 KiB)"
        );
        let mut log = ProgressLog::new("written", Lines::Printed);
        assert!(log.take(finished, seconds(11)).unwrap().starts_with("packed 3 entries"));
        assert_eq!(log.summary(seconds(12), 0), "done in 12.0 s", "the line says it already");
        let mut log = ProgressLog::new("fetched", Lines::Printed);
        log.take(Event::Extracted { bytes: 1024 }, seconds(1));
        assert_eq!(log.summary(seconds(1), 0), "done in 1.0 s: extracted 1.0 KiB");
    }
}
