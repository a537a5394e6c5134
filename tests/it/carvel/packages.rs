//! Package repositories: mistakes are reported, and the example arrives as kapp-controller expects it.

use std::path::Path;

use testkit::oracle::validate_layout;
use testkit::registry::Registry;

use crate::carvel::{HEADER, digest};
use crate::lab::{Lab, lab};
use crate::samples::digest_in;

const GROUP: &str = "data.packaging.carvel.dev/v1alpha1";
const IMAGE: &str = "reg.example/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn package(name: &str, ref_name: &str, version: &str) -> String {
    format!(
        "apiVersion: {GROUP}\nkind: Package\nmetadata:\n  name: {name}\nspec:\n  refName: {ref_name}\n  \
         version: {version}\n  template:\n    spec:\n      fetch:\n      - imgpkgBundle:\n          image: {IMAGE}\n      \
         template:\n      - ytt: {{}}\n      deploy:\n      - kapp: {{}}\n"
    )
}

fn metadata(name: &str) -> String {
    format!("apiVersion: {GROUP}\nkind: PackageMetadata\nmetadata:\n  name: {name}\n")
}

/// Makes a package repository without mistakes in `repo`.
fn repository() -> Lab {
    let lab = lab();
    lab.write(
        "repo/.imgpkg/images.yml",
        format!("{HEADER}images:\n- image: {IMAGE}\n  annotations:\n    kbld.carvel.dev/id: {IMAGE}\n"),
    );
    lab.write("repo/packages/a.b.c/metadata.yml", metadata("a.b.c"));
    lab.write("repo/packages/a.b.c/1.0.0.yml", package("a.b.c.1.0.0", "a.b.c", "1.0.0"));
    lab
}

/// Packs `repo` and returns the warnings without their common beginning.
fn warnings(lab: &Lab) -> Vec<String> {
    let output = lab.run(&["push", "-f", "repo", "--to-oci-tar", "t.tar"]).succeeds();
    let lines = output.stderr.lines();
    let lines = lines.filter_map(|line| line.strip_prefix("imgrelay: warning: package repository: "));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_correct_package_repository_is_packed_without_warnings() {
    let lab = repository();
    assert_eq!(warnings(&lab), [""; 0]);
    // Templates that ytt has not filled in are not checked.
    lab.write("repo/packages/t.yml", format!("#@ v = 1\n---\napiVersion: {GROUP}\nkind: Package\n"));
    lab.write("repo/packages/README.md", "about");
    // Files that kctrl writes beside the sources do not belong to the repository.
    lab.write("repo/package-resources.yml", package("x", "y", "z"));
    assert_eq!(warnings(&lab), [""; 0]);

    let other = self::lab();
    other.write("repo/packages/web/config.yml", "a: [");
    other.write("repo/packages/web/package.json", "{}");
    other.write("repo/config/app.yml", "apiVersion: v1\nkind: Package\n");
    assert_eq!(warnings(&other), [""; 0]);
    other.write("repo/.imgpkg/images.yml", format!("{HEADER}images: []\n"));
    assert_eq!(warnings(&other), [""; 0]);
}

#[test]
fn package_checks_report_every_mistake_with_file_and_line() {
    let kinds = "which keeps `Package` and `PackageMetadata` of `data.packaging.carvel.dev/v1alpha1`";
    let cases: [(&str, String, String); 11] = [
        (
            "packages/secret.yml",
            "# no package\n---\napiVersion: v1\nkind: Secret\n".into(),
            format!("`packages/secret.yml` line 4: `Secret` of `v1` is dropped by kapp-controller, {kinds}"),
        ),
        (
            "packages/old.yaml",
            "apiVersion: install.package.carvel.dev/v1alpha1\nkind: Package\n".into(),
            format!(
                "`packages/old.yaml` line 2: `Package` of `install.package.carvel.dev/v1alpha1` is dropped by kapp-controller, {kinds}"
            ),
        ),
        (
            "packages/broken.yml",
            "kind: [\n".into(),
            "`packages/broken.yml`: cannot be read as YAML: line ".into(),
        ),
        (
            "packages/x.json",
            format!("{{\"apiVersion\": \"{GROUP}\"}}"),
            "`packages/x.json`: is not read by kapp-controller, which takes names that end in `.yml` or `.yaml`".into(),
        ),
        (
            "more/1.0.0.yml",
            package("m.b.c.1.0.0", "m.b.c", "1.0.0"),
            "`more/1.0.0.yml` line 2: `Package` `m.b.c.1.0.0` is outside `packages/`, the only folder that kapp-controller reads".into(),
        ),
        (
            "packages/name.yml",
            metadata("app"),
            "`packages/name.yml` line 2: `metadata.name` is `app`, expected a domain name in lower case of at least three parts, as `app.team.example`".into(),
        ),
        (
            "packages/version.yml",
            package("a.b.c.v2", "a.b.c", "v2"),
            "`packages/version.yml` line 2: `spec.version` is `v2`, expected a semantic version as `1.2.3`".into(),
        ),
        (
            "packages/named.yml",
            package("a.b.c-2.0.0", "a.b.c", "2.0.0"),
            "`packages/named.yml` line 2: `metadata.name` is `a.b.c-2.0.0`, expected `a.b.c.2.0.0` (`spec.refName`, a dot, `spec.version`)".into(),
        ),
        (
            "packages/z.yml",
            metadata("a.b.c"),
            "`packages/z.yml` line 2: `PackageMetadata` `a.b.c` is in `packages/a.b.c/metadata.yml` too".into(),
        ),
        (
            "packages/alone.yml",
            package("d.e.f.1.0.0", "d.e.f", "1.0.0"),
            "`packages/alone.yml` line 2: no `PackageMetadata` is named `d.e.f`, so `kctrl package available list` does not show it".into(),
        ),
        (
            "packages/image.yml",
            package("a.b.c.3.0.0", "a.b.c", "3.0.0").replace("reg.example", "elsewhere.example"),
            format!(
                "`packages/image.yml` line 2: `spec.template.spec.fetch[0].imgpkgBundle.image` is `{}`, but no image in \
                 `.imgpkg/images.yml` has it as its `kbld.carvel.dev/id`: a copied repository still names it where it was",
                IMAGE.replace("reg.example", "elsewhere.example")
            ),
        ),
    ];
    for (path, content, expected) in cases {
        let lab = repository();
        lab.write(&format!("repo/{path}"), content);
        let told = warnings(&lab);
        assert!(
            told.len() == 1 && told[0].starts_with(&expected),
            "{path}\n gave {told:#?}\n wanted {expected}"
        );
        let words = ["push", "-b", "-f", "repo", "--to-oci-tar", "no.tar", "--package-checks", "refuse"];
        let _ = lab.run(&words).fails(1, &["this package repository has a mistake: ", &expected]);
        assert!(!lab.path("no.tar").exists());
        let words = ["push", "-b", "-f", "repo", "--to-oci-tar", "t.tar", "--package-checks", "off"];
        let _ = lab.run(&words).succeeds().never_says("package repository");
        // Excluded files are not checked.
        let words = [&words[..6], &["--package-checks", "refuse", "--file-exclusion", path]].concat();
        let _ = lab.run(&words).succeeds();
    }
}

#[test]
fn links_and_a_missing_lock_file_are_reported_and_many_are_counted() {
    let lab = repository();
    std::os::unix::fs::symlink("a.b.c/metadata.yml", lab.path("repo/packages/link.yml")).unwrap();
    assert_eq!(
        warnings(&lab),
        ["`packages/link.yml`: is a symbolic link, which kapp-controller does not unpack"]
    );
    std::fs::remove_dir_all(lab.path("repo/.imgpkg")).unwrap();
    std::fs::remove_file(lab.path("repo/packages/link.yml")).unwrap();
    assert_eq!(
        warnings(&lab),
        [
            "`.imgpkg/images.yml`: is missing: kapp-controller fetches a package repository with `imgpkgBundle` only with it"
        ]
    );
    for number in 0..25 {
        lab.write(&format!("repo/packages/s{number:02}.yml"), "apiVersion: v1\nkind: Secret\n");
    }
    let told = warnings(&lab);
    assert_eq!(told.len(), 21);
    assert_eq!(told[20], "6 mistakes more; `--package-checks refuse` lists the first ten and their number");
    let words = ["push", "-i", "-f", "repo", "--to-oci-tar", "no.tar", "--package-checks", "refuse"];
    let _ = lab.run(&words).fails(1, &["this package repository has 26 mistakes: ", "; and 16 more"]);
    let words = ["push", "-i", "-f", "repo", "--to-oci-tar", "no.tar", "--package-checks", "loud"];
    let _ = lab.run(&words).fails(2, &["loud"]);
}

/// Copies the examples into the lab.
fn examples(lab: &Lab) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let status = std::process::Command::new("cp").arg("-R").arg(from).arg(lab.work()).status().unwrap();
    assert!(status.success());
}

#[test]
fn the_package_repository_example_goes_through_one_tar() {
    let (lab, mut build, target) = (lab(), Registry::start(), Registry::start());
    examples(&lab);
    let mirror = format!("registry.example.com={}", build.host());
    let named = |name: &str| format!("registry.example.com/team/{name}:1.0.0");
    let to_build = |name: &str, tar: &str| {
        let to = format!("{}/team/{name}", build.host());
        let _ = lab.run(&["copy", "--tar", tar, "--to-repo", &to]).succeeds();
    };
    // The image, then the package's contents, then the repository; each names the one before by its digest.
    let words = ["push", "-i", &named("hello"), "-f", "examples/basic-image", "--to-oci-tar", "hello.tar"];
    let hello = digest_in(lab.run(&words).succeeds().one_line()).to_owned();
    let lock = String::from_utf8(lab.read("examples/carvel/app/.imgpkg/images.yml")).unwrap();
    assert!(lock.contains(&hello), "examples/carvel/app/.imgpkg/images.yml has to name {hello}");
    to_build("hello", "hello.tar");
    let name = named("simple-app");
    let words = [
        &["push", "-b", &name, "-f", "examples/carvel/app", "--to-oci-tar", "app.tar"][..],
        &["--inflate", "--registry-mirror", &mirror],
    ];
    let app = digest_in(lab.run(&words.concat()).succeeds().one_line()).to_owned();
    let path = "examples/carvel/repository/packages/simple-app.team.example.com/1.0.0.yml";
    for file in [path, "examples/carvel/repository/.imgpkg/images.yml"] {
        let text = String::from_utf8(lab.read(file)).unwrap();
        assert!(text.contains(&app), "{file} has to name {app}");
    }
    to_build("simple-app", "app.tar");
    let name = named("packages");
    let words = [
        &["push", "-b", &name, "-f", "examples/carvel/repository", "--to-oci-tar", "all.tar"][..],
        &["--inflate", "--registry-mirror", &mirror, "--package-checks", "refuse"],
    ];
    let repository = digest_in(lab.run(&words.concat()).succeeds().one_line()).to_owned();
    validate_layout(lab.path("all.tar"));
    build.stop();

    // The other network: it has only the tar.
    let to = format!("{}/team/packages", target.host());
    let output = lab.run(&["copy", "--tar", "all.tar", "--to-repo", &to]).succeeds();
    assert_eq!(digest(output.one_line()), repository);
    target.storage().assert_sound();
    assert_eq!(target.storage().tags("team/packages")["1.0.0"], repository);

    // kapp-controller fetches `packages/` unchanged, and a lock file that names this registry.
    let _ = lab.run(&["pull", "-b", &format!("{to}:1.0.0"), "-o", "fetched"]).succeeds();
    let packages = "packages/simple-app.team.example.com";
    let mut names: Vec<_> =
        std::fs::read_dir(lab.path("fetched")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".imgpkg", "packages"]);
    for file in ["metadata.yml", "1.0.0.yml"] {
        let source = lab.read(&format!("examples/carvel/repository/{packages}/{file}"));
        assert!(lab.read(&format!("fetched/{packages}/{file}")) == source, "{file}");
    }
    let lock = String::from_utf8(lab.read("fetched/.imgpkg/images.yml")).unwrap();
    assert_eq!(
        lock,
        format!(
            "---\napiVersion: imgpkg.carvel.dev/v1alpha1\nimages:\n- annotations:\n    \
             kbld.carvel.dev/id: registry.example.com/team/simple-app@{app}\n  image: {to}@{app}\nkind: ImagesLock\n"
        )
    );
    // kbld replaces the id in a text by the lock's image; the package is then fetched from there.
    let package = String::from_utf8(lab.read(&format!("fetched/{packages}/1.0.0.yml"))).unwrap();
    let resolved =
        package.replace(&format!("registry.example.com/team/simple-app@{app}"), &format!("{to}@{app}"));
    assert!(resolved.contains(&format!("image: {to}@{app}\n")), "{resolved}");
    let _ = lab.run(&["pull", "-b", &format!("{to}@{app}"), "-o", "app"]).succeeds();
    assert!(lab.read("app/config/app.yml") == lab.read("examples/carvel/app/config/app.yml"));
    let lock = String::from_utf8(lab.read("app/.imgpkg/images.yml")).unwrap();
    assert!(
        lock.contains(&format!(
            "    kbld.carvel.dev/id: registry.example.com/team/hello\n  image: {to}@{hello}\n"
        )),
        "{lock}"
    );
    let _ = lab.run(&["pull", "-i", &format!("{to}@{hello}"), "-o", "hello"]).succeeds();
    assert!(lab.read("hello/bin/hello") == lab.read("examples/basic-image/bin/hello"));
}
