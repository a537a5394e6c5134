//! An app from listing to layer, without the program around it; `tests/it/app` has the same through the command line.

use std::cell::Cell;
use std::sync::Arc;

use testkit::scratch::Scratch;
use testkit::zipfile::{ZipEntry, zip};

use super::*;
use crate::model::limits;
use crate::pack::{EntryRules, ModeRule};
use crate::stream::{CompressionLevel, nameless_file};
use crate::tree::SymlinkPolicy;

fn options() -> AppOptions {
    AppOptions {
        exclusions: Vec::new(),
        symlinks: SymlinkPolicy::Copy,
        size_limit: 1 << 20,
        preserve_permissions: false,
        rules: EntryRules { mtime: 7, modes: ModeRule::Readable },
        skip: None,
    }
}

fn refusing() -> AppOptions {
    AppOptions { symlinks: SymlinkPolicy::Refuse, ..options() }
}

fn omitting() -> AppOptions {
    AppOptions { symlinks: SymlinkPolicy::Omit, ..options() }
}

/// The list, one line an entry: mode, size, path.
fn lines(tree: &AppTree) -> Vec<String> {
    let line = |entry: &AppEntry| {
        format!("{:o} {} {}", entry.mode, entry.size(), String::from_utf8_lossy(&entry.path))
    };
    tree.entries().iter().map(line).collect()
}

fn listed(entries: &[ZipEntry], options: &AppOptions) -> Result<Vec<String>, String> {
    let scratch = Scratch::new("app-zip");
    let path = scratch.write("a.zip", zip(entries));
    AppTree::list(&path, options)
        .map(|tree| lines(&tree))
        .map_err(|error| error.to_string().replace(&path.display().to_string(), "a.zip"))
}

/// The bytes of the layer with all entries, not compressed.
fn packed(tree: &AppTree) -> (PackedLayer, Vec<u8>) {
    let all: Vec<usize> = (0..tree.entries().len()).collect();
    let mut bytes = Vec::new();
    let encoding = LayerEncoding { compression: CompressionLevel::None, ..LayerEncoding::default() };
    let layer = tree.pack(&all, encoding, &mut bytes, &|_| {}).unwrap();
    (layer, bytes)
}

#[test]
fn a_folder_and_its_zip_have_one_list_and_one_layer() {
    let scratch = Scratch::new("app-both");
    for (path, content) in
        [("app/run.sh", "#!/bin/sh\n"), ("app/b/c.txt", "c"), ("app/b.txt", "bb"), ("app/.git/config", "x")]
    {
        scratch.write(path, content);
    }
    std::fs::create_dir(scratch.join("app/empty")).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(scratch.join("app/run.sh"), executable).unwrap();
    let folder = AppTree::list(&scratch.join("app"), &options()).unwrap();
    // In another order, with the folder that holds something and without the one above `b/c.txt`.
    let archive = scratch.write(
        "app.zip",
        zip(&[
            ZipEntry::file("run.sh", "#!/bin/sh\n").mode(0o100_700),
            ZipEntry::folder("empty/"),
            ZipEntry::file("b.txt", "bb"),
            ZipEntry::file(".git/config", "x"),
            ZipEntry::file("b/c.txt", "c"),
        ]),
    );
    let zipped = AppTree::list(&archive, &options()).unwrap();
    assert_eq!(lines(&folder), ["644 1 b/c.txt", "644 2 b.txt", "755 0 empty", "755 10 run.sh"]);
    assert_eq!(lines(&folder), lines(&zipped));
    let (layer, bytes) = packed(&folder);
    assert_eq!((layer.clone(), bytes.clone()), packed(&zipped));
    assert_eq!(
        testkit::oracle_crates::lines(&bytes, &["path", "kind", "mode", "size", "mtime"]),
        ["b/c.txt file 644 1 7", "b.txt file 644 2 7", "empty folder 755 0 7", "run.sh file 755 10 7"]
    );
    assert_eq!(layer.entries, 4);
    assert_eq!((folder.copied_links(), folder.links_left_out()), (None, 0));
    assert!(folder.sums().is_empty(), "sums are for apps with restored files");
}

#[test]
fn hashing_gives_what_packing_gives_and_reports_every_byte() {
    let scratch = Scratch::new("app-hash");
    scratch.write("app/a", "one");
    scratch.write("app/b", "three");
    let tree = AppTree::list(&scratch.join("app"), &options()).unwrap();
    let counted = Cell::new(0);
    let hashed = tree.hash(&[0, 1], &|bytes| counted.set(counted.get() + bytes)).unwrap();
    let (layer, bytes) = packed(&tree);
    assert_eq!((hashed.diff_id, hashed.size), (layer.diff_id, bytes.len() as u64));
    assert_eq!((hashed.entries, counted.get()), (2, 8));
    for layers in [LayerSplit::One, LayerSplit::Auto] {
        assert_eq!(tree.layers(layers), [vec![0, 1]], "an app of two files has one layer");
    }
    let second = tree.hash(&[1], &|_| {}).unwrap();
    assert_eq!(second.entries, 1, "a layer has the entries that are its own");
}

#[test]
fn permissions_are_kept_when_asked_but_for_those_a_build_needs() {
    let scratch = Scratch::new("app-modes");
    let cases = [("a", 0o100_444), ("b", 0o104_755), ("c", 0o100_007), ("d", 0)];
    let entries: Vec<ZipEntry> =
        cases.iter().map(|(name, mode)| ZipEntry::file(name, "x").mode(*mode)).collect();
    let entries =
        [entries, vec![ZipEntry::file("e", "x").fat(), ZipEntry::folder("f/").mode(0o040_055)]].concat();
    let folders = [ZipEntry::folder("g/").mode(0o040_710), ZipEntry::folder("h/").mode(0)];
    let entries = [entries, folders.to_vec()].concat();
    let path = scratch.write("a.zip", zip(&entries));
    let keep = AppOptions { preserve_permissions: true, ..options() };
    assert_eq!(
        lines(&AppTree::list(&path, &keep).unwrap()),
        ["644 1 a", "755 1 b", "607 1 c", "644 1 d", "755 1 e", "755 0 f", "710 0 g", "755 0 h"]
    );
    assert_eq!(
        lines(&AppTree::list(&path, &options()).unwrap()),
        ["644 1 a", "755 1 b", "644 1 c", "644 1 d", "755 1 e", "755 0 f", "755 0 g", "755 0 h"]
    );
    let owner = AppOptions { rules: EntryRules { mtime: 0, modes: ModeRule::Owner }, ..options() };
    assert_eq!(
        lines(&AppTree::list(&path, &owner).unwrap()),
        ["400 1 a", "700 1 b", "0 1 c", "600 1 d", "700 1 e", "700 0 f", "700 0 g", "700 0 h"]
    );
}

#[test]
fn links_of_a_zip_are_followed_inside_it() {
    let entries = [
        ZipEntry::file("lib/v1/a.so", "content"),
        ZipEntry::symlink("lib/current", "v1"),
        ZipEntry::symlink("top", "lib/current/a.so"),
        ZipEntry::symlink("lib/v1/again", "./../v1//a.so"),
        ZipEntry::symlink("chain", "top"),
    ];
    let expected = [
        "644 7 chain",
        "644 7 lib/current/a.so",
        "644 7 lib/current/again",
        "644 7 lib/v1/a.so",
        "644 7 lib/v1/again",
        "644 7 top",
    ];
    assert_eq!(listed(&entries, &options()).unwrap(), expected);
    let scratch = Scratch::new("app-links");
    let path = scratch.write("a.zip", zip(&entries));
    let tree = AppTree::list(&path, &options()).unwrap();
    assert_eq!(tree.copied_links(), Some(&CopiedLinks { count: 5, first: b"chain".to_vec() }));
    let (_, bytes) = packed(&tree);
    assert_eq!(bytes.windows(7).filter(|window| window == b"content").count(), 6);
    let tree = AppTree::list(&path, &omitting()).unwrap();
    assert_eq!((lines(&tree), tree.links_left_out()), (vec!["644 7 lib/v1/a.so".to_owned()], 4));
    let error = listed(&entries, &refusing()).unwrap_err();
    assert!(error.contains("`chain` -> `top`"), "{error}");
}

#[test]
fn links_that_lead_nowhere_are_refused_with_the_reason() {
    for (target, reason) in [
        ("/etc/passwd", "absolute"),
        ("../outside", "outside"),
        ("sub/../../x", "outside"),
        ("gone", "does not exist"),
        ("", "does not exist"),
        ("file/below", "does not exist"),
        ("file/../sub/y", "does not exist"),
        ("link", "never ends"),
        (".", "never ends"),
        ("..", "outside"),
        ("loop", "never ends"),
    ] {
        let entries = [
            ZipEntry::file("file", "x"),
            ZipEntry::file("sub/y", "x"),
            ZipEntry::symlink("loop", "link"),
            ZipEntry::symlink("link", target),
        ];
        let error = listed(&entries, &options()).unwrap_err();
        let shown = error.split("`link` -> ").nth(1).unwrap_or_else(|| panic!("{target}: {error}"));
        assert!(shown.contains(reason), "{target}: {error}");
    }
    let without = [ZipEntry::file("d/file", "x"), ZipEntry::symlink("e", "d")];
    let scratch = Scratch::new("app-linked-count");
    let path = scratch.write("a.zip", zip(&without));
    let tree = AppTree::list(&path, &options()).unwrap();
    let links = tree.copied_links().cloned();
    assert_eq!(links, Some(CopiedLinks { count: 1, first: b"e/file".to_vec() }), "not the file itself");
    // Through a folder that is a link, and back up from it.
    let below = [
        ZipEntry::file("a/b/c", "x"),
        ZipEntry::symlink("d", "a/b"),
        ZipEntry::symlink("e", "d/../b/c"),
        ZipEntry::symlink("a/up", ".."),
    ];
    let error = listed(&below, &options()).unwrap_err();
    assert!(error.contains("`a/up`") && !error.contains("`e`"), "{error}");
    assert_eq!(
        listed(&below[..3], &options()).unwrap(),
        ["644 1 a/b/c", "644 1 d/c", "644 1 e"],
        "`..` goes up from where the link leads"
    );
}

#[test]
fn exclusions_hold_for_what_a_link_shows_too() {
    let entries = [
        ZipEntry::file(".cfignore", "*.log\n/shown/private\n"),
        ZipEntry::file("real/private/key", "k"),
        ZipEntry::file("real/a.log", "l"),
        ZipEntry::file("real/a.txt", "t"),
        ZipEntry::symlink("shown", "real"),
        ZipEntry::file("left", "x"),
    ];
    let options = AppOptions { exclusions: vec!["left".to_owned()], ..options() };
    assert_eq!(
        listed(&entries, &options).unwrap(),
        ["644 1 real/a.txt", "644 1 real/private/key", "644 1 shown/a.txt"]
    );
    let folder = AppOptions { exclusions: vec!["real".to_owned(), "shown".to_owned()], ..options };
    assert_eq!(listed(&entries, &folder).unwrap(), ["644 1 left"]);
}

#[test]
fn a_name_twice_is_one_file_only_with_the_same_content() {
    let copies = [ZipEntry::file("META-INF/LICENSE", "text"), ZipEntry::file("META-INF/LICENSE", "text")];
    assert_eq!(listed(&copies, &options()).unwrap(), ["644 4 META-INF/LICENSE"]);
    let differ = [ZipEntry::file("META-INF/LICENSE", "text"), ZipEntry::file("META-INF/LICENSE", "test")];
    let error = listed(&differ, &options()).unwrap_err();
    assert!(error.contains("META-INF/LICENSE") && error.contains("twice"), "{error}");
    let folder = [ZipEntry::folder("d/"), ZipEntry::file("d/x", "y")];
    assert_eq!(listed(&folder, &options()).unwrap(), ["644 1 d/x"], "a folder is implied and listed");
    let both = [ZipEntry::folder("d/"), ZipEntry::file("d", "x")];
    assert!(listed(&both, &options()).unwrap_err().contains("`d`"));
    let below = [ZipEntry::file("a", "x"), ZipEntry::file("a/b", "y")];
    let error = listed(&below, &options()).unwrap_err();
    assert!(error.contains("`a/b`") && error.contains("`a`"), "{error}");
}

#[test]
fn an_app_that_no_reader_could_have_is_refused() {
    let limit = AppOptions { size_limit: 4, ..options() };
    let fits = [ZipEntry::file("a", "xx"), ZipEntry::file("b", "xx")];
    assert_eq!(listed(&fits, &limit).unwrap().len(), 2);
    let error = listed(&[fits.as_slice(), &[ZipEntry::file("c", "x")]].concat(), &limit).unwrap_err();
    assert_eq!(error, "`a.zip` has more than 4 bytes: 5 with `c`");
    let error = listed(&[ZipEntry::file("d/.wh.a", "")], &options()).unwrap_err();
    assert!(error.contains("`d/.wh.a` would act as a whiteout"), "{error}");
    let error = listed(&[ZipEntry::file(".git/a", "")], &options()).unwrap_err();
    assert_eq!(error, "`a.zip` has nothing that could be packed");
    let error = listed(&[ZipEntry::symlink(".cfignore", "b"), ZipEntry::file("b", "")], &options());
    assert!(error.is_err_and(|error| error.contains("it is not a file")));
    let many = "#".repeat(usize::try_from(limits::IGNORE_BYTES).unwrap() + 1);
    let error = listed(&[ZipEntry::file(".cfignore", many), ZipEntry::file("b", "")], &options());
    assert!(error.is_err_and(|error| error.contains("it has more than")));
    // Copied links make a path longer than the name of any entry.
    let long = ["d".repeat(250), "e".repeat(250)].join("/");
    let mut entries = vec![ZipEntry::file("x/y", "")];
    for level in 0..9 {
        let inside = if level == 0 { "x".to_owned() } else { format!("l{}", level - 1) };
        let up = "../".repeat(2);
        entries.push(ZipEntry::symlink(
            &format!("l{level}/{long}"),
            &format!("{up}../{inside}").replacen("../", "", 1),
        ));
    }
    let error = listed(&entries, &options()).unwrap_err();
    assert!(error.contains("has more than 4096 bytes"), "{error}");
}

#[test]
fn an_ignore_file_that_is_no_file_stops_the_listing_of_a_folder() {
    let scratch = Scratch::new("app-ignore");
    scratch.write("app/a", "x");
    std::fs::create_dir(scratch.join("app/.cfignore")).unwrap();
    let error = AppTree::list(&scratch.join("app"), &options()).unwrap_err().to_string();
    assert!(error.contains("it is not a file"), "{error}");
    std::fs::remove_dir(scratch.join("app/.cfignore")).unwrap();
    std::os::unix::fs::symlink("gone", scratch.join("app/.cfignore")).unwrap();
    let error = AppTree::list(&scratch.join("app"), &options()).unwrap_err().to_string();
    assert!(error.contains("cannot look at"), "{error}");
    std::fs::remove_file(scratch.join("app/.cfignore")).unwrap();
    let many = "#".repeat(usize::try_from(limits::IGNORE_BYTES).unwrap() + 1);
    scratch.write("app/.cfignore", many);
    let error = AppTree::list(&scratch.join("app"), &options()).unwrap_err().to_string();
    assert!(error.starts_with("`.cfignore` in "), "{error}");
    let error = AppTree::list(Path::new("/dev/null"), &options()).unwrap_err().to_string();
    assert!(error.contains("is neither a folder nor a file"), "{error}");
}

#[test]
fn a_folders_links_are_copied_counted_and_left_out() {
    let scratch = Scratch::new("app-folder-links");
    scratch.write("app/real/a", "content");
    std::os::unix::fs::symlink("real", scratch.join("app/shown")).unwrap();
    std::os::unix::fs::symlink("real/a", scratch.join("app/b")).unwrap();
    let tree = AppTree::list(&scratch.join("app"), &options()).unwrap();
    assert_eq!(lines(&tree), ["644 7 b", "644 7 real/a", "644 7 shown/a"]);
    assert_eq!(tree.copied_links(), Some(&CopiedLinks { count: 2, first: b"b".to_vec() }));
    let (_, bytes) = packed(&tree);
    assert_eq!(bytes.windows(7).filter(|window| window == b"content").count(), 3);
    let tree = AppTree::list(&scratch.join("app"), &omitting()).unwrap();
    assert_eq!((lines(&tree), tree.links_left_out()), (vec!["644 7 real/a".to_owned()], 2));
}

/// Files of an earlier image: `old/a` and `b`, five bytes each, one after the other.
fn restored(scratch: &Scratch) -> RestoredFiles {
    let mut file = nameless_file(scratch.path()).unwrap();
    file.write_all(b"firstsecnd").unwrap();
    let file = Arc::new(file);
    let entry = |path: &str, content: &[u8], offset| RestoredFile {
        resource: Resource {
            path: path.as_bytes().to_vec(),
            sum: {
                let mut hasher = FileHasher::default();
                hasher.update(content);
                hasher.finish()
            },
            mode: 0o744,
        },
        file: Arc::clone(&file),
        offset,
    };
    RestoredFiles { entries: vec![entry("old/a", b"first", 0), entry("b", b"secnd", 5)] }
}

#[test]
fn restored_files_and_an_upload_are_one_app() {
    let scratch = Scratch::new("app-restored");
    let upload =
        scratch.write("up.zip", zip(&[ZipEntry::file("new", "n"), ZipEntry::symlink("link", "old/a")]));
    let name = Path::new("resources.json");
    let tree = AppTree::with_restored(Some(&upload), name, &options(), restored(&scratch)).unwrap();
    assert_eq!(lines(&tree), ["755 5 b", "755 5 link", "644 1 new", "755 5 old/a"]);
    assert!(tree.sums().is_empty(), "nothing is packed yet");
    let (_, bytes) = packed(&tree);
    assert_eq!(bytes.windows(5).filter(|window| window == b"first").count(), 2);
    assert_eq!(bytes.windows(5).filter(|window| window == b"secnd").count(), 1);
    let sizes: Vec<u64> = tree.sums().iter().map(|sum| sum.size).collect();
    assert_eq!(sizes, [5, 5, 1, 5]);
    let mut hasher = FileHasher::default();
    hasher.update(b"n");
    assert_eq!(tree.sums()[2], hasher.finish(), "files of the upload are hashed while they are packed");
    let alone = AppTree::with_restored(None, name, &options(), restored(&scratch)).unwrap();
    assert_eq!(lines(&alone), ["755 5 b", "755 5 old/a"]);
}

#[test]
fn a_path_comes_from_the_upload_or_from_the_earlier_image() {
    let scratch = Scratch::new("app-clash");
    let name = Path::new("resources.json");
    let upload = scratch.write("up.zip", zip(&[ZipEntry::file("b", "secnd")]));
    let error =
        AppTree::with_restored(Some(&upload), name, &options(), restored(&scratch)).unwrap_err().to_string();
    assert!(error.contains("`b` is in it and in the list of resources too"), "{error}");
    let upload = scratch.write("up.zip", zip(&[ZipEntry::file("old", "x")]));
    let error =
        AppTree::with_restored(Some(&upload), name, &options(), restored(&scratch)).unwrap_err().to_string();
    assert!(error.contains("`old/a`") && error.contains("`old`"), "{error}");
    let error = AppTree::with_restored(Some(scratch.path()), name, &options(), restored(&scratch));
    assert!(error.is_err_and(|error| error.to_string().contains("a list of resources completes a zip")));
}

#[test]
fn a_file_that_changed_after_the_listing_is_never_packed() {
    let scratch = Scratch::new("app-changed");
    scratch.write("app/a", "one");
    let tree = AppTree::list(&scratch.join("app"), &options()).unwrap();
    std::fs::remove_file(scratch.join("app/a")).unwrap();
    scratch.write("app/a", "longer");
    let mut bytes = Vec::new();
    let error = tree.pack(&[0], LayerEncoding::default(), &mut bytes, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("app/a"), "{error}");
}
