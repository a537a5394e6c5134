//! Stores on web servers: nginx with TLS, Python's server without.

use testkit::certificates::certificates;
use testkit::tools::{run, tool};
use testkit::web::{Program, WebServer};

use super::folder::{digest_of, pack, url};
use crate::lab::lab;

#[test]
fn a_store_is_read_from_any_web_server() {
    let lab = lab();
    lab.write("ca.pem", &certificates().ca);
    let old = pack(&lab, "old.tar", "old");
    let _ = lab.run(&["copy", "--tar", "old.tar", "--to-store", &format!("{}:v1", url(&lab))]).succeeds();
    let digest = pack(&lab, "app.tar", "new");
    let to = format!("{}:v1", url(&lab));
    let pushed = lab.run(&["copy", "--tar", "app.tar", "--to-store", &to, "--json"]).succeeds().json();
    // A layout of another tool has no entries.
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-oci-tar", "plain.tar"]).succeeds();
    std::fs::create_dir(lab.path("plain")).unwrap();
    let _ = run(tool("tar").arg("-xf").arg(lab.path("plain.tar")).arg("-C").arg(lab.path("plain"))).success();
    for program in [Program::Nginx, Program::Python] {
        let server = WebServer::start(program, &lab.work());
        let (store, trusted) = (format!("{}/store", server.url()), ["--registry-ca-cert-path", "ca.pem"]);
        let ask = |words: &[&str]| lab.run(&[words, &trusted].concat());
        let listed = ask(&["store", "list", &store, "--json"]).succeeds().json();
        assert_eq!(listed["versions"].as_array().unwrap().len(), 1);
        let newest = &listed["versions"][0];
        assert_eq!((&newest["digest"], &newest["pushed"]), (&pushed["digest"], &pushed["pushed"]));
        for name in [format!("{store}:v1"), store.clone(), format!("{store}:v1@{digest}")] {
            let out = format!("{program:?}.tar");
            let line =
                ask(&["copy", "--store", &name, "--to-oci-tar", &out]).succeeds().one_line().to_owned();
            assert_eq!(digest_of(&line), digest, "{name}");
            let _ = lab.run(&["verify", "--tar", &out]).succeeds();
            std::fs::remove_file(lab.path(&out)).unwrap();
        }
        assert!(ask(&["verify", "--store", &format!("{store}@{old}")]).succeeds().stdout.contains(&old));
        assert!(
            ask(&["verify", "--store", &format!("{}/plain:v1", server.url())])
                .succeeds()
                .stdout
                .contains(&digest)
        );
        let _ =
            ask(&["verify", "--store", &format!("{store}:v2")]).fails(1, &["has no image `v2`; it has `v1`"]);
        let _ = ask(&["verify", "--store", &format!("{}/none:v1", server.url())])
            .fails(1, &["it has no `oci-layout`"]);
        let _ = ask(&["copy", "--tar", "app.tar", "--to-store", &format!("{store}:v1")])
            .fails(2, &["is on a web server, and can only be read"]);
        let _ = ask(&["store", "gc", &store]).fails(2, &["can only be read"]);
    }
    let blob = |digest: &str| lab.path("store/blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(blob(&digest)).unwrap()).unwrap();
    std::fs::write(blob(manifest["layers"][0]["digest"].as_str().unwrap()), "damaged").unwrap();
    let server = WebServer::start(Program::Nginx, &lab.work());
    let words = ["copy", "--store", &format!("{}/store:v1", server.url()), "--to-oci-tar", "x.tar"];
    let _ = lab.run(&[&words[..], &["--registry-ca-cert-path", "ca.pem"]].concat()).fails(3, &["pushed at"]);
    assert!(!lab.path("x.tar").exists());
    let _ = lab.run(&words).fails(1, &["is not trusted"]);
}
