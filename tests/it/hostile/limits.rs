//! Every limit of input from outside is exceeded once, and is documented with its message.
//!
//! `UPDATE_DOCS=1 cargo test --test it limits` writes `docs/limits.md` anew.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use imgrelay::tar::{Extractor, Policy};
use serde_json::json;
use testkit::cloud::FakeService;
use testkit::fault::{Access, Fault, FaultRegistry, Thing, on};
use testkit::http::read_request;
use testkit::lab::{Lab, Output};
use testkit::registry::Registry;
use testkit::scratch::Scratch;
use testkit::tarball::{Header, Tarball};

use crate::lab::lab;
use crate::layouts::{CONFIG, INDEX, LAYER_GZIP, Layout, MANIFEST, descriptor, gzip};
use crate::signing::limits as signing;

/// One limit: what it bounds, how it is exceeded, and the message.
struct Row {
    name: &'static str,
    what: &'static str,
    unit: &'static str,
    how: How,
    code: i32,
    message: &'static str,
}

/// How it is exceeded.
enum How {
    /// With the real executable.
    Run(fn(&Lab) -> Output),
    /// By a test that lowers it, `FILE::FUNCTION`, because the real one is too large to exceed in every run.
    Test(&'static str),
}

const fn row(
    name: &'static str,
    what: &'static str,
    unit: &'static str,
    exceed: fn(&Lab) -> Output,
    code: i32,
    message: &'static str,
) -> Row {
    Row { name, what, unit, how: How::Run(exceed), code, message }
}

const fn huge(
    name: &'static str,
    what: &'static str,
    unit: &'static str,
    test: &'static str,
    message: &'static str,
) -> Row {
    Row { name, what, unit, how: How::Test(test), code: 1, message }
}

/// A limit of `serve`: the response has the message, and the program goes on.
const fn served(
    name: &'static str,
    what: &'static str,
    unit: &'static str,
    test: &'static str,
    message: &'static str,
) -> Row {
    Row { code: 0, ..huge(name, what, unit, test, message) }
}

const ROWS: [Row; 69] = [
    row("DOCUMENT_BYTES", "a manifest or index", "bytes", document, 1, "has more than 8388608 bytes"),
    row("CONFIG_BYTES", "an image configuration", "bytes", config, 1, "has more than 16777216 bytes"),
    row(
        "TABLE_OF_CONTENTS_BYTES",
        "`index.json`, `manifest.json` of a tar",
        "bytes",
        table,
        1,
        "268435456 bytes",
    ),
    row("LOCK_BYTES", "a lock file", "bytes", lock, 2, "16777216 bytes"),
    row(
        "NESTING",
        "indexes in indexes, bundles in bundles",
        "levels",
        nesting,
        1,
        "levels of nested indexes",
    ),
    row(
        "DOCUMENTS",
        "manifests and blobs below one root",
        "",
        documents,
        1,
        "more than 100000 manifests and blobs",
    ),
    row(
        "IMAGE_NAMES",
        "names of images in an archive",
        "names",
        names_of_an_image,
        1,
        "it has more than 100000 names of images",
    ),
    row("LAYER_URLS", "`urls` of a layer that are tried", "URLs", urls_of_a_layer, 1, "1 more are not tried"),
    row(
        "TABLE_TEXTS",
        "texts in `manifest.json` of a tar",
        "texts",
        texts_of_a_table,
        1,
        "has more than 1000000 texts",
    ),
    row(
        "GRAPH_BYTES",
        "manifests and indexes below one root",
        "bytes",
        graph,
        1,
        "bytes of manifests and indexes",
    ),
    huge(
        "ARCHIVE_ENTRIES",
        "a tar or zip read as an archive",
        "entries",
        "src/store/archive.rs::one_entry_more_than_the_limit_is_refused",
        "it has more than 1000000 entries",
    ),
    huge(
        "TAR_URL_REQUESTS",
        "headers and small files of a tar at a URL",
        "requests",
        "src/registry/s3/scripted.rs::a_tar_whose_headers_are_far_apart_takes_a_bounded_number_of_requests",
        "take more than 50000 requests",
    ),
    row("PATH_BYTES", "a name or link target in a tar", "bytes", path, 1, "4096"),
    row("TAR_EXTENSION_BYTES", "a PAX header or GNU long name", "bytes", extension, 1, "1048576"),
    row("ZSTD_WINDOW_LOG", "a zstd window, as a power of two", "bits", window, 1, "too much memory"),
    row("CONCURRENCY", "`--concurrency`", "blobs", concurrency, 2, "is not a number from 1 to 64"),
    row(
        "ENTRY_BYTES",
        "an entry of an image store",
        "bytes",
        entry_of_a_store,
        1,
        "has more than 8388608 bytes",
    ),
    row(
        "GC_LIST_BYTES",
        "a list of unused blobs of an image store",
        "bytes",
        list_of_a_store,
        1,
        "has more than 16777216 bytes",
    ),
    row("OCI_LAYOUT_BYTES", "`oci-layout`", "bytes", oci_layout, 1, "65536 bytes"),
    row("LINKS", "links on the way to one name", "links", links, 1, "more than 40 links"),
    huge(
        "SPOOL_BYTES",
        "what a compressed archive unpacks to",
        "bytes",
        "src/store/spool.rs::an_archive_that_unpacks_to_more_than_the_limit_is_refused_while_it_is_unpacked",
        "has more than 274877906944 bytes",
    ),
    row(
        "CANDIDATES",
        "files of a folder searched for an archive",
        "files",
        candidates,
        1,
        "more than 10000 files",
    ),
    row("FOLDER_DEPTH", "folders in folders of a layer", "levels", depth, 1, "at most 512 are accepted"),
    huge(
        "FOLDER_OPENS",
        "folders opened to reach the entries of an image",
        "folders",
        "src/tar/extract/mod.rs::folders_are_opened_a_bounded_number_of_times",
        "opens more than 1000000 folders and 64 for each entry",
    ),
    huge(
        "FOLDER_OPENS_PER_ENTRY",
        "the same, for each entry",
        "folders",
        "src/tar/extract/mod.rs::folders_are_opened_a_bounded_number_of_times",
        "opens more than 1000000 folders and 64 for each entry",
    ),
    huge(
        "LAYER_ENTRIES",
        "a layer",
        "entries",
        "tests/it/hostile/limits.rs::one_entry_of_a_layer_more_than_the_limit_is_refused",
        "the layer has more than 10000000 entries",
    ),
    huge(
        "LISTED_ENTRIES",
        "the layers of an image that `ls`, `cat`, `diff` or `push --base` list",
        "entries",
        "src/transfer/image_files.rs::more_entries_or_names_than_a_list_may_have_are_refused",
        "more than 3000000 files and folders",
    ),
    huge(
        "LISTED_BYTES",
        "their names and link targets together",
        "bytes",
        "src/transfer/image_files.rs::more_entries_or_names_than_a_list_may_have_are_refused",
        "more than 536870912 bytes of file names",
    ),
    row("CERTIFICATES_BYTES", "a file of certificates", "bytes", certificates, 2, "4194304 bytes"),
    row("PAGE_BYTES", "one page of a list of a registry or bucket", "bytes", page, 1, "8388608 bytes"),
    huge(
        "XML_DEPTH",
        "elements inside of elements in a response from a bucket",
        "levels",
        "src/registry/s3/xml.rs::elements_have_a_bound_in_depth_and_in_text",
        "nested more than 16 levels deep",
    ),
    huge(
        "XML_TEXT_BYTES",
        "the text of an element in a response from a bucket",
        "bytes",
        "src/registry/s3/xml.rs::elements_have_a_bound_in_depth_and_in_text",
        "more than 16384 bytes of text",
    ),
    row("PAGES", "pages of one list", "pages", pages, 1, "comes after 10000 others"),
    huge(
        "LIST_BYTES",
        "all pages of one list of a registry",
        "bytes",
        "src/registry/client.rs::a_list_of_tags_has_a_bound_over_all_pages",
        "more than 33554432 bytes",
    ),
    huge(
        "LIST_ENTRIES",
        "entries of one list of a registry or bucket",
        "entries",
        "src/registry/client.rs::a_list_of_tags_has_a_bound_over_all_pages",
        "more than 1000000 entries",
    ),
    huge(
        "LEAST_BYTES_PER_MINUTE",
        "a body that comes slowly: bytes expected in a minute of waiting",
        "bytes",
        "src/registry/pace.rs::a_body_below_the_least_rate_fails_after_a_window",
        "at least 65536 are expected",
    ),
    row("CREDENTIALS_BYTES", "a docker or podman credentials file", "bytes", credentials, 2, "4194304 bytes"),
    row(
        "TOKEN_BYTES",
        "a response from a token server",
        "bytes",
        token,
        1,
        "sent a response that could not be read",
    ),
    row(
        "HELPER_BYTES",
        "a response from a credential helper",
        "bytes",
        helper,
        2,
        "its response has more than 1048576 bytes",
    ),
    row(
        "ERROR_BYTES",
        "an error of a registry or bucket that is read",
        "bytes",
        refusal,
        1,
        "rejected manifest `v1`",
    ),
    row(
        "EXTENSIONS_PER_ENTRY",
        "extension headers of one entry",
        "headers",
        extensions,
        1,
        "more than 16 extension headers",
    ),
    row("REDIRECTS", "redirects of one request", "redirects", redirects, 1, "more than 10 redirects"),
    row("BLOB_BYTES", "a blob", "bytes", blob, 1, "at most 70368744177664 bytes are accepted"),
    row("REQUEST_BYTES", "a request of Concourse", "bytes", request, 2, "has more than 16777216 bytes"),
    row("PARAM_FILE_BYTES", "a file that `params` name", "bytes", param_file, 2, "has more than 65536 bytes"),
    row(
        "REGEX_BYTES",
        "a compiled regular expression",
        "bytes",
        regex,
        2,
        "exceeds size limit of 1048576 bytes",
    ),
    row("IGNORE_BYTES", "`.cfignore`", "bytes", ignore, 1, "more than 1048576 bytes"),
    row(
        "CLOUD_LOGIN_BYTES",
        "a response from a cloud provider",
        "bytes",
        cloud_response,
        2,
        "answered with more than 262144 bytes",
    ),
    row(
        "TOKEN_FILE_BYTES",
        "a cloud provider's token in a file",
        "bytes",
        token_file,
        2,
        "more than 65536 bytes",
    ),
    row("MATCH_BYTES", "a request of resource matching", "bytes", asked, 2, "33554432 bytes"),
    row("MATCH_FILES", "files in such a request", "files", asked_for_many, 2, "at most 5000 resources"),
    row("RESOURCES_BYTES", "`--resources`", "bytes", resources, 2, "67108864 bytes"),
    row("FILE_LIST_BYTES", "a list of an image's files", "bytes", file_list, 1, "more than 67108864 bytes"),
    row("KEY_FILE_BYTES", "a file with keys", "bytes", signing::key_file, 2, "has more than 262144 bytes"),
    row("KEYS", "public keys of one call", "keys", signing::keys_of_one_file, 2, "more than 100 keys"),
    row(
        "KEY_DERIVATION_BYTES",
        "memory that an encrypted private key asks for",
        "bytes",
        signing::key_derivation,
        2,
        "it takes more than 256 MiB of memory",
    ),
    row(
        "KEY_DERIVATION_PASSES",
        "passes over that memory",
        "passes",
        signing::key_derivation_passes,
        2,
        "p is at most 16",
    ),
    row(
        "PAYLOAD_BYTES",
        "the payload of a signature",
        "bytes",
        signing::payload,
        1,
        "at most 262144 are read",
    ),
    row(
        "SIGNATURES",
        "signatures of one manifest or envelope",
        "signatures",
        signing::signatures,
        1,
        "at most 100 are read",
    ),
    row("ATTACHMENT_BYTES", "a file of `attach`", "bytes", signing::attachment, 2, "33554432 bytes"),
    row("ATTESTATION_BYTES", "an attestation", "bytes", signing::attestation, 1, "at most 50331648 are read"),
    row(
        "ATTESTATIONS_BYTES",
        "all attestations of an image",
        "bytes",
        signing::attestations,
        1,
        "more than 201326592 bytes of attestations",
    ),
    row(
        "ATTACHED",
        "manifests about one image",
        "manifests",
        signing::attached,
        1,
        "more than 1000 signatures and other referrers",
    ),
    row(
        "ACCOUNTS_BYTES",
        "`/etc/passwd` of a base, for `--user NAME`",
        "bytes",
        accounts,
        1,
        "more than 4194304 bytes",
    ),
    served(
        "HEAD_BYTES",
        "the head of a request to `serve`",
        "bytes",
        "src/serve/head.rs::a_head_of_the_limit_is_read_and_one_byte_or_field_more_is_refused",
        "the head of the request has more than 32768 bytes or 100 fields",
    ),
    served(
        "HEAD_FIELDS",
        "its header fields",
        "fields",
        "src/serve/head.rs::a_head_of_the_limit_is_read_and_one_byte_or_field_more_is_refused",
        "the head of the request has more than 32768 bytes or 100 fields",
    ),
    served(
        "CONNECTIONS",
        "connections to `serve`",
        "connections",
        "tests/it/serve/faults.rs::more_idle_clients_than_places_keep_no_client_out",
        "ends the longest idle connection",
    ),
    served(
        "COLLECTED_BYTES",
        "what is pushed to `serve`",
        "bytes",
        "src/serve/spool.rs::one_byte_more_than_the_limit_is_refused",
        "more than 274877906944 bytes were pushed",
    ),
    served(
        "UPLOADS",
        "uploads to `serve` that are open",
        "uploads",
        "src/serve/uploads.rs::the_oldest_session_ends_when_there_are_too_many",
        "the oldest session ends",
    ),
];

fn accounts(lab: &Lab) -> Output {
    let mut layout = Layout::default();
    let passwd = Tarball::new().file("etc/passwd", vec![b'x'; (4 << 20) + 1]).finish();
    let image = layout.image(&[passwd]);
    layout.entries.push(image);
    lab.write("in.tar", layout.tar());
    lab.run(&["push", "-i", "--base-tar", "in.tar", "--user", "web", "--to-oci-tar", "out.tar"])
}

fn copy(lab: &Lab) -> Output {
    lab.run(&["copy", "-q", "--tar", "in.tar", "--to-oci-tar", "out.tar"])
}

fn copy_layout(lab: &Lab, layout: &Layout) -> Output {
    lab.write("in.tar", layout.tar());
    copy(lab)
}

fn pull_layer(lab: &Lab, layer: Vec<u8>) -> Output {
    let mut layout = Layout::default();
    let image = layout.image(&[layer]);
    layout.entries.push(image);
    lab.write("in.tar", layout.tar());
    lab.run(&["pull", "-q", "--tar", "in.tar", "-o", "out"])
}

/// A sparse file of so many zeros.
fn sparse(lab: &Lab, name: &str, size: u64) {
    File::create(lab.path(name)).unwrap().set_len(size).unwrap();
}

fn document(lab: &Lab) -> Output {
    let mut layout = Layout::default();
    let index = layout.blob(INDEX, format!(r#"{{"schemaVersion":2,"manifests":[]{}}}"#, " ".repeat(8 << 20)));
    layout.entries.push(index);
    copy_layout(lab, &layout)
}

fn config(lab: &Lab) -> Output {
    let mut layout = Layout::default();
    let config = layout
        .blob(CONFIG, format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[]}}{}}}"#, " ".repeat(16 << 20)));
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
    let manifest = layout.blob(MANIFEST, manifest.to_string());
    layout.entries.push(manifest);
    lab.write("in.tar", layout.tar());
    lab.run(&["pull", "-q", "--tar", "in.tar", "-o", "out"])
}

fn table(lab: &Lab) -> Output {
    let size = (256 << 20) + 1;
    let start = Tarball::new().file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    let start = start.entry(&Header::new("index.json", b'0', size), b"").unfinished();
    sparse(lab, "in.tar", start.len() as u64 + size.div_ceil(512) * 512 + 1024);
    File::options().write(true).open(lab.path("in.tar")).unwrap().write_all_at(&start, 0).unwrap();
    copy(lab)
}

fn lock(lab: &Lab) -> Output {
    sparse(lab, "lock.yml", (16 << 20) + 1);
    lab.run(&["copy", "--lock", "lock.yml", "--to-oci-tar", "out.tar"])
}

fn asked(lab: &Lab) -> Output {
    let request = vec![b' '; (32 << 20) + 1];
    lab.command(&["match", "--tar", "in.tar"]).stdin(request).run()
}

fn asked_for_many(lab: &Lab) -> Output {
    let entry =
        json!({"checksum": {"value": "0".repeat(40)}, "size_in_bytes": 1, "path": "a", "mode": "644"});
    let request = json!({ "resources": vec![entry; 5001] }).to_string();
    lab.command(&["match", "--tar", "in.tar"]).stdin(request).run()
}

fn resources(lab: &Lab) -> Output {
    sparse(lab, "resources.json", (64 << 20) + 1);
    lab.run(&["push", "-s", "--resources", "resources.json", "--to-oci-tar", "out.tar"])
}

fn file_list(lab: &Lab) -> Output {
    let registry = FaultRegistry::start(Access::Open, vec![]);
    let name = format!("{}/team/app", registry.host());
    lab.write("app/f", "text");
    let pushed = lab.run(&["push", "-q", "-s", "-i", &format!("{name}:v1"), "-f", "app"]).succeeds();
    let digest = pushed.one_line().split_once('@').unwrap().1;
    lab.write("list/.keep", "");
    sparse(lab, "list/files", (64 << 20) + 1);
    let of = format!("dev.imgrelay.files-of={digest}");
    let list = format!("{name}:{}.files.imgrelay", digest.replace(':', "-"));
    let _ = lab.run(&["push", "-q", "-i", &list, "-f", "list", "--annotation", &of]).succeeds();
    let sum = json!({"checksum": {"value": "0".repeat(40)}, "size_in_bytes": 1, "path": "a", "mode": "644"});
    let request = json!({ "resources": [sum] }).to_string();
    lab.command(&["match", "-s", &format!("{name}:v1")]).stdin(request.into_bytes()).run()
}

fn nesting(lab: &Lab) -> Output {
    let mut layout = Layout::default();
    let mut top = layout.image(&[]);
    for _ in 0..17 {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [top]});
        top = layout.blob(INDEX, index.to_string());
    }
    layout.entries.push(top);
    copy_layout(lab, &layout)
}

fn documents(lab: &Lab) -> Output {
    let mut layout = Layout::default();
    let config = layout.blob(CONFIG, "{}");
    let mut number = 0_u32;
    let images: Vec<_> = (0..3)
        .map(|_| {
            let mut layers = String::new();
            for _ in 0..50_000 {
                number += 1;
                let comma = if layers.is_empty() { "" } else { "," };
                write!(layers, r#"{comma}{{"mediaType":"a","digest":"sha256:{number:064x}","size":1}}"#)
                    .unwrap();
            }
            let text = format!(
                r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layers}]}}"#
            );
            layout.blob(MANIFEST, text)
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": images});
    let index = layout.blob(INDEX, index.to_string());
    layout.entries.push(index);
    copy_layout(lab, &layout)
}

fn urls_of_a_layer(lab: &Lab) -> Output {
    let (registry, mut layout) = (FaultRegistry::start(Access::Open, vec![]), Layout::default());
    let digest = format!("sha256:{}", "0".repeat(64));
    let rootfs = json!({"rootfs": {"type": "layers", "diff_ids": [digest]}});
    let config = layout.blob(CONFIG, rootfs.to_string());
    let kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let layer = json!({"mediaType": kind, "digest": digest, "size": 1, "urls": vec!["ftp://x/"; 11]});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    layout.blob(MANIFEST, manifest.to_string());
    for blob in &layout.blobs {
        registry.put_blob("a", &format!("sha256:{}", crate::layouts::hex(blob)), blob);
    }
    let manifest = layout.blobs.last().unwrap();
    let digest = format!("sha256:{}", crate::layouts::hex(manifest));
    registry.put_manifest("a", "v1", &digest, MANIFEST, manifest);
    lab.run(&["pull", "-i", &format!("{}/a:v1", registry.host()), "-o", "out"])
}

fn names_of_an_image(lab: &Lab) -> Output {
    let names: Vec<String> = (0..=100_000).map(|number| format!("reg.example/a:{number}")).collect();
    docker_table(lab, &json!([{"Config": "config.json", "RepoTags": names, "Layers": []}]))
}

fn texts_of_a_table(lab: &Lab) -> Output {
    let names = vec![""; 1_000_000];
    docker_table(lab, &json!([{"Config": "config.json", "RepoTags": names, "Layers": []}]))
}

fn docker_table(lab: &Lab, table: &serde_json::Value) -> Output {
    let config = r#"{"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let tar = Tarball::new().file("manifest.json", table.to_string()).file("config.json", config).finish();
    lab.write("docker.tar", tar);
    lab.run(&["describe", "--tar", "docker.tar"])
}

/// Each is below the limit, all together are above it.
fn graph(lab: &Lab) -> Output {
    let mut layout = Layout::default();
    let text = "a".repeat(7 << 20);
    let padded =
        |at: usize| format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"a":"{at}{text}"}}}}"#);
    let inner: Vec<_> = (0..38).map(|at| layout.blob(INDEX, padded(at))).collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": inner});
    let index = layout.blob(INDEX, index.to_string());
    layout.entries.push(index);
    copy_layout(lab, &layout)
}

fn path(lab: &Lab) -> Output {
    pull_layer(lab, Tarball::new().pax(&[("path", &[b'a'; 4097])]).file("x", "").finish())
}

fn extension(lab: &Lab) -> Output {
    let size = (1 << 20) + 1;
    pull_layer(lab, Tarball::new().entry(&Header::new("x", b'x', size as u64), &vec![b'1'; size]).finish())
}

/// A frame whose header has a window of 2^28 bytes, and no content (RFC 8878 3.1.1).
fn window(lab: &Lab) -> Output {
    lab.write("in.tar", [0x28, 0xb5, 0x2f, 0xfd, 0, (28 - 10) << 3, 1, 0, 0]);
    copy(lab)
}

fn concurrency(lab: &Lab) -> Output {
    lab.run(&["copy", "--tar", "in.tar", "--to-oci-tar", "out.tar", "--concurrency", "65"])
}

fn oci_layout(lab: &Lab) -> Output {
    let mut files = Layout::simple().files();
    files[0].1.resize((64 << 10) + 1, b' ');
    lab.write("in.tar", crate::layouts::tar_of(&files));
    copy(lab)
}

fn entry_of_a_store(lab: &Lab) -> Output {
    let store = format!("file://{}:a", lab.path("store").display());
    lab.write("in.tar", crate::layouts::tar_of(&Layout::simple().files()));
    let _ = lab.run(&["copy", "--tar", "in.tar", "--to-store", &store]).succeeds();
    let entry = std::fs::read_dir(lab.path("store/tags/a")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&entry).unwrap();
    bytes.resize((8 << 20) + 1, b' ');
    std::fs::write(&entry, bytes).unwrap();
    lab.run(&["copy", "--store", &store, "--to-oci-tar", "out.tar"])
}

fn list_of_a_store(lab: &Lab) -> Output {
    let store = format!("file://{}:a", lab.path("store").display());
    lab.write("in.tar", crate::layouts::tar_of(&Layout::simple().files()));
    lab.write("store/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    lab.write("store/gc/8203954672417-0.list", vec![b'\n'; (16 << 20) + 1]);
    lab.run(&["copy", "--tar", "in.tar", "--to-store", &store])
}

fn links(lab: &Lab) -> Output {
    pull_layer(lab, Tarball::new().symlink("l", "l").file("l/x", "").finish())
}

fn candidates(lab: &Lab) -> Output {
    std::fs::create_dir(lab.path("many")).unwrap();
    (0..10_001).for_each(|at| drop(File::create(lab.path(format!("many/{at}"))).unwrap()));
    lab.run(&["copy", "--tar", "many", "--to-oci-tar", "out.tar"])
}

fn depth(lab: &Lab) -> Output {
    pull_layer(lab, Tarball::new().file("d/".repeat(513) + "f", "").finish())
}

fn certificates(lab: &Lab) -> Output {
    sparse(lab, "ca.pem", (4 << 20) + 1);
    lab.run(&["pull", "-i", "reg.example/a", "-o", "out", "--registry-ca-cert-path", "ca.pem"])
}

fn page(lab: &Lab) -> Output {
    let registry = FaultRegistry::start(Access::Open, vec![]);
    registry.rule(on("GET", Thing::Tags, Fault::Body(vec![b' '; (8 << 20) + 1])));
    lab.run(&["tag", "list", "-i", &format!("{}/team/app", registry.host())])
}

fn credentials(lab: &Lab) -> Output {
    sparse(lab, "auth.json", (4 << 20) + 1);
    lab.run(&["pull", "-i", "reg.example/a", "-o", "out", "--authfile", "auth.json"])
}

fn pull_from(lab: &Lab, registry: &FaultRegistry, environment: &[(&str, &str)]) -> Output {
    let name = format!("{}/team/app:v1", registry.host());
    let command = lab.command(&["pull", "-i", &name, "-o", "out", "--registry-retry-count", "1"]);
    environment.iter().fold(command, |command, (key, value)| command.env(key, value)).run()
}

fn token(lab: &Lab) -> Output {
    let access = Access::Bearer { user: "u", password: "p", expires_in: None, challenges: vec!["{}"] };
    let registry = FaultRegistry::start(access, vec![]);
    registry.rule(on("GET", Thing::Token, Fault::Body(vec![b' '; (1 << 20) + 1])).always());
    pull_from(lab, &registry, &[("IMGRELAY_REGISTRY_USERNAME", "u"), ("IMGRELAY_REGISTRY_PASSWORD", "p")])
}

fn helper(lab: &Lab) -> Output {
    let program = lab.write("bin/docker-credential-big", "#!/bin/sh\nhead -c 1048577 /dev/zero\n");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    lab.write("auth.json", r#"{"credsStore":"big"}"#);
    let registry = FaultRegistry::start(Access::Basic("u", "p"), vec![]);
    let path = format!("{}:/usr/bin:/bin", lab.path("bin").display());
    let name = format!("{}/team/app:v1", registry.host());
    lab.command(&["pull", "-i", &name, "-o", "out", "--authfile", "auth.json"]).env("PATH", path).run()
}

/// The refusal is reported, and the body fills neither memory nor screen.
fn refusal(lab: &Lab) -> Output {
    let registry = FaultRegistry::start(Access::Open, vec![]);
    let body = "z".repeat(10 << 20);
    registry.rule(on("GET", Thing::Manifest, Fault::Response(400, vec![], body)).always());
    let output = pull_from(lab, &registry, &[]);
    assert!(output.stderr.matches('z').count() < 500, "{}", output.stderr.len());
    output
}

fn extensions(lab: &Lab) -> Output {
    let tar =
        (0..17).fold(Tarball::new(), |tar, _| tar.entry(&Header::new("g", b'g', 13), b"13 comment=x\n"));
    pull_layer(lab, tar.file("x", "").finish())
}

fn redirects(lab: &Lab) -> Output {
    let registry = FaultRegistry::start(Access::Open, vec![]);
    let to = format!("http://{}/v2/team/app/manifests/{{}}", registry.host());
    registry.rule(on("GET", Thing::Manifest, Fault::Redirect(307, to)).always());
    pull_from(lab, &registry, &[])
}

fn blob(lab: &Lab) -> Output {
    let mut layout = Layout::default();
    let mut layer = layout.blob(LAYER_GZIP, "x");
    layer["size"] = ((64_u64 << 40) + 1).into();
    let config = layout.blob(CONFIG, "{}");
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let manifest = layout.blob(MANIFEST, manifest.to_string());
    layout.entries.push(manifest);
    copy_layout(lab, &layout)
}

/// A list whose every page names another one.
fn pages(lab: &Lab) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, count) = (stream.unwrap(), Arc::clone(&count));
            std::thread::spawn(move || {
                while read_request(&stream).is_ok() {
                    let at = count.fetch_add(1, Ordering::Relaxed);
                    let body = r#"{"name":"team/app","tags":["t"]}"#;
                    let link = format!("</v2/team/app/tags/list?last={at}>; rel=\"next\"");
                    let head =
                        format!("HTTP/1.1 200 OK\r\nLink: {link}\r\nContent-Length: {}\r\n\r\n", body.len());
                    if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    lab.command(&["tag", "list", "-i", &format!("{host}/team/app")]).patience(Duration::from_secs(120)).run()
}

fn concourse(lab: &Lab, step: &str, request: &str) -> Output {
    std::fs::create_dir_all(lab.path("put")).unwrap();
    let folder = lab.path("put").to_str().unwrap().to_owned();
    let words: &[&str] = if step == "check" { &[] } else { &[&folder] };
    lab.command(words).named(step).in_folder("/").stdin(request).run()
}

fn request(lab: &Lab) -> Output {
    concourse(lab, "check", &format!("{{{}}}", " ".repeat(16 << 20)))
}

fn param_file(lab: &Lab) -> Output {
    lab.write("put/tags", vec![b'a'; (64 << 10) + 1]);
    let params = r#"{"image": "x.tar", "additional_tags": "tags"}"#;
    concourse(lab, "out", &format!(r#"{{"source": {{"repository": "reg.example/a"}}, "params": {params}}}"#))
}

fn regex(lab: &Lab) -> Output {
    concourse(lab, "check", r#"{"source": {"repository": "reg.example/a", "tag_regex": "(a{1000}){1000}"}}"#)
}

fn ignore(lab: &Lab) -> Output {
    lab.write("app/.cfignore", vec![b'\n'; (1 << 20) + 1]);
    lab.write("app/f", "x");
    lab.run(&["push", "-s", "-f", "app", "--to-oci-tar", "out.tar"])
}

fn cloud_response(lab: &Lab) -> Output {
    let machine = FakeService::start(|_| Ok((200, " ".repeat((256 << 10) + 1))));
    lab.command(&["pull", "-i", "gcr.io/team/app", "-o", "out", "--activate-keychain", "gke"])
        .env("GCE_METADATA_HOST", machine.host())
        .run()
}

fn token_file(lab: &Lab) -> Output {
    sparse(lab, "token", (64 << 10) + 1);
    lab.command(&[
        "pull",
        "-i",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a",
        "-o",
        "out",
        "--activate-keychain",
        "ecr",
    ])
    .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/")
    .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", lab.path("token"))
    .run()
}

/// An archive may have as many roots as one root may have documents below it.
#[test]
fn an_archive_of_more_images_than_the_limit_is_refused() {
    let entry = |at: usize| format!(r#"{{"mediaType":"{MANIFEST}","digest":"sha256:{at:064x}","size":9}}"#);
    let index = |count: usize| {
        let entries: Vec<String> = (0..count).map(entry).collect();
        format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","))
    };
    let lab = lab();
    let version = ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    let index = ("index.json".to_owned(), index(100_001).into_bytes());
    lab.write("in.tar", crate::layouts::tar_of(&[version, index]));
    let output = lab.command(&["copy", "-q", "--tar", "in.tar", "--to-oci-tar", "out.tar"]).measured().run();
    let peak = output.peak_kib.unwrap();
    let output = output.fails(1, &["it lists 100001 images, at most 100000 are accepted"]);
    assert!(peak < 200_000, "{peak} KiB\n{output}");
}

/// The same limit for files that the environment and the system configuration name.
#[test]
fn files_of_certificates_are_bounded_wherever_they_are() {
    let registry = Registry::with().tls().start();
    let lab = lab();
    let name = format!("{}/a:v1", registry.host());
    let pull = || lab.command(&["pull", "-q", "-i", &name, "-o", "out", "--registry-retry-count", "1"]);
    let output = pull().env("SSL_CERT_FILE", "/dev/zero").measured().run();
    let peak = output.peak_kib.unwrap();
    assert!(peak < 60_000, "{peak} KiB\n{}", output.fails(1, &[registry.host()]));
    let folder = lab.home().join(".config/containers/certs.d").join(registry.host());
    std::fs::create_dir_all(&folder).unwrap();
    File::create(folder.join("ca.crt")).unwrap().set_len((4 << 20) + 1).unwrap();
    let _ = pull().run().fails(2, &["ca.crt` has more than 4194304 bytes"]);
}

#[test]
fn one_entry_of_a_layer_more_than_the_limit_is_refused() {
    let folder = Scratch::new("entries");
    let layer =
        |count: usize| (0..count).fold(Tarball::new(), |tar, at| tar.file(format!("f{at}"), "")).finish();
    let extract = |layers: &[Vec<u8>]| {
        let root = std::os::fd::OwnedFd::from(File::open(folder.path()).unwrap());
        let mut extractor = Extractor::new(root, Policy::contents(0o022)).at_most(3);
        layers.iter().try_for_each(|layer| extractor.layer(&layer[..], &mut |_| {}))
    };
    // The limit applies to each layer.
    extract(&[layer(3), layer(3)]).unwrap();
    let error = extract(&[layer(3), layer(4)]).unwrap_err().to_string();
    assert!(error.contains("the layer has more than 3 entries"), "{error}");
    assert!(error.contains("`f3`"), "{error}");
}

/// The tests that rows name exist, run, and check the same message.
#[test]
fn every_row_has_its_test() {
    for row in &ROWS {
        let How::Test(name) = row.how else { continue };
        let (file, function) = name.split_once("::").unwrap();
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let start = format!("#[test]\n    fn {function}() {{");
        let at = text.find(&start).or_else(|| text.find(&start.replace("\n    ", "\n")));
        let body = &text[at.unwrap_or_else(|| panic!("{}: no test `{name}`", row.name))..];
        let body = &body[..body[1..].find("#[test]").unwrap_or(body.len() - 1)];
        // A comment proves nothing.
        let code: String = body
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|l| l.to_owned() + "\n")
            .collect();
        let words: Vec<&str> = row.message.split(char::is_numeric).filter(|part| !part.is_empty()).collect();
        for part in words {
            assert!(code.contains(part.trim()), "{}: `{name}` does not expect `{part}`", row.name);
        }
    }
}

#[test]
fn every_limit_is_an_error_with_its_own_message_and_leaves_nothing() {
    let mut wrong = String::new();
    for row in &ROWS {
        let How::Run(exceed) = row.how else { continue };
        let lab = lab();

        let output = exceed(&lab);
        let said = output.stderr.contains(row.message) && output.stdout.is_empty();
        let left = lab.path("out").exists() || lab.path("out.tar").exists();
        if output.code != Some(row.code) || !said || left {
            writeln!(wrong, "{}: expected {} and `{}`\n{output}", row.name, row.code, row.message).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The largest accepted values of some limits.
#[test]
fn what_is_just_within_a_limit_is_accepted() {
    let room = lab();
    room.write("in.tar", Layout::simple().tar());
    let words = ["copy", "-q", "--tar", "in.tar", "--to-oci-tar", "out.tar", "--concurrency", "64"];
    let _ = room.run(&words).succeeds();
    let _ = pull_layer(&lab(), Tarball::new().file("d/".repeat(511) + "f", "").finish()).succeeds();
    let name = format!("{}f", "n/".repeat(500));
    let _ = pull_layer(&lab(), Tarball::new().pax(&[("path", name.as_bytes())]).file("x", "").finish())
        .succeeds();
    let room = lab();
    room.write("in.tar", [0x28, 0xb5, 0x2f, 0xfd, 0, (27 - 10) << 3, 1, 0, 0]);
    let _ = copy(&room).ends_with(1).says("zstd-compressed, and inside is an empty file");
    let mut files = Layout::simple().files();
    files[0].1.resize(64 << 10, b' ');
    let room = lab();
    room.write("in.tar", crate::layouts::tar_of(&files));
    let _ = copy(&room).succeeds();
}

/// Reads the constants and their doc comments.
fn constants() -> Vec<(String, String, String)> {
    let text = include_str!("../../../src/model/limits.rs");
    let (mut found, mut reason) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("///") {
            reason.push(comment.trim().to_owned());
        } else if let Some(rest) = line.strip_prefix("pub const ") {
            let (name, rest) = rest.split_once(':').unwrap();
            let value = rest.split_once('=').unwrap().1.trim().trim_end_matches(';');
            let product =
                value.split('*').map(|factor| factor.trim().replace('_', "").parse::<u64>().unwrap());
            let value = product.product::<u64>().to_string();
            found.push((name.to_owned(), value, std::mem::take(&mut reason).join(" ")));
        }
    }
    found
}

/// Limits of formats and of other programs, and configurable ones; they are not in `limits.rs`, because imgrelay does
/// not choose them.
const OTHER_BOUNDS: &str = "\
## Bounds of formats and peers, and those that can be set

| what | flag | most | exit code | what follows |
|---|---|---|---|---|
| registry and repository together | | 255 characters | 2 | `characters long with its registry` |
| a tag | | 128 characters | 2 | `is not valid: a tag is 1 to 128` |
| a part of a name in a zip | | 255 bytes | 1 | the entry is named and refused |
| the headers of a response | | 64 KiB | 4 | the registry is given up |
| addresses of a host that are tried | | 16 | | the others are not |
| challenges for one request | | 3 | 1 | the registry refused the credentials |
| longest life of a token that is accepted | | 24 hours | | a new one is requested |
| `Retry-After` that is kept | | 120 s | | asked again after that |
| a response from a credential helper | | 60 s | 2 | `no response within 60 s` |
| files of a source image | `--size-limit` | 1 GiB | 1 | `has more than 1073741824 bytes` |
| layers of a source image | | 100 | | folders share a layer |
| attempts of one request | `--registry-retry-count` | 5 | 4 | `after 5 attempts` |
| connecting, with the response from a proxy and the TLS handshake | `--registry-connect-timeout` | 10 s | 4 | `timed out after 10 s while connecting` |
| a response's beginning | `--registry-response-header-timeout` | 30 s | 4 | `waiting for response headers` |
| silence in a body | `--registry-idle-timeout` | 30 s | 4 | `nothing moved for 30 s` |
| `serve`: the head of a request, from its first byte | | 10 s | 0 | the connection ends |
| `serve`: silence of a client, also between two requests | | 60 s | 0 | the connection ends |
";

fn page_of_limits() -> String {
    let mut page = "# Limits\n\nEverything that comes from outside is bounded. This table is written from `src/model/limits.rs` and from the\n\
        tests that exceed each limit (`UPDATE_DOCS=1 cargo test --test it limits`). The limits are constants: each is far\n\
        above what real tools write, so a need to raise one is a bug to report. `--concurrency`, the number of attempts\n\
        and the time-outs are flags, and are in the help of each command.\n\n\
        | constant | bounds | most | exit code | the error says | why |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for (name, value, reason) in constants() {
        let row = ROWS.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no row for {name}"));
        let note = if matches!(row.how, How::Test(_)) { " *" } else { "" };
        let (what, unit, code, message) = (row.what, row.unit, row.code, row.message);
        writeln!(page, "| `{name}`{note} | {what} | {value} {unit} | {code} | {message} | {reason} |")
            .unwrap();
    }
    page.push_str(
        "\n\\* Too large to exceed in every run of the tests: exceeded by a test that lowers it. `ARCHIVE_ENTRIES` and `LAYER_ENTRIES` are\nalso exceeded as they are with `cargo test --test it limits -- --ignored`.\n\nThere is no other limit on the size of a blob, and none on what a layer unpacks to: images of hundreds of gigabytes are real, \
         and a\nlayer is written as it is unpacked, in constant memory. What bounds a decompression bomb is the disk; a full disk is an\n\
         error that leaves the old output and removes the new one. Run pulls of images you do not trust under a quota.\n\
         Compression inside compression is not undone: one layer of gzip or zstd is, for layers and for whole archives.\n\n",
    );
    page.push_str(OTHER_BOUNDS);
    page
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a switch of the test, not of the program")]
fn the_page_of_limits_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/limits.md");
    let page = page_of_limits();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/limits.md is old: UPDATE_DOCS=1 cargo test --test it limits");
    assert_eq!(ROWS.len(), constants().len(), "each row has its constant");
}

#[test]
#[ignore = "writes half a gigabyte"]
fn an_archive_of_more_than_a_million_entries_is_refused() {
    let lab = lab();
    let file = File::create(lab.path("in.tar")).unwrap();
    let mut out = std::io::BufWriter::new(file);
    for at in 0..=1_000_000 {
        std::io::Write::write_all(&mut out, &Header::new(format!("e{at}"), b'0', 0).block()).unwrap();
    }
    drop(out);
    let output = lab.command(&["copy", "-q", "--tar", "in.tar", "--to-oci-tar", "out.tar"]).measured().run();
    let output = output.fails(1, &["it has more than 1000000 entries"]);
    assert!(output.peak_kib.unwrap() < 600_000, "{output}");
}

#[test]
#[ignore = "ten million entries take a minute"]
fn a_layer_of_more_than_ten_million_entries_is_refused() {
    let lab = lab();
    // In the lowest layer a whiteout removes nothing.
    let block = Header::new(".wh.x", b'0', 0).block();
    let mut layer = Vec::new();
    let chunk = gzip(&block.repeat(10_000));
    (0..1000).for_each(|_| layer.extend_from_slice(&chunk));
    layer.extend_from_slice(&gzip(&block));
    let mut layout = Layout::default();
    let layer = layout.blob(LAYER_GZIP, layer);
    let config = json!({"rootfs": {"type": "layers", "diff_ids": [descriptor(CONFIG, b"x")["digest"]]}});
    let config = layout.blob(CONFIG, config.to_string());
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let manifest = layout.blob(MANIFEST, manifest.to_string());
    layout.entries.push(manifest);
    lab.write("in.tar", layout.tar());
    let output = lab.run(&["pull", "-q", "--tar", "in.tar", "-o", "out"]);
    let _ = output.fails(1, &["the layer has more than 10000000 entries"]);
}
