//! A release: the same bytes each time, and images that CI systems can start.

pub(crate) mod dockerfile;
pub(crate) mod static_program;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::readers::{Podman, skopeo_digest};
use testkit::scratch::Scratch;
use testkit::tools::{run, tool};

use crate::release::static_program::static_program;

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Makes a release of the executable for containers, built with a quicker profile than the released one.
fn release(scratch: &Scratch, name: &str) -> PathBuf {
    let program = scratch.join("imgrelay");
    let _ = run(tool("strip").arg("-o").arg(&program).arg(static_program())).success();
    let out = scratch.join(name);
    let mut command = tool("bash");
    command.arg(package().join("ci/release")).arg(&out);
    let _ = run(command.env("PROGRAM", &program)).success();
    out
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect()
}

#[test]
fn a_release_is_complete_and_has_the_same_bytes_again() {
    let scratch = Scratch::new("release");
    let (first, second) = (release(&scratch, "first"), release(&scratch, "second"));
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let start = concat!("imgrelay-", env!("CARGO_PKG_VERSION"), "-");
    let expected = [
        format!("{start}linux-{arch}"),
        format!("{start}linux-{arch}.cdx.json"),
        format!("{start}image-{arch}.tar"),
        format!("{start}shell-image-{arch}.tar"),
        format!("{start}rootfs-{arch}.tgz"),
        format!("{start}share.tgz"),
        "DIGESTS".into(),
        "SHA256SUMS".into(),
        "resource_metadata.json".into(),
    ];
    assert_eq!(names(&first), names(&second));
    assert!(names(&first).is_superset(&expected.into()), "{:?}", names(&first));
    for name in names(&first) {
        let same = std::fs::read(first.join(&name)).unwrap() == std::fs::read(second.join(&name)).unwrap();
        assert!(same, "`{name}` has other bytes the second time");
    }
    let mut command = tool("sha256sum");
    let checked = run(command.args(["--check", "--strict", "SHA256SUMS"]).current_dir(&first)).success();
    assert_eq!(checked.stdout.lines().count(), names(&first).len() - 1, "{}", checked.stdout);
    for line in std::fs::read_to_string(first.join("DIGESTS")).unwrap().lines() {
        let (digest, name) = line.split_once("  ").unwrap();
        assert_eq!(skopeo_digest(&format!("oci-archive:{}", first.join(name).display()), &[]), digest);
    }
    bill_of_materials(&first.join(format!("{start}linux-{arch}.cdx.json")));
    manual(&first.join(format!("{start}share.tgz")));
    images(&first, &format!("{start}image-{arch}.tar"), &format!("{start}shell-image-{arch}.tar"));
}

#[test]
fn a_release_for_two_architectures_has_one_image_for_both() {
    let scratch = Scratch::new("release-both");
    let program = scratch.join("imgrelay");
    let _ = run(tool("strip").arg("-o").arg(&program).arg(static_program())).success();
    let out = scratch.join("out");
    // The same executable replaces that of the other architecture, which cannot be built everywhere.
    let mut command = tool("bash");
    command.arg(package().join("ci/release")).arg(&out);
    let ran = run(command.env("PROGRAM", &program).env("OTHER_PROGRAM", &program)).success();
    assert!(ran.stderr.contains("shell-image is for linux/"), "{}", ran.stderr);
    let both = concat!("imgrelay-", env!("CARGO_PKG_VERSION"), "-image.tar");
    let described =
        run(std::process::Command::new(&program).args(["describe", "--json", "--tar"]).arg(out.join(both)))
            .success();
    let described: Value = serde_json::from_str(&described.stdout).unwrap();
    let image = &described["images"][0];
    let platforms: Vec<&Value> =
        image["platforms"].as_array().unwrap().iter().map(|row| &row["platform"]).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    let digests = std::fs::read_to_string(out.join("DIGESTS")).unwrap();
    let line = format!("{}  {both}\n", image["digest"].as_str().unwrap());
    assert!(digests.contains(&line), "{digests}");
    assert_eq!(
        skopeo_digest(&format!("oci-archive:{}", out.join(both).display()), &[]),
        image["digest"].as_str().unwrap()
    );
}

/// Checks an SBOM against `Cargo.lock`.
fn bill_of_materials(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(
        !text.contains(env!("CARGO_MANIFEST_DIR")) && !text.contains("/.cargo/"),
        "paths of this machine"
    );
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&document["bomFormat"], &document["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let lock = std::fs::read_to_string(package().join("Cargo.lock")).unwrap();
    let components = document["components"].as_array().unwrap();
    let mut known = BTreeSet::new();
    for component in components {
        let (name, version) = (component["name"].as_str().unwrap(), component["version"].as_str().unwrap());
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n")), "{name} {version}");
        let checksum = component["hashes"][0]["content"].as_str().unwrap();
        assert!(lock.contains(&format!("checksum = \"{checksum}\"")), "{name}");
        assert!(!component["licenses"][0]["expression"].as_str().unwrap().is_empty(), "{name}");
        assert_eq!(component["purl"], format!("pkg:cargo/{name}@{version}"));
        assert!(known.insert(component["bom-ref"].as_str().unwrap().to_owned()), "{name} is there twice");
    }
    known.insert(document["metadata"]["component"]["bom-ref"].as_str().unwrap().to_owned());
    for dependency in document["dependencies"].as_array().unwrap() {
        for used in dependency["dependsOn"].as_array().unwrap().iter().chain([&dependency["ref"]]) {
            assert!(known.contains(used.as_str().unwrap()), "{used} is no component");
        }
    }
    let scope = |name: &str| {
        let found = components.iter().find(|component| component["name"] == name);
        found.map(|component| component["scope"].as_str().unwrap().to_owned())
    };
    assert_eq!(scope("ring").as_deref(), Some("required"));
    assert_eq!(scope("serde_derive").as_deref(), Some("excluded"));
    assert_eq!((scope("proptest"), scope("testkit")), (None, None));
}

/// Checks that every command has a manual page that `man` can show, and every shell a completion script.
fn manual(path: &Path) {
    let scratch = Scratch::new("manual");
    let _ = run(tool("tar").arg("-xzf").arg(path).arg("-C").arg(scratch.path())).success();
    let share = scratch.join("share");
    let commands = imgrelay::front::program::help_command();
    let visible = commands.get_subcommands().filter(|command| !command.is_hide_set());
    let mut expected: BTreeSet<String> =
        visible.map(|command| format!("imgrelay-{}.1", command.get_name())).collect();
    expected.insert("imgrelay.1".into());
    expected.extend(["list", "resolve", "add", "delete"].map(|verb| format!("imgrelay-tag-{verb}.1")));
    expected.insert("imgrelay-store-list.1".into());
    expected.insert("imgrelay-store-gc.1".into());
    assert_eq!(names(&share.join("man/man1")), expected);
    assert_eq!(names(&share.join("imgrelay/schemas")), names(&package().join("docs/schemas")));
    let page = std::fs::read_to_string(share.join("man/man1/imgrelay-push.1")).unwrap();
    for text in [".TH imgrelay-push 1", ".SH SYNOPSIS", "\\-\\-to\\-oci\\-tar", "Examples:"] {
        assert!(page.contains(text), "no `{text}` in {page}");
    }
    assert!(!page.contains("BOOL"), "switches are shown without values");
    for (shell, file) in [
        ("bash", "bash-completion/completions/imgrelay"),
        ("zsh", "zsh/site-functions/_imgrelay"),
        ("fish", "fish/vendor_completions.d/imgrelay.fish"),
    ] {
        let script = std::fs::read_to_string(share.join(file)).unwrap();
        assert!(script.contains("to-oci-tar"), "{shell}: {script}");
    }
    let script = share.join("bash-completion/completions/imgrelay");
    let _ = run(tool("bash").arg("-n").arg(script)).success();
}

/// Starts both images as CI systems do, with a shell and without one.
fn images(folder: &Path, plain: &str, shell: &str) {
    let podman = Podman::new();
    let load = |name: &str| {
        let names = podman.load(&folder.join(name));
        assert_eq!(names.len(), 1, "{names:?}");
        names[0].clone()
    };
    let start = |image: &str, entrypoint: &str, words: &[&str]| {
        let mut command = podman.command();
        command.args(["run", "--rm", "--pull=never", "--network", "none", "--entrypoint", entrypoint]);
        run(command.arg(image).args(words))
    };
    let (plain, shell) = (load(plain), load(shell));
    assert!(plain.ends_with(concat!("/imgrelay:", env!("CARGO_PKG_VERSION"))), "{plain}");
    assert!(shell.ends_with(concat!("/imgrelay:", env!("CARGO_PKG_VERSION"), "-shell")), "{shell}");
    let version = concat!("imgrelay version ", env!("CARGO_PKG_VERSION"), "\n");
    for image in [&plain, &shell] {
        assert_eq!(start(image, "/usr/local/bin/imgrelay", &["version"]).success().stdout, version);
        // GitHub's runner and Concourse need root, and Tekton's steps set their user.
        let mut inspect = podman.command();
        inspect.args(["image", "inspect", "--format", "[{{.Config.User}}]", image]);
        assert_eq!(run(&mut inspect).success().stdout, "[]\n");
    }
    assert_ne!(start(&plain, "", &["sh", "-c", "true"]).code, Some(0));
    // GitLab's shell detection and script, and what a GitHub runner in Kubernetes mode keeps a container alive with.
    let script = "set -eu; imgrelay version; env | grep -q ^PATH=; echo x | tail -n 1; test -w /tmp; /usr/bin/env true";
    let ran = start(&shell, "", &["sh", "-c", script]).success();
    assert_eq!(ran.stdout, format!("{version}x\n"));
}
