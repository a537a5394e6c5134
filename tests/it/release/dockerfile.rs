//! A real engine builds the Dockerfile, and the image is like that of `ci/build-image`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testkit::scratch::Scratch;
use testkit::tools::{run, tool};
use testkit::tree;

use crate::concourse::container::image;
use crate::release::static_program::static_program;

/// Copies the files that the Dockerfile may copy, and one that it must not.
fn context(scratch: &Scratch) -> std::path::PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let context = scratch.join("context");
    fs::create_dir_all(context.join("target/some/release/deps")).unwrap();
    fs::create_dir_all(context.join("ci")).unwrap();
    for file in ["Dockerfile", ".dockerignore"] {
        let _ = fs::copy(package.join(file), context.join(file)).unwrap();
    }
    let mut copy = tool("cp");
    let _ = run(copy.arg("-R").arg(package.join("ci/image")).arg(context.join("ci"))).success();
    let _ = fs::copy(static_program(), context.join("target/some/release/imgrelay")).unwrap();
    fs::write(context.join("target/some/release/deps/large"), "not for the engine").unwrap();
    context
}

fn unpacked(scratch: &Scratch, layout: &str, name: &str) -> std::path::PathBuf {
    let to = scratch.join(name);
    let _ = run(tool("umoci").args(["unpack", "--image", layout]).arg(&to)).success();
    to.join("rootfs")
}

fn labels(image: &str) -> Value {
    let read = run(tool("skopeo").args(["inspect", "--config", image])).success();
    serde_json::from_str::<Value>(&read.stdout).unwrap()["config"]["Labels"].clone()
}

#[test]
fn the_dockerfile_gives_the_image_that_is_built_without_an_engine() {
    let scratch = Scratch::new("dockerfile");
    let context = context(&scratch);
    let buildah = || -> Command {
        let mut command = tool("buildah");
        command.arg("--root").arg(scratch.join("root")).arg("--runroot").arg(scratch.join("run"));
        command.args(["--storage-driver", "vfs"]).current_dir(&context);
        command
    };
    let policy = scratch.write("policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
    let mut build = buildah();
    build.args(["bud", "--isolation", "chroot", "--tag", "localhost/imgrelay:1"]);
    build.arg("--signature-policy").arg(&policy);
    build.args(["--build-arg", "PROGRAM=target/some/release/imgrelay"]);
    build.args(["--build-arg", concat!("VERSION=", env!("CARGO_PKG_VERSION")), "."]);
    let _ = run(&mut build).success();
    let layout = format!("{}:1", scratch.join("layout").display());
    let mut push = buildah();
    push.arg("push").arg("--signature-policy").arg(&policy);
    let _ = run(push.args(["localhost/imgrelay:1", &format!("oci:{layout}")])).success();

    let ours = scratch.join("ours");
    testkit::readers::gnu_untar(image(), &ours);
    let ours = format!("{}:1", ours.display());
    let (built, made) = (unpacked(&scratch, &layout, "a"), unpacked(&scratch, &ours, "b"));
    assert_eq!(tree::list(&built), tree::list(&made));
    assert!(tree::list(&made).contains("d tmp 1777"), "{}", tree::list(&made));
    let labels_of = |layout: &str| {
        let mut labels = labels(&format!("oci:{layout}"));
        // buildah's own.
        let _ = labels.as_object_mut().unwrap().remove("io.buildah.version");
        labels
    };
    assert_eq!(labels_of(&layout), labels_of(&ours));
}
