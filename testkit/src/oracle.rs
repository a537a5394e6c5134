//! Independent checks: scripts in `tests/tools` that implement the specifications and share nothing with the program.

use crate::oracle_crates;
use crate::tools::{run, script};
use std::ffi::OsStr;
use std::path::Path;

/// Panics with all errors and warnings about an OCI layout (tar, compressed tar or folder) that the script and the
/// crates `oci-spec` and `tar` find.
#[track_caller]
pub fn validate_layout(path: impl AsRef<Path>) {
    let mut problems = layout_problems(&path);
    problems.extend(oracle_crates::problems(path.as_ref()));
    let path = path.as_ref().display();
    assert!(problems.is_empty(), "`{path}` is not a sound OCI layout:\n{}", problems.join("\n"));
}

/// Returns the errors (`error: …`) and warnings (`warning: …`) about an OCI layout.
#[track_caller]
pub fn layout_problems(path: impl AsRef<Path>) -> Vec<String> {
    let ran = run(script("oci_validate.py").arg(path.as_ref()));
    let problems: Vec<String> = ran.stdout.lines().map(str::to_owned).collect();
    let understood = match ran.code {
        Some(0) => problems.is_empty(),
        Some(1) => !problems.is_empty(),
        _ => false,
    };
    assert!(understood && ran.stderr.is_empty(), "the validator itself failed: {ran:?}");
    problems
}

/// Options of `imgpkg push`.
#[derive(Debug, Clone, Default)]
pub struct LayerOptions {
    /// `--preserve-permissions`.
    pub preserve_permissions: bool,
    /// `--file-exclusion`, each; `.git` if there is none.
    pub exclude: Vec<String>,
}

/// What [`imgpkg_layer`] computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// `sha256:…` of the uncompressed tar.
    pub diff_id: String,
    /// The length of the uncompressed tar.
    pub size: u64,
}

/// Computes the layer `imgpkg push -f PATH…` makes; writes the uncompressed tar to `output` if given.
#[track_caller]
pub fn imgpkg_layer<P: AsRef<OsStr>>(paths: &[P], options: &LayerOptions, output: Option<&Path>) -> Layer {
    let mut command = script("imgpkg_layer.py");
    if options.preserve_permissions {
        command.arg("--preserve-permissions");
    }
    for path in &options.exclude {
        command.args(["--exclude", path]);
    }
    if let Some(output) = output {
        command.arg("--output").arg(output);
    }
    let ran = run(command.arg("--").args(paths)).success();
    let mut words = ran.stdout.split_whitespace();
    match (words.next(), words.next().and_then(|size| size.parse().ok())) {
        (Some(diff_id), Some(size)) => Layer { diff_id: diff_id.to_owned(), size },
        _ => panic!("`{}` printed `{}`", ran.line, ran.stdout),
    }
}

/// Returns the diff_id of the layer `imgpkg push -f PATH…` makes.
#[track_caller]
pub fn imgpkg_diff_id<P: AsRef<OsStr>>(paths: &[P], options: &LayerOptions) -> String {
    imgpkg_layer(paths, options, None).diff_id
}

#[cfg(test)]
pub(crate) mod tests;
