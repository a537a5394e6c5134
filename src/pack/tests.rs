//! Layers of folders, definitions of bundles and the checks of package repositories, without the program around them.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use testkit::scratch::Scratch;

use super::*;
use crate::lock::ImagesLock;
use crate::stream::CompressionLevel;
use crate::tree::{Filter, SymlinkPolicy};

const LOCK: &str = "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\n";

fn uncompressed() -> LayerOptions {
    LayerOptions { compression: CompressionLevel::None, ..LayerOptions::default() }
}

/// The layer of these roots: its facts, and `path kind mode link` of each entry as the crate `tar` reads it.
fn packed(roots: &[PathBuf], options: &LayerOptions) -> Result<(PackedLayer, Vec<String>), String> {
    let mut bytes = Vec::new();
    let layer = pack_layer(roots, options, &mut bytes, &|_| {}).map_err(|error| error.to_string())?;
    Ok((layer, testkit::oracle_crates::lines(&bytes, &["path", "kind", "mode", "link"])))
}

fn chmod(path: &std::path::Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_layer_has_the_owners_bits_or_all_of_them() {
    let scratch = Scratch::new("layer-modes");
    chmod(&scratch.write("root/run", "x"), 0o755);
    chmod(&scratch.write("root/d/text", "x"), 0o664);
    chmod(&scratch.join("root/d"), 0o775);
    symlink("run", scratch.join("root/link")).unwrap();
    chmod(&scratch.join("root"), 0o755);
    let roots = [scratch.join("root")];
    let (layer, entries) = packed(&roots, &uncompressed()).unwrap();
    assert_eq!(
        entries,
        [". folder 700", "d folder 700", "d/text file 600", "link symlink 777 run", "run file 700"]
    );
    assert_eq!((layer.entries, layer.links_left_out), (5, 0));
    let options = LayerOptions { preserve_permissions: true, ..uncompressed() };
    let (_, entries) = packed(&roots, &options).unwrap();
    assert_eq!(
        entries,
        [". folder 755", "d folder 775", "d/text file 664", "link symlink 777 run", "run file 755"]
    );
    let options = LayerOptions { symlinks: SymlinkPolicy::Omit, ..uncompressed() };
    let (layer, entries) = packed(&roots, &options).unwrap();
    assert_eq!((layer.links_left_out, entries.len()), (1, 4));
}

#[test]
fn a_path_is_in_one_root_only_and_folders_are_merged() {
    let scratch = Scratch::new("layer-roots");
    for path in ["a/d/x", "b/d/y", "c/d/x", "lone/x"] {
        scratch.write(path, "");
    }
    let root = |name: &str| scratch.join(name);
    let (_, entries) = packed(&[root("a"), root("b")], &uncompressed()).unwrap();
    let files: Vec<_> = entries.iter().filter(|line| line.contains(" file ")).collect();
    assert_eq!(files, ["d/x file 600", "d/y file 600"]);
    let error = packed(&[root("b"), root("a"), root("c")], &uncompressed()).unwrap_err();
    let (first, second) = (root("a").display().to_string(), root("c").display().to_string());
    assert_eq!(
        error,
        format!("`d/x` is in more than one of the given paths, first in `{first}`, then in `{second}`")
    );
    // A file that is given by itself is an entry under its own name.
    let error = packed(&[root("lone/x"), root("lone")], &uncompressed()).unwrap_err();
    assert!(error.starts_with("`x` is in more than one of the given paths, first in `"), "{error}");
    assert!(error.contains("/lone/x`, then in "), "{error}");
}

#[test]
fn a_layer_has_no_second_bundle_and_no_whiteout() {
    let scratch = Scratch::new("layer-bundle");
    scratch.write("b/.imgpkg/images.yml", LOCK);
    scratch.write("b/sub/.imgpkg/images.yml", LOCK);
    let options =
        |folder: &str| LayerOptions { only_bundle_folder: Some(scratch.join(folder)), ..uncompressed() };
    let error = packed(&[scratch.join("b")], &options("b/.imgpkg")).unwrap_err();
    assert!(error.contains("/b/sub/.imgpkg` is a second bundle definition, expected only `"), "{error}");
    std::fs::remove_dir_all(scratch.join("b/sub/.imgpkg")).unwrap();
    scratch.write("b/file/.imgpkg", "a file of that name defines nothing");
    assert!(packed(&[scratch.join("b")], &options("b/.imgpkg")).is_ok());
    assert!(packed(&[scratch.join("b")], &uncompressed()).is_ok(), "plain images may hold any number");
    let hidden = scratch.write("w/d/.wh.x", "");
    let error = packed(&[scratch.join("w")], &uncompressed()).unwrap_err();
    assert!(error.starts_with(&format!("`{}` would act as a whiteout", hidden.display())), "{error}");
    let error = packed(&[hidden], &uncompressed()).unwrap_err();
    assert!(error.contains("/w/d/.wh.x` would act as a whiteout"), "{error}");
}

#[test]
fn a_bundle_is_defined_in_exactly_one_root() {
    let scratch = Scratch::new("bundle");
    for name in ["one", "two"] {
        scratch.write(format!("{name}/.imgpkg/images.yml"), LOCK);
    }
    scratch.write("plain/a", "");
    let find = |roots: &[&str], filter: &Filter| {
        let roots: Vec<PathBuf> = roots.iter().map(|root| scratch.join(root)).collect();
        find_bundle(&roots, filter).map(|found| found.map(|bundle| bundle.folder))
    };
    let none = Filter::default();
    assert_eq!(find(&["plain"], &none).unwrap(), None);
    assert_eq!(find(&["plain", "one"], &none).unwrap(), Some(scratch.join("one/.imgpkg")));
    assert_eq!(find(&["one"], &Filter::exact([".imgpkg"])).unwrap(), None, "it is excluded");
    let error = find(&["one", "two"], &none).unwrap_err().to_string();
    assert!(error.starts_with("more than one bundle definition: `"), "{error}");
    for inside in ["one/.imgpkg", "one/.imgpkg/images.yml"] {
        let error = find(&[inside], &none).unwrap_err().to_string();
        assert!(error.ends_with("is inside a `.imgpkg` folder, expected its parent"), "{error}");
    }
    std::fs::remove_file(scratch.join("one/.imgpkg/images.yml")).unwrap();
    let error = find(&["one"], &none).unwrap_err().to_string();
    assert!(error.ends_with("/images.yml` does not exist, but every bundle needs it"), "{error}");
    std::fs::create_dir(scratch.join("one/.imgpkg/images.yml")).unwrap();
    let error = find(&["one"], &none).unwrap_err().to_string();
    assert!(error.ends_with("is not a regular file"), "{error}");
    scratch.write("two/.imgpkg/images.yml", "kind: Other\n");
    let error = find(&["two"], &none).unwrap_err().to_string();
    assert!(error.contains("is not a valid ImagesLock: "), "{error}");
}

const METADATA: &str = "apiVersion: data.packaging.carvel.dev/v1alpha1\nkind: PackageMetadata\nmetadata:\n  name: app.team.example\nspec:\n  displayName: App\n";
const PACKAGE: &str = "apiVersion: data.packaging.carvel.dev/v1alpha1\nkind: Package\nmetadata:\n  name: app.team.example.1.0.0\nspec:\n  refName: app.team.example\n  version: 1.0.0\n  template:\n    spec:\n      fetch:\n      - imgpkgBundle:\n          image: registry.example/team/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n      template:\n      - ytt: {}\n      deploy:\n      - kapp: {}\n";

/// What is wrong with a package repository of these files; with an empty lock file, or as a plain image.
fn problems(files: &[(&str, &str)], images: Option<&str>) -> Vec<String> {
    let scratch = Scratch::new("packages");
    for (path, content) in files {
        scratch.write(format!("repository/{path}"), content);
    }
    let images = images.map(|text| ImagesLock::parse(text).unwrap());
    let roots = [scratch.join("repository")];
    package_problems(&roots, &Filter::default(), SymlinkPolicy::Keep, images.as_ref())
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_package_repository_without_mistakes_has_no_advice() {
    let lock = format!(
        "{LOCK}images:\n- image: registry.example/team/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n  annotations:\n    kbld.carvel.dev/id: registry.example/team/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"
    );
    let files = [("packages/a.yml", PACKAGE), ("packages/b.yaml", METADATA), ("package-build.yml", PACKAGE)];
    assert_eq!(problems(&files, Some(&lock)), [""; 0]);
    let other = [("packages/a.yml", "kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: a\n")];
    assert_eq!(problems(&other, Some(LOCK)), [""; 0], "not a package repository");
    let none = [("config/a.yml", PACKAGE)];
    assert_eq!(problems(&none, None), [""; 0], "without a `packages` folder a plain image is not looked at");
}

#[test]
fn each_mistake_of_a_package_repository_is_reported_with_its_file() {
    let not_locked = problems(&[("packages/a.yml", PACKAGE), ("packages/b.yml", METADATA)], Some(LOCK));
    assert_eq!(not_locked.len(), 1, "{not_locked:?}");
    assert!(
        not_locked[0].contains("`packages/a.yml` line 2: ") && not_locked[0].contains("kbld.carvel.dev/id")
    );
    let alone = problems(&[("packages/a.yml", PACKAGE)], None);
    assert!(alone[0].contains("no `PackageMetadata` is named `app.team.example`"), "{alone:?}");
    assert!(alone[1].starts_with("`.imgpkg/images.yml`: is missing"), "{alone:?}");
    let cases: [(&str, &str, &str); 7] = [
        (
            "packages/c.yml",
            METADATA,
            "`packages/c.yml` line 2: `PackageMetadata` `app.team.example` is in `packages/b.yml` too",
        ),
        (
            "config/c.yml",
            PACKAGE,
            "`config/c.yml` line 2: `Package` `app.team.example.1.0.0` is outside `packages/`",
        ),
        ("packages/c.json", METADATA, "`packages/c.json`: is not read by kapp-controller"),
        ("packages/c.yml", "a: [", "`packages/c.yml`: cannot be read as YAML: "),
        (
            "packages/c.yml",
            "kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: a\n",
            "`packages/c.yml` line 1: `ConfigMap` of `v1` is dropped",
        ),
        ("packages/c.yml", "\u{feff}\u{0}", "`packages/c.yml`: cannot be read as YAML: "),
        ("config/c.yml", "a: [", ""),
    ];
    for (path, content, expected) in cases {
        let found = problems(&[("packages/b.yml", METADATA), (path, content)], Some(LOCK));
        match expected {
            "" => assert_eq!(found, [""; 0], "{path}: files outside are not read"),
            _ => assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:?}"),
        }
    }
    let ytt = "#@ load(\"@ytt:data\", \"data\")\na: [";
    assert_eq!(problems(&[("packages/b.yml", METADATA), ("packages/c.yml", ytt)], Some(LOCK)), [""; 0]);
}

#[test]
fn files_that_are_not_read_are_reported_too() {
    let scratch = Scratch::new("packages-links");
    scratch.write("r/packages/b.yml", METADATA);
    symlink("b.yml", scratch.join("r/packages/c.yml")).unwrap();
    symlink("b.yml", scratch.join("r/packages/c.txt")).unwrap();
    scratch.write("r/packages/d.yml", [0xff, 0xfe, b'a']);
    scratch.write(
        "r/packages/e.yml",
        vec![b'#'; usize::try_from(crate::model::limits::LOCK_BYTES).unwrap() + 1],
    );
    let images = ImagesLock::parse(LOCK).unwrap();
    let roots = [scratch.join("r")];
    let found = package_problems(&roots, &Filter::default(), SymlinkPolicy::Keep, Some(&images));
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0], "`packages/c.yml`: is a symbolic link, which kapp-controller does not unpack");
    assert_eq!(found[1], "`packages/d.yml`: cannot be read as YAML: it is not UTF-8 text");
    assert!(found[2].starts_with("`packages/e.yml`: has more than "), "{found:?}");
    let gone = [scratch.join("r"), scratch.join("gone")];
    assert!(
        package_problems(&gone, &Filter::default(), SymlinkPolicy::Keep, Some(&images)).is_empty(),
        "the packing reports what cannot be read"
    );
}

#[test]
fn only_files_that_kapp_controller_could_take_for_packages_are_checked() {
    let other = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";
    for (path, content) in [
        ("packages/readme.txt", METADATA),
        ("packages/other.json", "{}"),
        ("config/readme.md", METADATA),
        ("config/metadata.json", METADATA),
        ("config/package-resources.yml", METADATA),
        ("config/other.yml", other),
    ] {
        let found = problems(&[("packages/b.yml", METADATA), (path, content)], Some(LOCK));
        assert_eq!(found, [""; 0], "{path}");
    }
    let inside =
        problems(&[("packages/b.yml", METADATA), ("packages/package-build.yml", METADATA)], Some(LOCK));
    assert_eq!(
        inside,
        [
            "`packages/package-build.yml` line 2: `PackageMetadata` `app.team.example` is in `packages/b.yml` too"
        ],
        "the name is kctrl's only outside"
    );
    let mentioned = [("config/a.yml", "# packaging.carvel.dev\na: 1\n"), ("packages/b.yml", other)];
    assert_eq!(problems(&mentioned, Some(LOCK)), [""; 0], "a mark outside makes no package repository");
}

#[test]
fn files_outside_are_passed_over_when_they_are_links_or_large() {
    let scratch = Scratch::new("packages-outside");
    scratch.write("r/packages/b.yml", METADATA);
    std::fs::create_dir(scratch.join("r/config")).unwrap();
    symlink("../packages/b.yml", scratch.join("r/config/link.yml")).unwrap();
    let most = usize::try_from(crate::model::limits::LOCK_BYTES).unwrap();
    scratch.write("r/config/large.yml", vec![b'#'; most + 1]);
    let mut longest = format!("{METADATA}#").replace("app.team", "b.team").into_bytes();
    longest.resize(most, b'#');
    scratch.write("r/packages/longest.yml", longest);
    let images = ImagesLock::parse(LOCK).unwrap();
    let roots = [scratch.join("r")];
    let found = package_problems(&roots, &Filter::default(), SymlinkPolicy::Keep, Some(&images));
    assert!(found.is_empty(), "{found:?}");
}
