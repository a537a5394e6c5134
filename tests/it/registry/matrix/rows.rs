//! The rows of the matrix: which fault at which request, for each way of using a registry.

use testkit::fault::{Access, Fault, FaultRegistry, Rule, Thing, digest_of, on};

use super::odd;

pub(super) const MIB: usize = 1024 * 1024;
/// Why a cell is empty.
const NOT_SENT: &str = "sends none";
const NOT_READ: &str = "reads none";
const COPY_ONLY: &str = "only copies mount";
const FIXED: &str = "its time-outs are fixed, 30 s";

/// The faults for one way of using a registry.
#[derive(Clone)]
pub(super) enum Cell {
    /// These faults.
    Rules(Vec<Rule>),
    /// The fault is impossible here, for this reason.
    Not(&'static str),
}

/// Which image is moved.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// 2.5 MB.
    Small,
    /// 20 MB, which is worth sending in chunks.
    Large,
}

/// Which part of the image is in the registry before the push.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Present {
    Nothing,
    Blobs,
    Tag,
}

/// One row.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) access: Access,
    /// Permanent properties of the registry.
    pub(super) habits: fn(FaultRegistry) -> FaultRegistry,
    pub(super) push: Cell,
    pub(super) pull: Cell,
    pub(super) check: Cell,
    /// Copies go from one repository to another of this registry.
    pub(super) within: Option<Vec<Rule>>,
    pub(super) size: Size,
    pub(super) present: Present,
    /// Makes the registry's content, instead of a push.
    pub(super) content: Option<fn(&FaultRegistry)>,
    /// Reads the image by the digest of the good image instead of by tag.
    pub(super) pinned: bool,
    /// A layer is absent, which is allowed.
    pub(super) absent: bool,
}

fn cell(rule: Option<Rule>, reason: &'static str) -> Cell {
    rule.map_or(Cell::Not(reason), |rule| Cell::Rules(vec![rule]))
}

fn row(name: &'static str, push: Option<Rule>, pull: Option<Rule>, check: Option<Rule>) -> Row {
    Row {
        name,
        access: Access::Open,
        habits: |registry| registry,
        push: cell(push, NOT_SENT),
        pull: cell(pull, NOT_READ),
        check: cell(check, NOT_READ),
        within: None,
        size: Size::Small,
        present: Present::Nothing,
        content: None,
        pinned: false,
        absent: false,
    }
}

/// A row about the registry itself, without a rule.
fn whole(name: &'static str, habits: fn(FaultRegistry) -> FaultRegistry) -> Row {
    let cell = || Cell::Rules(Vec::new());
    Row { habits, push: cell(), pull: cell(), check: cell(), ..row(name, None, None, None) }
}

impl Row {
    fn bearer(mut self, expires_in: u64) -> Self {
        let (user, password) = ("ci", "s3cret");
        self.access = Access::Bearer { user, password, expires_in: Some(expires_in), challenges: Vec::new() };
        self
    }

    fn challenged(mut self, challenges: &[&'static str]) -> Self {
        let (user, password, challenges) = ("ci", "s3cret", challenges.to_vec());
        self.access = Access::Bearer { user, password, expires_in: Some(300), challenges };
        self
    }

    fn push_only(mut self) -> Self {
        (self.pull, self.check) = (Cell::Not(NOT_READ), Cell::Not(NOT_READ));
        self
    }

    fn no_check(mut self, reason: &'static str) -> Self {
        self.check = Cell::Not(reason);
        self
    }

    fn and_pull(mut self, rule: Option<Rule>) -> Self {
        if let Cell::Rules(rules) = &mut self.pull {
            rules.extend(rule);
        }
        self
    }

    /// Lets each rule apply every time, so that no other request meets the fault in place of the one that reports it.
    fn every_time(mut self) -> Self {
        for cell in [&mut self.push, &mut self.pull, &mut self.check] {
            if let Cell::Rules(rules) = cell {
                *rules = std::mem::take(rules).into_iter().map(Rule::always).collect();
            }
        }
        self
    }

    fn habits(mut self, habits: fn(FaultRegistry) -> FaultRegistry) -> Self {
        self.habits = habits;
        self
    }

    fn large(mut self) -> Self {
        self.size = Size::Large;
        self
    }

    fn present(mut self, present: Present) -> Self {
        self.present = present;
        self
    }

    /// Copies stay inside the registry, so that they mount; nothing else does.
    fn within(mut self, rules: Vec<Rule>) -> Self {
        (self.push, self.pull, self.check) =
            (Cell::Not(COPY_ONLY), Cell::Not(COPY_ONLY), Cell::Not(COPY_ONLY));
        self.within = Some(rules);
        self
    }

    fn content(mut self, content: fn(&FaultRegistry)) -> Self {
        (self.push, self.pull, self.content) = (Cell::Not(NOT_SENT), Cell::Rules(Vec::new()), Some(content));
        self
    }
}

fn answer(status: u16) -> Fault {
    Fault::Response(status, Vec::new(), String::new())
}

fn with_header(status: u16, name: &'static str, value: &str) -> Fault {
    Fault::Response(status, vec![(name, value.to_owned())], String::new())
}

fn error(status: u16, code: &str) -> Fault {
    Fault::Response(
        status,
        Vec::new(),
        format!(r#"{{"errors":[{{"code":"{code}","message":"not yours"}}]}}"#),
    )
}

fn set(name: &'static str, value: &str) -> Fault {
    Fault::Header(name, Some(value.to_owned()))
}

fn known(fault: Fault) -> Option<Rule> {
    Some(on("HEAD", Thing::Blob, fault))
}

fn open(fault: Fault) -> Option<Rule> {
    Some(on("POST", Thing::Uploads, fault))
}

fn body(fault: Fault) -> Option<Rule> {
    Some(on("PATCH", Thing::Session, fault))
}

fn close(fault: Fault) -> Option<Rule> {
    Some(on("PUT", Thing::Session, fault))
}

fn blob(fault: Fault) -> Option<Rule> {
    Some(on("GET", Thing::Blob, fault))
}

fn put(fault: Fault) -> Option<Rule> {
    Some(on("PUT", Thing::Manifest, fault))
}

fn get(fault: Fault) -> Option<Rule> {
    Some(on("GET", Thing::Manifest, fault))
}

fn head(fault: Fault) -> Option<Rule> {
    Some(on("HEAD", Thing::Manifest, fault))
}

fn tags(fault: Fault) -> Option<Rule> {
    Some(on("GET", Thing::Tags, fault))
}

fn token(fault: Fault) -> Option<Rule> {
    Some(on("GET", Thing::Token, fault))
}

fn twice(rule: Option<Rule>) -> Option<Rule> {
    rule.map(|rule| rule.times(2))
}

fn always(rule: Option<Rule>) -> Option<Rule> {
    rule.map(Rule::always)
}

fn limited() -> Fault {
    with_header(429, "retry-after", "0")
}

/// Connection and registry fail once, or a few times.
pub(super) fn once() -> Vec<Row> {
    let html = || Fault::Response(502, vec![("content-type", "text/html".into())], "<html>bad</html>".into());
    vec![
        whole("nothing", |registry| registry),
        row(
            "reset in the middle of a body",
            body(Fault::CutRequest(MIB)),
            blob(Fault::CutResponse(MIB)),
            tags(Fault::CutResponse(5)),
        ),
        row(
            "reset in two bodies",
            twice(body(Fault::CutRequest(MIB))),
            twice(blob(Fault::CutResponse(MIB))),
            None,
        ),
        row("a body ends early, as if it were complete", None, blob(Fault::Body(vec![0; 100])), None),
        row(
            "connection closed instead of a response to HEAD",
            known(Fault::LoseResponse),
            None,
            head(Fault::LoseResponse),
        ),
        row("connection closed instead of a response to POST", open(Fault::LoseResponse), None, None),
        row(
            "connection closed instead of a response",
            close(Fault::LoseResponse),
            blob(Fault::LoseResponse),
            tags(Fault::LoseResponse),
        ),
        row("the manifest's response is lost", put(Fault::LoseResponse), get(Fault::LoseResponse), None),
        row("silence instead of a response", body(Fault::Silence), blob(Fault::Silence), None)
            .no_check(FIXED),
        row("silence after the manifest", put(Fault::Silence), get(Fault::Silence), None).no_check(FIXED),
        row("silence in the middle of a body", None, blob(Fault::StallResponse(MIB)), None).no_check(FIXED),
        row("500", open(answer(500)), blob(answer(500)), tags(answer(500))),
        row("502 with a page of HTML", put(html()), get(html()), head(html())),
        row("503", body(answer(503)), blob(answer(503)), head(answer(503))),
        row("503 for the manifest", put(answer(503)), get(answer(503)), tags(answer(503))),
        row("503 before the body is read", body(Fault::EarlyResponse(503, "UNAVAILABLE")), None, None),
        row("417, `Expect` is not known", body(Fault::EarlyResponse(417, "EXPECTATION_FAILED")), None, None),
        row(
            "429 with `Retry-After`, twice",
            twice(open(limited())),
            twice(blob(limited())),
            twice(tags(limited())),
        ),
        row(
            "429 with `Retry-After` for the manifest, twice",
            twice(put(limited())),
            twice(get(limited())),
            twice(head(limited())),
        ),
        row("429 without `Retry-After`", put(answer(429)), get(answer(429)), head(answer(429))),
        whole("more than 20 requests a second are refused (429)", |registry| registry.with_rate_limit(20)),
        row("a flipped bit in a blob", None, blob(Fault::FlipBit), None),
        row("a flipped bit in the manifest", None, get(Fault::FlipBit), None),
        row("reset, and ranges are ignored", None, blob(Fault::CutResponse(MIB)), None)
            .and_pull(blob(Fault::IgnoreRange).map(|rule| rule.nth(2))),
        row("the upload session is lost before the body", body(Fault::ForgetSession), None, None),
        row("the upload session is lost", close(Fault::ForgetSession), None, None),
        row(
            "connections break after 8 MiB of a body, always",
            body(Fault::CutRequest(8 * MIB)).map(|rule| rule.times(2)),
            None,
            None,
        )
        .large(),
    ]
}

/// Credentials and token requests.
pub(super) fn access() -> Vec<Row> {
    let revoked = || Fault::RevokeTokens;
    let narrow = || {
        let other = "Bearer realm=\"/token\",service=\"test\",scope=\"repository:team/app:pull\",error=\"invalid_token\"";
        with_header(401, "www-authenticate", other)
    };
    vec![
        Row { access: Access::Basic("ci", "s3cret"), ..whole("a password is required", |registry| registry) },
        whole("tokens are required", |registry| registry).bearer(300),
        whole("tokens live one second", |registry| registry).bearer(1),
        row("the token is withdrawn before a body", body(revoked()), blob(revoked()), tags(revoked()))
            .bearer(300),
        row("the token is withdrawn before the upload ends", close(revoked()), None, None).bearer(300),
        row("the token is withdrawn before the manifest", put(revoked()), get(revoked()), head(revoked()))
            .bearer(300),
        row("a token that was valid is called invalid", body(narrow()), blob(narrow()), tags(narrow()))
            .bearer(300),
        row(
            "503 from the token server, twice",
            twice(token(answer(503))),
            twice(token(answer(503))),
            twice(token(answer(503))),
        )
        .bearer(300),
        row(
            "no response from the token server",
            token(Fault::LoseResponse),
            token(Fault::LoseResponse),
            token(Fault::LoseResponse),
        )
        .bearer(300),
        whole("`Negotiate` and `Bearer` in two headers", |registry| registry)
            .challenged(&["Negotiate", "{}"]),
        whole("`Basic …, Bearer …` in one header", |registry| registry)
            .challenged(&["Basic realm=\"x\", {}"]),
        whole("`Bearer …, Basic …` in one header", |registry| registry)
            .challenged(&["{}, Basic realm=\"x\""]),
        row("HEAD is always refused (403)", always(known(answer(403))), None, always(head(answer(403)))),
        row("HEAD is always refused (401)", always(known(answer(401))), None, always(head(answer(401))))
            .bearer(300),
        row("HEAD is not known (405), always", always(known(answer(405))), None, always(head(answer(405)))),
        whole("the token server grants the first scope only", |registry| registry.with_scopes_honoured(1))
            .bearer(300)
            .within(Vec::new()),
        row("a mount is refused (401)", None, None, None)
            .bearer(300)
            .within(open(answer(401)).into_iter().collect()),
        row("a mount is refused (404)", None, None, None)
            .within(open(error(404, "NAME_UNKNOWN")).into_iter().collect()),
        row("a mount is refused (405)", None, None, None).within(open(answer(405)).into_iter().collect()),
        whole("mounts are never fulfilled", FaultRegistry::without_mounts).within(Vec::new()),
        whole("mounts need the right to read the source", |registry| registry).bearer(300).within(Vec::new()),
    ]
}

/// Registries and front ends that differ from the specification or from other registries.
pub(super) fn habits() -> Vec<Row> {
    let digestless = || Fault::Header("docker-content-digest", None);
    let invalid = || error(400, "BLOB_UPLOAD_INVALID");
    vec![
        row("PATCH is answered with 201, always", always(body(Fault::Status(201))), None, None),
        row("PATCH is answered with 204, always", always(body(Fault::Status(204))), None, None),
        row("the upload is answered with 204, always", always(close(Fault::Status(204))), None, None),
        row("the manifest is answered with 200, always", always(put(Fault::Status(200))), None, None),
        row("PATCH is not known (405), always", always(body(answer(405))), None, None),
        row("PATCH makes the upload invalid (400), always", always(body(invalid())), None, None),
        row("PUT after PATCH is 404, twice", twice(close(error(404, "BLOB_UNKNOWN"))), None, None),
        whole("PUT with a body is 404, always", FaultRegistry::without_monolithic_uploads).push_only(),
        row("no location after PATCH", always(body(Fault::Header("location", None))), None, None),
        whole("bodies above 1 MiB are refused (413), always", |registry| registry.with_body_limit(MIB))
            .push_only(),
        whole("ranged parts above 4 MiB are refused (416), always", |registry| {
            registry.with_chunk_limit(4 * MIB)
        })
        .push_only(),
        whole(
            "bodies above 9 MiB (413) and ranged parts above 4 MiB (416) are refused, always",
            |registry| registry.with_body_limit(9 * MIB).with_chunk_limit(4 * MIB),
        )
        .push_only()
        .large(),
        whole("bodies above 9 MiB and parts below 5 MiB are refused, always", |registry| {
            registry.with_body_limit(9 * MIB).with_least_chunk(5 * MIB)
        })
        .push_only()
        .large(),
        row(
            "the range after a part is that of the first part, always",
            always(body(set("range", "0-0"))),
            None,
            None,
        )
        .habits(|registry| registry.with_body_limit(MIB)),
        row(
            "a part is kept, its response is lost",
            body(Fault::LoseResponse).map(|rule| rule.nth(2)),
            None,
            None,
        )
        .habits(|registry| registry.with_body_limit(MIB)),
        row(
            "no digest in the responses",
            put(digestless()),
            always(get(digestless())),
            always(head(digestless())),
        ),
        row(
            "the content type of the manifest has parameters",
            None,
            get(set("content-type", "application/vnd.oci.image.manifest.v1+json; charset=utf-8")),
            None,
        ),
        row(
            "the content type of the manifest is `application/json`",
            None,
            always(get(set("content-type", "application/json"))),
            None,
        ),
        row("`Content-Encoding: gzip` on a blob", None, always(blob(set("content-encoding", "gzip"))), None),
        // The first HEAD does not find the tag yet.
        row("the tag cannot be changed (400), and is what is pushed", head(answer(404)), None, None)
            .habits(FaultRegistry::with_immutable_tags)
            .present(Present::Tag),
        row(
            "an upload continues at another host",
            always(open(Fault::LocationAt("{foreign}".into()))),
            None,
            None,
        )
        .bearer(300),
        row(
            "an upload continues at another port of the same host",
            always(open(Fault::LocationAt("{sibling}".into()))),
            None,
            None,
        )
        .bearer(300),
        row(
            "blobs are at another host, with signed URLs",
            None,
            always(blob(Fault::Redirect(307, "{foreign}/storage/{}?X-Amz-Signature=secret%2B".into()))),
            None,
        )
        .bearer(300),
        row(
            "blobs are at another port of the same host",
            None,
            always(blob(Fault::Redirect(302, "{sibling}/storage/{}?sig=secret%2B".into()))),
            None,
        )
        .bearer(300),
        row(
            "the storage refuses a signed URL once (403)",
            None,
            always(blob(Fault::Redirect(307, "{foreign}/storage/{}?sig=secret%2B".into()))),
            None,
        )
        .and_pull(Some(on("GET", Thing::Storage, answer(403))))
        .bearer(300),
        row(
            "HEAD of a blob is redirected to a URL signed for GET",
            always(known(Fault::Redirect(307, "{foreign}/storage/{}".into()))),
            None,
            None,
        )
        .present(Present::Blobs),
        whole("tags come in pages of one", |registry| registry.with_page(1)).no_check_only(),
    ]
}

impl Row {
    /// Only the check lists tags.
    fn no_check_only(mut self) -> Self {
        (self.push, self.pull) = (Cell::Not(NOT_SENT), Cell::Not(NOT_READ));
        self
    }
}

/// Permanent faults: each rule applies every time.
pub(super) fn for_ever() -> Vec<Row> {
    let denied = || error(403, "DENIED");
    let basic = || with_header(401, "www-authenticate", "Basic realm=\"x\"");
    let metadata = "http://169.254.169.254/x";
    let realm = || with_header(401, "www-authenticate", "Bearer realm=\"http://169.254.169.254/t\"");
    let next = |to: &str| tags(set("link", &format!("<{to}>; rel=\"next\"")));
    let gone = |name| whole(name, |registry| registry);
    let rows = vec![
        row("503 for ever", body(answer(503)), blob(answer(503)), head(answer(503))),
        row("503 for the manifest for ever", put(answer(503)), get(answer(503)), tags(answer(503))),
        row("429 for ever", open(limited()), blob(limited()), tags(limited())),
        row("silence for ever", open(Fault::Silence), blob(Fault::Silence), None).no_check(FIXED),
        row("silence in each body for ever", body(Fault::Silence), blob(Fault::StallResponse(1000)), None)
            .no_check(FIXED),
        row(
            "reset in each body for ever",
            body(Fault::CutRequest(MIB)),
            blob(Fault::CutResponse(1000)),
            tags(Fault::CutResponse(5)),
        ),
        row("a flipped bit in a blob for ever", None, blob(Fault::FlipBit), None),
        row("a flipped bit in the manifest for ever", None, get(Fault::FlipBit), None),
        row("403", open(denied()), get(denied()), tags(denied())),
        row("401 with any credentials", open(basic()), get(basic()), tags(basic())),
        row("404", open(answer(404)), blob(answer(404)), tags(answer(404))),
        row("400 for the manifest", put(answer(400)), None, None),
        row("413 for the manifest", put(answer(413)), None, None),
        row("405, the registry takes no uploads", open(error(405, "UNSUPPORTED")), None, None),
        whole("bodies above 1 kB are refused (413)", |registry| registry.with_body_limit(1000)).push_only(),
        row(
            "the tag cannot be changed (400), and is something else",
            put(error(400, "TAG_INVALID")),
            None,
            None,
        ),
        row(
            "the blob is stored under another digest",
            close(set("docker-content-digest", &digest_of(b"x"))),
            None,
            None,
        ),
        row("an upload opens nowhere", open(Fault::Header("location", None)), None, None),
        row("an upload continues at `file:`", open(set("location", "file:///etc/passwd")), None, None),
        row("redirects in a circle", None, blob(Fault::Redirect(307, "/v2/team/app/blobs/{}".into())), None),
        row(
            "led to the machine's metadata",
            open(set("location", metadata)),
            blob(Fault::Redirect(307, metadata.into())),
            next(metadata),
        ),
        row("the token server is the machine's metadata", known(realm()), get(realm()), tags(realm())),
        row(
            "the token server leads elsewhere",
            token(Fault::Redirect(302, "http://localhost:1/".into())),
            token(Fault::Redirect(302, "http://localhost:1/".into())),
            token(Fault::Redirect(302, "http://localhost:1/".into())),
        )
        .bearer(300),
        row(
            "the token server sends no token",
            token(Fault::Body(b"{}".to_vec())),
            token(Fault::Body(b"{}".to_vec())),
            token(Fault::Body(b"{}".to_vec())),
        )
        .bearer(300),
        row(
            "the token server sends without end",
            token(Fault::Body(vec![b' '; 2 * MIB])),
            token(Fault::Body(vec![b' '; 2 * MIB])),
            token(Fault::Body(vec![b' '; 2 * MIB])),
        )
        .bearer(300),
        row(
            "an error without end",
            open(Fault::Response(403, Vec::new(), "x".repeat(9 * MIB))),
            get(Fault::Response(403, Vec::new(), "x".repeat(9 * MIB))),
            tags(Fault::Response(403, Vec::new(), "x".repeat(9 * MIB))),
        ),
        row("a manifest without end", None, get(Fault::Body(vec![b' '; 9 * MIB])), None),
        row("a list of tags without end", None, None, tags(Fault::Body(vec![b' '; 40 * MIB]))),
        row("pages of tags in a circle", None, None, next("/v2/team/app/tags/list?last=a")),
        row(
            "the next page of tags is elsewhere",
            None,
            None,
            next("http://localhost:1/v2/team/app/tags/list"),
        ),
        gone("a blob is longer than announced").content(odd::longer_blob).no_check(NOT_READ),
        gone("a blob is shorter than announced").content(odd::shorter_blob).no_check(NOT_READ),
        row(
            "a blob is longer than announced, at an open end",
            None,
            blob(Fault::Body(vec![7; 3 * MIB])),
            None,
        ),
        Row {
            pinned: true,
            ..row(
                "another manifest than requested by digest",
                None,
                get(Fault::Body(br#"{"schemaVersion":2,"layers":[]}"#.to_vec())),
                None,
            )
        },
    ];
    rows.into_iter().map(Row::every_time).collect()
}

/// Content that readers read differently, or that is no image.
pub(super) fn content() -> Vec<Row> {
    let odd = |name, content| row(name, None, None, None).content(content).no_check(NOT_READ);
    vec![
        odd("the manifest is of another type than announced", odd::other_type),
        odd("manifests and layers at the same time", odd::both),
        odd("the digest of a layer is a path", odd::path_digest),
        odd("the digest of a layer is `md5:…`", odd::weak_digest),
        odd("a layer of −1 bytes", odd::negative_size),
        odd("a layer of 2⁶² bytes", odd::huge_size),
        odd("a layer with a sha512 digest", odd::sha512),
        odd("a layer of type `docker…tar.zstd`", odd::docker_zstd),
        Row { absent: true, ..odd("a foreign layer at another host", odd::foreign_layer) },
        odd("a manifest of schema 1", odd::schema_1),
        odd("an index that contains itself", odd::endless_index),
    ]
}
