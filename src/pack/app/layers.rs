//! Which entries share a layer: a function of paths and sizes alone, on which small changes have small effects.
//!
//! Every file belongs to a unit (`units`), every unit goes where a hash of its own name or its scope's says. Sizes
//! decide only as powers of two, so that a layer's border moves when something grew to double or half, not when it
//! grew a little. Layers share no path: a consumer gets the same tree in every order of unpacking.

use std::collections::BTreeMap;

use super::AppEntry;
use super::units::{Class, unit_of};
use crate::model::Digest;

/// How an app is spread over layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerSplit {
    /// Everything in one layer.
    #[default]
    One,
    /// So many that a later push sends few bytes, at most [`MOST_LAYERS`].
    Auto,
}

/// Most layers of an image; overlay file systems mount 127, and each costs a consumer a request.
pub const MOST_LAYERS: usize = 100;
/// Most layers of packages, and of an app's own folders; one more is for lock files.
const MOST: [(Class, usize); 2] = [(Class::Dependency, 72), (Class::Own, 24)];
/// Apps below either are one layer: a whole push of them takes well under a second.
const FEW_FILES: usize = 64;
const FEW_BYTES: u64 = 4 << 20;
/// Smallest and largest target for the size of a layer, as powers of two: 256 KiB, and the largest size.
const TARGETS: std::ops::Range<u32> = 18..63;

/// Returns the entries of each layer, lowest first, in order; every entry is in exactly one.
pub(super) fn layers(entries: &[AppEntry], layer_split: LayerSplit) -> Vec<Vec<usize>> {
    let total: u64 = entries.iter().map(AppEntry::size).sum();
    if layer_split == LayerSplit::One || entries.len() < FEW_FILES || total < FEW_BYTES {
        return vec![(0..entries.len()).collect()];
    }
    let mut units: BTreeMap<(Class, &[u8], &[u8]), Members> = BTreeMap::new();
    for (number, entry) in entries.iter().enumerate() {
        let unit = unit_of(&entry.path);
        units.entry((unit.class, unit.scope, unit.name)).or_default().add(number, entry);
    }
    let mut layers: Vec<Vec<usize>> = Vec::new();
    for (class, most) in MOST {
        let own: Vec<Piece<'_>> = units
            .iter()
            .filter(|((of, ..), _)| *of == class)
            .map(|((_, scope, name), members)| Piece { scope, name, members: members.clone() })
            .collect();
        // The smallest target that does not need too many layers.
        let grouped = TARGETS.map(|log| group(entries, &own, 1 << log)).find(|groups| groups.len() <= most);
        layers.extend(grouped.unwrap_or_default().into_values());
    }
    let locks = units.into_iter().filter(|((class, ..), _)| *class == Class::Lock);
    layers.extend(locks.map(|(_, members)| members.numbers));
    for layer in &mut layers {
        layer.sort_unstable();
    }
    layers
}

/// Entries with their size.
#[derive(Clone, Debug, Default)]
struct Members {
    numbers: Vec<usize>,
    size: u64,
}

impl Members {
    fn add(&mut self, number: usize, entry: &AppEntry) {
        self.numbers.push(number);
        // A header and half a block of padding count too: many small files are large in a tar.
        self.size += entry.size() + 768;
    }
}

/// Entries that stay in one layer.
struct Piece<'a> {
    scope: &'a [u8],
    name: &'a [u8],
    members: Members,
}

/// The layer that a piece goes to.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Bucket<'a> {
    /// A layer of its own: the piece is as large as a layer should be.
    Alone(&'a [u8]),
    /// One of a large scope's layers.
    OfScope(&'a [u8], u64),
    /// One of the layers for small pieces.
    Shared(u64),
}

/// Puts pieces into layers of about `target` bytes.
fn group<'a>(entries: &'a [AppEntry], units: &[Piece<'a>], target: u64) -> BTreeMap<Bucket<'a>, Vec<usize>> {
    let mut pieces = Vec::new();
    for unit in units {
        split(entries, unit, target, &mut pieces);
    }
    let (large, small): (Vec<_>, Vec<_>) = pieces.into_iter().partition(|piece| piece.members.size >= target);
    let mut scopes: BTreeMap<&[u8], u64> = BTreeMap::new();
    for piece in &small {
        *scopes.entry(piece.scope).or_default() += piece.members.size;
    }
    let shared: u64 = scopes.values().filter(|size| **size < target).sum();
    let mut groups: BTreeMap<Bucket<'a>, Vec<usize>> = BTreeMap::new();
    for piece in large {
        groups.entry(Bucket::Alone(piece.name)).or_default().extend(piece.members.numbers);
    }
    for piece in small {
        let size = scopes.get(piece.scope).copied().unwrap_or_default();
        let place = if size >= target {
            Bucket::OfScope(piece.scope, bucket(piece.name, size, target))
        } else {
            Bucket::Shared(bucket(piece.scope, shared, target))
        };
        groups.entry(place).or_default().extend(piece.members.numbers);
    }
    groups
}

/// Chooses one of as many layers as the size needs, rounded to a power of two.
fn bucket(name: &[u8], size: u64, target: u64) -> u64 {
    let count = (size / target).max(1);
    // Round to the nearer power of two.
    let below = 1 << count.ilog2();
    let count = if count - below > below / 2 { below * 2 } else { below };
    let hash = Digest::sha256_of(name).hex().get(..8).and_then(|hex| u64::from_str_radix(hex, 16).ok());
    hash.unwrap_or_default() % count
}

/// Splits an app's own folder that is larger than a layer should be into its folders, and so on; packages stay whole.
fn split<'a>(entries: &'a [AppEntry], unit: &Piece<'a>, target: u64, pieces: &mut Vec<Piece<'a>>) {
    let is_own = unit
        .members
        .numbers
        .first()
        .and_then(|number| entries.get(*number))
        .is_some_and(|entry| unit_of(&entry.path).class == Class::Own);
    if !is_own || unit.members.size < target {
        pieces.push(Piece { scope: unit.scope, name: unit.name, members: unit.members.clone() });
        return;
    }
    let skip = if unit.name.is_empty() { 0 } else { unit.name.len() + 1 };
    let mut parts: BTreeMap<&[u8], Members> = BTreeMap::new();
    for number in &unit.members.numbers {
        let Some(entry) = entries.get(*number) else { continue };
        let rest = entry.path.get(skip..).unwrap_or_default();
        let name = match rest.iter().position(|byte| *byte == b'/') {
            Some(at) => entry.path.get(..skip + at).unwrap_or_default(),
            // Files that lie here are by themselves; a large one fills a layer.
            None => entry.path.as_slice(),
        };
        parts.entry(name).or_default().add(*number, entry);
    }
    for (name, members) in parts {
        let part = Piece { scope: name, name, members };
        // A file cannot be split, and a folder with one folder in it is split there.
        let is_file = part.members.numbers.len() == 1;
        if is_file { pieces.push(part) } else { split(entries, &part, target, pieces) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Content;
    use super::*;

    /// An app with packages of very different sizes, deterministic.
    fn app() -> Vec<AppEntry> {
        let mut entries = Vec::new();
        let mut add = |path: String, size: u64| {
            let content = Content::Zip { size, index: 0 };
            entries.push(AppEntry { path: path.into_bytes(), mode: 0o644, content });
        };
        for package in 0..400_u64 {
            let files = 1 + package % 37;
            for file in 0..files {
                let size = if package % 50 == 7 { 300_000 } else { 3_000 + 97 * package };
                add(format!("node_modules/p{package}/lib/f{file}.js"), size);
            }
        }
        for file in 0..300 {
            add(format!("node_modules/@scope/q{}/f{file}.js", file % 20), 20_000);
            add(format!("src/d{}/f{file}.js", file % 17), 4_000);
        }
        add("package.json".into(), 1_000);
        add("node_modules/.package-lock.json".into(), 300_000);
        add("index.js".into(), 100);
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries
    }

    /// What decides whether a layer is the same: the paths and sizes in it.
    fn contents(entries: &[AppEntry]) -> Vec<Vec<(Vec<u8>, u64)>> {
        let layers = layers(entries, LayerSplit::Auto);
        let of = |number: &usize| (entries[*number].path.clone(), entries[*number].size());
        layers.iter().map(|layer| layer.iter().map(of).collect()).collect()
    }

    /// How many bytes are in layers that the other app does not have.
    fn moved(old: &[AppEntry], new: &[AppEntry]) -> (usize, u64) {
        let old = contents(old);
        let changed: Vec<_> = contents(new).into_iter().filter(|layer| !old.contains(layer)).collect();
        (changed.len(), changed.iter().flatten().map(|(_, size)| size).sum())
    }

    #[test]
    fn every_entry_is_in_exactly_one_layer_and_there_are_not_too_many() {
        let entries = app();
        let layers = layers(&entries, LayerSplit::Auto);
        let mut all: Vec<usize> = layers.iter().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..entries.len()).collect::<Vec<_>>());
        assert!((20..=MOST_LAYERS).contains(&layers.len()), "{}", layers.len());
        assert!(layers.iter().all(|layer| !layer.is_empty() && layer.is_sorted()));
    }

    #[test]
    fn small_apps_and_callers_who_want_it_have_one_layer() {
        let entries = app();
        assert_eq!(layers(&entries, LayerSplit::One).len(), 1);
        assert_eq!(layers(&entries[..63], LayerSplit::Auto).len(), 1);
    }

    #[test]
    fn a_change_moves_little_else() {
        let old = app();
        let total: u64 = old.iter().map(AppEntry::size).sum();
        let change = |change: &dyn Fn(&mut Vec<AppEntry>)| {
            let mut new = old.clone();
            change(&mut new);
            moved(&old, &new)
        };
        let resize = |entry: &mut AppEntry| {
            let size = entry.size() + 17;
            entry.content = Content::Zip { size, index: 0 };
        };
        let grow = |prefix: &'static str| {
            move |entries: &mut Vec<AppEntry>| {
                entries.iter_mut().filter(|entry| entry.path.starts_with(prefix.as_bytes())).for_each(resize);
            }
        };
        assert_eq!(change(&|_| {}), (0, 0));
        let (layers, bytes) = change(&grow("src/d3/f3.js"));
        assert!(layers == 1 && bytes < 600_000, "own file: {layers} layers, {bytes} bytes");
        let (layers, bytes) = change(&grow("node_modules/p33/"));
        assert!(layers == 1 && bytes < total / 20, "package: {layers} layers, {bytes} bytes");
        let (layers, bytes) = change(&|entries| {
            entries.retain(|entry| !entry.path.starts_with(b"node_modules/p33/"));
        });
        assert!(layers == 1 && bytes < total / 20, "removed: {layers} layers, {bytes} bytes");
        let (layers, bytes) = change(&grow("node_modules/.package-lock.json"));
        assert!(layers == 1 && bytes < 400_000, "lock file: {layers} layers, {bytes} bytes");
    }

    /// A package of another version under another name stays in its layer.
    #[test]
    fn an_upgrade_moves_one_layer_in_every_ecosystem() {
        let app = |version: &dyn Fn(u64) -> u64| {
            let mut entries = Vec::new();
            let mut add = |path: String, size: u64| {
                let content = Content::Zip { size, index: 0 };
                entries.push(AppEntry { path: path.into_bytes(), mode: 0o644, content });
            };
            for package in 0..150_u64 {
                let version = version(package);
                let size = 40_000 + 3_000 * (package % 11) + version;
                add(format!("BOOT-INF/lib/dep{package}-core-{version}.0.jar"), size * 10);
                add(format!("vendor/bundle/ruby/3.2.0/gems/gem{package}-{version}.1/lib/a.rb"), size);
                add(format!("py/site-packages/mod{package}/__init__.py"), size);
                add(format!("py/site-packages/mod{package}-{version}.0.dist-info/METADATA"), 900);
                add(format!("vendor/github.com/owner{}/mod{package}/go.go", package % 40), size);
            }
            entries.sort_by(|a, b| a.path.cmp(&b.path));
            entries
        };
        let old = app(&|_| 1);
        let total: u64 = old.iter().map(AppEntry::size).sum();
        for upgraded in [0, 7, 149] {
            let new = app(&|package| if package == upgraded { 2 } else { 1 });
            let (layers, bytes) = moved(&old, &new);
            // A jar, a gem, a Python package and a Go module: at most a layer each.
            assert!((1..=4).contains(&layers), "{upgraded}: {layers} layers");
            assert!(bytes < total / 8, "{upgraded}: {bytes} of {total} bytes");
        }
    }

    #[test]
    fn layers_of_a_scope_are_a_power_of_two_near_its_size() {
        // The SHA-256 of `b` begins with 3e23e816, which is 6 in its last three bits.
        for (size, expected) in [
            (0, 0),
            (99, 0),
            (100, 0),
            (199, 0),
            (200, 0),
            (300, 0),
            (399, 0),
            (400, 2),
            (699, 2),
            (700, 6),
            (800, 6),
            (1200, 6),
            (1300, 6),
            (1600, 6),
        ] {
            assert_eq!(bucket(b"b", size, 100), expected, "{size}");
        }
        // e3b0c442, the SHA-256 of nothing, is 2 in its last three bits and 2 in its last four.
        assert_eq!([100, 200, 400, 800, 1600].map(|size| bucket(b"", size, 100)), [0, 0, 2, 2, 2]);
    }

    fn file(path: &str, size: u64) -> AppEntry {
        AppEntry { path: path.into(), mode: 0o644, content: Content::Zip { size, index: 0 } }
    }

    fn piece<'a>(scope: &'a str, name: &'a str, numbers: &[usize], size: u64) -> Piece<'a> {
        let members = Members { numbers: numbers.to_vec(), size };
        Piece { scope: scope.as_bytes(), name: name.as_bytes(), members }
    }

    #[test]
    fn an_own_folder_is_split_when_it_is_as_large_as_a_layer() {
        // With 768 more for each, `src/a` has 3536 bytes and all three 5304.
        let entries = [file("src/a/x", 1000), file("src/a/y", 1000), file("src/b", 1000)];
        let parts = |target| {
            let mut pieces = Vec::new();
            split(&entries, &piece("src", "src", &[0, 1, 2], 5304), target, &mut pieces);
            let shown = |piece: &Piece<'_>| {
                let (scope, name) =
                    (String::from_utf8_lossy(piece.scope), String::from_utf8_lossy(piece.name));
                format!("{scope} {name} {:?} {}", piece.members.numbers, piece.members.size)
            };
            pieces.iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(parts(5305), ["src src [0, 1, 2] 5304"]);
        let two = ["src/a src/a [0, 1] 3536", "src/b src/b [2] 1768"];
        assert_eq!(parts(5304), two);
        assert_eq!(parts(3537), two);
        let three = ["src/a/x src/a/x [0] 1768", "src/a/y src/a/y [1] 1768", "src/b src/b [2] 1768"];
        assert_eq!(parts(3536), three);
        assert_eq!(parts(1), three, "files are not split");
    }

    #[test]
    fn packages_are_not_split_and_files_at_the_top_are_by_themselves() {
        let entries = [file("node_modules/p/a", 9), file("node_modules/p/b", 9), file("x", 9), file("y", 9)];
        let names = |unit: &Piece<'_>| {
            let mut pieces = Vec::new();
            split(&entries, unit, 1, &mut pieces);
            pieces.iter().map(|piece| piece.members.numbers.clone()).collect::<Vec<_>>()
        };
        let package = "node_modules/p";
        assert_eq!(names(&piece(package, package, &[0, 1], 1554)), [[0, 1]]);
        assert_eq!(names(&piece("", "", &[2, 3], 1554)), [[2], [3]]);
    }

    #[test]
    fn large_pieces_are_alone_and_those_of_small_scopes_share_layers() {
        let entries: Vec<AppEntry> = (0..8).map(|n| file(&format!("node_modules/p{n}/a"), 1)).collect();
        let units = [
            piece("s", "s/a", &[0], 100),
            piece("t", "t/a", &[1], 50),
            piece("t", "t/b", &[2], 50),
            piece("n", "n", &[3], 90),
            piece("b", "b", &[4], 90),
            piece("f", "f", &[5], 90),
            piece("k", "k", &[6], 45),
            piece("k", "k/a", &[7], 45),
        ];
        let groups = group(&entries, &units, 100);
        let shown = |(bucket, numbers): (Bucket<'_>, Vec<usize>)| match bucket {
            Bucket::Alone(name) => format!("alone {} {numbers:?}", String::from_utf8_lossy(name)),
            Bucket::OfScope(scope, n) => format!("{} {n} {numbers:?}", String::from_utf8_lossy(scope)),
            Bucket::Shared(n) => format!("shared {n} {numbers:?}"),
        };
        // The small scopes have 360 bytes, which is two layers. The SHA-256 of `n` begins with 1b16b1df, which is odd;
        // those of `b` (3e23e816), `f` (252f10c8) and `k` (8254c329) are even, even and odd.
        assert_eq!(
            groups.into_iter().map(shown).collect::<Vec<_>>(),
            ["alone s/a [0]", "t 0 [1, 2]", "shared 0 [4, 5]", "shared 1 [3, 6, 7]"]
        );
    }

    #[test]
    fn an_app_is_split_from_64_files_and_4_mebibytes() {
        let app = |files: usize, size: u64| {
            let path = |n| if n % 2 == 0 { format!("node_modules/p{n}/a") } else { format!("src/f{n}") };
            let entries: Vec<AppEntry> = (0..files).map(|n| file(&path(n), size)).collect();
            layers(&entries, LayerSplit::Auto)
        };
        assert_eq!(app(63, 100_000).len(), 1, "few files");
        assert_eq!(app(64, 65_535).len(), 1, "few bytes");
        assert_eq!(app(100, 1000).len(), 1);
        let least = app(64, 65_536);
        assert!(least.len() >= 2, "{least:?}");
        for layer in &least {
            assert!(layer.iter().all(|number| number % 2 == layer[0] % 2), "one kind in a layer: {layer:?}");
        }
    }
}
