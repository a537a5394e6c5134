//! Writes a manual page for every command: `cargo run --example manpages -- FOLDER`.
//!
//! The texts are those of `--help`. `ci/release` packs the pages together with the completion scripts.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| std::io::Error::other("expected a folder to write the pages into"))?;
    std::fs::create_dir_all(&folder)?;
    clap_mangen::generate_to(imgrelay::front::program::help_command(), folder)
}
