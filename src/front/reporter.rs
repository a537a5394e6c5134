//! Shows the events of the work: bars on a terminal, lines in a log, a summary at the end.
//!
//! A log gets a line for each blob or manifest that is finished and, during a long transfer, a line every ten
//! seconds, also when no data moves: without it a slow transfer looks like a hang. This module has no influence on
//! the work.

mod bars;
mod progress_log;

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use indicatif::ProgressDrawTarget;

use super::failure::{Message, MessagePart, message};
use super::flag::Flag;
use super::signals;
use super::text;
use super::ui::{Progress, Ui};
use crate::stream::lock;
use crate::transfer::AttachedCounts;
use crate::transfer::events::{Event, Observer, Warning};
use bars::Bars;
use progress_log::{Lines, ProgressLog};

/// Time between two lines about work in progress.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The word for moved blobs in lines and summary.
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

/// Runs work, shows its progress, and prints a summary after a success.
pub fn watch<T, E>(
    ui: &Ui,
    wording: Wording,
    work: impl FnOnce(&dyn Observer) -> Result<T, E>,
) -> Result<T, E> {
    let retries_before = ui.retries();
    let bars = (ui.progress() == Progress::Bar).then(|| Bars::new(ui.bars()));
    if bars.is_some() {
        let screen = ui.bars().clone();
        signals::clear_with(Some(Box::new(move || {
            // Bars are removed before the last message.
            let _ = screen.clear();
            screen.set_draw_target(ProgressDrawTarget::hidden());
        })));
    }
    let lines = if ui.progress() == Progress::Plain { Lines::Printed } else { Lines::Hidden };
    let log = Mutex::new(ProgressLog::new(wording.verb(), lines));
    let reporter = Reporter { ui, bars, log, started: Instant::now() };
    let (done, waiting) = mpsc::channel::<()>();
    let result = std::thread::scope(|scope| {
        if ui.progress() == Progress::Plain {
            let reporter = &reporter;
            let ticker = move || {
                while waiting.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                    reporter.tick();
                }
            };
            // Without the thread there are no lines between finished blobs; the work does not change.
            let _ = std::thread::Builder::new().name("progress".into()).spawn_scoped(scope, ticker);
        }
        let result = work(&reporter);
        drop(done);
        result
    });
    if let Some(bars) = &reporter.bars {
        bars.clear();
        signals::clear_with(None);
    }
    if result.is_ok() {
        let rest = reporter.log().rest();
        rest.iter().filter(|_| ui.progress() == Progress::Plain).for_each(|line| ui.note(line));
        let retries = ui.retries() - retries_before;
        let summary = reporter.log().summary(reporter.started.elapsed(), retries);
        summary.iter().for_each(|line| ui.note(line));
    }
    result
}

/// Shows events.
struct Reporter<'a> {
    ui: &'a Ui,
    bars: Option<Bars>,
    log: Mutex<ProgressLog>,
    started: Instant,
}

impl Reporter<'_> {
    fn log(&self) -> MutexGuard<'_, ProgressLog> {
        lock(&self.log)
    }

    fn tick(&self) {
        let line = self.log().line_if_due(self.started.elapsed(), LINE_INTERVAL);
        if let Some(line) = line {
            self.ui.note(&line);
        }
    }
}

impl Observer for Reporter<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning(_) = event {
            return Warnings(self.ui).event(event);
        }
        let lines = self.log().take(event, self.started.elapsed());
        if let Some(bars) = &self.bars {
            bars.take(event);
        }
        let shown = match self.ui.progress() {
            Progress::Plain => lines.as_slice(),
            // Bars show everything else; a user's tag is a result and gets a line.
            Progress::Bar if is_users_tag(event) => {
                lines.last().map(std::slice::from_ref).unwrap_or_default()
            }
            _ => &[],
        };
        shown.iter().for_each(|line| self.ui.note(line));
    }
}

/// Prints warnings only, for work that needs no progress.
#[derive(Debug)]
pub struct Warnings<'a>(pub &'a Ui);

impl Observer for Warnings<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning(warning) = event {
            let (text, advice) = warning_text(warning);
            self.0.warning_with(&text, advice);
        }
    }
}

/// Tells whether the event is a written tag of the user; tags by digest are for tools.
fn is_users_tag(event: Event<'_>) -> bool {
    matches!(event, Event::TagWritten { tag, .. } if !tag.as_str().starts_with("sha256-"))
}

/// Counts each kind of what is attached to an image: `1 signature, 2 attestations and 1 SBOM`.
fn attached_text(counts: &AttachedCounts) -> String {
    let kinds = [
        (counts.signatures, "signature"),
        (counts.attestations, "attestation"),
        (counts.sboms, "SBOM"),
        (counts.referrers, "referrer"),
    ];
    let there = kinds.into_iter().filter(|(count, _)| *count > 0);
    let mut texts: Vec<String> = there.map(|(count, noun)| text::counted(count as u64, noun)).collect();
    match (texts.pop(), texts.is_empty()) {
        (Some(last), false) => format!("{} and {last}", texts.join(", ")),
        (last, _) => last.unwrap_or_default(),
    }
}

/// Returns the text of a warning and its advice.
// house: long because each warning has its own sentence.
fn warning_text(warning: &Warning) -> (String, Option<Message>) {
    match warning {
        Warning::NonDistributableSkipped { image, index, layers } => (
            format!(
                "{} of `{image}`{} left out, because they are marked as non-distributable: {}",
                text::counted(layers.len() as u64, "layer"),
                index.as_ref().map(|index| format!(" in `{index}`")).unwrap_or_default(),
                text::quoted_list(layers.iter().map(ToString::to_string))
            ),
            Some(message!(Flag::INCLUDE_NON_DISTRIBUTABLE_LAYERS, " copies them")),
        ),
        Warning::StoreIsCollected { store } => {
            (format!("waiting, because `store gc` is deleting unused blobs of `{store}`"), None)
        }
        Warning::ImagesMissing { images } => (
            format!(
                "only the bundle itself is copied, without the {} it names: {}",
                text::counted(images.len() as u64, "image"),
                text::quoted_list(images)
            ),
            Some(message!(Flag::INFLATE, " fetches them")),
        ),
        Warning::SignedForOther { name, to } => (
            format!("the signature is for `{name}`, and the image is pushed to `{to}`"),
            Some("podman, CRI-O and skopeo compare the two names; cosign does not".into()),
        ),
        Warning::AttachedLeftOut { counts } => (
            format!("{} left out, because docker's tar cannot hold them", attached_text(counts)),
            Some(message!(Flag::TO_OCI_TAR, " keeps them")),
        ),
        Warning::IndexNarrowed { from, to, left_behind } => (
            match left_behind.total() {
                0 => format!("`{to}` replaces `{from}`; signatures of `{from}` do not cover it"),
                _ => format!("`{to}` replaces `{from}`; {} of `{from}` left out", attached_text(left_behind)),
            },
            None,
        ),
        Warning::AttachedToReplacedIndex { counts } => (
            format!(
                "{} left out, because they are about an index that another index replaces",
                attached_text(counts)
            ),
            None,
        ),
        Warning::PushedWithoutTag { digest } => (
            format!("image `{digest}` has no name with a tag, and is pushed without one"),
            Some(message!(Flag::TO_REPO.with("REPOSITORY:TAG"), " or ", Flag::TAG, " gives it one")),
        ),
        Warning::LockAnnotationsLost { images } => (
            format!(
                "the annotations that the ImagesLock has for {} are left out, because imgpkg's tar cannot hold them",
                text::counted(*images as u64, "image")
            ),
            Some(message!(Flag::TO_OCI_TAR, " keeps them")),
        ),
        Warning::TagNotShown { tag, digest } => (
            format!("the registry accepted `{tag}` with digest `{digest}`, but does not show the tag yet"),
            None,
        ),
        Warning::NothingShared => (
            "no layer was left out, because the other images have none of them; the tar is a full one"
                .to_owned(),
            None,
        ),
        Warning::NothingNonDistributable => {
            ("no image has a layer that is marked as non-distributable".to_owned(), None)
        }
        Warning::LinksCopied { count: 1, first } => (
            format!(
                "`{first}` is behind a symbolic link and was packed as a copy, because kpack drops links"
            ),
            None,
        ),
        Warning::LinksCopied { count, first } => (
            format!(
                "{count} files behind symbolic links, `{first}` first, were packed as copies, because kpack drops links"
            ),
            None,
        ),
        Warning::LinksLeftOut { count } => {
            (format!("{} left out", text::counted(*count, "symbolic link")), None)
        }
        Warning::OtherMachine { files, machine, platform } => (
            format!("the image is for `{platform}`, but {} for `{machine}`", are(files)),
            Some(message!(
                "set the platform with ",
                Flag::PLATFORM,
                " or ",
                Flag::FILE.with("PLATFORM=SRC").short()
            )),
        ),
        Warning::Entrypoint { program, problem } => {
            (format!("a container will not start `{program}`: {problem}"), None)
        }
        Warning::KeptOut { user, count, first } => (
            format!(
                "the image's user `{user}` cannot read {}, `{first}` first",
                text::counted(*count, "packed file")
            ),
            Some(message!(
                "give them permissions with ",
                Flag::MODE.with("0644"),
                " or an owner with ",
                Flag::OWNER.with("UID:GID")
            )),
        ),
        Warning::LoaderMissing { file, loader } => (
            format!("`{file}` needs the dynamic loader `{loader}`, which the image does not have"),
            Some("link it statically, or choose a base with its libraries".into()),
        ),
        Warning::BaseIsSigned { counts } => (
            format!(
                "{} of the base {} the new image",
                attached_text(counts),
                if counts.total() == 1 { "does not cover" } else { "do not cover" }
            ),
            None,
        ),
        Warning::CmdDropped { cmd } => (
            format!(
                "the new entrypoint drops the arguments of the base, {}",
                String::from_utf8_lossy(&serde_json::to_vec(cmd).unwrap_or_default())
            ),
            Some(message!(Flag::CMD, " sets them again")),
        ),
        Warning::PlatformsWithoutFiles { platforms } => (
            format!(
                "no image was made for {}, which the base has too",
                text::quoted_list(platforms.iter().map(ToString::to_string))
            ),
            None,
        ),
        Warning::LeftBehind { problem } => (
            format!("the old content is replaced, but was not removed: {problem}"),
            Some("remove it, or run the command again later".into()),
        ),
        Warning::Backslashes { first } => (
            format!(
                "the zip has `\\` in place of `/` in its names, `{first}` first; they were read as folders"
            ),
            Some("make the zip with a tool that writes `/`, as the zip format requires".into()),
        ),
        Warning::BackslashInName { first } => (
            format!(
                "the zip has `\\` in the name `{first}`; it was packed as a file with this name, in no folder"
            ),
            Some("make the zip with a tool that writes `/`, as the zip format requires".into()),
        ),
        Warning::Package { problem } => (format!("package repository: {problem}"), None),
        Warning::MorePackages { count } => (
            format!("package repository: {} more", text::counted(*count as u64, "mistake")),
            Some(message!(Flag::PACKAGE_CHECKS.with("refuse"), " lists the first ten and their number")),
        ),
        Warning::FilesNotListed { image } => (
            format!("no file list is stored for `{image}`; reading its layers"),
            Some(Message::new(vec![
                MessagePart::Command("imgrelay push --resources FILE".to_owned()),
                " stores the list".into(),
            ])),
        ),
        Warning::Registry { host, text } => (format!("registry `{host}` says: {text}"), None),
    }
}

/// Begins a clause about files.
fn are(files: &[String]) -> String {
    format!("{} {}", text::quoted_list(files), if files.len() == 1 { "is" } else { "are" })
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
