//! Checks a Carvel package repository before it is packed: finds what kapp-controller drops or refuses.
//!
//! Advice only. No file is read unless there is a `packages` folder or a bundle, and nothing is reported unless a
//! document of the packaging group is found. kapp-controller does not report most of these faults: it drops documents
//! that it does not know, and the package is then missing. Files with ytt annotations are not checked, because their
//! values are not known yet. Source: kapp-controller `pkg/pkgrepository/app_template.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::lock::{
    BUNDLE_FOLDER, IMAGES_LOCK_FILE, ImagesLock, KBLD_ID, PACKAGES_FOLDER, PackageRule, PackagingObject,
    read_packaging_objects,
};
use crate::model::limits;
use crate::tree::{Content, Entry, EntryKind, FileReader, Filter, SymlinkPolicy, TreeError, Visitor, walk};

/// Text in every document of the packaging group; others are not parsed.
const MARK: &[u8] = b"packaging.carvel.dev";
/// Begins a ytt annotation.
const YTT: &str = "#@";
/// What `kctrl package release` leaves beside a package's sources; it is not meant for a repository.
const KCTRL_FILES: [&[u8]; 2] = [b"package-resources.yml", b"package-build.yml"];

/// What is done about mistakes in a package repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PackageChecks {
    /// No checks.
    Off,
    /// Warn.
    #[default]
    Warn,
    /// Fail, and pack nothing.
    Refuse,
}

/// A mistake in a package repository: kapp-controller drops or refuses the document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}`{}: {fault}", path.display(), at_line(*line))]
pub struct PackageProblem {
    /// The file, below its root.
    pub path: PathBuf,
    /// Line, from 1; 0 for the whole file.
    pub line: u64,
    /// What is wrong.
    pub fault: PackageFault,
}

fn at_line(line: u64) -> String {
    if line == 0 { String::new() } else { format!(" line {line}") }
}

/// What is wrong with a file of a package repository.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackageFault {
    /// A document breaks a rule of its own.
    #[error(transparent)]
    Rule(#[from] PackageRule),
    /// Not YAML, or not an object of Kubernetes.
    #[error("cannot be read as YAML: {problem}")]
    NotYaml {
        /// What is wrong.
        problem: String,
    },
    /// The file is larger than any real package.
    #[error("has more than {limit} bytes and was not checked")]
    TooLarge {
        /// Most bytes that are read.
        limit: u64,
    },
    /// The document is outside the folder that kapp-controller reads.
    #[error("`{kind}` `{name}` is outside `{PACKAGES_FOLDER}/`, the only folder that kapp-controller reads")]
    Outside {
        /// `kind`.
        kind: String,
        /// `metadata.name`.
        name: String,
    },
    /// A file whose name does not say that it is YAML.
    #[error("is not read by kapp-controller, which takes names that end in `.yml` or `.yaml`")]
    Extension,
    /// A link where a file should be.
    #[error("is a symbolic link, which kapp-controller does not unpack")]
    Link,
    /// The same object twice.
    #[error("`{kind}` `{name}` is in `{}` too", first.display())]
    Twice {
        /// `kind`.
        kind: String,
        /// `metadata.name`.
        name: String,
        /// The file that had it first.
        first: PathBuf,
    },
    /// A package that no list shows.
    #[error("no `PackageMetadata` is named `{ref_name}`, so `kctrl package available list` does not show it")]
    NoMetadata {
        /// `spec.refName`.
        ref_name: String,
    },
    /// An image that a copy of the repository does not include.
    #[error(
        "`{field}` is `{image}`, but no image in `{BUNDLE_FOLDER}/{IMAGES_LOCK_FILE}` has it as its `{KBLD_ID}`: a copied repository still names it where it was"
    )]
    NotLocked {
        /// The field's path.
        field: String,
        /// The image.
        image: String,
    },
    /// Packages without a lock file.
    #[error("is missing: kapp-controller fetches a package repository with `imgpkgBundle` only with it")]
    NoLock,
}

/// Checks the roots and returns the mistakes, in the order of the walk.
///
/// `images` is the bundle's lock file; `None` for a plain image. Files that cannot be read are passed over here; the
/// packing fails for them.
/// Cost: a walk through the names, and reading the YAML files; nothing for folders that are neither a bundle nor have
/// a `packages` folder.
#[must_use]
pub fn package_problems(
    roots: &[PathBuf],
    filter: &Filter,
    symlinks: SymlinkPolicy,
    images: Option<&ImagesLock>,
) -> Vec<PackageProblem> {
    if images.is_none() && !roots.iter().any(|root| root.join(PACKAGES_FOLDER).is_dir()) {
        return Vec::new();
    }
    let mut scan = Scan::default();
    for (number, root) in roots.iter().enumerate() {
        if walk(root, &filter.of_root(number), symlinks, None, &mut scan).is_err() {
            return Vec::new();
        }
    }
    scan.finish(images)
}

#[derive(Default)]
struct Scan {
    problems: Vec<PackageProblem>,
    /// Whether a document of the packaging group was found.
    found: bool,
    /// The file that has an object, by kind and name.
    objects: BTreeMap<(String, String), PathBuf>,
    /// Packages with the name of their metadata: file, line, name.
    packages: Vec<(PathBuf, u64, String)>,
    /// Bundles that packages fetch: file, line, field, image.
    bundles: Vec<(PathBuf, u64, String, String)>,
}

impl Visitor for Scan {
    type Error = TreeError;

    fn entry(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), TreeError> {
        let path = Path::new(OsStr::from_bytes(&entry.path));
        let inside = path.starts_with(PACKAGES_FOLDER);
        let is_yaml = entry.path.ends_with(b".yml") || entry.path.ends_with(b".yaml");
        match (&entry.kind, content) {
            (EntryKind::Symlink { .. }, _) if inside && is_yaml => self.add(path, 0, PackageFault::Link),
            (EntryKind::File { .. }, _) if KCTRL_FILES.contains(&entry.name()) && !inside => {}
            (EntryKind::File { size }, Content::File(file)) if is_yaml || (inside && is_json(entry)) => {
                if *size > limits::LOCK_BYTES {
                    if inside {
                        self.add(path, 0, PackageFault::TooLarge { limit: limits::LOCK_BYTES });
                    }
                    return Ok(());
                }
                let bytes = read(file, *size)?;
                let marked = bytes.windows(MARK.len()).any(|window| window == MARK);
                self.found |= marked && inside;
                match (is_yaml, inside || marked) {
                    (true, true) => self.file(path, &bytes, inside),
                    (false, _) if marked => self.add(path, 0, PackageFault::Extension),
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn is_json(entry: &Entry) -> bool {
    entry.path.ends_with(b".json")
}

/// Reads a file to its end; the walk gave its size.
fn read(mut file: FileReader<'_>, size: u64) -> Result<Vec<u8>, TreeError> {
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            n => at += n,
        }
    }
    file.finish()?;
    Ok(bytes)
}

impl Scan {
    fn add(&mut self, path: &Path, line: u64, fault: PackageFault) {
        self.problems.push(PackageProblem { path: path.to_owned(), line, fault });
    }

    fn file(&mut self, path: &Path, bytes: &[u8], inside: bool) {
        let objects = match std::str::from_utf8(bytes) {
            // ytt fills in values later, so advice on the present ones would be wrong.
            Ok(text) if text.contains(YTT) => return,
            Ok(text) => read_packaging_objects(text).map_err(|error| error.to_string()),
            Err(_) => Err("it is not UTF-8 text".to_owned()),
        };
        match objects {
            Ok(objects) => {
                for object in objects {
                    if inside {
                        self.inside(path, object);
                    } else if object.is_packaging() {
                        self.found = true;
                        let name = object.name.unwrap_or_else(|| "(without a name)".to_owned());
                        self.add(path, object.line, PackageFault::Outside { kind: object.kind, name });
                    }
                }
            }
            Err(problem) if inside => self.add(path, 0, PackageFault::NotYaml { problem }),
            Err(_) => {}
        }
    }

    fn inside(&mut self, path: &Path, object: PackagingObject) {
        for rule in object.broken_rules() {
            self.add(path, object.line, rule.into());
        }
        if !object.is_packaging() {
            return;
        }
        if let Some(name) = &object.name {
            let key = (object.kind.clone(), name.clone());
            if let Some(first) = self.objects.get(&key).cloned() {
                let (kind, name) = key;
                self.add(path, object.line, PackageFault::Twice { kind, name, first });
            } else {
                self.objects.insert(key, path.to_owned());
            }
        }
        if object.kind == "Package" {
            self.packages.extend(object.spec.ref_name.map(|name| (path.to_owned(), object.line, name)));
            let bundles = object.spec.bundles.into_iter();
            self.bundles.extend(bundles.map(|(field, image)| (path.to_owned(), object.line, field, image)));
        }
    }

    /// Adds the mistakes that only all files together show; drops all mistakes if the folder is no package repository.
    fn finish(mut self, images: Option<&ImagesLock>) -> Vec<PackageProblem> {
        if !self.found {
            return Vec::new();
        }
        for (path, line, ref_name) in std::mem::take(&mut self.packages) {
            if !self.objects.contains_key(&("PackageMetadata".to_owned(), ref_name.clone())) {
                self.add(&path, line, PackageFault::NoMetadata { ref_name });
            }
        }
        let Some(images) = images else {
            self.add(&Path::new(BUNDLE_FOLDER).join(IMAGES_LOCK_FILE), 0, PackageFault::NoLock);
            return self.problems;
        };
        let ids: BTreeSet<&str> = images
            .images
            .iter()
            .filter_map(|image| image.annotations.get(KBLD_ID))
            .map(String::as_str)
            .collect();
        for (path, line, field, image) in std::mem::take(&mut self.bundles) {
            if !ids.contains(image.as_str()) {
                self.add(&path, line, PackageFault::NotLocked { field, image });
            }
        }
        self.problems
    }
}
