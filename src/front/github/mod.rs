//! The door for GitHub Actions: turns inputs into a command line, and its result into outputs.
//!
//! `action.yml` calls `imgrelay github` with the inputs as `INPUT_*`. This module turns them into a command line and
//! runs it; the streams it gives to the command cannot hold workflow commands.

pub(super) mod commands;
pub(super) mod inputs;
mod summary;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use super::env::{self, Env};
use super::failure::Failure;
use super::outcome::{ImageOutcome, Outcome};
use super::program::{self, Door};
use super::result_file::{self, Format, ResultFile};
use super::ui::{Settings, Ui};
use commands::Guard;

/// The argument that chooses this door.
pub const NAME: &str = "github";

/// Variables with paths of files that the command writes.
const FILE_VARIABLES: [&str; 1] = ["IMGRELAY_LOCK_OUTPUT"];
/// Variables with `FORMAT:PATH` of files that the command writes.
const RESULT_VARIABLES: [&str; 2] = ["IMGRELAY_RESULT", "IMGRELAY_OUTPUT"];

/// Runs the action; a failure is already printed when it is returned.
pub fn run(words: &[OsString], env: &Env) -> Result<(), Failure> {
    // Before any other output, so that no line of the log shows a secret.
    let masks: String = inputs::secrets(env).into_iter().map(commands::masks).collect();
    command(&masks);
    let result = action(words, env).map_err(|failure| failure.in_words_of(&inputs::InputNames::IMAGE));
    if let Err(failure) = &result {
        command(&commands::error(failure));
    }
    result
}

/// Prints workflow commands.
fn command(text: &str) {
    // If nothing reads the stream, there is no log.
    let _ = io::stdout().write_all(text.as_bytes());
}

fn action(words: &[OsString], env: &Env) -> Result<(), Failure> {
    if let Some(word) = words.first() {
        let word = word.to_string_lossy();
        return Err(Failure::misuse(format!("`github` takes no arguments, found `{word}`"))
            .hint("inputs come as environment variables `INPUT_<NAME>`, see `action.yml`"));
    }
    let request = inputs::read(env)?;
    let vocabulary = request.vocabulary;
    let output = ResultFile::parse("github", env)?;
    let ui = |settings: &Settings| {
        let (out, err) = (Guard::new(io::stdout()), Guard::new(io::stderr()));
        Ui::with_streams(settings, env, false, Box::new(out), Box::new(err)).speaking(vocabulary)
    };
    let confirmed = |outcome: &Outcome| {
        let Some(image) = outcome.image() else { return Ok(()) };
        if let Outcome::Image(made) = outcome {
            hand_over(made, env);
        }
        let image = as_the_host_sees_it(image, env);
        result_file::write(std::slice::from_ref(&output), &image)?;
        if request.summary
            && let Some(path) = env.path(env::GITHUB_STEP_SUMMARY)
        {
            let text = match outcome {
                Outcome::Image(_) => summary::made(&image),
                Outcome::Document(_) | Outcome::Printed => summary::markdown(&image, "verified"),
            };
            result_file::append(&path, &text)?;
        }
        if request.declare { declare(&image, env) } else { Ok(()) }
    };
    // The annotation reports the failure, and the runner shows annotations in the log as well.
    let door = Door { ui: &ui, confirmed: &confirmed, failed: &|_, _| () };
    program::run_behind(&door, request.words, &request.env).map_err(|failure| failure.in_words_of(vocabulary))
}

/// Returns the outcome without paths that exist only inside the container.
fn as_the_host_sees_it(image: &ImageOutcome, env: &Env) -> ImageOutcome {
    let is_inside = |path: &PathBuf| env.path(env::GITHUB_WORKSPACE).is_none() || path.is_relative();
    ImageOutcome { path: image.path.clone().filter(is_inside), ..image.clone() }
}

/// Gives new files to the owner of their folder, who could not replace or remove root's files later.
///
/// Source: <https://github.com/actions/runner/issues/434>.
fn hand_over(image: &ImageOutcome, env: &Env) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut paths: Vec<PathBuf> = image.path.clone().into_iter().collect();
    paths.extend(FILE_VARIABLES.iter().filter_map(|variable| env.path(variable)));
    let results = RESULT_VARIABLES.iter().filter_map(|variable| env.text(variable)).flat_map(str::lines);
    let results = results.filter_map(|text| ResultFile::parse(text.trim(), env).ok());
    paths.extend(results.filter(|result| result.format != Format::Tekton).map(|result| result.path));
    for path in paths {
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (Ok(file), Ok(folder)) = (path.symlink_metadata(), folder.metadata()) else { continue };
        if file.is_file() && file.uid() == 0 && folder.uid() != 0 {
            // Some file systems have no owners; there the file stays as it is.
            let _ = lchown(&path, Some(folder.uid()), Some(folder.gid()));
        }
    }
}

/// Declares the pushed image as an artifact of the job, for actions that attest it.
///
/// Source: actions/runner 2.336, `GITHUB_ARTIFACTS`: one `name@digest` per line; a tag would make another name.
fn declare(image: &ImageOutcome, env: &Env) -> Result<(), Failure> {
    let Some(repository) = &image.repository else {
        return Err(Failure::misuse("input `declare-artifact` needs `command: push`"));
    };
    let Some(path) = env.path(env::GITHUB_ARTIFACTS) else {
        return Err(Failure::refused(
            "the runner does not take declared artifacts: `GITHUB_ARTIFACTS` is not set",
        )
        .hint("the image itself is pushed; use runner 2.336 or newer, or leave `declare-artifact` out"));
    };
    result_file::append(&path, &format!("oci://{repository}@{}\n", image.digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_the_host_does_not_have_is_no_output() {
        let image =
            |path: &str| ImageOutcome { path: Some(path.into()), ..crate::front::outcome::tests::pushed() };
        let env = Env::from_pairs([("GITHUB_WORKSPACE", "/github/workspace")]);
        assert_eq!(as_the_host_sees_it(&image("out/a.tar"), &env).path, Some("out/a.tar".into()));
        assert_eq!(as_the_host_sees_it(&image("/github/runner_temp/a.tar"), &env).path, None);
        assert_eq!(as_the_host_sees_it(&image("/a.tar"), &Env::default()).path, Some("/a.tar".into()));
    }

    #[test]
    fn an_artifact_is_declared_without_a_tag_and_only_where_it_is_read() {
        let folder = std::env::temp_dir().join(format!("imgrelay-declare-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("artifacts");
        let env = Env::from_pairs([("GITHUB_ARTIFACTS", &path)]);
        let image = crate::front::outcome::tests::pushed();
        declare(&image, &env).unwrap();
        let expected = format!("oci://reg.example/team/app@{}\n", image.digest);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        assert!(declare(&image, &Env::default()).unwrap_err().message.to_string().contains("is not set"));
        let tar = ImageOutcome { repository: None, ..image };
        assert!(declare(&tar, &env).unwrap_err().message.to_string().contains("needs `command: push`"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
