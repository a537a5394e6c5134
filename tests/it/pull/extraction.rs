//! Layers are extracted by the image specification, and nothing outside the target is changed.

use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use imgrelay::tar::{ExtractError, Extractor, Ownership, Policy, StrayLinks, Summary};
use serde_json::json;
use testkit::fault::{Access, FaultRegistry};
use testkit::scratch::Scratch;
use testkit::tarball::{Header, Tarball};

use crate::lab::lab;
use crate::layouts::{Layout, MANIFEST, hex};

/// Extracts layers, lowest first.
fn extract(root: &Path, policy: Policy, layers: &[Vec<u8>]) -> Result<Summary, ExtractError> {
    let mut extractor = Extractor::new(OwnedFd::from(File::open(root).unwrap()), policy);
    let mut progress = 0;
    for layer in layers {
        extractor.layer(&layer[..], &mut |bytes| progress += bytes)?;
    }
    let summary = extractor.finish()?;
    assert_eq!(summary.bytes, progress);
    Ok(summary)
}

/// Describes a tree as text: one line per entry, with mode, and content or target.
fn listing(root: &Path) -> String {
    fn walk(root: &Path, folder: &Path, out: &mut String) {
        let mut paths: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().display();
            let mode = metadata.mode() & 0o7777;
            if metadata.is_symlink() {
                writeln!(out, "l {name} -> {}", std::fs::read_link(&path).unwrap().display()).unwrap();
            } else if metadata.is_dir() {
                writeln!(out, "d {name} {mode:o}").unwrap();
                walk(root, &path, out);
            } else {
                let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
                writeln!(out, "f {name} {mode:o} {text}").unwrap();
            }
        }
    }
    let mut out = String::new();
    walk(root, root, &mut out);
    out
}

fn file(name: &str, mode: u32, text: &str) -> (Header, Vec<u8>) {
    (Header::new(name, b'0', text.len() as u64).mode(mode), text.as_bytes().to_vec())
}

#[test]
fn pull_keeps_empty_folders_and_links_and_sets_imgpkgs_modes() {
    let folder = Scratch::new("contents");
    let (mut secret, text) = file("dir/tool", 0o6700, "run");
    (secret.uid, secret.gid) = (1234, 4321);
    let (shared, other) = file("dir/shared", 0o4640, "x");
    let tar = Tarball::new()
        .entry(&Header::new(".", b'5', 0).mode(0o700), b"")
        .entry(&Header::new("dir", b'5', 0).mode(0o1700), b"")
        .pax(&[("SCHILY.xattr.user.note", b"blue")])
        .entry(&secret, &text)
        .entry(&shared, &other)
        .entry(&Header::new("dir/empty", b'5', 0).mode(0o700), b"")
        .symlink("dir/link", "../dir/tool")
        .hardlink("hard", "dir/tool")
        .hardlink("hard", "./hard")
        .file("/implied/../x".replace("../", ""), "deep")
        .finish();
    let summary = extract(folder.path(), Policy::contents(0o022), &[tar]).unwrap();
    let expected = "d dir 755\nd dir/empty 755\nl dir/link -> ../dir/tool\nf dir/shared 640 x\n\
                    f dir/tool 755 run\nf hard 755 run\nd implied 755\nf implied/x 644 deep\n";
    assert_eq!(listing(folder.path()), expected);
    assert_eq!(std::fs::metadata(folder.join("hard")).unwrap().nlink(), 2);
    let tool = std::fs::metadata(folder.join("dir/tool")).unwrap();
    let us = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    assert_eq!((tool.uid(), tool.gid()), us, "files belong to the user who extracts them");
    assert_eq!(attributes(&folder.join("dir/tool")), [], "attributes are not kept");
    assert_eq!((summary.files, summary.directories, summary.links, summary.skipped), (3, 2, 2, 0));
}

#[test]
fn upper_layers_win_and_whiteouts_and_opaque_folders_hide_lower_layers() {
    let lower = Tarball::new()
        .file("a", "old")
        .file("b", "gone")
        .file("whole/x", "gone")
        .file("opaque/old", "gone")
        .file("opaque/sub/old", "gone")
        .file("opaque/both/old", "gone")
        .file("swap-to-dir", "gone")
        .file("swap-to-file/x", "gone")
        .file("twice/low", "gone")
        .symlink("lib", "usr/lib")
        .file("usr/lib/one", "1")
        .finish();
    // Whiteouts before, between and after the entries that the same layer adds.
    let upper = Tarball::new()
        .file("opaque/new", "new")
        .file("opaque/both/new", "new")
        .file(".wh.b", "")
        .file(".wh.whole", "")
        .file(".wh.never-there", "")
        .file("nowhere/.wh.x", "")
        .file("opaque/.wh..wh..opq", "")
        .file(".wh..wh.plnk/x", "aufs")
        .file("a", "new")
        .file("swap-to-dir/x", "")
        .finish();
    let error = {
        let folder = Scratch::new("layers-error");
        extract(folder.path(), Policy::contents(0o022), &[lower.clone(), upper]).unwrap_err().to_string()
    };
    assert!(error.contains("`swap-to-dir` is not a directory"), "{error}");
    let upper = Tarball::new()
        .file("opaque/new", "new")
        .file("opaque/both/new", "new")
        .file(".wh.b", "")
        .file(".wh.whole", "")
        .file(".wh.never-there", "")
        .file("nowhere/.wh.x", "")
        .file("opaque/.wh..wh..opq", "")
        .file("a", "new")
        .dir("swap-to-dir")
        .file("swap-to-dir/x", "new")
        .file("swap-to-file", "new")
        .dir("twice")
        .file("twice/new", "new")
        .file(".wh.twice", "")
        .file("lib/two", "2")
        .finish();
    let folder = Scratch::new("layers");
    extract(folder.path(), Policy::contents(0o022), &[lower, upper]).unwrap();
    let expected = "f a 644 new\nl lib -> usr/lib\nd opaque 755\nd opaque/both 755\nf opaque/both/new 644 new\n\
                    f opaque/new 644 new\nd swap-to-dir 755\nf swap-to-dir/x 644 new\nf swap-to-file 644 new\n\
                    d twice 755\nf twice/new 644 new\nd usr 755\nd usr/lib 755\nf usr/lib/one 644 1\nf usr/lib/two 644 2\n";
    assert_eq!(listing(folder.path()), expected);
}

#[test]
fn only_included_paths_are_extracted() {
    let folder = Scratch::new("include");
    let lower =
        Tarball::new().file("a/b/c", "1").file("a/bc", "2").file("d/e", "3").file("top", "4").finish();
    let upper = Tarball::new().file("a/.wh.b", "").file("d/f", "5").finish();
    let mut policy = Policy::contents(0o022);
    policy.include = vec![b"a/b".to_vec(), b"./d/".to_vec(), b"absent".to_vec()];
    let summary = extract(folder.path(), policy.clone(), std::slice::from_ref(&lower)).unwrap();
    assert_eq!(listing(folder.path()), "d a 755\nd a/b 755\nf a/b/c 644 1\nd d 755\nf d/e 644 3\n");
    assert_eq!(summary.unmatched, ["absent"]);
    let folder = Scratch::new("include-layers");
    extract(folder.path(), policy, &[lower, upper]).unwrap();
    assert_eq!(listing(folder.path()), "d a 755\nd d 755\nf d/e 644 3\nf d/f 644 5\n");
}

#[test]
fn a_root_file_system_keeps_modes_symlinks_hard_links_and_owners() {
    let folder = Scratch::new("rootfs");
    let (mut setuid, text) = file("bin/su", 0o4755, "su");
    setuid.uid = 1234;
    setuid.gid = 4321;
    let tar = Tarball::new()
        .entry(&Header::new("bin", b'5', 0).mode(0o555), b"")
        .entry(&setuid, &text)
        .entry(&Header::new("locked", b'5', 0).mode(0o1000), b"")
        .symlink("etc/mtab", "/proc/mounts")
        .symlink("up", "../../../x")
        .symlink("run", "/var/run")
        .file("run/file", "through the link")
        .entry(&Header::new("dev/null", b'3', 0), b"")
        .entry(&Header::new("pipe", b'6', 0), b"")
        .finish();
    let is_root = rustix::process::geteuid().is_root();
    let ownership = if is_root { Ownership::Apply } else { Ownership::Ignore };
    let summary = extract(folder.path(), Policy::rootfs(ownership), &[tar]).unwrap();
    let su = std::fs::metadata(folder.join("bin/su")).unwrap();
    assert_eq!(su.mode() & 0o7777, 0o4755);
    if is_root {
        assert_eq!((su.uid(), su.gid()), (1234, 4321));
    }
    assert_eq!(std::fs::metadata(folder.join("bin")).unwrap().mode() & 0o7777, 0o555);
    assert_eq!(std::fs::metadata(folder.join("locked")).unwrap().mode() & 0o7777, 0o1000);
    assert_eq!(std::fs::read_to_string(folder.join("var/run/file")).unwrap(), "through the link");
    let pipe = std::fs::symlink_metadata(folder.join("pipe")).unwrap();
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&pipe.file_type()));
    assert_eq!(pipe.mode() & 0o7777, 0o644);
    // Folders keep their times although files were written into them afterwards.
    for path in ["bin", "bin/su", "locked", "etc/mtab", "pipe"] {
        let metadata = std::fs::symlink_metadata(folder.join(path)).unwrap();
        assert_eq!(metadata.mtime(), 0, "{path} has the time of the header");
    }
    assert_eq!(summary.skipped_names, ["dev/null"]);
    // So that users without root's rights can remove the folder.
    std::fs::set_permissions(folder.join("bin"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(folder.join("locked"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn devices_fifos_dangling_hard_links_and_escaping_symlinks_are_refused_by_name() {
    let long = "x".repeat(256);
    let deep = "d/".repeat(600);
    let cases: [(Vec<u8>, &str); 16] = [
        (
            Tarball::new().entry(&Header::new("dev/sda", b'4', 0), b"").finish(),
            "cannot extract `dev/sda`: it is a device",
        ),
        (
            Tarball::new().entry(&Header::new("tty", b'3', 0), b"").finish(),
            "cannot extract `tty`: it is a device",
        ),
        (Tarball::new().entry(&Header::new("pipe", b'6', 0), b"").finish(), "it is a named pipe"),
        (Tarball::new().file(".", "x").finish(), "only a directory can have the name of the root"),
        (Tarball::new().hardlink("a", "b").finish(), "a hard link to `b`, which was not extracted before it"),
        (Tarball::new().hardlink("a", "x/y/b").finish(), "which was not extracted before it"),
        (Tarball::new().dir("d").hardlink("a", "d").finish(), "a hard link to the directory `d`"),
        (Tarball::new().file("f", "").file("f/x", "").finish(), "`f` is not a directory, but has to be"),
        (
            Tarball::new().symlink("l", "gone").file("l/x", "").symlink("l2", "l2").file("l2/x", "").finish(),
            "more than 40 links",
        ),
        (Tarball::new().file("a/../b", "").finish(), "`..` in its name"),
        (Tarball::new().file("..", "").finish(), "`..` in its name"),
        (Tarball::new().file(&deep, "").finish(), "600 levels deep, at most 512"),
        (Tarball::new().file(&long, "").finish(), "cannot create the file"),
        (
            Tarball::new().symlink("l", "/etc").finish(),
            "a symbolic link to `/etc`, outside the extracted tree",
        ),
        (Tarball::new().symlink("d/l", "../..").finish(), "a symbolic link to `../..`, outside"),
        (
            Tarball::new().file("ok", "x").unfinished()[..512].to_vec(),
            "the tar ends at byte 512, inside the data of `ok`",
        ),
    ];
    for (tar, expected) in cases {
        let folder = Scratch::new("refused");
        let error = extract(folder.path(), Policy::contents(0o022), &[tar]).expect_err(expected).to_string();
        assert!(error.contains(expected), "wanted: {expected}\n  gave: {error}");
    }
}

/// Archives that try to reach the folder beside the root, `../outside` with `victim` and `dir/`.
fn attacks(outside: &Path) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let absolute = outside.to_str().unwrap();
    let one = |tar: Tarball| vec![tar.finish()];
    let two = |lower: Tarball, upper: Tarball| vec![lower.finish(), upper.finish()];
    let new = Tarball::new;
    let victim = format!("{absolute}/victim");
    let dir = format!("{absolute}/dir");
    vec![
        ("dots in a name", one(new().file("../outside/victim", "evil"))),
        ("dots inside a name", one(new().dir("a").file("a/../../outside/victim", "evil"))),
        ("absolute name", one(new().file(&victim, "evil"))),
        ("PAX name with dots", one(new().pax(&[("path", b"../outside/victim")]).file("ok", "evil"))),
        (
            "global PAX name with dots",
            one(new()
                .entry(&Header::new("g", b'g', 27), b"27 path=../outside/victim12\n")
                .file("ok", "evil")),
        ),
        (
            "PAX size over the header's",
            one(new()
                .pax(&[("size", b"0")])
                .entry(&Header::new("a", b'0', 512), &new().file("../outside/victim", "").unfinished())),
        ),
        ("GNU name with dots", one(new().gnu_long(b'L', "../outside/victim").file("ok", "evil"))),
        ("file through absolute link", one(new().symlink("l", &dir).file("l/new", "evil"))),
        ("file through relative link", one(new().symlink("l", "../outside").file("l/victim", "evil"))),
        ("file onto link", one(new().symlink("l", &victim).file("l", "evil"))),
        (
            "folder onto link",
            one(new().symlink("l", &dir).entry(&Header::new("l", b'5', 0).mode(0o777), b"")),
        ),
        (
            "chain of links",
            one(new()
                .symlink("a", ".")
                .symlink("a/b", "..")
                .symlink("c", "a/b/..")
                .file("c/outside/victim", "evil")),
        ),
        (
            "link to self up",
            one(new()
                .dir("d")
                .symlink("d/s", "..")
                .symlink("d/x", "s/../outside")
                .file("d/x/victim", "evil")),
        ),
        ("winding link left behind", one(new().dir("d").symlink("d/s", "..").symlink("d/x", "s/../outside"))),
        (
            "link moved by hard link",
            one(new()
                .dir("a")
                .dir("a/b")
                .symlink("a/b/l", "../../../outside")
                .hardlink("m", "a/b/l")
                .file("m/victim", "evil")),
        ),
        (
            "inner link moved by hard link",
            one(new().dir("a").symlink("a/l", "../ok").hardlink("m", "a/l").file("m/outside/victim", "evil")),
        ),
        (
            "folder swapped for link",
            one(new().dir("d").file("d/x", "").symlink("d", &dir).file("d/new", "evil")),
        ),
        (
            "folder swapped for link by upper layer",
            two(new().file("d/x", ""), new().symlink("d", "../outside").file("d/victim", "evil")),
        ),
        ("hard link to absolute", one(new().hardlink("h", &victim).file("h", "evil"))),
        ("hard link with dots", one(new().hardlink("h", "../outside/victim").file("h", "evil"))),
        (
            "hard link through link",
            one(new().symlink("l", "../outside").hardlink("h", "l/victim").file("h", "evil")),
        ),
        (
            "hard link then chmod",
            one(new()
                .symlink("l", &victim)
                .hardlink("h", "l")
                .entry(&Header::new("h", b'0', 4).mode(0o777), b"evil")),
        ),
        ("whiteout with dots", two(new().file("x", ""), new().file("../outside/.wh.victim", ""))),
        ("whiteout of the parent", two(new().file("x", ""), new().file(".wh...", ""))),
        ("whiteout of itself", two(new().file("x", ""), new().file(".wh..", ""))),
        ("whiteout through link", two(new().symlink("l", "../outside"), new().file("l/.wh.victim", ""))),
        ("whiteout through absolute link", two(new().symlink("l", absolute), new().file("l/.wh.victim", ""))),
        ("opaque through link", two(new().symlink("l", "../outside"), new().file("l/.wh..wh..opq", ""))),
        ("whiteout of a link", two(new().symlink("l", &dir), new().file(".wh.l", ""))),
        ("opaque folder with link inside", two(new().symlink("d/l", &dir), new().file("d/.wh..wh..opq", ""))),
        ("opaque with dots", two(new().file("x", ""), new().file("../outside/.wh..wh..opq", ""))),
        ("case-folding twin", one(new().symlink("L", "../outside").file("l/victim", "evil"))),
        (
            "case-folding twin of a folder",
            one(new()
                .dir("D")
                .symlink("d", &dir)
                .file("D/new", "evil")
                .entry(&Header::new("d/inner", b'0', 4).mode(0o777), b"evil")),
        ),
        ("backslashes in a name", one(new().file("..\\outside\\victim", "evil").dir("..\\outside\\dir"))),
        (
            "over-long name with dots",
            one(new()
                .pax(&[("path", [&b"a/".repeat(1990)[..], b"../../outside/victim"].concat().as_slice())])
                .file("x", "evil")),
        ),
        (
            "over-long name through a link",
            one(new()
                .symlink("l", "../outside")
                .pax(&[("path", [&b"l/"[..], &b"./".repeat(2000), b"victim"].concat().as_slice())])
                .file("x", "evil")),
        ),
        (
            "over-long name beside the victim",
            one(new().symlink("l", "../outside").file(format!("l/{}", "n".repeat(256)), "evil")),
        ),
        (
            "name that ends at a zero byte",
            one(new().pax(&[("path", b"../outside/victim\0x")]).file("x", "evil")),
        ),
        (
            "parent replaced between layers and back",
            two(
                new().dir("d").symlink("l", "../outside"),
                new().file(".wh.d", "").symlink("d", "l").file("d/victim", "evil").file("d/.wh.inner", ""),
            ),
        ),
        (
            "attributes through link",
            one(new()
                .symlink("l", &victim)
                .pax(&[("SCHILY.xattr.user.note", b"evil")])
                .entry(&Header::new("l", b'2', 0).link(&victim), b"")
                .pax(&[("SCHILY.xattr.user.note", b"evil")])
                .entry(&Header::new("l", b'1', 0).link(&victim), b"")),
        ),
        (
            "setuid through hard link",
            one(new()
                .symlink("l", "../outside")
                .hardlink("h", "l/victim")
                .entry(&Header::new("h", b'0', 0).mode(0o6777), b"")),
        ),
        (
            "pipe then write",
            one(new().entry(&Header::new("p", b'6', 0), b"").file("p", "evil").hardlink("q", "p")),
        ),
        ("device then write", one(new().entry(&Header::new("d", b'4', 0), b"").file("d", "evil"))),
        ("link as the root", one(new().symlink(".", &dir).file("new", "evil"))),
        (
            "folder mode through link",
            one(new().symlink("l", "../outside").entry(&Header::new("l/dir", b'5', 0).mode(0o777), b"")),
        ),
    ]
}

/// Names and values of extended attributes; of a link its own.
fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let name = String::from_utf8(name.to_vec()).unwrap();
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value[..]).unwrap_or(0);
        value.truncate(length);
        (name, value)
    };
    names.map(value).collect()
}

fn attack_everything() {
    let policies: [(&str, Policy); 3] = [
        ("contents", Policy::contents(0o022)),
        ("skipping", Policy { stray_links: StrayLinks::Skip, ..Policy::contents(0o022) }),
        (
            "rootfs",
            Policy::rootfs(if rustix::process::geteuid().is_root() {
                Ownership::Apply
            } else {
                Ownership::Ignore
            }),
        ),
    ];
    for (kind, policy) in policies {
        let base = Scratch::new("attack");
        let count = attacks(&base.join("outside")).len();
        for at in 0..count {
            let base = Scratch::new("attack");
            base.write("outside/victim", "safe");
            base.write("outside/dir/inner", "safe");
            std::fs::create_dir(base.join("root")).unwrap();
            let outside = base.join("outside");
            let (name, layers) = attacks(&outside).remove(at);
            let stamp = |path: &str| {
                let metadata = std::fs::symlink_metadata(base.join(path)).unwrap();
                (
                    metadata.mode(),
                    metadata.uid(),
                    metadata.nlink(),
                    metadata.mtime_nsec(),
                    metadata.ctime_nsec(),
                )
            };
            let state = || {
                let paths = ["outside", "outside/victim", "outside/dir", "outside/dir/inner"];
                (listing(&outside), paths.map(stamp), paths.map(|path| attributes(&base.join(path))))
            };
            let before = state();
            let result = extract(&base.join("root"), policy.clone(), &layers);
            assert_eq!(state(), before, "{kind}: {name}");
            let names: Vec<_> =
                std::fs::read_dir(base.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(names.len(), 2, "{kind}: {name}: {names:?}");
            if kind != "rootfs" && result.is_ok() {
                assert_no_way_out(&base.join("root"), name);
            }
        }
    }
}

/// Fails if any link in an extracted tree resolves to something outside.
fn assert_no_way_out(root: &Path, attack: &str) {
    let real = root.canonicalize().unwrap();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if let Ok(end) = path.canonicalize() {
                assert!(end.starts_with(&real), "{attack}: {} leads to {}", path.display(), end.display());
            }
            if std::fs::symlink_metadata(&path).unwrap().is_dir() {
                folders.push(path);
            }
        }
    }
}

#[test]
fn extraction_touches_nothing_outside_the_root() {
    attack_everything();
}

/// The same archives do harm with an extractor that checks nothing, so the attacks are real.
#[test]
fn the_extraction_attacks_work_against_an_extractor_that_trusts_names() {
    let base = Scratch::new("naive");
    let mut hurt = Vec::new();
    for at in 0..attacks(&base.join("outside")).len() {
        base.write("outside/victim", "safe");
        base.write("outside/dir/inner", "safe");
        std::fs::create_dir_all(base.join("root")).unwrap();
        let (name, layers) = attacks(&base.join("outside")).remove(at);
        let before = listing(&base.join("outside"));
        for layer in layers {
            let layer = base.write("layer.tar", layer);
            let mut tar = gnu_tar();
            tar.args(["-xP", "--keep-directory-symlink", "-f"]).arg(layer).arg("-C").arg(base.join("root"));
            let _ = tar.output().unwrap();
        }
        if listing(&base.join("outside")) != before {
            hurt.push(name);
        }
        std::fs::remove_dir_all(base.join("root")).unwrap();
        std::fs::remove_dir_all(base.join("outside")).unwrap();
    }
    for name in [
        "dots in a name",
        "absolute name",
        "PAX name with dots",
        "file through absolute link",
        "link to self up",
    ] {
        assert!(hurt.contains(&name), "{hurt:?}");
    }
}

fn gnu_tar() -> Command {
    let mut tar = Command::new("tar");
    tar.env_clear().env("PATH", "/usr/bin:/bin");
    tar
}

/// Runs a test of this executable again without root's rights.
pub(crate) fn again_as_an_ordinary_user(test: &str) {
    const UNPRIVILEGED: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        // The test itself has run without root's rights.
        return;
    }
    let folder = Scratch::new("unprivileged");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Other users may not be able to read the build folder.
    let program = folder.join("it");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&program);
    let command = command.args(["--exact", test]).current_dir("/").uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn extraction_as_an_ordinary_user_touches_nothing_outside() {
    again_as_an_ordinary_user("pull::extraction::extraction_touches_nothing_outside_the_root");
}

/// The same attacks with `pull` and Concourse's `in`, with the real program as root and as an ordinary user.
#[test]
fn extraction_through_pull_and_concourse_in_touches_nothing_outside() {
    let lab = lab();
    let registry = FaultRegistry::start(Access::Open, vec![]);
    let outside = lab.path("got/outside");
    let images: Vec<(&str, Vec<u8>, String)> = attacks(&outside)
        .into_iter()
        .enumerate()
        .map(|(at, (name, layers))| {
            let mut layout = Layout::default();
            let image = layout.image(&layers);
            let digest = image["digest"].as_str().unwrap().to_owned();
            layout.entries.push(image);
            let (manifest, blobs) = layout.blobs.split_last().unwrap();
            blobs.iter().for_each(|blob| registry.put_blob("a", &format!("sha256:{}", hex(blob)), blob));
            registry.put_manifest("a", &format!("v{at}"), &digest, MANIFEST, manifest);
            (name, layout.tar(), digest)
        })
        .collect();
    let got = lab.path("got");
    let mut done = (0, 0);
    for (at, (name, tar, digest)) in images.iter().enumerate() {
        lab.write("in.tar", tar);
        for (door, ordinary) in
            [("pull", false), ("rootfs", false), ("files", false), ("pull", true), ("rootfs", true)]
        {
            let _ = std::fs::remove_dir_all(&got);
            lab.write("got/outside/victim", "safe");
            lab.write("got/outside/dir/inner", "safe");
            let state = || {
                let paths = ["", "victim", "dir", "dir/inner"].map(|path| outside.join(path));
                let links = paths.each_ref().map(|path| std::fs::symlink_metadata(path).unwrap().nlink());
                (listing(&outside), links, paths.each_ref().map(|path| attributes(path)))
            };
            let before = state();
            let run = if door == "pull" {
                lab.command(&["pull", "-q", "--tar", "in.tar", "-o", "got/root"])
            } else {
                let request = json!({
                    "source": {"repository": format!("{}/a", registry.host()), "tag": format!("v{at}")},
                    "version": {"tag": format!("v{at}"), "digest": digest}, "params": {"format": door},
                });
                lab.command(&[&got]).named("in").stdin(request.to_string())
            };
            let output = if ordinary { run.as_ordinary_user().run() } else { run.run() };
            assert_eq!(state(), before, "{door}, ordinary: {ordinary}: {name}\n{output}");
            match output.code {
                Some(0) => done.0 += 1,
                Some(1 | 3) => done.1 += 1,
                _ => panic!("{name}: {output}"),
            }
        }
    }
    eprintln!("{} attacks by 5 ways: {} were harmless, {} refused", images.len(), done.0, done.1);
    assert!(done.0 > 20 && done.1 > 60, "{done:?}");
}
