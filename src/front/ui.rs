//! Prints the result once to standard output and everything else to standard error.
//!
//! Has no domain knowledge. While bars are on the screen, lines are printed above them.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::stream::lock;

use indicatif::{MultiProgress, ProgressDrawTarget};

use super::env::{self, Env};
use super::exit;
use super::failure::{CommandLine, Failure, Kind, Message, Vocabulary};
use super::outcome::Outcome;
use super::text;
use crate::model::invisible::escape_in_json;

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// If standard error is a terminal with colours.
    #[default]
    Auto,
    /// Always, also in a file.
    Always,
    /// Never.
    Never,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// Bars on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// Lines.
    Plain,
    /// Bars.
    Bar,
    /// Not at all; the summary is still printed.
    None,
}

/// How much is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors, warnings and the result.
    Quiet,
    /// Also progress and a summary.
    #[default]
    Normal,
    /// Also each request.
    Debug,
}

/// The user's choices about output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The result is one JSON document.
    pub json: bool,
    /// How much is printed.
    pub verbosity: Verbosity,
    /// How progress is shown.
    pub progress: Progress,
    /// Whether words are coloured.
    pub color: When,
}

type Stream = Mutex<Box<dyn Write + Send>>;

/// Prints.
pub struct Ui {
    settings: Settings,
    color: bool,
    progress: Progress,
    stdout: Stream,
    stderr: Stream,
    vocabulary: &'static (dyn Vocabulary + Sync),
    bars: MultiProgress,
    /// Errors are printed as JSON too.
    json_errors: bool,
    /// Something was printed on standard output, which may hold only one document.
    printed: AtomicBool,
    /// Requests and bodies that were retried.
    retries: AtomicU64,
}

impl std::fmt::Debug for Ui {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ui")
            .field("settings", &self.settings)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl Ui {
    /// Prints to the process's own streams.
    #[must_use]
    pub fn new(settings: &Settings, env: &Env) -> Self {
        let terminal =
            io::stderr().is_terminal() && env.text(env::TERM) != Some("dumb") && !is_concourse_terminal();
        let ui = Self::with_streams(settings, env, terminal, Box::new(io::stdout()), Box::new(io::stderr()));
        if ui.progress == Progress::Bar {
            ui.bars.set_draw_target(ProgressDrawTarget::stderr());
        }
        ui
    }

    /// Prints to any streams; `terminal` tells whether standard error can show bars and colours.
    #[must_use]
    pub fn with_streams(
        settings: &Settings,
        env: &Env,
        terminal: bool,
        stdout: Box<dyn Write + Send>,
        stderr: Box<dyn Write + Send>,
    ) -> Self {
        let color = match settings.color {
            When::Auto => terminal && env.os(env::NO_COLOR).is_none(),
            When::Always => true,
            When::Never => false,
        };
        let progress = match settings.progress {
            _ if settings.verbosity == Verbosity::Quiet => Progress::None,
            // Request lines would break the bars.
            Progress::Auto if terminal && settings.verbosity < Verbosity::Debug => Progress::Bar,
            Progress::Auto => Progress::Plain,
            chosen => chosen,
        };
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        Self {
            settings: *settings,
            color,
            progress,
            stdout: Mutex::new(stdout),
            stderr: Mutex::new(stderr),
            vocabulary: &CommandLine,
            bars,
            json_errors: settings.json,
            printed: AtomicBool::new(false),
            retries: AtomicU64::new(0),
        }
    }

    /// Writes flags in another vocabulary from now on.
    #[must_use]
    pub fn naming(self, vocabulary: &'static (dyn Vocabulary + Sync)) -> Self {
        Self { vocabulary, ..self }
    }

    /// Writes flags in a door's vocabulary from now on; such doors have their own form of errors.
    #[must_use]
    pub fn speaking(self, vocabulary: &'static (dyn Vocabulary + Sync)) -> Self {
        self.naming(vocabulary).without_json_errors()
    }

    /// Returns how progress is shown; never [`Progress::Auto`].
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Returns how much is printed.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        self.settings.verbosity
    }

    /// Returns the bars on the screen, hidden unless progress is shown as bars.
    #[must_use]
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Counts a request or body that is retried.
    pub fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of retries in this run.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Prints a line about the work, unless `--quiet` was given.
    pub fn note(&self, line: &str) {
        if self.settings.verbosity >= Verbosity::Normal {
            self.to_stderr(&format!("{}\n", text::escaped(line)));
        }
    }

    /// Prints a line for `--debug`.
    pub fn debug(&self, line: &str) {
        if self.settings.verbosity >= Verbosity::Debug {
            self.to_stderr(&format!("debug: {}\n", text::escaped(line)));
        }
    }

    /// Prints a warning, with its advice unless this door has no such setting.
    pub fn warning_with(&self, line: &str, advice: Option<Message>) {
        match advice.and_then(|advice| advice.render_whole(self.vocabulary)) {
            Some(advice) => self.warning(&format!("{line}; {advice}")),
            None => self.warning(line),
        }
    }

    /// Prints a warning.
    pub fn warning(&self, line: &str) {
        let word = if self.color { "\x1b[1;33mwarning:\x1b[0m" } else { "warning:" };
        self.to_stderr(&format!("imgrelay: {word} {}\n", text::escaped(line)));
    }

    /// Prints no errors as JSON on standard output, because the tar goes there.
    #[must_use]
    pub fn without_json_errors(self) -> Self {
        Self { json_errors: false, ..self }
    }

    /// Prints a failure: on standard error, and with `--json` also as a document if no other was printed.
    pub fn failure(&self, failure: &Failure) {
        self.to_stderr(&failure.render_in(self.vocabulary, self.color));
        let is_ours = !matches!(failure.kind, Kind::Command(_));
        if self.json_errors && is_ours && !self.printed.load(Ordering::Relaxed) {
            let json = serde_json::json!({ "error": self.error_json(failure) });
            // The failure is on standard error already.
            let _ = self.print(&format!("{}\n", escape_in_json(&json.to_string())));
        }
    }

    /// Returns a failure as the member `error` of a document.
    #[must_use]
    pub fn error_json(&self, failure: &Failure) -> serde_json::Value {
        let hints: Vec<String> =
            failure.hints.iter().filter_map(|hint| hint.render(self.vocabulary)).collect();
        serde_json::json!({
            "message": failure.message.render(self.vocabulary),
            "causes": failure.causes,
            "hints": hints,
            "exitCode": exit::code(failure.kind),
        })
    }

    /// Prints the result of a command, and returns the failure in it, if there is one.
    pub fn outcome(&self, outcome: &Outcome) -> Result<(), Failure> {
        match outcome {
            Outcome::Image(image) => {
                let line = if self.settings.json { image.json() } else { image.line() };
                if image.is_on_stdout() {
                    self.to_stderr(&format!("{line}\n"));
                    return Ok(());
                }
                self.print(&format!("{line}\n"))
            }
            Outcome::Document(document) => {
                if self.settings.json {
                    let mut json = document.json.clone();
                    if let (Some(failure), Some(members)) = (&document.failure, json.as_object_mut()) {
                        members.insert("error".to_owned(), self.error_json(failure));
                    }
                    self.print(&format!("{}\n", escape_in_json(&json.to_string())))?;
                } else {
                    self.print(&document.text)?;
                }
                document.failure.clone().map_or(Ok(()), Err)
            }
            Outcome::Printed => Ok(()),
        }
    }

    /// Writes text to standard output; a reader that closed the pipe is no error.
    ///
    /// Errors: every other failure to write, such as a full disk behind a redirection.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        self.printed.store(true, Ordering::Relaxed);
        let written = self.bars.suspend(|| {
            let mut stdout = lock(&self.stdout);
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        });
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::refused(format!("cannot write to standard output: {error}"))
                    .with_io_hint(&error))
            }
            _ => Ok(()),
        }
    }

    fn to_stderr(&self, text: &str) {
        self.bars.suspend(|| {
            let mut stderr = lock(&self.stderr);
            // A failure of standard error cannot be reported.
            let _ = stderr.write_all(text.as_bytes());
        });
    }
}

/// Tells whether standard error is the terminal that Concourse gives to tasks.
///
/// It has 500 × 500 characters, and Concourse keeps every line drawn on it in the build log, so bars would fill it.
fn is_concourse_terminal() -> bool {
    rustix::termios::tcgetwinsize(io::stderr()).is_ok_and(|size| (size.ws_col, size.ws_row) == (500, 500))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::front::outcome::TextDocument;
    use std::sync::Arc;

    /// A stream that keeps the written bytes.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed(io::ErrorKind);

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Makes a `Ui` without a terminal, and the streams that get its standard output and error.
    pub(crate) fn captured(settings: &Settings) -> (Ui, Captured, Captured) {
        let (stdout, stderr) = (Captured::default(), Captured::default());
        let streams = (Box::new(stdout.clone()), Box::new(stderr.clone()));
        (Ui::with_streams(settings, &Env::default(), false, streams.0, streams.1), stdout, stderr)
    }

    fn document(failure: Option<Failure>) -> Outcome {
        Outcome::Document(TextDocument {
            text: "text\n".into(),
            json: serde_json::json!({"a": 1}),
            failure,
            image: None,
        })
    }

    #[test]
    fn a_result_goes_to_standard_output_and_nothing_else_does() {
        let (ui, stdout, stderr) = captured(&Settings::default());
        ui.note("note \x1b[2J");
        ui.warning("careful");
        ui.debug("not shown");
        ui.outcome(&document(None)).unwrap();
        assert_eq!(stdout.text(), "text\n");
        assert_eq!(stderr.text(), "note \\u{1b}[2J\nimgrelay: warning: careful\n");
        let (ui, stdout, _) = captured(&Settings { json: true, ..Settings::default() });
        ui.outcome(&document(None)).unwrap();
        assert_eq!(stdout.text(), "{\"a\":1}\n");
    }

    #[test]
    fn quiet_keeps_warnings_and_errors() {
        let (ui, _, stderr) = captured(&Settings { verbosity: Verbosity::Quiet, ..Settings::default() });
        ui.note("note");
        ui.warning("careful");
        ui.failure(&Failure::refused("no"));
        assert_eq!(stderr.text(), "imgrelay: warning: careful\nimgrelay: error: no\n");
        assert_eq!(ui.progress(), Progress::None);
    }

    #[test]
    fn a_report_of_differences_is_printed_and_fails() {
        let (ui, stdout, _) = captured(&Settings::default());
        let failure = Failure::difference("2 blobs differ");
        assert_eq!(ui.outcome(&document(Some(failure.clone()))), Err(failure));
        assert_eq!(stdout.text(), "text\n");
    }

    #[test]
    fn a_closed_reader_is_success_and_a_full_disk_is_not() {
        let ui = |kind| {
            let streams: (Box<Closed>, Box<Closed>) = (Box::new(Closed(kind)), Box::new(Closed(kind)));
            Ui::with_streams(&Settings::default(), &Env::default(), false, streams.0, streams.1)
        };
        assert_eq!(ui(io::ErrorKind::BrokenPipe).print("x"), Ok(()));
        let failure = ui(io::ErrorKind::StorageFull).print("x").unwrap_err();
        assert_eq!(failure.message, "cannot write to standard output: no storage space");
    }

    #[test]
    fn colours_and_bars_need_a_terminal_and_consent() {
        let ui = |settings: &Settings, env: &[(&str, &str)], terminal| {
            let env = Env::from_pairs(env.iter().copied());
            let (out, err) = (Box::new(Captured::default()), Box::new(Captured::default()));
            let ui = Ui::with_streams(settings, &env, terminal, out, err);
            (ui.color, ui.progress)
        };
        let auto = Settings::default();
        assert_eq!(ui(&auto, &[], true), (true, Progress::Bar));
        assert_eq!(ui(&auto, &[("NO_COLOR", "1")], true), (false, Progress::Bar));
        assert_eq!(ui(&auto, &[("NO_COLOR", "")], true), (true, Progress::Bar));
        assert_eq!(ui(&auto, &[], false), (false, Progress::Plain));
        let always = Settings { color: When::Always, progress: Progress::Bar, ..auto };
        assert_eq!(ui(&always, &[("NO_COLOR", "1")], false), (true, Progress::Bar));
        let debug = Settings { verbosity: Verbosity::Debug, ..auto };
        assert_eq!(ui(&debug, &[], true), (true, Progress::Plain));
    }
}
