//! Parsers of outside text: time and memory grow about linearly with the input. A test binary of its own, see
//! `testkit::growth`.
//!
//! The bodies of the fuzz targets are measured too, with expensive inputs and with their seeds in which a part is
//! repeated: a parser is measured as soon as it has a target with seeds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::io::Read as _;
use std::path::Path;

use imgrelay::lock::{BundleLock, ImagesLock, read_packaging_objects};
use imgrelay::model::{Config, Digest, RawDocument, Reference, SemanticVersion, media_type};
use imgrelay::stream::Decoder;
use targets::{Body, TARGETS};
use testkit::growth::check;
use testkit::random::Random;
use testkit::tarball::{Header, Tarball, pax_records};

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn repeated(start: &str, item: impl Fn(usize) -> String, end: &str) -> impl Fn(usize) -> Vec<u8> {
    move |items| {
        let items: Vec<String> = (0..items).map(&item).collect();
        format!("{start}{}{end}", items.join(",")).into_bytes()
    }
}

fn descriptor() -> String {
    format!(r#"{{"mediaType":"{}","digest":"sha256:{HEX}","size":0}}"#, media_type::OCI_CONFIG)
}

#[test]
fn manifests_and_indexes() {
    let parse = |input: &[u8]| drop(RawDocument::parse(input, None));
    let manifest = format!(r#"{{"schemaVersion":2,"config":{},"#, descriptor());
    let object = |member: &str| format!(r#"{manifest}"{member}":{{"#);
    let pair = |at: usize| format!(r#""key{at}":"value""#);
    let layers = format!("{manifest}\"layers\":[");
    check("layers", 2_000, repeated(&layers, |_| descriptor(), "]}"), parse);
    check("null layers", 2_000, repeated(&layers, |_| "null".to_owned(), "]}"), parse);
    check("annotations", 5_000, repeated(&object("annotations"), pair, "}}"), parse);
    check("unknown members", 5_000, repeated(&manifest, pair, "}"), parse);
    check("members of an unknown object", 5_000, repeated(&object("x"), pair, "}}"), parse);
    check(
        "escapes",
        20_000,
        |items| format!(r#"{manifest}"x":"{}"}}"#, "\\u00e9".repeat(items)).into_bytes(),
        parse,
    );
    check("nesting", 20_000, |items| format!(r#"{manifest}"x":{}"#, "[".repeat(items)).into_bytes(), parse);
    let index = |_| descriptor();
    check("index", 2_000, repeated(r#"{"schemaVersion":2,"manifests":["#, index, "]}"), parse);
    check(
        "urls",
        5_000,
        repeated(r#"{"schemaVersion":2,"config":{"urls":["#, |_| r#""u""#.to_owned(), "]}}"),
        parse,
    );
}

#[test]
fn configurations() {
    let parse = |input: &[u8]| drop(Config::parse(input));
    let rootfs = r#"{"rootfs":{"type":"layers","diff_ids":["#;
    check("diff_ids", 5_000, repeated(rootfs, |_| format!(r#""sha256:{HEX}""#), "]}}"), parse);
    let history = r#"{"rootfs":{"type":"layers"},"history":["#;
    check("history", 5_000, repeated(history, |_| r#"{"created_by":"x"}"#.to_owned(), "]}"), parse);
    let labels = r#"{"rootfs":{"type":"layers"},"config":{"Labels":{"#;
    check("labels", 5_000, repeated(labels, |at| format!(r#""{at}":"x""#), "}}}"), parse);
}

#[test]
fn locks() {
    let lock = |input: &[u8]| drop(ImagesLock::parse(&String::from_utf8_lossy(input)));
    let head = "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages:\n";
    let image = format!("- image: reg.example/team/app@sha256:{HEX}\n");
    check("images", 500, |items| format!("{head}{}", image.repeat(items)).into_bytes(), lock);
    let annotated = |items: usize| {
        let annotations: String = (0..items).map(|at| format!("    key{at}: value\n")).collect();
        format!("{head}{image}  annotations:\n{annotations}").into_bytes()
    };
    check("annotations of an image", 500, annotated, lock);
    check("flow lists", 2_000, |items| format!("{head}{}", "[".repeat(items)).into_bytes(), lock);
    let aliases =
        |items: usize| format!("{head}- image: &a x\n{}", "- image: *a\n".repeat(items)).into_bytes();
    check("aliases", 500, aliases, lock);
    let bundle = |input: &[u8]| drop(BundleLock::parse(&String::from_utf8_lossy(input)));
    check("comments", 5_000, |items| "# comment\n".repeat(items).into_bytes(), bundle);
    check(
        "anchors",
        1_000,
        |items| (0..items).map(|at| format!("k{at}: &a{at} v\n")).collect::<String>().into_bytes(),
        bundle,
    );
    let packages = |input: &[u8]| drop(read_packaging_objects(&String::from_utf8_lossy(input)));
    check("documents", 500, |items| "---\nkind: Package\n".repeat(items).into_bytes(), packages);
    check("an empty list of documents", 5_000, |items| "---\n".repeat(items).into_bytes(), packages);
}

#[test]
fn names_and_versions() {
    let text = |input: &[u8]| String::from_utf8_lossy(input).into_owned();
    for item in ["a", "a/", "a.", "a:", "a@", "[", "-", "sha256:", "0"] {
        let input = |items: usize| item.repeat(items).into_bytes();
        check(&format!("reference of `{item}`"), 50_000, input, |input| {
            drop(text(input).parse::<Reference>());
        });
        check(&format!("digest of `{item}`"), 50_000, input, |input| drop(text(input).parse::<Digest>()));
        let version = |input: &[u8]| drop(SemanticVersion::parse_loose(&format!("1.0.0-a{}", text(input))));
        check(&format!("version of `{item}`"), 50_000, input, version);
    }
}

#[test]
fn compressed_streams() {
    let read = |input: &[u8]| {
        for threads in [1, 3] {
            let Ok(mut decoder) = Decoder::with_threads(Box::new(input), threads) else { return };
            let mut buffer = [0; 8192];
            while decoder.read(&mut buffer).is_ok_and(|count| count > 0) {}
        }
    };
    let empty_member = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x03\0\0\0\0\0\0\0\0\0";
    check("empty gzip members", 2_000, |items| empty_member.repeat(items), read);
    let skippable = b"\x50\x2a\x4d\x18\0\0\0\0";
    check("skippable zstd frames", 5_000, |items| skippable.repeat(items), read);
    let empty_frame = b"\x28\xb5\x2f\xfd\x20\0\x01\0\0";
    check("empty zstd frames", 5_000, |items| empty_frame.repeat(items), read);
}

/// Bytes of the smallest input of a fuzz target.
const SMALLEST: usize = 8 << 10;
/// Parts of each seed that are repeated.
const PARTS: usize = 5;

/// Repeats a part of a seed until the size is reached.
fn pumped(seed: &[u8], from: usize, to: usize, size: usize) -> Vec<u8> {
    let times = size.saturating_sub(seed.len()) / (to - from).max(1);
    [&seed[..from], &seed[from..to].repeat(times + 1), &seed[to..]].concat()
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn seeds_of_every_fuzz_target_with_a_part_repeated() {
    for (number, (target, body)) in TARGETS.into_iter().enumerate() {
        let mut random = Random::new(number as u64);
        for (at, seed) in seeds(target).iter().enumerate().filter(|(_, seed)| !seed.is_empty()) {
            for _ in 0..PARTS {
                // A tar is cut at blocks only.
                let step = if seed.len() >= 1024 && seed.len().is_multiple_of(512) { 512 } else { 1 };
                let mut below = |limit: usize| usize::try_from(random.below(limit as u64)).unwrap();
                let from = below(seed.len() / step) * step;
                let to = seed.len().min(from + (1 + below(if step == 1 { 60 } else { 4 })) * step);
                let name = format!("{target}, seed {at}, bytes {from} to {to} repeated");
                check(&name, SMALLEST, |size| pumped(seed, from, to, size), body);
            }
        }
    }
}

#[test]
fn inputs_of_fuzz_targets_that_were_made_to_cost_much() {
    for (target, what, make) in large_inputs() {
        let (_, body): &(&str, Body) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
        check(&format!("{target}, {what}"), SMALLEST, make, body);
    }
}

type Make = Box<dyn Fn(usize) -> Vec<u8>>;

/// Expensive inputs, by target. Makes a docker-save tar of one image with so many names.
fn docker_save(names: usize, name: impl Fn(usize) -> String) -> Vec<u8> {
    let names: Vec<String> = (0..names).map(|number| format!("\"{}\"", name(number))).collect();
    let table = format!(r#"[{{"Config":"c","RepoTags":[{}],"Layers":[]}}]"#, names.join(","));
    let config = r#"{"rootfs":{"type":"layers","diff_ids":[]}}"#;
    Tarball::new().file("manifest.json", table).file("c", config).finish()
}

fn large_inputs() -> Vec<(&'static str, &'static str, Make)> {
    let list = |size: usize, each: usize, item: &dyn Fn(usize) -> String| -> String {
        (0..size / each).map(item).collect::<Vec<_>>().join(",")
    };
    let records = |size: usize| -> Vec<u8> {
        let names: Vec<String> = (0..size / 32).map(|n| format!("SCHILY.xattr.user.{n:06}")).collect();
        pax_records(&names.iter().map(|name| (name.as_str(), &b"v"[..])).collect::<Vec<_>>())
    };
    let with_records = move |flag: u8, size: usize, entries: usize| {
        let records = records(size / 2);
        let mut tar = Tarball::new().entry(&Header::new("r", flag, records.len() as u64), &records);
        for number in 0..entries {
            tar = tar.file(format!("f{number}"), "x");
        }
        tar.finish()
    };
    let global = with_records;
    vec![
        (
            "docker_config",
            "many hosts",
            Box::new(move |size| {
                format!(
                    r#"{{"auths":{{{}}}}}"#,
                    list(size, 34, &|n| format!(r#""host{n}.test":{{"auth":"YTpi"}}"#))
                )
                .into()
            }),
        ),
        (
            "challenge",
            "many parameters",
            Box::new(move |size| format!("Bearer {}", list(size, 10, &|n| format!("p{n}=\"v\""))).into()),
        ),
        ("challenge", "many schemes", Box::new(move |size| list(size, 6, &|_| "Basic".into()).into())),
        ("challenge", "backslashes", Box::new(|size| format!("Bearer a=\"{}", "\\".repeat(size)).into())),
        ("link", "many links", Box::new(move |size| list(size, 9, &|_| "<a>;rel=x".into()).into())),
        (
            "tar_read",
            "many small entries",
            Box::new(|size| {
                let mut tar = Tarball::new();
                for number in 0..size / 1024 {
                    tar = tar.file(format!("f{number}"), "x");
                }
                tar.finish()
            }),
        ),
        ("tar_read", "records for one entry", Box::new(move |size| with_records(b'x', size, 1))),
        (
            "tar_read",
            "records for all of many entries",
            Box::new(move |size| global(b'g', size, size / 2048)),
        ),
        (
            "docker_save_read",
            "names that are none",
            Box::new(|size| docker_save(size / 3, |_| String::new())),
        ),
        (
            "docker_save_read",
            "many names",
            Box::new(|size| docker_save(size / 24, |number| format!("reg.example/a:{number}"))),
        ),
        ("extract", "many bytes that choose entries", Box::new(|size| Random::new(5).bytes(size / 64))),
    ]
}
