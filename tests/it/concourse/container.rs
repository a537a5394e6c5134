//! The image of `ci/build-image`, run as a Concourse worker runs it, with registries with TLS and logins.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use testkit::concourse::{Ended, Step};
use testkit::registry::{PASSWORD, Registry, TokenOptions, USER};
use testkit::scratch::Scratch;
use testkit::tarball::{Header, Tarball};
use testkit::tools;

use crate::concourse::room;
use crate::release::static_program::static_program;

const GET: &str = "/tmp/build/get";
const PUT: &str = "/tmp/build/put";

/// Builds the image once, with the executable for containers.
pub(crate) fn image() -> &'static Path {
    static IMAGE: OnceLock<(Scratch, PathBuf)> = OnceLock::new();
    let (_, path) = IMAGE.get_or_init(|| {
        let scratch = Scratch::new("image");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/ci/build-image");
        let mut command = Command::new(script);
        command.arg(static_program()).arg(scratch.path()).arg("registry.test/imgrelay:1");
        let _ = tools::run(&mut command).success();
        let path = scratch.join("image.tar");
        (scratch, path)
    });
    path
}

/// A folder with a file of certificates, as an operator configures it for a worker.
fn certificates(registry: &Registry) -> Scratch {
    let folder = Scratch::new("certs");
    folder.write("ca-certificates.crt", std::fs::read(registry.ca_path()).unwrap());
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn put_get_and_check_work_in_an_unprivileged_container_with_the_workers_certificates() {
    let registry = Registry::with().tls().tokens(TokenOptions::default()).start();
    let certs = certificates(&registry);
    let (lab, digest) = room();
    let repository = format!("{}/team/app", registry.host());
    let source = json!({"repository": repository, "tag": "v1", "username": USER, "password": PASSWORD});
    let step = |name: &str| {
        // The worker's proxies, in lower case only; the registry is on this machine and needs none.
        let step = Step::new(image(), name).certificates(certs.path());
        step.env("https_proxy", "http://127.0.0.1:1").env("no_proxy", "127.0.0.1")
    };
    // Shown by `--nocapture`.
    let shown = |name: &str, request: &Value, ended: Ended| {
        let without = request.to_string().replace(PASSWORD, "((password))");
        eprintln!("$ /opt/resource/{name} <<< '{without}'\n{}{}", ended.stderr, ended.stdout);
        assert!(!ended.stderr.contains(PASSWORD) && !ended.stdout.contains(PASSWORD));
        ended.json()
    };
    let request = json!({"source": source, "params": {"image": "image/image.tar"}});
    let put = shown("out", &request, step("out").volume(&lab.path("put"), PUT).run(&request));
    let version = json!({"tag": "v1", "digest": digest});
    assert_eq!(put["version"], version);
    let request = json!({"source": source});
    let check = shown("check", &request, step("check").run(&request));
    assert_eq!(check, json!([version]));
    let got = Scratch::new("get");
    let request = json!({"source": source, "version": version});
    let answer = shown("in", &request, step("in").volume(got.path(), GET).run(&request));
    assert_eq!(answer["version"], version);
    assert_eq!(std::fs::read(got.join("digest")).unwrap(), digest.as_bytes());
    assert_eq!(std::fs::read(got.join("rootfs/etc/app.conf")).unwrap(), b"a=1");
    let refused = step("check").run(&json!({"source": {"repository": repository, "tag": "v1"}}));
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("hint: set `source.username` and `source.password`"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_root_file_system_keeps_its_owners_and_modes_inside_the_user_namespace() {
    let registry = Registry::start();
    let layer = Tarball::new();
    let mut owned = Header::new("srv/data", b'0', 2).mode(0o4750);
    (owned.uid, owned.gid) = (1234, 4321);
    let layer =
        layer.dir("srv").entry(&owned, b"hi").hardlink("srv/again", "srv/data").symlink("now", "/srv/data");
    let layer = layer.finish();
    let digest = push_layers(&registry, &[&layer]);
    let source = json!({"repository": format!("{}/owned/app", registry.host()), "tag": "v1"});
    let got = Scratch::new("get");
    let request = json!({"source": source, "version": {"tag": "v1", "digest": digest}});
    let _ = Step::new(image(), "in").volume(got.path(), GET).run(&request).json();
    let metadata = std::fs::metadata(got.join("rootfs/srv/data")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1234, 4321, 0o4750));
    assert_eq!(metadata.ino(), std::fs::metadata(got.join("rootfs/srv/again")).unwrap().ino());
    assert_eq!(std::fs::read_link(got.join("rootfs/now")).unwrap(), Path::new("/srv/data"));
    let text = std::fs::read_to_string(got.join("metadata.json")).unwrap();
    let expected = json!({"cmd": ["run"], "entrypoint": ["/bin/app"], "env": ["A=b"], "user": "1234"});
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
}

/// A file capability as the kernel keeps it: revision 2, effective, permitted is `net_bind_service`.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Two layers: a small system, and a build on it that removes, hides and adds files.
fn system() -> [Vec<u8>; 2] {
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let mut owned = Header::new("srv/data", b'0', 2).mode(0o4750);
    (owned.uid, owned.gid) = (1234, 4321);
    let mut capable = Header::new("srv/capable", b'0', 1).mode(0o755);
    (capable.uid, capable.gid) = (1234, 1234);
    let program = Header::new("bin/busybox", b'0', busybox.len() as u64).mode(0o755);
    let lower = Tarball::new().dir("bin").entry(&program, &busybox).symlink("bin/sh", "busybox");
    let lower = lower.dir("etc").file("etc/keep", "k").file("etc/gone", "g").dir("opt").dir("opt/old");
    let lower = lower.file("opt/old/a", "a").dir("opt/old/deep").file("opt/old/deep/b", "b").dir("srv");
    let lower = lower.entry(&owned, b"hi").hardlink("srv/again", "srv/data").symlink("now", "/srv/data");
    let attributes: &[(&str, &[u8])] =
        &[("SCHILY.xattr.user.note", b"blue"), ("SCHILY.xattr.security.capability", CAPABILITY)];
    let lower = lower.pax(attributes).entry(&capable, b"x");
    let upper = Tarball::new().file("etc/.wh.gone", "").file("opt/old/.wh..wh..opq", "");
    let upper = upper.file("opt/old/new", "n").file("etc/.wh.never-there", "");
    [lower.finish(), upper.finish()]
}

#[test]
fn a_fetched_root_file_system_runs_with_root_inside() {
    let registry = Registry::start();
    let [lower, upper] = system();
    let digest = push_layers(&registry, &[&lower, &upper]);
    let source = json!({"repository": format!("{}/owned/app", registry.host()), "tag": "v1"});
    let got = Scratch::new("get");
    let request = json!({"source": source, "version": {"tag": "v1", "digest": digest}});
    let _ = Step::new(image(), "in").volume(got.path(), GET).run(&request).json();
    let capable = got.join("rootfs/srv/capable");
    let mut python = tools::tool("python3");
    let code = "import os,sys; p=sys.argv[1]; print(os.getxattr(p,'user.note').decode(), os.getxattr(p,'security.capability')[4:8].hex())";
    let attributes = tools::run(python.args(["-c", code]).arg(&capable)).success();
    // A file capability that a user namespace's root sets is valid in that namespace only; the permitted set stays.
    assert_eq!(attributes.stdout, "blue 00040000\n");
    let script = "busybox id -u; busybox stat -c '%u:%g %a %h' /srv/data; busybox cat /now /etc/keep; echo; \
                  busybox find /opt /etc -type f | busybox sort; test /srv/data -ef /srv/again && echo same";
    let ran = Step::in_rootfs(&got.join("rootfs"), &["/bin/sh", "-c", script]).run(&Value::Null);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let mounted = ["/etc/hosts", "/etc/resolv.conf"];
    let lines: Vec<&str> = ran.stdout.lines().filter(|line| !mounted.contains(line)).collect();
    assert_eq!(lines, ["0", "1234:4321 4750 2", "hik", "/etc/keep", "/opt/old/new", "same"]);
}

/// Pushes an image without the client under test, and returns its digest.
fn push_layers(registry: &Registry, layers: &[&[u8]]) -> String {
    let diff_ids: Vec<String> = layers.iter().map(|layer| registry.put_blob("owned/app", layer)).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["A=b"], "User": "1234", "Entrypoint": ["/bin/app"], "Cmd": ["run"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string();
    let config_digest = registry.put_blob("owned/app", config.as_bytes());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let layer_kind = "application/vnd.oci.image.layer.v1.tar";
    let descriptor = |(layer, digest): (&&[u8], &String)| json!({"mediaType": layer_kind, "digest": digest, "size": layer.len()});
    let descriptors: Vec<Value> = layers.iter().zip(&diff_ids).map(descriptor).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kind,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
        "layers": descriptors,
    })
    .to_string();
    registry.put_manifest("owned/app", "v1", kind, manifest.as_bytes())
}

#[test]
fn an_aborted_step_ends_at_once_and_leaves_nothing() {
    // A registry that accepts the connection and never responds.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = silent.local_addr().unwrap();
    let got = Scratch::new("get");
    let digest = format!("sha256:{}", "0".repeat(64));
    let source = json!({"repository": format!("{host}/team/app"), "tag": "v1"});
    let running = Step::new(image(), "in")
        .volume(got.path(), GET)
        .start(&json!({"source": source, "version": {"tag": "v1", "digest": digest}}));
    let connection = silent.accept().unwrap();
    let from = std::time::Instant::now();
    running.terminate();
    let ended = running.wait();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(143), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("stopped by SIGTERM"), "{}", ended.stderr);
    assert!(from.elapsed() < std::time::Duration::from_secs(9), "Concourse kills after ten seconds");
    assert_eq!(std::fs::read_dir(got.path()).unwrap().count(), 0);
    drop(connection);
}
