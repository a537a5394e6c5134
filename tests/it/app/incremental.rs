//! Source images in many layers: kpack extracts the same tree, and a second push sends only what changed.

use std::time::{Duration, Instant};

use crate::lab::{Lab, lab};
use testkit::fault::{Access, Fault, FaultRegistry, Thing, on};
use testkit::registry::{Registry, Request, uploads};
use testkit::{kpack, oracle, readers, tree};

/// An app of 600 files and 6 MB that do not compress.
fn app() -> Lab {
    let mut lines = vec![
        "f app/package.json 'v1'".to_owned(),
        "f app/index.js 'x'".to_owned(),
        "d app/public".to_owned(),
        "l app/node_modules/.bin/p1 -> ../p1/f0.js".to_owned(),
    ];
    for package in 0..100 {
        for file in 0..5 {
            lines.push(format!(
                "f app/node_modules/p{package}/f{file}.js random:12000:{}",
                package * 5 + file
            ));
        }
    }
    for file in 0..100 {
        lines.push(format!("f app/src/d{}/f{file}.js random:2000:{file}", file % 7));
    }
    lab().tree(&lines)
}

fn push(lab: &Lab, name: &str, more: &[&str]) -> serde_json::Value {
    let words = [&["push", "-s", name, "-f", "app", "--layers", "auto", "--json"], more].concat();
    lab.run(&words).succeeds().json()
}

/// Bytes of all stored blobs.
fn stored(registry: &Registry) -> usize {
    let storage = registry.storage();
    storage.blobs().iter().filter_map(|digest| storage.blob(digest)).map(|blob| blob.len()).sum()
}

/// Blobs that were sent.
fn sent(registry: &Registry) -> usize {
    let requests: Vec<Request> = registry.requests();
    uploads(&requests)
        .iter()
        .filter(|request| request.method == "PUT" && request.path.contains("/blobs/"))
        .count()
}

/// Extracts an image of the registry as kpack does, and lists it.
fn extracted(lab: &Lab, name: &str) -> String {
    let (tar, into) = (lab.path("back.tar"), lab.path("extracted"));
    let _ = std::fs::remove_dir_all(&into);
    let _ = std::fs::remove_file(&tar);
    let to = format!("oci-archive:{}", tar.display());
    let _ = readers::skopeo_copy(&format!("docker://{name}"), &to, &["--src-tls-verify=false"]).success();
    kpack::extract(&tar, &into);
    tree::list(&into)
}

#[test]
fn app_layers_one_and_many_give_the_same_tree() {
    let lab = app();
    let mut lists = Vec::new();
    for (layers, least, most) in [("1", 1, 1), ("auto", 10, 100)] {
        let words = ["push", "-s", "-f", "app", "--layers", layers, "--to-oci-tar", "x.tar", "--json"];
        let count = lab.run(&words).succeeds().json()["layers"].as_u64().unwrap();
        assert!((least..=most).contains(&count), "{count} layers");
        oracle::validate_layout(lab.path("x.tar"));
        let into = lab.path(format!("extracted-{layers}"));
        kpack::extract(&lab.path("x.tar"), &into);
        lists.push(tree::list(&into));
    }
    assert_eq!(lists[0], lists[1]);
    assert_eq!(
        lists[0].lines().filter(|line| line.starts_with('f')).count(),
        603,
        "all files and a link's copy"
    );
}

#[test]
fn pushing_an_app_again_sends_only_changed_layers() {
    let registry = Registry::start();
    let lab = app();
    let name = format!("{}/apps/shop:latest", registry.host());
    let first = push(&lab, &name, &[]);
    let before = stored(&registry);

    registry.forget_requests();
    assert_eq!(push(&lab, &name, &[])["digest"], first["digest"]);
    assert_eq!(uploads(&registry.requests()), Vec::<&Request>::new());
    assert_eq!(push(&lab, &name, &["--compression", "gzip:12"])["digest"], first["digest"]);
    assert_eq!(uploads(&registry.requests()), Vec::<&Request>::new());

    lab.write("app/src/d3/f3.js", "edited");
    let _ = push(&lab, &name, &["--compression", "gzip:1"]);
    assert_eq!(sent(&registry), 2, "a layer and the configuration");
    let grown = stored(&registry) - before;
    assert!(grown < 600_000, "{grown} bytes");
    assert_eq!(extracted(&lab, &name).lines().count(), 603 + 111, "files and folders");
    assert!(extracted(&lab, &name).contains("src/d3/f3.js 644 6 "));

    // A layer in another compression than the requested one is not used again.
    registry.forget_requests();
    let other = push(&lab, &name, &["--compression", "zstd"]);
    assert_eq!(sent(&registry), usize::try_from(other["layers"].as_u64().unwrap()).unwrap());
    registry.storage().assert_sound();
}

#[test]
fn layers_sent_while_others_are_packed_cost_at_most_one_head() {
    let registry = Registry::start();
    let lab = app();
    let name = format!("{}/apps/shop:latest", registry.host());
    // The digest is known only at the end, so with an expected digest nothing is sent before.
    let wrong = format!("sha256:{}", "ab".repeat(32));
    let words = ["push", "-s", &name, "-f", "app", "--layers", "auto", "--expected-digest", &wrong];
    let _ = lab.run(&words).fails(3, &[&wrong]);
    assert_eq!(uploads(&registry.requests()), Vec::<&Request>::new());
    registry.forget_requests();
    let first = push(&lab, &name, &[]);
    let requests = registry.requests();
    let mut asked: Vec<&str> = requests
        .iter()
        .filter(|request| request.method == "HEAD" && request.path.contains("/blobs/"))
        .map(|request| request.path.as_str())
        .collect();
    asked.sort_unstable();
    let all = asked.len();
    asked.dedup();
    assert_eq!(asked.len(), all, "each once");
    let layers = usize::try_from(first["layers"].as_u64().unwrap()).unwrap();
    // Four that are absent, up to 16 that are pushed at the same time, and the configuration.
    assert!((5..=20).contains(&all) && layers > 15, "{all} questions for {layers} layers");
    let last = uploads(&requests).last().map(|request| (request.method.clone(), request.path.clone()));
    assert_eq!(last, Some(("PUT".to_owned(), "/v2/apps/shop/manifests/latest".to_owned())));
    let expected = first["digest"].as_str().unwrap();
    let words = ["push", "-s", &name, "-f", "app", "--layers", "auto", "--expected-digest", expected];
    let _ = lab.run(&words).succeeds();
    // With a new tag this is like an interrupted push: the layers are there, and HEAD requests find them.
    registry.forget_requests();
    let _ = push(&lab, &format!("{}/apps/shop:next", registry.host()), &[]);
    assert_eq!(sent(&registry), 0);
    registry.storage().assert_sound();
}

#[test]
fn a_registry_that_refuses_a_layer_ends_the_packing_with_its_response() {
    let registry = Registry::with().read_only().start();
    let lab = app();
    let name = format!("{}/apps/shop:latest", registry.host());
    let words = ["push", "-s", &name, "-f", "app", "--layers", "auto"];
    let output = lab.run(&words).fails(1, &["405", "apps/shop"]);
    assert!(!output.stderr.contains("stopped"), "{output}");
}

#[test]
fn a_reused_layer_that_the_registry_deleted_is_sent_again() {
    let registry = Registry::start();
    let lab = app();
    let name = format!("{}/apps/shop:latest", registry.host());
    let _ = push(&lab, &name, &[]);
    let list = extracted(&lab, &name);
    let manifest = registry.storage().manifest("apps/shop", "latest").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let gone = manifest["layers"][3]["digest"].as_str().unwrap();
    let answer = registry.ask("DELETE", &format!("/v2/apps/shop/blobs/{gone}"), &[], &[]);
    assert_eq!(answer.status, 202, "{}", answer.text());
    lab.write("app/index.js", "y");
    let _ = push(&lab, &name, &[]);
    let now = extracted(&lab, &name);
    let same = now.lines().filter(|line| list.contains(line)).count();
    assert_eq!(same, list.lines().count() - 1, "all but index.js");
}

#[test]
fn a_signal_ends_a_push_whose_first_layers_are_on_their_way() {
    let registry =
        FaultRegistry::start(Access::Open, vec![on("PATCH", Thing::Session, Fault::Silence).always()]);
    let lab = app();
    let name = format!("{}/apps/shop:latest", registry.host());
    let words = ["push", "-s", &name, "-f", "app", "--layers", "auto", "--registry-insecure"];
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let before = registry.count("PATCH", Thing::Session);
        let running = lab.command(&words).spawn();
        let deadline = Instant::now() + Duration::from_secs(60);
        while registry.count("PATCH", Thing::Session) == before {
            assert!(Instant::now() < deadline, "no layer was sent within a minute");
            std::thread::sleep(Duration::from_millis(5));
        }
        running.signal(signal);
        let sent = Instant::now();
        let output = running.wait();
        assert!(sent.elapsed() < Duration::from_secs(1), "{:?}", sent.elapsed());
        assert_eq!(output.code, Some(code), "{output}");
    }
    assert_eq!(registry.tag("apps/shop", "latest"), None);
}

/// The registry's garbage collection runs between the HEAD request for a layer and the PUT of the manifest.
#[test]
fn a_reused_layer_that_disappears_during_the_push_is_sent() {
    let registry = FaultRegistry::start(Access::Open, vec![]);
    let lab = app();
    let name = format!("{}/apps/shop:latest", registry.host());
    let plain = ["--registry-insecure"];
    let first = push(&lab, &name, &plain);
    let digest = registry.tag("apps/shop", "latest").unwrap();
    let _ = lab.run(&["copy", "-i", &name, "--to-oci-tar", "first.tar", "--registry-insecure"]).succeeds();
    let described = lab.run(&["describe", "--tar", "first.tar", "-o", "json"]).succeeds().json();
    let layers = described["images"][0]["layers"].as_array().unwrap().clone();
    assert_eq!(layers.len(), usize::try_from(first["layers"].as_u64().unwrap()).unwrap());
    lab.write("app/index.js", "y");
    // Each layer and the configuration are there at the HEAD request, and then they are removed.
    for layer in &layers[2..5] {
        registry.forget_blob("apps/shop", layer["digest"].as_str().unwrap());
    }
    registry.rule(on("HEAD", Thing::Blob, Fault::Status(200)).times(layers.len() + 1));
    let second = push(&lab, &name, &plain);
    assert_ne!(second["digest"], first["digest"]);
    assert_ne!(registry.tag("apps/shop", "latest").unwrap(), digest);
    registry.check_image("apps/shop", "latest").unwrap();
    let words = ["copy", "-i", &name, "--to-oci-tar", "second.tar", "--registry-insecure"];
    let _ = lab.run(&words).succeeds();
    kpack::extract(&lab.path("second.tar"), &lab.path("out"));
    assert_eq!(lab.read("out/index.js"), b"y");
    assert_eq!(tree::list(&lab.path("out")).lines().filter(|line| line.starts_with('f')).count(), 603);
}

#[test]
fn layers_of_another_repository_are_mounted() {
    let registry = Registry::start();
    let lab = app();
    let first = format!("{}/apps/shop:latest", registry.host());
    let image = push(&lab, &first, &[]);
    registry.forget_requests();
    let second = format!("{}/apps/copy:latest", registry.host());
    assert_eq!(push(&lab, &second, &["--base", &first])["digest"], image["digest"]);
    assert_eq!(sent(&registry), 0, "nothing, not even the configuration");
    let missing = format!("{}/apps/none:latest", registry.host());
    let words = ["push", "-s", &second, "-f", "app", "--layers", "auto", "--base", &missing];
    let _ = lab.run(&words).fails(1, &["apps/none` has no manifest `latest`"]);
}

#[test]
fn base_tar_gives_unchanged_layers_without_a_registry() {
    let lab = app();
    let pack = |tar: &str, more: &[&str]| {
        let words = ["push", "-s", "-f", "app", "--layers", "auto", "--to-oci-tar", tar, "--json"];
        lab.run(&[&words, more].concat()).succeeds().json()
    };
    let one = pack("one.tar", &["--compression", "gzip:1"]);
    let again = pack("again.tar", &["--base-tar", "one.tar"]);
    assert_eq!(one["digest"], again["digest"], "the layers are the old ones, at their old level");
    assert_eq!(lab.read("one.tar"), lab.read("again.tar"));
    lab.write("app/src/d3/f3.js", "edited");
    // A new tar may replace the tar that it is based on.
    let edited = pack("one.tar", &["--base-tar", "one.tar"]);
    assert_ne!(one["digest"], edited["digest"]);
    oracle::validate_layout(lab.path("one.tar"));
    kpack::extract(&lab.path("one.tar"), &lab.path("out"));
    assert_eq!(lab.read("out/src/d3/f3.js"), b"edited");
    let layers = |tar: &str| -> Vec<String> {
        let described = lab.run(&["describe", "--tar", tar]).succeeds().stdout;
        described.lines().filter(|line| line.contains("Layer: ")).map(str::to_owned).collect()
    };
    let (old, new) = (layers("again.tar"), layers("one.tar"));
    assert_eq!(new.iter().filter(|layer| !old.contains(layer)).count(), 1);
    // The earlier image is missing, or is no image.
    let base =
        |tar| ["push", "-s", "-f", "app", "--layers", "auto", "--to-oci-tar", "x.tar", "--base-tar", tar];
    let _ = lab.run(&base("none.tar")).fails(1, &["`none.tar`"]);
    let _ = lab.run(&base("app/index.js")).fails(1, &["`app/index.js` is not an image archive"]);
}
