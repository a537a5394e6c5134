//! The registry client with a faulty registry: each fault, once and permanently.
//!
//! The fault registry checks every push that succeeds, without the client's code.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use imgrelay::model::{Descriptor, ImageManifest, RawDocument, Repository, Tag, Target, media_type};
use imgrelay::registry::{
    Client, ClientEvents, ClientOptions, Credential, CredentialSource, Credentials, Keychain, Mirror,
    PushOutcome, PushStart, RegistryError, RequestRecord, RetryRecord, Secret, Timeouts, WireOptions,
};
use imgrelay::stream::Mismatch;
use testkit::fault::{Access, Fault, FaultRegistry, Rule, Thing, digest_of, on};

const MIB: usize = 1024 * 1024;
const BEARER: Access =
    Access::Bearer { user: "ci", password: "s3cret", expires_in: Some(300), challenges: Vec::new() };

/// The client's events.
#[derive(Default)]
struct Record {
    requests: Mutex<Vec<String>>,
    retries: Mutex<Vec<String>>,
    warnings: Mutex<Vec<String>>,
}

impl ClientEvents for Record {
    fn request(&self, record: &RequestRecord<'_>) {
        self.requests.lock().unwrap().push(format!("{} {} {:?}", record.method, record.url, record.status));
    }
    fn retry(&self, record: &RetryRecord<'_>) {
        self.retries.lock().unwrap().push(format!("{} {}", record.task, record.cause));
    }
    fn warning(&self, host: &str, text: &str) {
        self.warnings.lock().unwrap().push(format!("{host} {text}"));
    }
}

pub(crate) fn options() -> ClientOptions {
    let credential = Credential::Basic { username: "ci".into(), password: Secret::new("s3cret") };
    let timeouts = Timeouts {
        connect: Duration::from_secs(5),
        idle: Duration::from_millis(400),
        response: Duration::from_millis(400),
        closing_response: Duration::from_millis(600),
    };
    ClientOptions {
        credentials: Arc::new(Keychain::new(vec![CredentialSource::Everywhere(credential)])),
        retries: 3,
        retry_delay: Duration::from_millis(10),
        wire: WireOptions { timeouts, ..WireOptions::default() },
        ..ClientOptions::default()
    }
}

fn client() -> Client {
    Client::new(options()).unwrap()
}

fn repository(registry: &FaultRegistry) -> Repository {
    format!("{}/team/app", registry.host()).parse().unwrap()
}

fn tag(name: &str) -> Target {
    Target::Tag(name.parse::<Tag>().unwrap())
}

/// Bytes without repetition, so that a piece in the wrong place is found.
pub(crate) fn bytes(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8).to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// An image of two layers, 3 MB and 300 kB.
pub(crate) struct Image {
    pub(crate) blobs: Vec<(Descriptor, Vec<u8>)>,
    pub(crate) manifest: RawDocument,
}

impl Image {
    pub(crate) fn new() -> Self {
        Self::with_layers(&[bytes(1, 3_000_000), bytes(2, 300_000)])
    }

    pub(crate) fn with_layers(layers: &[Vec<u8>]) -> Self {
        let mut blobs: Vec<(Descriptor, Vec<u8>)> = layers
            .iter()
            .map(|layer| (Descriptor::of_bytes(media_type::OCI_LAYER, layer), layer.clone()))
            .collect();
        let config = Descriptor::of_bytes(media_type::OCI_CONFIG, b"{}");
        let manifest = RawDocument::of_manifest(ImageManifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            artifact_type: None,
            config: config.clone(),
            layers: blobs.iter().map(|(descriptor, _)| descriptor.clone()).collect(),
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        });
        blobs.push((config, b"{}".to_vec()));
        Self { blobs, manifest }
    }

    pub(crate) fn push(&self, client: &Client, repository: &Repository) -> Result<(), RegistryError> {
        for (descriptor, bytes) in &self.blobs {
            client.push_blob(repository, descriptor, bytes, PushStart::Ask(&[]), &|_| {})?;
        }
        client.push_manifest(repository, &tag("v1"), &self.manifest)
    }

    /// Stores it in the registry without the client.
    fn seed(&self, registry: &FaultRegistry) {
        for (descriptor, bytes) in &self.blobs {
            registry.put_blob("team/app", &descriptor.digest.to_string(), bytes);
        }
        let digest = self.manifest.digest().to_string();
        registry.put_manifest("team/app", "v1", &digest, self.manifest.media_type(), self.manifest.bytes());
    }

    /// Reads all blobs, and a blob that did not match once more, as callers do.
    pub(crate) fn pull(&self, client: &Client, repository: &Repository) -> Result<(), String> {
        let text = |error: RegistryError| error.to_string();
        let head = client.head_manifest(repository, &tag("v1")).map_err(text)?.ok_or("no tag")?;
        assert_eq!(&head.digest, self.manifest.digest());
        let document = client.fetch_manifest(repository, &tag("v1")).map_err(text)?;
        assert_eq!(document.bytes(), self.manifest.bytes());
        for (descriptor, expected) in &self.blobs {
            let read = || {
                let mut found = Vec::new();
                let mut reader = client.open_blob(repository, descriptor).map_err(std::io::Error::other)?;
                reader.read_to_end(&mut found).map(|_| found)
            };
            let found = match read() {
                Err(error) if Mismatch::in_error(&error).is_some() => read(),
                other => other,
            };
            assert!(
                found.map_err(|error| error.to_string())? == *expected,
                "{} came wrong",
                descriptor.digest
            );
        }
        Ok(())
    }
}

fn answer(status: u16) -> Fault {
    Fault::Response(status, Vec::new(), String::new())
}

fn header(name: &'static str, value: &str) -> Fault {
    Fault::Header(name, Some(value.to_owned()))
}

/// Faults that the matrix (`registry::matrix`) does not have; the same for pulls, and for permanent faults.
#[test]
fn pushes_recover_from_transient_faults() {
    let date = Fault::Response(
        429,
        vec![
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT".into()),
            ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT".into()),
        ],
        String::new(),
    );
    let cases = [
        ("401 on the second body", BEARER, on("PATCH", Thing::Session, Fault::RevokeTokens).nth(2)),
        ("401 on POST", BEARER, on("POST", Thing::Uploads, Fault::RevokeTokens).nth(2)),
        ("429 with a date", Access::Open, on("POST", Thing::Uploads, date)),
        ("no response to PATCH", Access::Open, on("PATCH", Thing::Session, Fault::LoseResponse)),
        ("silence after POST", Access::Open, on("POST", Thing::Uploads, Fault::Silence)),
    ];
    let image = Image::new();
    for (name, access, rule) in cases {
        println!("push: {name}");
        let registry = FaultRegistry::start(access, vec![rule]);
        let result = image.push(&client(), &repository(&registry));
        assert!(result.is_ok(), "{name}: {}", result.unwrap_err());
        assert_eq!(registry.check_image("team/app", "v1"), Ok(()), "{name}");
    }
}

#[test]
fn every_form_of_www_authenticate_is_understood() {
    for challenges in [vec!["Basic realm=\"x\"", "{}"], vec!["Digest realm=\"x\", nonce=\"a,b\", {}"]] {
        let access = Access::Bearer {
            user: "ci",
            password: "s3cret",
            expires_in: None,
            challenges: challenges.clone(),
        };
        let registry = FaultRegistry::start(access, vec![]);
        let result = Image::new().push(&client(), &repository(&registry));
        assert!(result.is_ok(), "{challenges:?}: {result:?}");
        assert_eq!(registry.check_image("team/app", "v1"), Ok(()));
    }
}

#[test]
fn identity_tokens_are_exchanged() {
    let identity = |token: &str| {
        let source = CredentialSource::Everywhere(Credential::IdentityToken(Secret::new(token)));
        let credentials = Arc::new(Keychain::new(vec![source]));
        Client::new(ClientOptions { credentials, ..options() }).unwrap()
    };
    let registry = FaultRegistry::start(BEARER, vec![]);
    Image::new().push(&identity("s3cret"), &repository(&registry)).unwrap();
    assert_eq!(registry.count("POST", Thing::Token), 1, "one token for the whole push");
    let error = Image::new().push(&identity("wrong"), &repository(&registry)).unwrap_err();
    assert!(matches!(error, RegistryError::Refused { credentials: Credentials::Given, .. }), "{error}");
    // Servers without OAuth2 accept the token as a password.
    let old = Access::Bearer { user: "<token>", password: "s3cret", expires_in: None, challenges: vec![] };
    let registry = FaultRegistry::start(old, vec![on("POST", Thing::Token, answer(404)).always()]);
    Image::new().push(&identity("s3cret"), &repository(&registry)).unwrap();
}

#[test]
fn credentials_do_not_leave_the_registry() {
    let image = Image::new();
    let registry = FaultRegistry::start(BEARER, vec![]);
    let same_host = registry.foreign().replace("localhost", "127.0.0.1");
    for origin in [registry.foreign(), same_host] {
        let registry = FaultRegistry::start(BEARER, vec![]);
        let origin = origin.rsplit_once(':').map(|(host, _)| host.to_owned()).unwrap();
        let port = registry.foreign().rsplit_once(':').map(|(_, port)| port.to_owned()).unwrap();
        let foreign = format!("{origin}:{port}");
        registry.rule(on("POST", Thing::Uploads, Fault::LocationAt(foreign.clone())).always());
        image.push(&client(), &repository(&registry)).unwrap();
        assert_eq!(registry.check_image("team/app", "v1"), Ok(()));
        let storage = format!("{foreign}/storage/{{}}?X-Amz-Signature=secret");
        registry.rule(on("GET", Thing::Blob, Fault::Redirect(307, storage)).always());
        image.pull(&client(), &repository(&registry)).unwrap();
        assert_eq!(registry.leaks(), Vec::<String>::new());
        assert!(registry.log().iter().any(|entry| entry.foreign && entry.method == "PATCH"));
        assert!(registry.log().iter().any(|entry| entry.foreign && entry.thing == Thing::Storage));
    }
}

#[test]
fn body_limits_lead_to_chunks_and_are_remembered() {
    let image = Image::with_layers(&[bytes(3, 9 * MIB + 5), bytes(4, 6 * MIB)]);
    for rules in [
        vec![],
        // ECR: the reported range stays at the first chunk.
        vec![on("PATCH", Thing::Session, header("range", "0-0")).always()],
        // The response to a chunk is lost, or the chunk itself.
        vec![on("PATCH", Thing::Session, Fault::LoseResponse).nth(4)],
        vec![on("PATCH", Thing::Session, Fault::CutRequest(MIB)).nth(4)],
        vec![on("PATCH", Thing::Session, answer(503)).nth(4)],
    ] {
        let registry = FaultRegistry::start(Access::Open, rules).with_body_limit(4 * MIB);
        image.push(&client(), &repository(&registry)).unwrap();
        assert_eq!(registry.check_image("team/app", "v1"), Ok(()));
        let size = (6 * MIB).to_string();
        let whole =
            registry.log().into_iter().filter(|entry| entry.headers.get("content-length") == Some(&size));
        assert_eq!(whole.count(), 0, "the second layer is not tried whole again");
    }
    let registry = FaultRegistry::start(Access::Open, vec![]).with_body_limit(100);
    let error = image.push(&client(), &repository(&registry)).unwrap_err();
    assert!(matches!(error, RegistryError::Rejected { status: 413, .. }), "{error}");
}

#[test]
fn large_bodies_that_keep_breaking_are_sent_in_chunks_where_those_are_taken() {
    let image = Image::with_layers(&[bytes(9, 17 * MIB)]);
    let cut = || on("PATCH", Thing::Session, Fault::CutRequest(8 * MIB)).times(2);
    for rules in [vec![cut()], vec![cut(), on("PATCH", Thing::Session, answer(405)).nth(3)]] {
        let registry = FaultRegistry::start(Access::Open, rules);
        image.push(&client(), &repository(&registry)).unwrap();
        assert_eq!(registry.check_image("team/app", "v1"), Ok(()));
        assert!(registry.log().iter().any(|entry| entry.headers.contains_key("content-range")));
    }
}

#[test]
fn a_rate_limit_is_shared_by_all_workers() {
    let layers: Vec<Vec<u8>> = (0..24).map(|seed| bytes(seed, 1000)).collect();
    let image = Image::with_layers(&layers);
    let registry = FaultRegistry::start(Access::Open, vec![]).with_rate_limit(30);
    let (client, repository) = (client(), repository(&registry));
    std::thread::scope(|scope| {
        for part in image.blobs.chunks(6) {
            let (client, repository) = (&client, &repository);
            scope.spawn(move || {
                for (descriptor, bytes) in part {
                    client.push_blob(repository, descriptor, bytes, PushStart::Ask(&[]), &|_| {}).unwrap();
                }
            });
        }
    });
    client.push_manifest(&repository, &tag("v1"), &image.manifest).unwrap();
    assert_eq!(registry.check_image("team/app", "v1"), Ok(()));
}

#[test]
fn cross_repository_mounts_are_tried_and_never_needed() {
    let layer = bytes(7, 1000);
    let descriptor = Descriptor::of_bytes(media_type::OCI_LAYER, &layer);
    let digest = descriptor.digest.to_string();
    let other =
        |registry: &FaultRegistry| format!("{}/other", registry.host()).parse::<Repository>().unwrap();
    let push = |registry: &FaultRegistry| {
        client()
            .push_blob(
                &repository(registry),
                &descriptor,
                &layer,
                PushStart::Ask(&[other(registry)]),
                &|_| {},
            )
            .unwrap()
    };
    let registry = FaultRegistry::start(BEARER, vec![]);
    registry.put_blob("other", &digest, &layer);
    assert_eq!(push(&registry), PushOutcome::Mounted);
    assert_eq!(push(&registry), PushOutcome::Present);
    let registry = FaultRegistry::start(BEARER, vec![]).without_mounts();
    assert_eq!(push(&registry), PushOutcome::Uploaded);
    let opened = registry
        .log()
        .iter()
        .filter(|e| e.thing == Thing::Uploads && e.headers.contains_key("authorization"))
        .count();
    assert_eq!(opened, 1, "the session of an unfulfilled mount is used");
    for status in [400, 401, 403, 404, 405] {
        let registry = FaultRegistry::start(BEARER, vec![on("POST", Thing::Uploads, answer(status))]);
        assert_eq!(push(&registry), PushOutcome::Uploaded, "{status}");
        assert_eq!(registry.blob("team/app", &digest).as_ref(), Some(&layer));
    }
}

#[test]
fn an_immutable_tag_that_is_there_already_counts_as_written() {
    for status in [400, 403, 409, 412] {
        let registry = FaultRegistry::start(Access::Open, vec![on("PUT", Thing::Manifest, answer(status))]);
        let image = Image::new();
        image.seed(&registry);
        client().push_manifest(&repository(&registry), &tag("v1"), &image.manifest).unwrap();
        let other = Image::with_layers(&[bytes(1, 10)]);
        registry.rule(on("PUT", Thing::Manifest, answer(status)));
        let error = client().push_manifest(&repository(&registry), &tag("v1"), &other.manifest).unwrap_err();
        assert!(matches!(error, RegistryError::Rejected { .. } | RegistryError::Refused { .. }), "{error}");
    }
}

#[test]
fn empty_blobs_and_repeated_ones_are_pushed_once() {
    let image = Image::with_layers(&[Vec::new(), bytes(5, 10), bytes(5, 10), b"{}".to_vec()]);
    let registry = FaultRegistry::start(Access::Open, vec![]);
    image.push(&client(), &repository(&registry)).unwrap();
    assert_eq!(registry.check_image("team/app", "v1"), Ok(()));
    assert_eq!((registry.count("PATCH", Thing::Session), registry.count("PUT", Thing::Session)), (0, 3));
    image.pull(&client(), &repository(&registry)).unwrap();
}

/// The expected kind of error.
type Kind = fn(&RegistryError) -> bool;

#[test]
fn pushes_end_soon_on_permanent_faults() {
    let cases: [(&str, Rule, Kind, &str); 3] = [
        (
            "503 for ever",
            on("PUT", Thing::Manifest, answer(503)).always(),
            |e| matches!(e, RegistryError::Unreachable { attempts: 4, .. }),
            "after 4 attempts in ",
        ),
        (
            "silence for ever",
            on("POST", Thing::Uploads, Fault::Silence).always(),
            |e| matches!(e, RegistryError::Unreachable { attempts: 2, .. }),
            "waiting for response headers",
        ),
        (
            "location with a user",
            on("POST", Thing::Uploads, header("location", "http://a:hunter2@127.0.0.1/")),
            |e| matches!(e, RegistryError::Protocol { .. }),
            "has a user name in it",
        ),
    ];
    let image = Image::new();
    for (name, rule, kind, text) in cases {
        println!("hopeless push: {name}");
        let registry = FaultRegistry::start(Access::Open, vec![rule]);
        let error = image.push(&client(), &repository(&registry)).expect_err(name);
        let shown = error.to_string();
        assert!(kind(&error) && shown.contains(text), "{name}: {shown}");
        assert!(shown.contains(&registry.host()), "{name} names the host: {shown}");
        assert!(!shown.contains("hunter2"), "{name}: {shown}");
        assert!(registry.tag("team/app", "v1").is_none(), "{name}: nothing is tagged");
    }
}

#[test]
fn pulls_recover_from_transient_faults() {
    let cases = [
        ("manifest cut", Access::Open, on("GET", Thing::Manifest, Fault::CutResponse(20))),
        ("blob cut three times", Access::Open, on("GET", Thing::Blob, Fault::CutResponse(500_000)).times(3)),
        ("401 at the second blob", BEARER, on("GET", Thing::Blob, Fault::RevokeTokens).nth(2)),
        ("HEAD 403", Access::Open, on("HEAD", Thing::Manifest, answer(403)).always()),
    ];
    let image = Image::new();
    for (name, access, rule) in cases {
        println!("pull: {name}");
        let registry = FaultRegistry::start(access, vec![rule]);
        image.seed(&registry);
        assert_eq!(image.pull(&client(), &repository(&registry)), Ok(()), "{name}");
    }
    for fault in [answer(403), Fault::CutResponse(1_000_000), answer(500)] {
        let registry = FaultRegistry::start(BEARER, vec![on("GET", Thing::Storage, fault)]);
        let url = format!("{}/storage/{{}}?sig=secret", registry.foreign());
        registry.rule(on("GET", Thing::Blob, Fault::Redirect(302, url)).always());
        image.seed(&registry);
        assert_eq!(image.pull(&client(), &repository(&registry)), Ok(()));
        assert_eq!(registry.count("GET", Thing::Blob), 4, "the storage's location is requested again");
        assert_eq!(registry.leaks(), Vec::<String>::new());
    }
}

#[test]
fn pulls_end_soon_on_permanent_faults() {
    let nowhere = Fault::Redirect(307, "http://0.0.0.0:1/{}".into());
    let early = Fault::Body(bytes(1, 1000));
    let cases: [(&str, Vec<Rule>, &str); 5] = [
        (
            "body always ends early",
            vec![on("GET", Thing::Blob, early).always()],
            "after 4000 of 3000000 bytes",
        ),
        ("redirect to nowhere", vec![on("GET", Thing::Blob, nowhere)], "which is not followed"),
        (
            "blob forbidden",
            vec![on("GET", Thing::Blob, answer(403))],
            "refused the pull from `team/app` (403)",
        ),
        ("no manifest", vec![on("GET", Thing::Manifest, answer(404))], "has no manifest `v1`"),
        (
            "wrong range",
            vec![
                on("GET", Thing::Blob, Fault::CutResponse(1000)),
                on("GET", Thing::Blob, header("content-range", "bytes 5-9/10")).nth(2),
            ],
            "the response's range is `bytes 5-9/10`",
        ),
    ];
    let image = Image::new();
    for (name, rules, text) in cases {
        println!("hopeless pull: {name}");
        let registry = FaultRegistry::start(Access::Open, rules);
        image.seed(&registry);
        let shown = image.pull(&client(), &repository(&registry)).expect_err(name);
        assert!(shown.contains(text), "{name}: {shown}");
    }
}

#[test]
fn a_stored_blob_that_is_too_short_is_a_mismatch() {
    let registry = FaultRegistry::start(Access::Open, vec![]);
    let image = Image::new();
    image.seed(&registry);
    let (descriptor, content) = &image.blobs[0];
    registry.put_blob("team/app", &descriptor.digest.to_string(), &content[..1000]);
    let client = client();
    let mut reader = client.open_blob(&repository(&registry), descriptor).unwrap();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(matches!(Mismatch::in_error(&error), Some(Mismatch::Short { found_size: 1000, .. })), "{error}");
}

#[test]
fn the_digest_asked_for_decides_and_not_the_name_it_is_stored_under() {
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{}","size":2}},"layers":[]}}"#,
        digest_of(b"{}")
    );
    let registry = FaultRegistry::start(Access::Open, vec![]);
    let asked = digest_of(b"asked for");
    registry.put_manifest("team/app", "v1", &asked, media_type::OCI_MANIFEST, text.as_bytes());
    let target = Target::Digest(asked.parse().unwrap());
    let error = client().fetch_manifest(&repository(&registry), &target).unwrap_err();
    assert!(matches!(error, RegistryError::Mismatch { .. }), "{error:?}");
}

#[test]
fn sha512_blobs_are_verified() {
    let digest = "sha512:9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043";
    let descriptor = Descriptor::new(media_type::OCI_LAYER, digest.parse().unwrap(), 5);
    let registry = FaultRegistry::start(Access::Open, vec![]);
    let repository = repository(&registry);
    client().push_blob(&repository, &descriptor, &b"hello".to_vec(), PushStart::Ask(&[]), &|_| {}).unwrap();
    let mut text = String::new();
    client().open_blob(&repository, &descriptor).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    registry.put_blob("team/app", digest, b"jello");
    let error = client().open_blob(&repository, &descriptor).unwrap().read_to_string(&mut text).unwrap_err();
    assert!(matches!(Mismatch::in_error(&error), Some(Mismatch::Content { .. })), "{error}");
}

#[test]
fn a_source_that_fails_is_not_taken_for_the_registry() {
    struct Broken;
    impl imgrelay::registry::BlobBody for Broken {
        fn open(&self) -> std::io::Result<Box<dyn Read + Send + '_>> {
            Ok(Box::new((&b"too short"[..]).chain(std::io::empty())))
        }
    }
    let registry = FaultRegistry::start(Access::Open, vec![]);
    let descriptor = Descriptor::of_bytes(media_type::OCI_LAYER, b"something longer");
    let error = client()
        .push_blob(&repository(&registry), &descriptor, &Broken, PushStart::Ask(&[]), &|_| {})
        .unwrap_err();
    assert!(matches!(error, RegistryError::Source { .. }), "{error:?}");
    assert!(error.to_string().contains("ended 7 bytes before its announced size"), "{error}");
    // The server may not have recorded the interrupted request yet.
    assert!(registry.count("POST", Thing::Uploads) <= 1, "not tried again");
}

#[test]
fn tokens_are_fetched_once_however_many_workers_there_are() {
    let registry = FaultRegistry::start(BEARER, vec![]);
    let (client, repository) = (client(), repository(&registry));
    let sent = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let (client, repository, sent) = (&client, &repository, &sent);
            scope.spawn(move || {
                let layer = bytes(seed, 10_000);
                let descriptor = Descriptor::of_bytes(media_type::OCI_LAYER, &layer);
                let progress = |bytes| {
                    sent.fetch_add(bytes, Ordering::SeqCst);
                };
                client.push_blob(repository, &descriptor, &layer, PushStart::Ask(&[]), &progress).unwrap();
            });
        }
    });
    assert_eq!(registry.count("GET", Thing::Token), 1);
    assert_eq!(sent.into_inner(), 80_000, "progress tells the bytes sent");
}

#[test]
fn the_record_of_requests_holds_no_secrets_and_warnings_come_once() {
    let warning = Fault::Header("warning", Some("299 - \"quota \\\"low\\\"\"".into()));
    let registry = FaultRegistry::start(BEARER, vec![on("POST", Thing::Uploads, warning).nth(2).always()]);
    let record = Arc::new(Record::default());
    let client = Client::new(ClientOptions {
        wire: WireOptions { events: record.clone(), ..options().wire },
        ..options()
    })
    .unwrap();
    Image::new().push(&client, &repository(&registry)).unwrap();
    let requests = record.requests.lock().unwrap().join("\n");
    assert!(
        !requests.contains("s3cret") && !requests.contains("secret") && !requests.contains("token-"),
        "{requests}"
    );
    assert!(
        requests.contains("_state=***") && requests.contains("scope=repository:team/app:pull,push"),
        "{requests}"
    );
    assert_eq!(*record.warnings.lock().unwrap(), [format!("{} quota \"low\"", registry.host())]);
    assert!(record.retries.lock().unwrap().is_empty());
}

#[test]
fn a_registry_that_is_down_is_reported_with_attempts() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let repository: Repository = format!("{host}/team/app").parse().unwrap();
    let error = client().fetch_manifest(&repository, &tag("v1")).unwrap_err();
    let expected = format!("cannot read manifest `v1` from `{host}/team/app` after 4 attempts in ");
    assert!(
        error.to_string().starts_with(&expected) && error.to_string().ends_with("connection refused"),
        "{error}"
    );
}

#[test]
fn tags_are_listed_over_all_pages_and_loops_are_noticed() {
    let image = Image::with_layers(&[]);
    let names = ["a", "b", "c", "d", "v1"];
    let seeded = |rules: Vec<Rule>| {
        let registry = FaultRegistry::start(Access::Open, rules).with_page(2);
        image.seed(&registry);
        for name in names {
            let digest = image.manifest.digest().to_string();
            registry.put_manifest(
                "team/app",
                name,
                &digest,
                image.manifest.media_type(),
                image.manifest.bytes(),
            );
        }
        registry
    };
    let registry = seeded(vec![
        on("GET", Thing::Tags, answer(503)).nth(2),
        on("GET", Thing::Tags, Fault::CutResponse(5)).nth(4),
    ]);
    assert_eq!(client().list_tags(&repository(&registry)).unwrap(), names);
    let link = |target: &str| header("link", &format!("<{target}>; rel=\"next\""));
    for (fault, text) in [
        (link("/v2/team/app/tags/list?last=b"), "the pages do not end"),
        (link("http://localhost:1/v2/team/app/tags/list"), "a next page elsewhere"),
        (Fault::Body(b"[]".to_vec()), "the list is not valid"),
        (answer(404), "has no tags"),
        (answer(403), "refused the pull"),
    ] {
        let registry = seeded(vec![on("GET", Thing::Tags, fault).always()]);
        let error = client().list_tags(&repository(&registry)).unwrap_err().to_string();
        assert!(error.contains(text), "{text}: {error}");
    }
    let registry = FaultRegistry::start(Access::Open, vec![]);
    assert_eq!(client().list_tags(&repository(&registry)).unwrap(), Vec::<String>::new(), "`null` is none");
}

#[test]
fn referrers_are_found_with_and_without_the_api() {
    let image = Image::new();
    let attached = |kind: &str| {
        RawDocument::of_manifest(ImageManifest {
            artifact_type: Some(kind.into()),
            subject: Some(image.manifest.descriptor()),
            annotations: [("by".to_owned(), kind.to_owned())].into(),
            layers: Vec::new(),
            ..image.manifest.manifest().unwrap().clone()
        })
    };
    let without_api: [Vec<Rule>; 3] = [
        vec![],
        vec![
            on("GET", Thing::Referrers, Fault::Response(200, Vec::new(), "<html>welcome</html>".into()))
                .always(),
        ],
        vec![on("GET", Thing::Referrers, answer(405)).always()],
    ];
    let with_api = FaultRegistry::start(Access::Open, vec![]).with_referrers();
    let registries = without_api.map(|rules| FaultRegistry::start(Access::Open, rules));
    for (index, registry) in registries.iter().chain([&with_api]).enumerate() {
        let (client, repository) = (client(), repository(registry));
        image.push(&client, &repository).unwrap();
        assert_eq!(client.referrers(&repository, image.manifest.digest()).unwrap(), []);
        for kind in ["test/sbom", "test/signature", "test/sbom"] {
            let document = attached(kind);
            let target = Target::Digest(document.digest().clone());
            client.push_manifest(&repository, &target, &document).unwrap();
        }
        let mut found = client.referrers(&repository, image.manifest.digest()).unwrap();
        found.sort_by(|a, b| a.artifact_type.cmp(&b.artifact_type));
        let kinds: Vec<_> = found.iter().map(|entry| entry.artifact_type.clone().unwrap()).collect();
        assert_eq!(kinds, ["test/sbom", "test/signature"], "registry {index}");
        assert_eq!(found[0].digest, *attached("test/sbom").digest());
        let tag = format!("sha256-{}", image.manifest.digest().hex());
        assert_eq!(registry.tag("team/app", &tag).is_some(), index < 3, "fallback tag at registry {index}");
    }
}

#[test]
fn manifests_and_tags_are_deleted() {
    let image = Image::new();
    let registry = FaultRegistry::start(BEARER, vec![]);
    let (client, repository) = (client(), repository(&registry));
    image.seed(&registry);
    client.delete_tag(&repository, &"v1".parse().unwrap()).unwrap();
    assert_eq!(registry.tag("team/app", "v1"), None);
    assert!(
        client
            .head_manifest(&repository, &Target::Digest(image.manifest.digest().clone()))
            .unwrap()
            .is_some()
    );
    client.delete_manifest(&repository, image.manifest.digest()).unwrap();
    let error = client.delete_manifest(&repository, image.manifest.digest()).unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[test]
fn mirrors_are_read_first_and_skipped_when_they_fail() {
    let image = Image::new();
    let registry = FaultRegistry::start(BEARER, vec![]);
    image.seed(&registry);
    let repository = repository(&registry);
    let mirrored = |mirror: &FaultRegistry| {
        let record = Arc::new(Record::default());
        let of = repository.registry().clone();
        let mirrors = vec![Mirror { of, at: mirror.host().parse().unwrap() }];
        (
            Client::new(ClientOptions {
                mirrors,
                wire: WireOptions { events: record.clone(), ..options().wire },
                ..options()
            })
            .unwrap(),
            record,
        )
    };
    let mirror = FaultRegistry::start(Access::Open, vec![]);
    image.seed(&mirror);
    let (client, _) = mirrored(&mirror);
    image.pull(&client, &repository).unwrap();
    assert_eq!((registry.count("GET", Thing::Manifest), registry.count("GET", Thing::Blob)), (0, 0));
    assert_eq!(registry.count("HEAD", Thing::Manifest), 2, "what a tag means is for the registry to say");
    let empty = FaultRegistry::start(Access::Open, vec![]);
    let (client, record) = mirrored(&empty);
    image.pull(&client, &repository).unwrap();
    assert!(record.warnings.lock().unwrap().is_empty(), "not to have something is no failure");
    let broken = FaultRegistry::start(Access::Open, vec![on("GET", Thing::Manifest, answer(500)).always()]);
    let (client, record) = mirrored(&broken);
    image.pull(&client, &repository).unwrap();
    assert_eq!(broken.count("GET", Thing::Blob), 0, "left out after it failed");
    let warnings = record.warnings.lock().unwrap();
    assert!(matches!(warnings.as_slice(), [text] if text.contains("the mirror is left out")), "{warnings:?}");
}

#[test]
fn a_redirect_of_head_is_followed_with_get_to_see_whether_a_blob_is_there() {
    let registry = FaultRegistry::start(Access::Open, vec![]);
    // The storage's URL is signed for GET only, so the client must not send HEAD to it.
    let storage = || Fault::Redirect(307, format!("{}/storage/{{}}", registry.foreign()));
    let descriptor = Descriptor::of_bytes(media_type::OCI_LAYER, b"x");
    let client = client();
    let push = || {
        let body = b"x".to_vec();
        let start = PushStart::Ask(&[]);
        client.push_blob(&repository(&registry), &descriptor, &body, start, &|_| {}).unwrap()
    };
    assert_eq!(push(), PushOutcome::Uploaded);
    registry.rule(on("HEAD", Thing::Blob, storage()));
    registry.rule(on("GET", Thing::Blob, storage()));
    assert_eq!(push(), PushOutcome::Present);
    assert_eq!(registry.count("GET", Thing::Storage), 1, "the size is read at the storage");
}

#[test]
fn finished_tokens_are_sent_as_they_are_and_must_be_tokens() {
    let with_token = |token: &str| {
        let source = CredentialSource::Everywhere(Credential::RegistryToken(Secret::new(token)));
        let credentials = Arc::new(Keychain::new(vec![source]));
        Client::new(ClientOptions { credentials, ..options() }).unwrap()
    };
    let registry = FaultRegistry::start(Access::Open, vec![]);
    Image::new().push(&with_token("abc.def"), &repository(&registry)).unwrap();
    let sent = registry.log().into_iter().map(|entry| entry.headers.get("authorization").cloned());
    assert!(
        sent.clone().count() > 0 && sent.into_iter().all(|sent| sent.as_deref() == Some("Bearer abc.def"))
    );
    let error = Image::new().push(&with_token("abc\ndef"), &repository(&registry)).unwrap_err();
    assert!(matches!(error, RegistryError::Configuration { .. }), "{error:?}");
    assert!(!error.to_string().contains("abc"), "{error}");
}
