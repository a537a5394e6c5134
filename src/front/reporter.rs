//! Events of the work as bars on a terminal or as lines in a log, and a summary at the end.
//!
//! A log gets a line for each thing that is finished and, while something long goes on, a line every ten seconds,
//! also when nothing moves: silence looks like a hang. Nothing here decides anything about the work.

mod bars;
mod tally;

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::stream::lock;

use super::text;
use super::ui::{Progress, Ui};
use crate::transfer::events::{Event, Observer, Warning};
use bars::Bars;
use tally::Tally;

/// Time between two lines about work that goes on.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// What becomes of the bytes of a blob, as a word for lines and summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wording {
    /// They are sent to a registry.
    Uploaded,
    /// They are written to a tar.
    Written,
    /// They are read from a registry or tar and extracted or shown.
    Fetched,
}

impl Wording {
    fn verb(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::Written => "written",
            Self::Fetched => "fetched",
        }
    }
}

/// Does work, shows its progress meanwhile, and prints a summary when it succeeded.
pub fn watch<T, E>(
    ui: &Ui,
    wording: Wording,
    work: impl FnOnce(&dyn Observer) -> Result<T, E>,
) -> Result<T, E> {
    let retries_before = ui.retries();
    let bars = (ui.progress() == Progress::Bar).then(|| Bars::new(ui.bars()));
    let reporter =
        Reporter { ui, bars, tally: Mutex::new(Tally::new(wording.verb())), started: Instant::now() };
    let (done, waiting) = mpsc::channel::<()>();
    let result = std::thread::scope(|scope| {
        if ui.progress() == Progress::Plain {
            let reporter = &reporter;
            let ticker = move || {
                while waiting.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                    reporter.tick();
                }
            };
            // Without the thread there are no lines between finished blobs; the work is the same.
            let _ = std::thread::Builder::new().name("progress".into()).spawn_scoped(scope, ticker);
        }
        let result = work(&reporter);
        drop(done);
        result
    });
    if let Some(bars) = &reporter.bars {
        bars.clear();
    }
    if result.is_ok() {
        let retries = ui.retries() - retries_before;
        ui.note(&reporter.tally().summary(reporter.started.elapsed(), retries));
    }
    result
}

/// Takes events and shows them.
struct Reporter<'a> {
    ui: &'a Ui,
    bars: Option<Bars>,
    tally: Mutex<Tally>,
    started: Instant,
}

impl Reporter<'_> {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    fn tick(&self) {
        let line = self.tally().line_if_due(self.started.elapsed(), LINE_INTERVAL);
        if let Some(line) = line {
            self.ui.note(&line);
        }
    }
}

impl Observer for Reporter<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning(warning) = event {
            self.ui.warning(&warning_text(warning));
            return;
        }
        let line = self.tally().take(event, self.started.elapsed());
        if let Some(bars) = &self.bars {
            bars.take(event);
        }
        if let Some(line) = line.filter(|_| self.ui.progress() == Progress::Plain) {
            self.ui.note(&line);
        }
    }
}

fn warning_text(warning: &Warning) -> String {
    match warning {
        Warning::NonDistributableSkipped { image, layers } => format!(
            "{} of `{image}` left out, because they are marked as not to be distributed: {}; \
             `--include-non-distributable-layers` copies them",
            text::counted(layers.len() as u64, "layer"),
            text::quoted_list(layers.iter().map(ToString::to_string))
        ),
        Warning::ImagesMissing { images } => format!(
            "only the bundle itself is copied, without the {} it names: {}; `--inflate` fetches them",
            text::counted(images.len() as u64, "image"),
            text::quoted_list(images)
        ),
        Warning::AttachedLeftOut { count } => format!(
            "{} left out: docker's tar holds an image alone, `--to-oci-tar` what is attached to it too",
            text::counted(*count as u64, "signature")
        ),
        Warning::NothingNonDistributable => {
            "`--include-non-distributable-layers` was given, but no image has such a layer".to_owned()
        }
        Warning::LinksCopied { count: 1, first } => {
            format!("`{first}` is behind a symbolic link and was packed as a copy, because kpack drops links")
        }
        Warning::LinksCopied { count, first } => format!(
            "{count} files behind symbolic links, `{first}` first, were packed as copies, because kpack drops links"
        ),
        Warning::Package { problem } => format!("package repository: {problem}"),
        Warning::MorePackages { count } => format!(
            "package repository: {} more; `--package-checks refuse` lists the first ten and their number",
            text::counted(*count as u64, "mistake")
        ),
        Warning::FilesNotListed { image } => format!(
            "no file list is stored for `{image}`; reading its layers; `push --resources` stores a list"
        ),
        Warning::Registry { host, text } => format!("registry `{host}` says: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::ui::tests::captured;
    use crate::front::ui::{Settings, Verbosity};
    use crate::model::{Descriptor, media_type};
    use crate::transfer::events::BlobOutcome;

    fn work(observer: &dyn Observer) {
        let layer = Descriptor::of_bytes(media_type::OCI_LAYER_GZIP, b"layer");
        observer.event(Event::BlobStarted { descriptor: &layer });
        observer.event(Event::BlobProgress { digest: &layer.digest, bytes: 5 });
        observer.event(Event::BlobFinished { descriptor: &layer, outcome: BlobOutcome::Transferred });
    }

    fn stderr(progress: Progress, verbosity: Verbosity, result: Result<(), ()>) -> String {
        let (ui, stdout, stderr) = captured(&Settings { progress, verbosity, ..Settings::default() });
        let watched = watch(&ui, Wording::Uploaded, |observer| {
            work(observer);
            let warning = Warning::Registry { host: "reg.example".into(), text: "old\nclient".into() };
            observer.event(Event::Warning(&warning));
            result
        });
        assert_eq!(watched, result);
        assert_eq!(stdout.text(), "");
        stderr.text()
    }

    #[test]
    fn lines_and_summary_go_where_they_are_wanted() {
        let blob = "uploaded sha256:dac1d7cfa950… (5 B)\n";
        let warning = "imgrelay: warning: registry `reg.example` says: old\\nclient\n";
        let summary = "done in 0.0 s: 1 blob uploaded (5 B)\n";
        for (progress, verbosity, expected) in [
            (Progress::Auto, Verbosity::Normal, format!("{blob}{warning}{summary}")),
            (Progress::Plain, Verbosity::Debug, format!("{blob}{warning}{summary}")),
            (Progress::Bar, Verbosity::Normal, format!("{warning}{summary}")),
            (Progress::None, Verbosity::Normal, format!("{warning}{summary}")),
            (Progress::Auto, Verbosity::Quiet, warning.to_owned()),
        ] {
            assert_eq!(stderr(progress, verbosity, Ok(())), expected, "{progress:?} {verbosity:?}");
        }
        let failed = stderr(Progress::Plain, Verbosity::Normal, Err(()));
        assert_eq!(failed, format!("{blob}{warning}"), "no summary of work that failed");
    }
}
