//! Extraction: for all layers, nothing outside the folder changes.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use imgrelay::tar::{Extractor, Ownership, Policy, StrayLinks};
use testkit::scratch::Scratch;

use super::recipe::{layers, sealed};

thread_local! {
    static PLACE: Scratch = {
        let place = Scratch::new("fuzz-extract");
        place.write("outside/victim", "safe");
        place.write("outside/dir/inner", "safe");
        place
    };
}

const OUTSIDE: [&str; 4] = ["outside", "outside/victim", "outside/dir", "outside/dir/inner"];

/// Everything about a place that an extraction could change.
fn state(place: &Path) -> Vec<(u32, u32, u64, i64, i64, usize)> {
    let one = |path: &str| {
        let path = place.join(path);
        let meta = std::fs::symlink_metadata(&path).expect("it is still there");
        let count = std::fs::read_dir(&path).map_or(0, Iterator::count);
        (meta.mode(), meta.uid(), meta.nlink(), meta.ctime(), meta.ctime_nsec(), count)
    };
    OUTSIDE.iter().map(|path| one(path)).collect()
}

fn clear(root: &Path) {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let _ = std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755));
        let inner = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(inner.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
    }
    let _ = std::fs::remove_dir_all(root);
}

pub(super) fn extract(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    PLACE.with(|place| {
        let root = place.join("root");
        clear(&root);
        std::fs::create_dir(&root).expect("the folder was cleared");
        let absolute = place.join("outside");
        let layers = match how & 0x80 {
            0 => layers(rest, absolute.as_os_str().as_bytes()),
            _ => vec![sealed(rest)],
        };
        let policy = match how % 3 {
            0 => Policy::contents(0o022),
            1 => Policy { stray_links: StrayLinks::Skip, ..Policy::contents(0o077) },
            _ if rustix::process::geteuid().is_root() => Policy::rootfs(Ownership::Apply),
            _ => Policy::rootfs(Ownership::Ignore),
        };
        let before = state(place.path());
        let mut extractor = Extractor::new(OwnedFd::from(File::open(&root).unwrap()), policy);
        let done = layers.iter().try_for_each(|layer| extractor.layer(&layer[..], &mut |_| {}));
        let done = done.and_then(|()| extractor.finish().map(drop));
        assert_eq!(state(place.path()), before);
        assert_eq!(std::fs::read(place.join("outside/victim")).unwrap(), b"safe");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2, "something lies beside the folder");
        match done {
            Ok(()) if how % 3 != 2 => no_way_out(&root),
            Ok(()) => {}
            Err(error) => {
                let text = error.to_string();
                assert!(!text.chars().any(char::is_control), "{text:?}");
            }
        }
    });
}

/// Fails if a link in an extracted tree leads to something outside, or a mode bit gives the rights of another user.
fn no_way_out(root: &Path) {
    let real = root.canonicalize().unwrap();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if let Ok(end) = path.canonicalize() {
                assert!(end.starts_with(&real), "{} leads to {}", path.display(), end.display());
            }
            let meta = std::fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                folders.push(path);
            } else if meta.is_file() {
                assert_eq!(meta.mode() & 0o7000, 0, "{}", path.display());
            }
        }
    }
}
