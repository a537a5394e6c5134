//! The fault matrix: every way to misbehave, for push and for pull, through the real executable.
//!
//! What happened is compared with `docs/registry-faults.md`; `UPDATE_DOCS=1` writes that page anew.

use std::fmt::Write as _;
use std::path::Path;

use testkit::fault::{Access, Fault, FaultRegistry, Rule, Thing, on};
use testkit::lab::Output;
use testkit::oracle;

use crate::lab::Lab;
use crate::registry_cli::{hasty, room};

const MIB: usize = 1024 * 1024;
const INTRODUCTION: &str = "\
# What a registry can do wrong, and what becomes of it

Each row is one way to misbehave: once (unless the row says otherwise), or for ever. *Push* is
`copy --tar … --to-repo`, *pull* is `copy -i … --to-oci-tar`, both with the real program and three attempts.
*Survived* means: exit code 0, everything there, each byte checked from the other side by other code. Otherwise the
cell has the exit code and the error; nothing is tagged then, and no file is left. `–`: does not apply.

A test runs this table and fails when this page is not current; `UPDATE_DOCS=1 cargo test --test it registry_matrix`
writes it.

| fault | push | pull |
|---|---|---|
";

/// One row.
struct Row {
    name: &'static str,
    access: Access,
    push: Option<Vec<Rule>>,
    pull: Option<Vec<Rule>>,
    body_limit: usize,
}

fn row(name: &'static str, push: Option<Rule>, pull: Option<Rule>) -> Row {
    let rules = |rule: Option<Rule>| rule.map(|rule| vec![rule]);
    Row { name, access: Access::Open, push: rules(push), pull: rules(pull), body_limit: usize::MAX }
}

impl Row {
    fn with_tokens(mut self, expires_in: u64) -> Self {
        let (user, password) = ("ci", "s3cret");
        self.access = Access::Bearer { user, password, expires_in: Some(expires_in), challenges: Vec::new() };
        self
    }
}

fn answer(status: u16) -> Fault {
    Fault::Answer(status, Vec::new(), String::new())
}

fn with_header(status: u16, name: &'static str, value: &str) -> Fault {
    Fault::Answer(status, vec![(name, value.to_owned())], String::new())
}

fn body(fault: Fault) -> Option<Rule> {
    Some(on("PATCH", Thing::Session, fault))
}

fn close(fault: Fault) -> Option<Rule> {
    Some(on("PUT", Thing::Session, fault))
}

fn open(fault: Fault) -> Option<Rule> {
    Some(on("POST", Thing::Uploads, fault))
}

fn blob(fault: Fault) -> Option<Rule> {
    Some(on("GET", Thing::Blob, fault))
}

fn document(method: &'static str, fault: Fault) -> Option<Rule> {
    Some(on(method, Thing::Manifest, fault))
}

fn once() -> Vec<Row> {
    let html = || Fault::Answer(502, vec![("content-type", "text/html".into())], "<html>bad</html>".into());
    let digestless = || Fault::Header("docker-content-digest", None);
    let limited = || with_header(429, "retry-after", "0");
    let twice = |rule: Option<Rule>| rule.map(|rule| rule.times(2));
    let always = |rule: Option<Rule>| rule.map(Rule::always);
    let mut rows = vec![
        row("nothing", None, None),
        row("reset in the middle of a body", body(Fault::CutRequest(MIB)), blob(Fault::CutAnswer(MIB))),
        row("connection closed without an answer", close(Fault::LoseAnswer), blob(Fault::LoseAnswer)),
        row(
            "the manifest's answer is lost",
            document("PUT", Fault::LoseAnswer),
            document("GET", Fault::LoseAnswer),
        ),
        row("silence instead of an answer", body(Fault::Silence), blob(Fault::Silence)),
        row("silence in the middle of a body", None, blob(Fault::StallAnswer(MIB))),
        row("500", open(answer(500)), blob(answer(500))),
        row("502 with a page of HTML", document("PUT", html()), document("GET", html())),
        row("503", body(answer(503)), blob(answer(503))),
        row("503 before the body is read", body(Fault::EarlyAnswer(503, "UNAVAILABLE")), None),
        row("429 with `Retry-After`, twice", twice(open(limited())), twice(blob(limited()))),
        row("429 without `Retry-After`", document("PUT", answer(429)), document("GET", answer(429))),
        row("the token is withdrawn before a body", body(Fault::RevokeTokens), blob(Fault::RevokeTokens))
            .with_tokens(300),
        row("the token is withdrawn before the upload ends", close(Fault::RevokeTokens), None)
            .with_tokens(300),
        row("tokens live one second", None, None).with_tokens(1),
        row("HEAD is always refused (403)", always(Some(on("HEAD", Thing::Blob, answer(403)))), None),
        row("HEAD is not known (405), always", always(Some(on("HEAD", Thing::Blob, answer(405)))), None),
        row("the upload session is lost", close(Fault::ForgetSession), None),
        row("PATCH is not known (405), always", always(body(answer(405))), None),
        row("PATCH is answered with 201, always", always(body(Fault::Status(201))), None),
        row("no digest in the answers", document("PUT", digestless()), always(document("GET", digestless()))),
        row(
            "`Content-Encoding: gzip` on a blob",
            None,
            always(blob(Fault::Header("content-encoding", Some("gzip".into())))),
        ),
        row("a flipped bit in a blob", None, blob(Fault::FlipBit)),
        row("a flipped bit in the manifest", None, document("GET", Fault::FlipBit)),
    ];
    let mut ranges = row("reset, and ranges are ignored", None, blob(Fault::CutAnswer(MIB)));
    ranges.pull.as_mut().unwrap().extend(blob(Fault::IgnoreRange).map(|rule| rule.nth(2)));
    let mut limit = row("bodies above 1 MiB are refused (413), always", None, None);
    (limit.push, limit.body_limit) = (Some(Vec::new()), MIB);
    for row in &mut rows {
        // Rows without a rule are about the registry itself.
        if row.push.is_none() && row.pull.is_none() {
            (row.push, row.pull) = (Some(Vec::new()), Some(Vec::new()));
        }
    }
    rows.extend([ranges, limit]);
    rows
}

fn for_ever() -> Vec<Row> {
    let always = |rule: Option<Rule>| rule.map(Rule::always);
    let denied =
        || Fault::Answer(403, Vec::new(), r#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#.into());
    let basic = || with_header(401, "www-authenticate", "Basic realm=\"x\"");
    let metadata = "http://169.254.169.254/x";
    vec![
        row("503 for ever", always(body(answer(503))), always(blob(answer(503)))),
        row(
            "429 for ever",
            always(open(with_header(429, "retry-after", "0"))),
            always(blob(with_header(429, "retry-after", "0"))),
        ),
        row("silence for ever", always(open(Fault::Silence)), always(blob(Fault::Silence))),
        row(
            "silence in each body for ever",
            always(body(Fault::Silence)),
            always(blob(Fault::StallAnswer(1000))),
        ),
        row(
            "reset in each body for ever",
            always(body(Fault::CutRequest(MIB))),
            always(blob(Fault::CutAnswer(1000))),
        ),
        row("a flipped bit in a blob for ever", None, always(blob(Fault::FlipBit))),
        row("a flipped bit in the manifest for ever", None, always(document("GET", Fault::FlipBit))),
        row("403", always(open(denied())), always(document("GET", denied()))),
        row("401, whatever is sent", always(open(basic())), always(document("GET", basic()))),
        row("404", always(open(answer(404))), always(blob(answer(404)))),
        row("400 for the manifest", always(document("PUT", answer(400))), None),
        row(
            "the blob is stored under another digest",
            close(Fault::Header("docker-content-digest", Some(testkit::fault::digest_of(b"x")))),
            None,
        ),
        row(
            "redirects in a circle",
            None,
            always(blob(Fault::Redirect(307, "/v2/team/app/blobs/{}".into()))),
        ),
        row(
            "led to the machine's metadata",
            open(Fault::Header("location", Some(metadata.into()))),
            blob(Fault::Redirect(307, metadata.into())),
        ),
        row("a manifest without end", None, document("GET", Fault::Body(vec![b' '; 9 * MIB]))),
    ]
}

fn run(lab: &Lab, words: &[&str]) -> Output {
    hasty(lab, words)
        .env("IMGRELAY_REGISTRY_USERNAME", "ci")
        .env("IMGRELAY_REGISTRY_PASSWORD", "s3cret")
        .run()
}

fn push(lab: &Lab, registry: &FaultRegistry) -> Output {
    run(lab, &["copy", "--tar", "app.tar", "--to-repo", &format!("{}/team/app:v1", registry.host())])
}

fn pushed(lab: &Lab, row: &Row, rules: Vec<Rule>) -> String {
    let registry = FaultRegistry::start(row.access.clone(), rules).with_body_limit(row.body_limit);
    let output = push(lab, &registry);
    if output.code == Some(0) {
        assert_eq!(registry.judge("team/app", "v1"), Ok(()), "{}", row.name);
    } else {
        assert_eq!(registry.tag("team/app", "v1"), None, "{}: nothing is tagged", row.name);
    }
    outcome(&registry, output)
}

fn pulled(lab: &Lab, row: &Row, rules: Vec<Rule>) -> String {
    let registry = FaultRegistry::start(row.access.clone(), Vec::new());
    let _ = push(lab, &registry).succeeds();
    for rule in rules {
        registry.rule(rule);
    }
    let output =
        run(lab, &["copy", "-i", &format!("{}/team/app:v1", registry.host()), "--to-oci-tar", "out.tar"]);
    let path = lab.path("out.tar");
    if output.code == Some(0) {
        oracle::validate_layout(&path);
        std::fs::remove_file(path).unwrap();
    } else {
        assert!(!path.exists(), "{}: no half file", row.name);
    }
    outcome(&registry, output)
}

/// Says how it ended, without what differs from run to run.
fn outcome(registry: &FaultRegistry, output: Output) -> String {
    let output = output.never_says("s3cret").never_says("secret%2B");
    let Some(code) = output.code.filter(|code| *code != 0) else { return "survived".into() };
    let error = output.stderr.lines().find_map(|line| line.strip_prefix("imgrelay: error: "));
    let error = error.unwrap_or_else(|| panic!("no error\n{output}"));
    assert!(error.contains(&registry.host()), "the host is named: {output}");
    assert!(code == 1 || output.stderr.contains("hint: "), "advice is given: {output}");
    let error = error.replace(&registry.host(), "registry");
    let mut text = String::new();
    let mut rest = error.as_str();
    while let Some((before, after)) = rest.split_once("sha256:") {
        write!(text, "{before}sha256:…").unwrap();
        rest = after.trim_start_matches(|character: char| character.is_ascii_hexdigit());
    }
    text.push_str(rest);
    if let Some((before, after)) = text.clone().split_once(" attempts in ") {
        let (_, after) = after.split_once(" s: ").unwrap();
        text = format!("{before} attempts in … s: {after}");
    }
    format!("exit {code}: {}", text.replace('|', "\\|"))
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test may be told to write the page")]
fn the_page_about_faults_says_what_happens() {
    let rows: Vec<Row> = once().into_iter().chain(for_ever()).collect();
    let lines = |rows: &[Row]| {
        let lab = room();
        let line = |row: &Row| {
            let cell = |rules: &Option<Vec<Rule>>, run: &dyn Fn(Vec<Rule>) -> String| match rules {
                Some(rules) => run(rules.clone()),
                None => "–".into(),
            };
            let push = cell(&row.push, &|rules| pushed(&lab, row, rules));
            let pull = cell(&row.pull, &|rules| pulled(&lab, row, rules));
            format!("| {} | {push} | {pull} |\n", row.name)
        };
        rows.iter().map(line).collect::<String>()
    };
    let mut page = INTRODUCTION.to_owned();
    std::thread::scope(|scope| {
        let parts: Vec<_> = rows.chunks(8).map(|part| scope.spawn(move || lines(part))).collect();
        page.extend(parts.into_iter().map(|part| part.join().unwrap()));
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/registry-faults.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    for (expected, found) in page.lines().zip(found.lines()) {
        assert_eq!(found, expected, "`docs/registry-faults.md` is not current");
    }
    assert!(found == page, "`docs/registry-faults.md` is not current");
}
