//! The static executable for containers, built by the script for releases.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use testkit::tools::{run, tool};

/// Builds the executable once, in the quick profile, if it is not current.
pub(crate) fn static_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        // Beside the executable under test, in cargo's target folder.
        let target = Path::new(env!("CARGO_BIN_EXE_imgrelay")).ancestors().nth(2).unwrap();
        let mut command = Command::new(package.join("ci/build-static"));
        command.env("PROFILE", "quick").env("CARGO_TARGET_DIR", target);
        let built = run(&mut command).success();
        let (path, _) = built.stdout.trim().split_once(": ").unwrap_or_else(|| panic!("{built:?}"));
        package.join(path)
    })
}

#[test]
fn the_executable_of_containers_needs_no_loader_and_no_library() {
    let program = static_program();
    let headers =
        run(tool("readelf").args(["--program-headers", "--dynamic", "--wide"]).arg(program)).success();
    assert!(headers.stdout.contains("LOAD"), "{}", headers.stdout);
    for word in ["INTERP", "NEEDED"] {
        assert!(!headers.stdout.contains(word), "{}", headers.stdout);
    }
    let version = run(Command::new(program).arg("version")).success();
    assert_eq!(version.stdout, concat!("imgrelay version ", env!("CARGO_PKG_VERSION"), "\n"));
}
