//! Stacks of layers, given and random, as layout tars.

use testkit::lab::Lab;
use testkit::random::Random;
use testkit::tarball::{Header, Tarball};

use crate::layouts::{CONTAINERD_NAME, Layout, REF_NAME, named};

/// The name under which [`write`] puts an image into its tar.
pub(crate) const NAME: &str = "reg.example/team/app:v1";

/// Writes an image with these layers, lowest first, as a layout tar.
pub(crate) fn write(lab: &Lab, tar: &str, layers: &[Vec<u8>]) {
    let mut layout = Layout::default();
    let image = layout.image(layers);
    layout.entries.push(named(image, &[(REF_NAME, "v1"), (CONTAINERD_NAME, NAME)]));
    lab.write(tar, layout.tar());
}

/// A base with a link for a folder, and two layers over it: a whiteout, an opaque folder, a hard link, odd names.
pub(crate) fn three() -> Vec<Vec<u8>> {
    let base = Tarball::new()
        .dir("usr/")
        .dir("usr/bin/")
        .entry(&Header::new("usr/bin/sh", b'0', 5).mode(0o4755), b"shell")
        .symlink("bin", "usr/bin")
        .dir("etc/")
        .file("etc/os-release", "ID=test\n")
        .symlink("etc/alias", "/etc/os-release")
        .symlink("etc/out", "../../../etc/os-release")
        .dir("old/")
        .file("old/a", "a")
        .file("old/b", "b")
        .file("gone", "gone");
    let middle =
        Tarball::new().file("bin/app", [7; 3000]).file(".wh.gone", "").hardlink("app2", "usr/bin/app");
    let top = Tarball::new()
        .dir("old/")
        .file("old/.wh..wh..opq", "")
        .file("old/new", "new")
        .file("odd\n\x1b[31m", "odd")
        .entry(&Header::new("etc/os-release", b'0', 8).mode(0o600), b"ID=next\n");
    vec![base.finish(), middle.finish(), top.finish()]
}

/// Makes random layers with few names, so that they replace and hide each other's entries.
pub(crate) fn by_chance(seed: u64) -> Vec<Vec<u8>> {
    let mut random = Random::new(seed);
    let mut layers = Vec::new();
    // The present kind of each path; a layer uses only folders that exist, as real ones do.
    let mut folders = vec![String::new()];
    for number in 0..1 + random.below(4) {
        let mut tar = Tarball::new();
        let mut files: Vec<String> = Vec::new();
        let mut touched: Vec<String> = Vec::new();
        for _ in 0..3 + random.below(12) {
            let at = usize::try_from(random.below(folders.len() as u64)).unwrap();
            let folder = folders[at].clone();
            let name = random.pick(&["a", "b", "c.d", "e", "ab"]);
            let path = format!("{folder}{name}");
            let is_below = |one: &String| one.starts_with(&format!("{path}/")) || *one == format!("{path}/");
            if touched.iter().any(|one| *one == path || one.starts_with(&format!("{path}/"))) {
                continue;
            }
            touched.push(path.clone());
            match random.below(8) {
                0 | 1 => {
                    tar = tar.entry(&Header::new(format!("{path}/"), b'5', 0).mode(0o755), b"");
                    if !folders.contains(&format!("{path}/")) {
                        folders.push(format!("{path}/"));
                    }
                    continue;
                }
                2 | 3 if number > 0 => tar = tar.file(format!("{folder}.wh.{name}"), ""),
                4 if number > 0 && !folder.is_empty() => {
                    tar = tar.file(format!("{folder}.wh..wh..opq"), "");
                    folders.retain(|one| one == &folder || !one.starts_with(&folder));
                    touched.push(folder.clone());
                    continue;
                }
                5 => tar = tar.symlink(&path, "a"),
                6 if !files.is_empty() => {
                    let target = files[usize::try_from(random.below(files.len() as u64)).unwrap()].clone();
                    tar = tar.hardlink(&path, target);
                }
                _ => {
                    let size = usize::try_from(random.below(2000)).unwrap();
                    tar = tar.file(&path, random.bytes(size));
                    files.push(path.clone());
                }
            }
            folders.retain(|one| !is_below(one));
        }
        layers.push(tar.finish());
    }
    layers
}
