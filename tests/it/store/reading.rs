//! Image archives of every form are recognised by their content and read; broken ones are refused with a reason.

use std::io::Read as _;
use std::path::Path;

use imgrelay::model::Descriptor;
use imgrelay::store::{self, Remark, Root, Store, StoreError, StoreKind};
use imgrelay::transfer::events::Silent;
use imgrelay::transfer::verify::verify;
use testkit::scratch::Scratch;
use testkit::tarball::{Header, Tarball};

use crate::layouts::{CONTAINERD_NAME, Layout, REF_NAME, gzip, hex, named, tar_of};

fn open(path: &Path) -> Result<Store, StoreError> {
    store::open(path, &std::env::temp_dir())
}

fn refusal(path: &Path) -> String {
    match open(path) {
        Ok(store) => panic!("{} was accepted as {}", path.display(), store.describe()),
        Err(error) => error.to_string(),
    }
}

/// Reads everything reachable, verified, and returns how many blobs that was.
fn read_everything(store: &Store) -> usize {
    fn follow(store: &Store, descriptor: &Descriptor, count: &mut usize) {
        *count += 1;
        if descriptor.is_index() || descriptor.is_manifest() {
            let raw = store::read_document(store, descriptor).unwrap();
            for child in raw.document().children() {
                follow(store, child, count);
            }
        } else {
            let mut reader = store::open_verified(store, descriptor).unwrap();
            std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
        }
    }
    let mut count = 0;
    for root in store.roots() {
        follow(store, &root.image.descriptor, &mut count);
    }
    count
}

fn names(root: &Root) -> Vec<(Option<String>, Option<String>)> {
    let text = |name: &store::ImageName| {
        (name.tag.as_ref().map(ToString::to_string), name.reference.as_ref().map(ToString::to_string))
    };
    root.image.names.iter().map(text).collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_layout_tar_is_read_in_any_order_with_any_prefix() {
    let folder = Scratch::new("order");
    let layout = Layout::simple();
    let mut reversed = layout.files();
    reversed.reverse();
    let dotted = layout
        .files()
        .iter()
        .fold(
            Tarball::new().dir("./").dir("./blobs/").dir("./blobs/").dir("./blobs/sha256"),
            |tar, (name, bytes)| tar.file(format!("./{name}"), bytes),
        )
        .finish();
    for (name, bytes) in [("plain", layout.tar()), ("reversed", tar_of(&reversed)), ("dotted", dotted)] {
        let store = open(&folder.write(name, bytes)).unwrap();
        assert_eq!(store.kind(), StoreKind::OciLayoutTar);
        assert_eq!(read_everything(&store), 3, "{name}");
        assert_eq!(names(&store.roots()[0]), [(some("v1"), some("reg.example/team/app:v1"))]);
        assert_eq!(store.remarks(), [Remark::NoDockerManifest]);
        assert_eq!(store.blobs().len(), 3);
    }
}

#[test]
fn a_layout_folder_is_read() {
    let folder = Scratch::new("directory");
    let layout = Layout::simple();
    let path = layout.write_folder(&folder, "layout");
    let store = open(&path).unwrap();
    assert_eq!(store.kind(), StoreKind::OciLayoutDirectory);
    assert_eq!(read_everything(&store), 3);
    let digest = store.roots()[0].image.descriptor.digest.clone();
    let file = path.join("blobs/sha256").join(digest.hex());
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(store.open_unverified(&digest), Err(StoreError::Missing { .. })));
    // A blob that becomes a link while the store is open is not followed.
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    assert!(store.open_unverified(&digest).is_err());
    assert!(refusal(&path).contains("is not a regular file"));
}

#[test]
fn blobs_are_read_from_several_threads_at_once() {
    let folder = Scratch::new("threads");
    let mut layout = Layout::default();
    let blobs: Vec<_> =
        (0..8_u8).map(|i| layout.blob("application/octet-stream", vec![i; 300_000])).collect();
    let image = layout.image(&[]);
    layout.entries.push(image);
    let store = open(&folder.write("t.tar", layout.tar())).unwrap();
    std::thread::scope(|scope| {
        for blob in &blobs {
            let blob: Descriptor = serde_json::from_value(blob.clone()).unwrap();
            let store = &store;
            scope.spawn(move || {
                let mut bytes = Vec::new();
                store::open_verified(store, &blob).unwrap().read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes.len(), 300_000);
            });
        }
    });
}

#[test]
fn entries_on_one_digest_become_one_root_with_all_names() {
    let folder = Scratch::new("names");
    let mut layout = Layout::default();
    let one = layout.image(&[Tarball::new().file("a", "1").finish()]);
    let two = layout.image(&[Tarball::new().file("a", "2").finish()]);
    layout.entries = vec![
        named(one.clone(), &[(REF_NAME, "v1")]),
        named(two.clone(), &[(REF_NAME, "reg.example:5000/x/y:2")]),
        named(one.clone(), &[(REF_NAME, "latest"), (CONTAINERD_NAME, "reg.example/app:latest")]),
        named(one.clone(), &[(REF_NAME, "v1")]),
        named(one, &[(REF_NAME, "not a name!"), ("dev.imgrelay.root", "true")]),
        named(two, &[("dev.imgrelay.origin", "reg.example/base:1")]),
    ];
    let store = open(&folder.write("t.tar", layout.tar())).unwrap();
    let [one, two] = store.roots() else { panic!("{:?}", store.roots()) };
    assert_eq!(names(one), [(some("v1"), None), (some("latest"), some("reg.example/app:latest"))]);
    assert_eq!(names(two), [(some("2"), some("reg.example:5000/x/y:2"))]);
    assert!(one.is_root_bundle && !two.is_root_bundle);
    assert_eq!(two.image.origin.as_ref().map(ToString::to_string), some("reg.example/base:1"));
    assert!(store.remarks().contains(&Remark::InvalidNames { count: 1, names: vec!["not a name!".into()] }));
}

#[test]
fn broken_layouts_are_refused_with_the_reason() {
    let folder = Scratch::new("broken");
    let layout = Layout::simple();
    let files = layout.files();
    let without = |name: &str| tar_of(&files.iter().filter(|(n, _)| n != name).cloned().collect::<Vec<_>>());
    let with = |name: &str, bytes: &str| {
        let mut files = files.clone();
        files.iter_mut().find(|(n, _)| n == name).unwrap().1 = bytes.into();
        tar_of(&files)
    };
    let (blob, _) = files.last().unwrap();
    let linked = |header: &Header| {
        let files = files.iter().filter(|(n, _)| n != blob);
        files.fold(Tarball::new(), |tar, (name, bytes)| tar.file(name, bytes)).entry(header, b"").finish()
    };
    let twice = tar_of(&[files.clone(), vec![(format!("./{blob}"), b"other".to_vec())]].concat());
    let index = layout.index();
    let mut other_size = Layout::simple();
    other_size.entries.push(other_size.entries[0].clone());
    other_size.entries[1]["size"] = 1.into();
    let mut foreign = Layout::simple();
    foreign.entries[0]["mediaType"] = "text/plain".into();
    let cases = [
        (without("oci-layout"), "has `index.json` but no `oci-layout`"),
        (without("index.json"), "has `oci-layout` but no `index.json`"),
        (with("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#), "has version `2.0.0`, expected `1.0.0`"),
        (with("oci-layout", "{}"), "`oci-layout` is not valid: missing field"),
        (with("oci-layout", &" ".repeat(70_000)), "has more than 65536 bytes"),
        (with("index.json", "[]"), "it is not a JSON object"),
        (with("index.json", "{"), "`index.json` is not valid: the text ends inside a value"),
        (
            with("index.json", &index.replace("\"manifests\":", "\"manifests\":[],\"manifests\":")),
            "member `manifests` is there twice",
        ),
        (
            with(
                "index.json",
                &index.replace("\"annotations\":{", "\"annotations\":{\"a\":\"1\",\"a\":\"2\","),
            ),
            "member `a` is there twice",
        ),
        (with("index.json", r#"{"schemaVersion":2,"manifests":[]}"#), "it lists no image"),
        (with("index.json", r#"{"schemaVersion":1,"manifests":[]}"#), "schemaVersion 1"),
        (
            with("index.json", r#"{"schemaVersion":2,"mediaType":"text/html","manifests":[]}"#),
            "its type is `text/html`",
        ),
        (with("index.json", &index.replace("sha256:", "sha256:../")), "is not valid: digest"),
        (other_size.tar(), "differ in size or type"),
        (foreign.tar(), "lists no image, only content of type `text/plain`"),
        (twice, "is there twice"),
        (linked(&Header::new(blob, b'2', 0).link("../../etc/passwd")), "is a link, but blobs"),
        (linked(&Header::new(blob, b'1', 0).link("index.json")), "is a link, but blobs"),
        (linked(&Header::new(blob, b'6', 0)), "is a device or pipe"),
        (linked(&Header::new("../x", b'0', 0)), "leads out of the archive"),
        (linked(&Header::new("/x", b'0', 0)), "leads out of the archive"),
    ];
    for (bytes, expected) in cases {
        let error = refusal(&folder.write("t.tar", bytes));
        assert!(error.contains(expected), "wanted: {expected}\n  gave: {error}");
        assert!(error.contains("t.tar` "), "{error}");
    }
}

#[test]
fn what_is_no_image_archive_is_named() {
    let folder = Scratch::new("unknown");
    let layer = Tarball::new().file("usr/bin/tool", "x").finish();
    let cases: [(&str, Vec<u8>, &str); 11] = [
        ("empty", Vec::new(), "it is an empty file"),
        ("zip", b"PK\x03\x04rest".to_vec(), "it is a zip archive"),
        ("xz", b"\xfd7zXZ\0rest".to_vec(), "an xz-compressed file"),
        ("json", b"{\"a\":1}".to_vec(), "a JSON document"),
        ("yaml", b"---\na: 1\n".to_vec(), "a YAML document"),
        ("text", b"hello".to_vec(), "a text file"),
        ("elf", b"\x7fELF\x02".to_vec(), "a program"),
        ("tar", layer.clone(), "a tar without `index.json` or `manifest.json`; it has `usr/bin/tool`"),
        ("tgz", gzip(&layer), "it is gzip-compressed; a layer, perhaps"),
        ("gz", gzip(b"hello"), "gzip-compressed, and inside is a text file"),
        ("nothing", Tarball::new().finish(), "an empty tar"),
    ];
    for (name, bytes, expected) in cases {
        let error = refusal(&folder.write(name, bytes));
        assert!(error.contains(expected) && error.contains("expected an OCI layout"), "{name}: {error}");
    }
    assert!(refusal(&folder.join("absent")).contains("cannot open `"));
}

#[test]
fn wrapped_tars_are_unpacked_and_leave_nothing() {
    let folder = Scratch::new("wrapped");
    let temporary = Scratch::new("wrapped-tmp");
    let tar = Layout::simple().tar();
    let (front, back) = tar.split_at(700);
    let members = [gzip(front), gzip(back)].concat();
    let zstd = zstd::encode_all(&tar[..], 3).unwrap();
    for (name, bytes) in [("gzip", gzip(&tar)), ("members", members), ("zstd", zstd)] {
        let path = folder.write(name, bytes);
        let store = store::open(&path, temporary.path()).unwrap();
        assert_eq!(read_everything(&store), 3, "{name}");
        assert!(matches!(store.remarks(), [Remark::NoDockerManifest, Remark::Wrapped(_)]), "{name}");
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "{name}");
    }
    let cut = gzip(&tar);
    let error = refusal(&folder.write("cut", &cut[..cut.len() - 20]));
    assert!(error.contains("it cannot be decompressed"), "{error}");
    let error = store::open(&folder.join("gzip"), Path::new("/nonexistent")).unwrap_err().to_string();
    assert!(error.contains("cannot create a temporary file in `/nonexistent`"), "{error}");
}

#[test]
fn a_pipe_is_read_too() {
    let folder = Scratch::new("pipe");
    let pipe = folder.join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let writer = {
        let pipe = pipe.clone();
        std::thread::spawn(move || std::fs::write(pipe, Layout::simple().tar()).unwrap())
    };
    let store = open(&pipe).unwrap();
    writer.join().unwrap();
    assert_eq!(read_everything(&store), 3);
    assert_eq!(store.remarks(), [Remark::NoDockerManifest]);
}

#[test]
fn the_one_archive_of_a_folder_is_found() {
    let folder = Scratch::new("one");
    let layout = Layout::simple();
    folder.write("in/digest", "sha256:…");
    folder.write("in/repository", "reg.example/app");
    folder.write("in/layer.tar", Tarball::new().file("x", "y").finish());
    assert!(refusal(&folder.join("in")).contains("a folder that is no OCI layout and has no image archive"));
    folder.write("in/image.tar", layout.tar());
    let store = open(&folder.join("in")).unwrap();
    assert!(store.path().ends_with("in/image.tar"));
    layout.write_folder(&folder, "in/oci");
    let error = refusal(&folder.join("in"));
    assert!(error.contains("a folder with 2 image archives, expected one: `image.tar`, `oci`"), "{error}");
}

/// Writes a new file, because ext4 syncs a file that is truncated and written again.
fn fresh(folder: &Scratch, bytes: &[u8]) -> std::path::PathBuf {
    let _ = std::fs::remove_file(folder.join("t.tar"));
    folder.write("t.tar", bytes)
}

#[test]
fn every_truncation_of_a_layout_tar_is_noticed() {
    let folder = Scratch::new("truncated");
    let tar = Layout::simple().tar();
    // The bytes after the last entry's data, also its padding, have no meaning.
    let data_end = crate::samples::entries(&tar).last().unwrap().1.end;
    for length in 0..tar.len() {
        match open(&fresh(&folder, &tar[..length])) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(store) => {
                let whole = length >= data_end;
                let report = verify(&store, 1, &Silent).unwrap();
                assert_eq!(report.is_sound(), whole, "cut at {length}: {:?}", report.problems);
                // A cut between two entries removes only the end mark.
                assert!(
                    length > tar.len() - 1024 || store.remarks().contains(&Remark::NoEndMark),
                    "{length}"
                );
            }
        }
    }
}

#[test]
fn blob_names_that_are_no_digests_are_reported() {
    let folder = Scratch::new("stray");
    let mut files = Layout::simple().files();
    files.push(("blobs/sha256/README".into(), b"hi".to_vec()));
    files.push((format!("blobs/md5/{}", &hex(b"x")[..32]), b"hi".to_vec()));
    let store = open(&folder.write("t.tar", tar_of(&files))).unwrap();
    let stray = store.remarks().iter().filter(|remark| matches!(remark, Remark::StrayBlob(_))).count();
    assert_eq!((stray, store.blobs().len()), (2, 3));
}

/// Changes the headers of a layout tar in many ways and corrects the checksums: each result is an error, or an archive
/// with the original images.
#[test]
fn no_change_of_a_header_changes_what_an_image_is() {
    let folder = Scratch::new("mutated");
    let layout = Layout::simple();
    let tar = layout.tar();
    let image = open(&folder.write("t.tar", &tar)).unwrap().roots()[0].image.descriptor.digest.clone();
    let headers: Vec<usize> =
        (0..tar.len()).step_by(512).filter(|at| tar[at + 257..].starts_with(b"ustar")).collect();
    assert_eq!(headers.len(), 5);
    let (mut refused, mut unsound, mut same) = (0, 0, 0);
    for header in headers {
        // The limits of the fields: name, numbers, type, link, magic, prefix, the end of the block.
        let positions = [0..4, 76..80, 98..102, 122..136, 156..159, 257..265, 345..347, 500..512];
        for position in positions.into_iter().flatten() {
            for value in [0, b'/', b'.', b'1', b'7', b'L', b'x', 0xff] {
                let mut tar = tar.clone();
                tar[header + position] = value;
                let mut block: [u8; 512] = tar[header..header + 512].try_into().unwrap();
                testkit::tarball::seal(&mut block);
                tar[header..header + 512].copy_from_slice(&block);
                match open(&fresh(&folder, &tar)) {
                    Err(_) => refused += 1,
                    Ok(store) if !verify(&store, 1, &Silent).unwrap().is_sound() => unsound += 1,
                    Ok(store) => {
                        assert_eq!(
                            store.roots()[0].image.descriptor.digest,
                            image,
                            "byte {position} = {value:#x}"
                        );
                        same += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 100 && unsound > 100 && same > 100, "{refused} {unsound} {same}");
}
