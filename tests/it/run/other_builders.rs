//! Other programs read an image that runs: umoci, skopeo, podman and buildah.

use serde_json::{Value, json};
use testkit::readers::gnu_untar;
use testkit::tools::{run, tool};

use super::{Made, base, base_config, base_layer, make, name_base};
use crate::lab::{Lab, lab};
use crate::layouts::{CONFIG, LAYER_GZIP, Layout, MANIFEST, gzip};

const WORDS: [&str; 24] = [
    "-i",
    "r.example/app:v1",
    "--base-tar",
    "base.tar",
    "-f",
    "srv:/bin/srv",
    "-f",
    "web:/srv/web",
    "--owner",
    "33:34",
    "--entrypoint",
    r#"["/bin/srv"]"#,
    "--cmd",
    "-v",
    "--env",
    "PORT=8080",
    "--user",
    "33:34",
    "--workdir",
    "/srv",
    "--port",
    "8080",
    "--volume",
    "/data",
];

fn room() -> Lab {
    let lab = lab().tree(&["f srv 755 'program'", "f web/css/a.css 'a'", "f web/index.html 'i'"]);
    let _ = base(&lab);
    lab
}

#[test]
fn umoci_unpacks_it_and_writes_the_runtime_configuration() {
    let lab = room();
    let _ = make(&lab, &WORDS);
    let layout = lab.path("layout");
    gnu_untar(&lab.path("made.tar"), &layout);
    let image = format!("{}:v1", layout.display());
    let bundle = lab.path("bundle");
    let _ = run(tool("umoci").args(["unpack", "--image", &image]).arg(&bundle)).success();
    let config: Value = serde_json::from_slice(&std::fs::read(bundle.join("config.json")).unwrap()).unwrap();
    let process = &config["process"];
    assert_eq!(process["args"], json!(["/bin/srv", "-v"]));
    assert_eq!(process["cwd"], "/srv");
    let user = ["uid", "gid"].map(|name| process["user"][name].as_u64().unwrap());
    assert_eq!(user, [33, 34]);
    let env = process["env"].as_array().unwrap();
    for expected in ["PATH=/usr/bin", "LANG=C", "PORT=8080"] {
        assert!(env.iter().any(|item| item == expected), "{env:?}");
    }
    let rootfs = bundle.join("rootfs");
    assert_eq!(std::fs::read(rootfs.join("usr/bin/srv")).unwrap(), b"program");
    assert_eq!(std::fs::read_link(rootfs.join("bin")).unwrap().to_str(), Some("usr/bin"));
}

#[test]
fn skopeo_shows_its_configuration() {
    let lab = room();
    let made = make(&lab, &WORDS);
    let archive = format!("oci-archive:{}", lab.path("made.tar").display());
    let output = tool("skopeo").args(["inspect", "--config", &archive]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    for member in ["Entrypoint", "Cmd", "Env", "User", "WorkingDir", "ExposedPorts", "Volumes", "Labels"] {
        assert_eq!(shown["config"][member], made.config["config"][member], "{member}");
    }
    assert_eq!(
        shown["history"].as_array().unwrap().len(),
        5,
        "two of the base, two layers, one of the edits"
    );
}

const DOCKERFILE: &str = r#"FROM oci-archive:base.tar
COPY --chown=33:34 srv /bin/srv
COPY --chown=33:34 web /srv/web
ENV PORT=8080
USER 33:34
WORKDIR /srv
EXPOSE 8080/tcp
VOLUME /data
STOPSIGNAL SIGINT
LABEL k=v
ENTRYPOINT ["/bin/srv"]
CMD ["-v"]
"#;

/// Builds the same image with buildah, on the same base, as `theirs.tar`.
fn buildah(lab: &Lab) {
    // buildah would run the base's `OnBuild` instructions.
    let mut layout = Layout::default();
    let layer = base_layer();
    let config = base_config("amd64", &layer).replace(r#","OnBuild":["RUN x"]"#, "");
    let layers = [layout.blob(LAYER_GZIP, gzip(&layer))];
    let config = layout.blob(CONFIG, config);
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let image = layout.blob(MANIFEST, manifest.to_string());
    layout.entries.push(name_base(image));
    lab.write("base.tar", layout.tar());
    lab.write("Dockerfile", DOCKERFILE);
    let scratch = testkit::scratch::Scratch::new("buildah");
    let command = || {
        let mut command = tool("buildah");
        command.arg("--root").arg(scratch.join("root")).arg("--runroot").arg(scratch.join("run"));
        command.args(["--storage-driver", "vfs"]).current_dir(lab.work()).env("TMPDIR", scratch.path());
        command
    };
    let build =
        ["build", "--isolation", "chroot", "--layers", "--timestamp", "0", "--format", "oci", "-t", "x", "."];
    let _ = run(command().args(build)).success();
    let _ = run(command().args(["push", "x", "oci-archive:theirs.tar:v1"])).success();
}

/// The differences from buildah: its own label; members of the base that it does not know, which it drops; its digest
/// of the base, which is that of the base in its storage; the owner of folders above a target path; and the history,
/// which has a step for each instruction in buildah.
#[test]
fn buildah_makes_the_same_image_of_the_same_files() {
    let lab = room();
    buildah(&lab);
    let theirs = Made::read(&lab, "theirs.tar");
    let more = ["--stop-signal", "SIGINT", "-l", "k=v", "--created", "epoch:0"];
    let ours = make(&lab, &[&WORDS[..], &more].concat());
    for member in ["architecture", "os", "created"] {
        assert_eq!(ours.config[member], theirs.config[member], "{member}");
    }
    for member in ["User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "StopSignal"]
    {
        assert_eq!(ours.config["config"][member], theirs.config["config"][member], "{member}");
    }
    let mut labels = theirs.config["config"]["Labels"].clone();
    labels.as_object_mut().unwrap().remove("io.buildah.version");
    assert_eq!(ours.config["config"]["Labels"], labels);
    // Members of the base that buildah does not know are in imgrelay's image only.
    assert_eq!((&theirs.config["number"], &ours.config["number"]), (&Value::Null, &json!(1500.0)));
    assert_eq!(ours.config["rootfs"]["diff_ids"][0], theirs.config["rootfs"]["diff_ids"][0]);
    // File by file, as umoci unpacks both.
    let unpack = |tar: &str, into: &str| {
        let layout = lab.path(format!("{into}-layout"));
        gnu_untar(&lab.path(tar), &layout);
        let image = format!("{}:v1", layout.display());
        let bundle = lab.path(into);
        let _ = run(tool("umoci").args(["unpack", "--image", &image]).arg(&bundle)).success();
        let mut find = tool("find");
        find.current_dir(bundle.join("rootfs")).args([".", "-printf", "%M %U:%G %p %l\n"]);
        let mut lines: Vec<String> = run(&mut find).success().stdout.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (ours, theirs) = (unpack("made.tar", "ours"), unpack("theirs.tar", "their"));
    let only = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter().filter(|line| !b.contains(line)).cloned().collect()
    };
    // In buildah folders above a target path have the owner of the files too.
    assert_eq!(only(&ours, &theirs), ["drwxr-xr-x 0:0 ./srv "]);
    assert_eq!(only(&theirs, &ours), ["drwxr-xr-x 33:34 ./srv "]);
}

#[test]
fn a_container_runs_as_the_configuration_says() {
    let lab = lab().tree(&["d rootfs", "d rootfs/usr", "d rootfs/usr/bin", "d rootfs/etc"]);
    std::fs::copy(testkit::tools::find("busybox").unwrap(), lab.path("rootfs/usr/bin/busybox")).unwrap();
    for (link, target) in [("bin", "usr/bin"), ("usr/bin/sh", "busybox"), ("usr/bin/id", "busybox")] {
        std::os::unix::fs::symlink(target, lab.path(format!("rootfs/{link}"))).unwrap();
    }
    lab.write("rootfs/etc/passwd", "web:x:33:34::/:\n");
    let words = ["push", "-i", "r.example/base:v1", "-f", "rootfs", "--symlinks", "verbatim", "--cmd", "x"];
    let _ = lab.run(&[&words[..], &["--to-oci-tar", "base.tar"]].concat()).succeeds();
    lab.write("run", "#!/bin/sh\necho $(id -u):$(id -g) $PWD $PORT $1\n");
    std::fs::set_permissions(lab.path("run"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let words = ["-i", "r.example/app:v1", "--base-tar", "base.tar", "-f", "run:/bin/run", "--user", "web"];
    let more = ["--workdir", "/srv", "--env", "PORT=8080", "--entrypoint", "/bin/run", "--cmd", "argument"];
    let _ = make(&lab, &[&words[..], &more].concat());
    let podman = testkit::readers::Podman::new();
    let _ = podman.load(&lab.path("made.tar"));
    let mut command = podman.command();
    command.args(["run", "--rm", "--pull=never", "--network", "none", "r.example/app:v1"]);
    assert_eq!(run(&mut command).success().stdout, "33:34 /srv 8080 argument\n");
}

#[test]
fn podman_starts_from_its_configuration() {
    let lab = room();
    let _ = make(&lab, &WORDS);
    let podman = testkit::readers::Podman::new();
    let _ = podman.load(&lab.path("made.tar"));
    let mut inspect = podman.command();
    inspect.args(["image", "inspect", "--format", "{{json .Config}}", "r.example/app:v1"]);
    let config: Value = serde_json::from_str(&run(&mut inspect).success().stdout).unwrap();
    assert_eq!(config["Entrypoint"], json!(["/bin/srv"]));
    assert_eq!((&config["User"], &config["WorkingDir"]), (&"33:34".into(), &"/srv".into()));
}
