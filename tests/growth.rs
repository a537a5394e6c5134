//! Parsers of outside text: time and memory grow as the input does. A test binary of its own, see `testkit::growth`.

use std::io::Read as _;

use imgrelay::lock::{BundleLock, ImagesLock, read_packaging_objects};
use imgrelay::model::{Config, Digest, RawDocument, Reference, SemanticVersion, media_type};
use imgrelay::stream::Decoder;
use testkit::growth::check;

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
            drop(text(input).parse::<Reference>())
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
