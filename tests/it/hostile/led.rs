//! Which servers get credentials, and where redirects of a registry may lead; the servers record the requests.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, symlink};

use testkit::cloud::Tunnel;
use testkit::fault::{Access, Fault, FaultRegistry, Thing, on};
use testkit::lab::Lab;

use crate::lab::lab;
use crate::layouts::Layout;

/// A password that must go to one registry only.
const PASSWORD: &str = "only-for-the-named-one";

fn image_in(registry: &FaultRegistry) -> String {
    let layout = Layout::simple();
    let hex = |blob: &[u8]| format!("sha256:{}", crate::layouts::hex(blob));
    let (manifest, blobs) = layout.blobs.split_last().unwrap();
    blobs.iter().for_each(|blob| registry.put_blob("team/app", &hex(blob), blob));
    registry.put_manifest("team/app", "v1", &hex(manifest), crate::layouts::MANIFEST, manifest);
    format!("{}/team/app@{}", registry.host(), hex(manifest))
}

/// Writes an ImagesLock that names an image.
fn lock(lab: &Lab, image: &str) {
    let text =
        format!("apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages:\n- image: {image}\n");
    lab.write("images.yml", text);
}

#[test]
fn credentials_of_the_command_line_go_to_no_registry_that_only_a_lock_names() {
    let named = FaultRegistry::start(Access::Basic("ci", PASSWORD), vec![]);
    let other = FaultRegistry::start(Access::Basic("ci", PASSWORD), vec![]);
    let image = image_in(&other);
    let lab = lab();
    lock(&lab, &image);
    let to = format!("{}/team/copy", named.host());
    let words = ["copy", "--lock", "images.yml", "--to-repo", &to];
    let ways: [&[(&str, &str)]; 3] = [
        &[("IMGRELAY_REGISTRY_USERNAME", "ci"), ("IMGRELAY_REGISTRY_PASSWORD", PASSWORD)],
        &[("IMGPKG_USERNAME", "ci"), ("IMGPKG_PASSWORD", PASSWORD)],
        &[("IMGRELAY_REGISTRY_TOKEN", PASSWORD)],
    ];
    let run = |more: &[&str], variables: &[(&str, &str)]| {
        let command = lab.command(&[&words[..], more].concat());
        variables.iter().fold(command, |command, (name, value)| command.env(name, value)).run()
    };
    for variables in ways {
        let output = run(&[], variables).fails(1, &["refused the pull from `team/app` (401"]);
        let output = output.says("goes only to the registries that the command line names");
        let output = output.says(&format!("`--registry-credentials-for {}`", other.host()));
        for entry in other.log() {
            assert!(
                !entry.headers.contains_key("authorization"),
                "{} {}\n{output}",
                entry.method,
                entry.path
            );
        }
    }
    let _ = run(&[&format!("--registry-credentials-for={}", other.host())], ways[0]).succeeds();
    named.forget_manifests();
    let per_host = [
        ("IMGRELAY_REGISTRY_USERNAME", "ci"),
        ("IMGRELAY_REGISTRY_PASSWORD", PASSWORD),
        ("IMGPKG_REGISTRY_HOSTNAME_0", &other.host()),
        ("IMGPKG_REGISTRY_USERNAME_0", "ci"),
        ("IMGPKG_REGISTRY_PASSWORD_0", PASSWORD),
    ];
    let _ = run(&[], &per_host).succeeds();
}

#[test]
fn a_registry_elsewhere_leads_nowhere_on_this_machine() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let lab = lab();
    for host in ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0", "[::ffff:127.0.0.1]", "localhost."] {
        let target = format!("http://{host}:{port}/x");
        let realm = format!("Bearer realm=\"{target}\"");
        let challenge = Fault::Response(401, vec![("www-authenticate", realm)], String::new());
        let location = Fault::Header("location", Some(target.clone()));
        let cases = [
            (
                on("GET", Thing::Blob, Fault::Redirect(307, target.clone())).always(),
                "redirect to this machine",
            ),
            (on("GET", Thing::Manifest, challenge).always(), "names a token server on this machine"),
            (on("POST", Thing::Uploads, location).always(), "upload location on this machine"),
        ];
        for (rule, expected) in cases {
            let registry = FaultRegistry::start(Access::Open, vec![rule]);
            let _ = image_in(&registry);
            // Behind a proxy the registry is elsewhere.
            let tunnel = Tunnel::start("reg.example", &registry.host());
            lab.write("app/a", "a");
            let words: &[&str] = match expected {
                "upload location on this machine" => &["push", "-i", "reg.example/team/new:v1", "-f", "app"],
                _ => &["copy", "-i", "reg.example/team/app:v1", "--to-oci-tar", "out.tar"],
            };
            let command = lab.command(&[words, &["--registry-insecure"]].concat());
            let command = command.env("HTTP_PROXY", tunnel.url()).env("HTTPS_PROXY", tunnel.url());
            let _ = command.run().fails(1, &[expected]);
        }
    }
    let nothing_came = listener.accept().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    assert!(nothing_came, "no connection was made");
}

#[test]
fn a_registry_on_this_machine_may_lead_to_it() {
    let registry = FaultRegistry::start(Access::Open, vec![]);
    let image = image_in(&registry);
    let port = registry.host().rsplit_once(':').unwrap().1.to_owned();
    let lab = lab();
    for host in ["localhost", "127.1", "[::ffff:127.0.0.1]"] {
        let (_, digest) = image.rsplit_once('@').unwrap();
        let target = format!("http://{host}:{port}/v2/team/app/manifests/{digest}");
        registry.rule(on("GET", Thing::Manifest, Fault::Redirect(307, target)));
        let _ = lab.run(&["copy", "-i", &image, "--to-oci-tar", "out.tar"]).succeeds();
    }
}

#[test]
fn resume_uses_no_parts_folder_that_another_user_may_have_made() {
    let registry = FaultRegistry::start(Access::Open, vec![]);
    let image = image_in(&registry);
    let lab = lab();
    std::fs::create_dir(lab.path("elsewhere")).unwrap();
    symlink("elsewhere", lab.path("out.tar.parts")).unwrap();
    let words = ["copy", "-i", &image, "--to-oci-tar", "out.tar", "--resume"];
    let _ = lab.run(&words).fails(1, &["out.tar.parts` is no folder, or a link"]);
    assert_eq!(std::fs::read_dir(lab.path("elsewhere")).unwrap().count(), 0);
    std::fs::remove_file(lab.path("out.tar.parts")).unwrap();
    if std::fs::metadata(lab.path("elsewhere")).unwrap().uid() == 0 {
        std::fs::create_dir(lab.path("out.tar.parts")).unwrap();
        std::os::unix::fs::chown(lab.path("out.tar.parts"), Some(12345), None).unwrap();
        let _ = lab.run(&words).fails(1, &["out.tar.parts` is of another user"]);
        std::fs::remove_dir(lab.path("out.tar.parts")).unwrap();
    }
    let _ = lab.run(&words).succeeds();
    assert!(!lab.path("out.tar.parts").exists());
}
