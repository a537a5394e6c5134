//! Real programs that have to accept the output: skopeo, umoci, podman, GNU tar, Python.

use crate::digest;
use crate::scratch::Scratch;
use crate::tools::{Ran, run, script, tool};
use crate::tree;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Copies with skopeo from one of its transports to another (`oci-archive:app.tar`, `oci:folder:tag`,
/// `dir:folder`, `docker://host/app:v1`), digests unchanged; `more` are further options.
pub fn skopeo_copy(from: &str, to: &str, more: &[&str]) -> Ran {
    let scratch = Scratch::new("skopeo");
    let mut command = tool("skopeo");
    command.args(["--insecure-policy", "copy", "--quiet", "--all", "--preserve-digests"]).args(more);
    // skopeo unpacks archives in TMPDIR; the folder is removed also after an interrupted copy.
    run(command.args([from, to]).env("TMPDIR", scratch.path()))
}

/// Returns the digest of the manifest or index at one of skopeo's transports, computed from its raw bytes.
#[track_caller]
pub fn skopeo_digest(image: &str, more: &[&str]) -> String {
    let scratch = Scratch::new("skopeo");
    let mut command = tool("skopeo");
    command.args(["inspect", "--raw"]).args(more).arg(image).env("TMPDIR", scratch.path());
    let output = command.output().unwrap_or_else(|e| panic!("cannot start skopeo: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo cannot inspect `{image}`: {stderr}");
    // It prints the bytes as they are, and a newline if they do not end with one.
    let bytes = output.stdout;
    digest::of(bytes.strip_suffix(b"\n").unwrap_or(&bytes))
}

/// Unpacks an OCI layout tar with GNU tar and the image in it with umoci; returns the root file system.
#[track_caller]
pub fn umoci_unpack(layout_tar: &Path, tag: &str, into: &Path) -> PathBuf {
    let layout = into.join("layout");
    gnu_untar(layout_tar, &layout);
    let mut image = layout.into_os_string();
    image.push(format!(":{tag}"));
    let bundle = into.join("bundle");
    let _ = run(tool("umoci").args(["unpack", "--rootless", "--image"]).arg(image).arg(&bundle)).success();
    bundle.join("rootfs")
}

/// Unpacks a tar, compressed or not, with GNU tar.
#[track_caller]
pub fn gnu_untar(tar: &Path, into: &Path) {
    tree::make(into, &[] as &[&str]);
    let _ = run(tool("tar").arg("--extract").arg("--file").arg(tar).arg("--directory").arg(into)).success();
}

/// Lists a tar with GNU tar: mode, owner, size, time (UTC, to the second) and name of each entry.
#[track_caller]
pub fn gnu_tar_list(tar: &Path) -> Vec<String> {
    let mut command = tool("tar");
    command.args([
        "--list",
        "--verbose",
        "--numeric-owner",
        "--full-time",
        "--utc",
        "--quoting-style=escape",
    ]);
    let ran = run(command.env("LC_ALL", "C").arg("--file").arg(tar)).success();
    assert!(ran.stderr.is_empty(), "GNU tar complains about `{}`: {}", tar.display(), ran.stderr);
    ran.stdout.lines().map(str::to_owned).collect()
}

/// Returns the entries of a tar as Python reads them: `name`, `kind` (`file`, `folder`, `symlink`, `hardlink`,
/// `other`), `mode`, `uid`, `gid`, `uname`, `gname`, `mtime`, `size`, `target`, `pax`, `sha256`.
#[track_caller]
pub fn python_tar_entries(tar: &Path) -> Vec<serde_json::Value> {
    let ran = run(script("tar_entries.py").arg(tar)).success();
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("`{}`: {e}", ran.line))
}

/// podman with a storage of its own, which is removed when this is dropped.
#[derive(Debug)]
pub struct Podman {
    scratch: Scratch,
}

impl Podman {
    /// Prepares an empty storage.
    pub fn new() -> Self {
        let scratch = Scratch::new("podman");
        // podman's default limits are above those of a CI system's container, and crun refuses the mixed cgroup
        // versions there.
        let limits = "default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]";
        let engine = "cgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"";
        scratch.write("containers.conf", format!("[containers]\n{limits}\n[engine]\n{engine}\n"));
        scratch.write("policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
        Self { scratch }
    }

    /// Returns a podman command; the caller adds words and runs it.
    pub fn command(&self) -> Command {
        let mut command = tool("podman");
        command.env("CONTAINERS_CONF", self.scratch.join("containers.conf"));
        command.env("TMPDIR", self.scratch.path()).env("XDG_RUNTIME_DIR", self.scratch.path());
        command.arg("--root").arg(self.scratch.join("root")).arg("--runroot").arg(self.scratch.join("run"));
        // vfs needs no mounts and no kernel features, and its folders can be removed like others.
        command.args(["--storage-driver", "vfs"]);
        command
    }

    /// Runs `podman load`; returns the loaded names that it prints.
    #[track_caller]
    pub fn load(&self, tar: &Path) -> Vec<String> {
        let policy = self.scratch.join("policy.json");
        let mut command = self.command();
        let ran =
            run(command.args(["load", "--signature-policy"]).arg(policy).arg("--input").arg(tar)).success();
        let names = ran.stdout.lines().filter_map(|line| line.split_once(": "));
        names.map(|(_, name)| name.trim().to_owned()).collect()
    }

    /// Runs `podman pull TRANSPORT:…`; returns the image's id, which is its configuration's digest without `sha256:`.
    #[track_caller]
    pub fn pull(&self, image: &str, more: &[&str]) -> String {
        let policy = self.scratch.join("policy.json");
        let mut command = self.command();
        command.args(["pull", "--quiet", "--signature-policy"]).arg(policy).args(more).arg(image);
        run(&mut command).success().stdout.trim().to_owned()
    }

    /// Returns the digest of the manifest of a stored image.
    #[track_caller]
    pub fn digest(&self, image: &str) -> String {
        let mut command = self.command();
        command.args(["image", "inspect", "--format", "{{.Digest}}", image]);
        run(&mut command).success().stdout.trim().to_owned()
    }

    /// Unpacks the root file system of a stored image.
    #[track_caller]
    pub fn export(&self, image: &str, into: &Path) {
        // A container needs a command, even if it is never started.
        let ran = run(self.command().args(["create", "--pull=never", "--network", "none", image, "/none"]))
            .success();
        let container = ran.stdout.trim();
        let tar = self.scratch.join("export.tar");
        let _ = run(self.command().args(["export", "--output"]).arg(&tar).arg(container)).success();
        let _ = run(self.command().args(["rm", container])).success();
        gnu_untar(&tar, into);
    }
}

impl Default for Podman {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Without root the stored files belong to ids that only podman's own user namespace may remove.
        let storage = self.scratch.join("root");
        if std::fs::remove_dir_all(&storage).is_err() {
            let _ = self.command().args(["unshare", "rm", "-rf"]).arg(storage).output();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::tests::Parts;
    use crate::registry::Registry;

    /// Returns a valid layout as folder and tar, its manifest's digest, and the list of its files.
    fn layout(scratch: &Scratch) -> (PathBuf, String, String) {
        let folder = scratch.join("layout");
        let written = Parts::new(scratch).write(&folder);
        let tar = scratch.join("layout.tar");
        let _ = run(tool("tar").arg("-cf").arg(&tar).arg("-C").arg(&folder).arg(".")).success();
        let (digest, _) = digest::of_file(&folder.join(written.manifest));
        (tar, digest, tree::list_contents(&scratch.join("app")))
    }

    #[test]
    fn skopeo_carries_a_layout_to_a_registry() {
        let scratch = Scratch::new("readers");
        let registry = Registry::start();
        let (tar, digest, _) = layout(&scratch);
        let from = format!("oci-archive:{}", tar.display());
        let to = format!("docker://{}/app:v1", registry.host());
        let _ = skopeo_copy(&from, &to, &["--dest-tls-verify=false"]).success();
        assert_eq!(registry.storage().tags("app")["v1"], digest);
        assert_eq!(skopeo_digest(&from, &[]), digest);
        assert_eq!(skopeo_digest(&to, &["--tls-verify=false"]), digest);
        registry.storage().assert_sound();
        assert_ne!(skopeo_copy("oci-archive:/none", &to, &[]).code, Some(0));
    }

    #[test]
    fn umoci_and_podman_unpack_what_was_packed() {
        let scratch = Scratch::new("readers");
        let (tar, digest, expected) = layout(&scratch);
        let rootfs = umoci_unpack(&tar, "v1", &scratch.join("umoci"));
        assert_eq!(tree::list_contents(&rootfs), expected);
        let podman = Podman::new();
        let names = podman.load(&tar);
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(podman.digest(&names[0]), digest);
        podman.export(&names[0], &scratch.join("podman"));
        let exported = tree::list_contents(&scratch.join("podman"));
        assert!(expected.lines().all(|line| exported.contains(line)), "{exported}");
        let id = Podman::new().pull(&format!("oci-archive:{}", tar.display()), &[]);
        assert_eq!(id.len(), 64, "{id}");
    }

    #[test]
    fn two_readers_agree_on_a_tar() {
        let scratch = Scratch::new("readers");
        tree::make(&scratch.join("in"), &["d a 750", "f a/b 640 'hi'", "l c -> a/b"]);
        let tar = scratch.join("t.tar");
        let mut command = tool("tar");
        command.args(["-cf"]).arg(&tar).args(["--mtime=@0", "--owner=7", "--group=8", "--sort=name", "-C"]);
        let _ = run(command.arg(scratch.join("in")).args(["a", "c"])).success();
        let expected = [
            "drwxr-x--- 7/8               0 1970-01-01 00:00:00 a/",
            "-rw-r----- 7/8               2 1970-01-01 00:00:00 a/b",
            "lrwxrwxrwx 7/8               0 1970-01-01 00:00:00 c -> a/b",
        ];
        assert_eq!(gnu_tar_list(&tar), expected);
        let entries = python_tar_entries(&tar);
        let names: Vec<_> =
            entries.iter().map(|entry| (entry["name"].as_str(), entry["kind"].as_str())).collect();
        let expected = [("a", "folder"), ("a/b", "file"), ("c", "symlink")].map(|(n, k)| (Some(n), Some(k)));
        assert_eq!(names, expected);
        assert_eq!((entries[1]["mode"].as_u64(), entries[1]["uid"].as_u64()), (Some(0o640), Some(7)));
        assert_eq!(entries[2]["target"], "a/b");
    }
}
