//! Other clients with the real executable: skopeo, podman, buildah; and the program itself.

use testkit::certificates::{Certificates, certificates};
use testkit::oracle::validate_layout;
use testkit::readers::{Podman, skopeo_copy, skopeo_digest};
use testkit::tools::{run, tool};

use super::{Served, two_images};
use crate::lab::lab;
use crate::samples::{self, NAME};

const PLAIN: [&str; 1] = ["--src-tls-verify=false"];

#[test]
fn skopeo_reads_what_is_served() {
    let (lab, digest) = samples::packed();
    let served = Served::start(&lab, &["--tar", "app.tar"]);
    let image = format!("docker://{}/team/app:v1", served.host());
    assert_eq!(skopeo_digest(&image, &["--tls-verify=false"]), digest);
    let into = format!("oci-archive:{}:v1", lab.path("copied.tar").display());
    let _ = skopeo_copy(&image, &into, &PLAIN).success();
    let _ = served.stop().succeeds();
    let _ = lab.run(&["verify", "-q", "--tar", "copied.tar", "--expected-digest", &digest]).succeeds();
}

#[test]
fn podman_and_buildah_pull_what_is_served() {
    let lab = lab().tree(&["f root/bin/x 755 '#!/bin/sh\\n'", "f root/data random:300000:3"]);
    let digest = samples::pack(&lab, &["-i", NAME, "-f", "root"], "app.tar");
    let served = Served::start(&lab, &["--tar", "app.tar"]);
    let image = format!("{}/team/app:v1", served.host());
    let podman = Podman::new();
    let _ = podman.pull(&image, &["--tls-verify=false"]);
    assert_eq!(podman.digest(&image), digest);
    let folder = testkit::scratch::Scratch::new("buildah");
    let mut buildah = tool("buildah");
    buildah.env("HOME", folder.path()).env("TMPDIR", folder.path());
    buildah.arg("--root").arg(folder.join("root")).arg("--runroot").arg(folder.join("run"));
    folder.write("policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
    buildah.args(["--storage-driver", "vfs", "pull", "--quiet", "--tls-verify=false", "--signature-policy"]);
    let _ = run(buildah.arg(folder.join("policy.json")).arg(&image)).success();
    let _ = served.stop().succeeds();
}

#[test]
fn copy_pull_and_tag_list_read_what_is_served_with_its_referrers() {
    let lab = lab();
    let (layout, image, referrer) = two_images();
    lab.write("app.tar", layout.tar());
    let served = Served::start(&lab, &["--tar", "app.tar"]);
    let name = format!("{}/team/app", served.host());
    let copied = ["copy", "-q", "--referrers", "-i", &format!("{name}:v2"), "--to-oci-tar", "copied.tar"];
    let _ = lab.run(&copied).succeeds();
    validate_layout(lab.path("copied.tar"));
    let copied = lab.read("copied.tar");
    for digest in [&image, &referrer] {
        assert!(!samples::blob(&copied, digest).is_empty());
    }
    let _ = lab.run(&["pull", "-q", "-i", &format!("{name}@{image}"), "-o", "out"]).succeeds();
    assert_eq!(lab.read("out/hello"), b"hello\n");
    let tags = lab.run(&["tag", "list", "-q", "-i", &name]).succeeds();
    assert_eq!(tags.stdout, "v1\nv2\n");
    let _ = served.stop().succeeds();
}

#[test]
fn what_skopeo_podman_buildah_and_copy_push_becomes_a_tar_with_the_same_digest() {
    let lab = lab().tree(&["f root/bin/x 755 '#!/bin/sh\\n'", "f root/data random:300000:3"]);
    let digest = samples::pack(&lab, &["-i", NAME, "-f", "root"], "app.tar");
    let served = Served::start(&lab, &["--collect", "out.tar", "--as", "reg.example"]);
    let to = |repository: &str| format!("{}/{repository}:v1", served.host());
    let from = format!("oci-archive:{}", lab.path("app.tar").display());
    let pushed = skopeo_copy(&from, &format!("docker://{}", to("skopeo")), &["--dest-tls-verify=false"]);
    let _ = pushed.success();
    let _ = lab.run(&["copy", "-q", "--tar", "app.tar", "--to-repo", &to("copy")]).succeeds();
    let podman = Podman::new();
    let _ = podman.pull(&to("copy"), &["--tls-verify=false"]);
    let mut command = podman.command();
    let _ =
        run(command.args(["push", "--quiet", "--tls-verify=false", &to("copy"), &to("podman")])).success();
    let _ = served.stop().succeeds();
    let _ = lab.run(&["verify", "-q", "--tar", "out.tar"]).succeeds();
    let described = lab.run(&["describe", "-q", "--tar", "out.tar"]).succeeds().stdout;
    for name in ["reg.example/skopeo:v1", "reg.example/copy:v1", "reg.example/podman:v1"] {
        assert!(described.contains(name), "{described}");
    }
    assert!(described.contains(&digest), "{described}");
}

#[test]
fn an_image_on_a_served_base_is_collected_with_the_bases_layers() {
    let lab = lab().tree(&["f root/bin/x 755 '#!/bin/sh\\n'"]);
    let _ = samples::pack(&lab, &["-i", "reg.example/base:v1", "-f", "root"], "base.tar");
    let served = Served::start(&lab, &["--tar", "base.tar", "--collect", "out.tar"]);
    assert_eq!(served.get("/v2/copied/app/manifests/v1").status, 404, "what was not pushed is not there");
    // The client finds the blobs and sends only the manifest.
    let (from, to) = (format!("{}/base:v1", served.host()), format!("{}/copied/app", served.host()));
    let _ = lab.run(&["copy", "-q", "-i", &from, "--to-repo", &format!("{to}:v2")]).succeeds();
    let _ = served.stop().succeeds();
    let _ = lab.run(&["verify", "-q", "--tar", "out.tar"]).succeeds();
    let described = lab.run(&["describe", "-q", "--tar", "out.tar"]).succeeds().stdout;
    assert!(described.contains("localhost/copied/app:v2"), "{described}");
}

#[test]
fn a_certificate_makes_it_speak_tls() {
    let (lab, digest) = samples::packed();
    let Certificates { ca, server, client, .. } = certificates();
    lab.write("cert.pem", &server.certificate);
    lab.write("key.pem", &server.key);
    lab.write("ca.pem", ca);
    let tls = ["--tar", "app.tar", "--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    let served = Served::start(&lab, &tls);
    let image = format!("{}/team/app:v1", served.host());
    let copy = ["copy", "-b", &image, "--registry-ca-cert-path", "ca.pem", "--to-oci-tar", "copied.tar"];
    let _ = lab.run(&copy).succeeds();
    let _ = lab.run(&["verify", "-q", "--tar", "copied.tar", "--expected-digest", &digest]).succeeds();
    let folder = lab.path("certs");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(lab.path("ca.pem"), folder.join("ca.crt")).unwrap();
    let certificates = format!("--cert-dir={}", folder.display());
    assert_eq!(skopeo_digest(&format!("docker://{image}"), &[&certificates]), digest);
    // Without the authority, and with plain HTTP, there is no response.
    let _ =
        lab.run(&["tag", "resolve", "-i", &image, "--registry-retry-count=1"]).fails(1, &["cannot trust"]);
    let _ = served.stop().succeeds();
    let wrong = |certificate: &str, key: &str, expected: &str| {
        let words = ["serve", "--tar", "app.tar", "--tls-cert", certificate, "--tls-key", key];
        let _ = lab.run(&words).fails(2, &[expected]);
    };
    wrong("no.pem", "key.pem", "cannot read `no.pem`");
    wrong("key.pem", "key.pem", "has no certificate, expected PEM");
    wrong("cert.pem", "cert.pem", "expected a private key in PEM without a password");
    lab.write("other.pem", &client.key);
    wrong("cert.pem", "other.pem", "cannot be used together");
    let _ = lab
        .run(&["serve", "--tar", "app.tar", "--tls-cert", "cert.pem"])
        .fails(2, &["must be given together"]);
}
