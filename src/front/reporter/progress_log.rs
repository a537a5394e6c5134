//! Counts events and makes lines and the summary from them. Pure: the time is a parameter.

use std::collections::HashMap;
use std::time::Duration;

use crate::front::text;
use crate::model::Digest;
use crate::transfer::events::{BlobOutcome, Event};

/// Whether a line is printed for each finished blob or manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lines {
    /// Yes; the summary does not repeat what a line has said alone.
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
    /// Moved bytes of blobs in transfer, by blob.
    moving: HashMap<Digest, u64>,
    planned_blobs: u64,
    planned_bytes: u64,
    /// Bytes of blobs that are not moved, also of blobs that were not planned yet.
    spared_bytes: u64,
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
    /// Packed layers that no line has named yet.
    unsaid_pack: Option<Pack>,
    /// Blobs that were there and that no line has named yet.
    unsaid: Counted,
    /// The first of them.
    unsaid_digest: Option<Digest>,
    /// When the last line was printed, and how many bytes had moved then.
    last_line: Duration,
    last: Moved,
    /// When the last byte moved.
    last_moved: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    blobs: u64,
    bytes: u64,
}

/// Moved bytes of each kind: fetched and extracted bytes are different ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moved {
    packed: u64,
    blobs: u64,
    extracted: u64,
    verified: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pack {
    entries: u64,
    uncompressed: u64,
    compressed: u64,
}

impl Pack {
    fn and(self, other: Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            uncompressed: self.uncompressed + other.uncompressed,
            compressed: self.compressed + other.compressed,
        }
    }

    fn text(self) -> String {
        let (entries, size) = (text::counted(self.entries, "entry"), text::bytes(self.uncompressed));
        format!("{entries} ({size}, as stored {})", text::bytes(self.compressed))
    }
}

impl ProgressLog {
    pub(super) fn new(verb: &'static str, lines: Lines) -> Self {
        Self { verb, lines, ..Self::default() }
    }

    /// Counts an event; returns lines if the event finishes something.
    ///
    /// Packed layers, and blobs that are there already, wait for an event of another kind, so that any number of them
    /// is one line.
    pub(super) fn take(&mut self, event: Event<'_>, now: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        if !matches!(event, Event::Packed { .. } | Event::PackFinished { .. } | Event::Warning(_)) {
            lines.extend(self.unsaid_pack.take().map(|pack| format!("packed {}", pack.text())));
        }
        if let Some(line) = self.line_of(event, now) {
            lines.extend(self.unsaid_line());
            lines.push(line);
        }
        if !lines.is_empty() {
            self.mark(now);
        }
        lines
    }

    /// Returns the lines that waited for another event.
    pub(super) fn rest(&mut self) -> Vec<String> {
        let packed = self.unsaid_pack.take().map(|pack| format!("packed {}", pack.text()));
        packed.into_iter().chain(self.unsaid_line()).collect()
    }

    fn unsaid_line(&mut self) -> Option<String> {
        let Counted { blobs, bytes } = std::mem::take(&mut self.unsaid);
        let first = self.unsaid_digest.take()?;
        let what = if blobs == 1 { first.short() } else { text::counted(blobs, "blob") };
        Some(format!("already there: {what} ({})", text::bytes(bytes)))
    }

    fn line_of(&mut self, event: Event<'_>, now: Duration) -> Option<String> {
        match event {
            Event::PackFinished { entries, uncompressed, compressed } => {
                let one = Pack { entries, uncompressed, compressed };
                for sum in [&mut self.pack, &mut self.unsaid_pack] {
                    *sum = Some(sum.unwrap_or_default().and(one));
                }
                None
            }
            Event::BlobFinished { descriptor, outcome: BlobOutcome::Present } => {
                self.moving.remove(&descriptor.digest);
                self.present += 1;
                self.spared_bytes += descriptor.size;
                self.unsaid.blobs += 1;
                self.unsaid.bytes += descriptor.size;
                self.unsaid_digest.get_or_insert_with(|| descriptor.digest.clone());
                None
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
            Event::TagWritten { repository, tag, digest, unchanged } => {
                let end = if unchanged { ", unchanged" } else { "" };
                Some(format!("tagged {repository}:{tag} as {}{end}", digest.short()))
            }
            Event::BlobRestarted { digest } => {
                self.restarts += 1;
                self.moving.remove(digest).map(|bytes| {
                    // The bytes will move again, and must not count twice.
                    self.last.blobs = self.last.blobs.saturating_sub(bytes);
                    format!("restarting {} after {}", digest.short(), text::bytes(bytes))
                })
            }
            Event::Planned { blobs, bytes } => {
                self.planned_blobs += blobs;
                self.planned_bytes += bytes;
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
        }
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
                self.spared_bytes += size;
                "mounted"
            }
            // Counted when its line is delayed.
            BlobOutcome::Present => "already there:",
            BlobOutcome::Skipped => {
                self.skipped += 1;
                "left out"
            }
        }
    }

    fn so_far(&self) -> Moved {
        let Self { packed, extracted, verified, .. } = *self;
        Moved { packed, blobs: self.moved(), extracted, verified }
    }

    fn moved(&self) -> u64 {
        self.transferred.bytes + self.moving.values().sum::<u64>()
    }

    fn mark(&mut self, now: Duration) {
        self.last_line = now;
        self.last = self.so_far();
    }

    /// Returns a line about the work in progress, if no line was printed for `interval`.
    pub(super) fn line_if_due(&mut self, now: Duration, interval: Duration) -> Option<String> {
        let since = now.saturating_sub(self.last_line);
        if since < interval {
            return None;
        }
        let before = self.last;
        self.mark(now);
        if self.last == before {
            let stalled = now.saturating_sub(self.last_moved);
            return Some(format!("still working; no data moved for {}", text::duration(stalled)));
        }
        Some(self.position(before, since))
    }

    /// Returns the progress of the work; each number has the rate of its own bytes.
    fn position(&self, before: Moved, since: Duration) -> String {
        let Moved { packed, blobs, extracted, verified } = self.last;
        let with_rate = |text: String, now: u64, before: u64| {
            let new = now.saturating_sub(before);
            let rate = (new > 0).then(|| text::rate(new, since)).flatten();
            rate.map_or(text.clone(), |rate| format!("{text}, {rate}"))
        };
        let mut parts = Vec::new();
        if packed > 0 && (self.pack.is_none() || packed > before.packed) {
            parts.push(with_rate(format!("packed {} so far", text::bytes(packed)), packed, before.packed));
        }
        if blobs > 0 || self.planned_bytes > 0 {
            parts.push(with_rate(self.blobs_text(), blobs, before.blobs));
        }
        for (word, now, before) in
            [("extracted", extracted, before.extracted), ("checked", verified, before.verified)]
        {
            if now > 0 {
                parts.push(with_rate(format!("{word} {} so far", text::bytes(now)), now, before));
            }
        }
        parts.join("; ")
    }

    fn blobs_text(&self) -> String {
        let (moved, to_move) = (self.moved(), self.planned_bytes.saturating_sub(self.spared_bytes));
        if to_move == 0 || to_move < moved {
            return format!("{} {} so far", self.verb, text::bytes(moved));
        }
        let done = self.transferred.blobs + self.mounted + self.present + self.skipped;
        let percent = u128::from(moved) * 100 / u128::from(to_move);
        format!(
            "{} {} of {} ({percent} %), {done} of {}",
            self.verb,
            text::bytes(moved),
            text::bytes(to_move),
            text::counted(self.planned_blobs, "blob")
        )
    }

    /// Returns the line for the end of the work.
    ///
    /// What was packed is a line of its own where one line with everything is too long for a terminal.
    pub(super) fn summary(&self, elapsed: Duration, retries: u64) -> Vec<String> {
        let packed = self.pack.filter(|_| self.lines == Lines::Hidden);
        let packed = packed.map(|pack| format!("packed {}", pack.text()));
        let parts = self.sums(elapsed, retries);
        let time = text::duration(elapsed);
        let line = |parts: &[String]| match parts {
            [] => format!("done in {time}"),
            parts => format!("done in {time}: {}", parts.join(", ")),
        };
        let all: Vec<String> = packed.iter().chain(&parts).cloned().collect();
        let one = line(&all);
        match packed {
            Some(packed) if one.chars().count() > text::COLUMNS => vec![packed, line(&parts)],
            _ => vec![one],
        }
    }

    /// Returns what was done besides packing.
    fn sums(&self, elapsed: Duration, retries: u64) -> Vec<String> {
        let mut parts = Vec::new();
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
        for (bytes, word) in [(self.extracted, "extracted"), (self.verified, "checked")] {
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
        parts
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
        assert_eq!(log.take(planned, seconds(0)), [""; 0]);
        log.take(Event::BlobFinished { descriptor: &small, outcome: BlobOutcome::Transferred }, seconds(1));
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
        let line = log.take(Event::BlobRestarted { digest: &blob.digest }, seconds(31)).concat();
        assert!(line.starts_with("restarting sha256:") && line.ends_with("after 40 B"), "{line}");
        log.take(Event::BlobProgress { digest: &blob.digest, bytes: 100 }, seconds(32));
        log.take(Event::BlobFinished { descriptor: &blob, outcome: BlobOutcome::Transferred }, seconds(32));
        assert_eq!(
            log.summary(seconds(22), 2),
            ["done in 22.0 s: 1 blob uploaded (100 B, 4 B/s), 1 blob restarted, 2 retries"]
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
            log.take(Event::BlobFinished { descriptor: &layer(size), outcome }, seconds(1));
        }
        assert_eq!(
            log.summary(Duration::from_millis(50), 0),
            ["done in 0.0 s: 1 blob mounted, 2 already there, 1 left out"]
        );
        assert_eq!(ProgressLog::new("uploaded", Lines::Printed).summary(seconds(1), 0), ["done in 1.0 s"]);
    }

    #[test]
    fn packing_extracting_and_verifying_have_their_own_words() {
        let mut log = ProgressLog::new("written", Lines::Hidden);
        log.take(Event::Packed { bytes: 2048 }, seconds(1));
        assert_eq!(log.line_if_due(TEN, TEN).as_deref(), Some("packed 2.0 KiB so far, 204 B/s"));
        let finished = Event::PackFinished { entries: 3, uncompressed: 4096, compressed: 1024 };
        assert_eq!(log.take(finished, seconds(11)), [""; 0]);
        let planned = Event::Planned { blobs: 1, bytes: 1024 };
        assert_eq!(log.take(planned, seconds(11)), ["packed 3 entries (4.0 KiB, as stored 1.0 KiB)"]);
        assert_eq!(
            log.summary(seconds(12), 0),
            ["done in 12.0 s: packed 3 entries (4.0 KiB, as stored 1.0 KiB)"]
        );
        let mut log = ProgressLog::new("written", Lines::Printed);
        log.take(finished, seconds(11));
        assert!(log.rest().concat().starts_with("packed 3 entries"));
        assert_eq!(log.summary(seconds(12), 0), ["done in 12.0 s"], "the line says it already");
        let mut log = ProgressLog::new("fetched", Lines::Printed);
        log.take(Event::Extracted { bytes: 1024 }, seconds(1));
        assert_eq!(log.summary(seconds(1), 0), ["done in 1.0 s: extracted 1.0 KiB"]);
    }

    #[test]
    fn fetched_and_extracted_bytes_are_two_numbers_with_their_own_rates() {
        let mut log = ProgressLog::new("fetched", Lines::Printed);
        let blob = layer(60 << 20);
        log.take(Event::Planned { blobs: 1, bytes: blob.size }, seconds(0));
        log.take(Event::BlobStarted { descriptor: &blob }, seconds(0));
        log.take(Event::BlobProgress { digest: &blob.digest, bytes: 30 << 20 }, seconds(5));
        log.take(Event::Extracted { bytes: 50 << 20 }, seconds(9));
        assert_eq!(
            log.line_if_due(TEN, TEN).as_deref(),
            Some(
                "fetched 30.0 MiB of 60.0 MiB (50 %), 0 of 1 blob, 3.0 MiB/s; \
                 extracted 50.0 MiB so far, 5.0 MiB/s"
            )
        );
        log.take(Event::Extracted { bytes: 20 << 20 }, seconds(19));
        assert_eq!(
            log.line_if_due(seconds(20), TEN).as_deref(),
            Some("fetched 30.0 MiB of 60.0 MiB (50 %), 0 of 1 blob; extracted 70.0 MiB so far, 2.0 MiB/s")
        );
        log.take(Event::BlobProgress { digest: &blob.digest, bytes: 30 << 20 }, seconds(21));
        let fetched = Event::BlobFinished { descriptor: &blob, outcome: BlobOutcome::Transferred };
        log.take(fetched, seconds(30));
        assert_eq!(
            log.summary(seconds(30), 0),
            ["done in 30.0 s: 1 blob fetched (60.0 MiB, 2.0 MiB/s), extracted 70.0 MiB"]
        );
    }

    #[test]
    fn thirty_layers_that_are_there_are_one_line() {
        let mut log = ProgressLog::new("uploaded", Lines::Printed);
        for size in 0..30 {
            let present =
                Event::BlobFinished { descriptor: &layer(1024 + size), outcome: BlobOutcome::Present };
            assert_eq!(log.take(present, seconds(1)), [""; 0]);
        }
        let manifest = layer(7);
        let lines = log.take(Event::ManifestFinished { descriptor: &manifest, present: false }, seconds(2));
        assert_eq!(lines.first().map(String::as_str), Some("already there: 30 blobs (30.4 KiB)"));
        assert_eq!(lines.len(), 2);
        let one = Event::BlobFinished { descriptor: &layer(5), outcome: BlobOutcome::Present };
        log.take(one, seconds(2));
        assert!(log.rest().concat().starts_with("already there: sha256:"));
        assert_eq!(log.rest(), [""; 0]);
    }

    #[test]
    fn a_tag_that_was_right_already_is_said_to_be_unchanged() {
        let mut log = ProgressLog::new("uploaded", Lines::Printed);
        let (repository, tag) = ("r.io/a".parse().unwrap(), "v1".parse().unwrap());
        let mut line = |unchanged| {
            let digest = &layer(1).digest;
            let event = Event::TagWritten { repository: &repository, tag: &tag, digest, unchanged };
            log.take(event, seconds(1)).concat()
        };
        assert!(line(false).starts_with("tagged r.io/a:v1 as sha256:"));
        assert!(line(true).ends_with("…, unchanged"));
    }

    #[test]
    fn several_packed_layers_are_one_sum() {
        let mut log = ProgressLog::new("uploaded", Lines::Hidden);
        for entries in [1, 2] {
            let finished = Event::PackFinished { entries, uncompressed: 1024, compressed: 512 };
            assert_eq!(log.take(finished, seconds(1)), [""; 0]);
        }
        assert_eq!(log.rest(), ["packed 3 entries (2.0 KiB, as stored 1.0 KiB)"]);
        assert_eq!(
            log.summary(seconds(2), 0),
            ["done in 2.0 s: packed 3 entries (2.0 KiB, as stored 1.0 KiB)"]
        );
        // What does not fit into one line of a terminal is two.
        let sent = Event::BlobFinished { descriptor: &layer(1024), outcome: BlobOutcome::Transferred };
        let _ = log.take(sent, seconds(2));
        assert_eq!(
            log.summary(seconds(2), 0),
            [
                "packed 3 entries (2.0 KiB, as stored 1.0 KiB)",
                "done in 2.0 s: 1 blob uploaded (1.0 KiB, 512 B/s)"
            ]
        );
    }
}
