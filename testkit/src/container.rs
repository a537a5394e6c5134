//! A throw-away image with one program in it, and containers made of it as CI systems make them.
//!
//! The image has the program, its libraries and an empty `/tmp`: no shell, no users, no certificates.

use crate::readers::Podman;
use crate::scratch::Scratch;
use crate::tools::{run, tool};
use crate::tree;
use std::path::Path;
use std::process::Command;

/// The image; its storage is removed when it is dropped.
#[derive(Debug)]
pub struct ToolImage {
    podman: Podman,
    name: String,
}

impl ToolImage {
    /// Makes the image; `at` is the program's absolute path in it.
    #[track_caller]
    pub fn of(program: &Path, at: &str) -> Self {
        let scratch = Scratch::new("image");
        let root = scratch.join("root");
        let target = root.join(at.trim_start_matches('/'));
        tree::make(&root, &["d tmp 1777"]);
        std::fs::create_dir_all(target.parent().expect("an absolute path of a file has a parent"))
            .expect("the folder is ours");
        // Debug information is nine tenths of a program that was built for tests.
        let _ = run(tool("strip").arg("-o").arg(&target).arg(program)).success();
        // It fails for a static program, which needs no libraries.
        let libraries = run(tool("ldd").arg(program)).stdout;
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            let copy = root.join(library.trim_start_matches('/'));
            std::fs::create_dir_all(copy.parent().expect("a library has a folder"))
                .expect("the folder is ours");
            std::fs::copy(library, copy).unwrap_or_else(|e| panic!("cannot copy `{library}`: {e}"));
        }
        let tar = scratch.join("root.tar");
        let mut command = tool("tar");
        command
            .args(["--owner=0", "--group=0", "--numeric-owner", "-cf"])
            .arg(&tar)
            .arg("-C")
            .arg(&root)
            .arg(".");
        let _ = run(&mut command).success();
        let podman = Podman::new();
        let name = "localhost/tool:test".to_owned();
        let _ = run(podman.command().args(["import", "--quiet"]).arg(&tar).arg(&name)).success();
        Self { podman, name }
    }

    /// Returns a `podman run` command in the host's network; `options` come before the image, `words` after it.
    pub fn run(&self, options: &[String], words: &[String]) -> Command {
        let mut command = self.podman.command();
        command.args(["run", "--rm", "--pull=never", "--network", "host"]);
        command.args(options).arg(&self.name).args(words);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_runs_in_a_container_without_anything_else() {
        let image = ToolImage::of(Path::new("/bin/ls"), "/usr/local/bin/tool");
        let words = ["/usr/local/bin/tool", "-ld", "/tmp", "/bin/sh"].map(str::to_owned);
        let ran = run(&mut image.run(&["--read-only".to_owned()], &words));
        assert!(ran.stdout.starts_with("drwxrwxrwt"), "{ran:?}");
        assert!(ran.code == Some(2) && ran.stderr.contains("'/bin/sh'"), "{ran:?}");
    }
}
