//! What CI systems and servers send us, and what we write for CI systems.

use std::path::PathBuf;

use imgrelay::depot::fuzzing as depot;
use imgrelay::front::concourse::Step;
use imgrelay::front::env::Env;
use imgrelay::front::failure::Failure;
use imgrelay::front::fuzzing as front;
use imgrelay::front::outcome::{ImageKind, ImageOutcome};
use imgrelay::front::text;
use imgrelay::registry::fuzzing as registry;
use imgrelay::serve::fuzzing as serve;

/// Stands where seeds have a secret.
const SECRET: &str = "c2VjcmV0LXNlY3JldA";

/// Characters that could act on a terminal or a log.
fn is_harmless(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t'))
}

/// A failure as it is printed drives no terminal and is short.
fn printable(failure: &Failure, length: usize) {
    let printed = failure.render(false);
    assert!(is_harmless(&printed), "{printed:?}");
    // Escapes make the longest character six times as long, and suggestions are ours.
    assert!(printed.len() < 12 * length + 2000, "{} bytes from {length}", printed.len());
}

/// Requests are read or refused without a word of what is secret in them.
pub(super) fn concourse_request(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let nowhere = PathBuf::from("/proc/self/fdinfo/none");
    let step = match how % 3 {
        0 => Step::Check,
        1 => Step::In(nowhere),
        _ => Step::Out(nowhere),
    };
    let read = front::request(&step, rest);
    // Moved elsewhere by the fuzzer it is no secret any more.
    let sent: serde_json::Value = serde_json::from_slice(rest).unwrap_or_default();
    let place = [sent.pointer("/source/password"), sent.pointer("/params/password")];
    let text = String::from_utf8_lossy(rest);
    let is_secret = place.iter().flatten().any(|value| value.as_str() == Some(SECRET))
        && text.matches(SECRET).count() == 1;
    match read {
        Ok(shown) => assert!(!is_secret || !shown.contains(SECRET), "{shown}"),
        Err(failure) => {
            printable(&failure, rest.len());
            assert!(!is_secret || !failure.render(false).contains(SECRET), "{failure:?}");
        }
    }
}

/// Params of the task and inputs of the action, each `NAME=value` up to a zero byte; and patterns against names.
pub(super) fn task_params(data: &[u8]) {
    use std::os::unix::ffi::OsStrExt as _;
    let words = data.split(|byte| *byte == 0).filter_map(|word| {
        let at = word.iter().position(|byte| *byte == b'=')?;
        Some((std::ffi::OsStr::from_bytes(&word[..at]), std::ffi::OsStr::from_bytes(&word[at + 1..])))
    });
    let env = Env::from_pairs(words);
    for read in [front::task(&env), front::action_inputs(&env)] {
        if let Err(failure) = read {
            printable(&failure, data.len());
        }
    }
    let text = String::from_utf8_lossy(data);
    let (pattern, name) = text.split_once('\n').unwrap_or((&text, ""));
    let fits = front::fits(pattern, name);
    if !pattern.contains(['*', '?', '[', '\\']) {
        assert_eq!(fits, pattern == name);
    }
    if pattern.chars().all(|c| c == '*') {
        assert_eq!(fits, name.is_empty() || !pattern.is_empty());
    }
}

/// The key of a version in an image store, and after a line break its entry: a key that is read is the same when it is
/// written again, and an entry is about the digest of its key.
pub(super) fn store_entry(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (key, entry) = (String::from_utf8_lossy(&data[..at]), data.get(at + 1..).unwrap_or_default());
    if let Some((again, read)) = depot::entry(&key, entry) {
        assert_eq!(again, format!("tags/{key}"));
        match read {
            Ok(images) => assert!(images > 0),
            Err(problem) => assert!(is_harmless(&problem), "{problem:?}"),
        }
    }
    let names = String::from_utf8_lossy(data);
    assert!(depot::marks(&names) <= names.lines().count());
}

/// A request to `serve` is read as the protocol has it or not at all: no name leads out of the repositories, and no
/// body has more bytes than came.
pub(super) fn request(data: &[u8]) {
    let Some((method, route, body)) = serve::request(data) else { return };
    assert!(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].contains(&method), "{method}");
    assert!(!route.contains("../"), "{route}");
    assert!(body.len() <= data.len());
}

/// Answers of servers and helper programs: what is shown of them is printable and short, and what is secret in them is
/// not shown.
pub(super) fn responses(data: &[u8]) {
    for shown in registry::responses(data) {
        assert!(is_harmless(&shown), "{shown:?}");
        assert!(shown.len() < 8 * data.len() + 2000, "{shown:?}");
    }
    // As the value of a member that holds a secret it must not be in anything that is shown.
    let sent: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
    let members = ["token", "access_token", "refresh_token", "Secret", "SecretAccessKey", "Token"];
    let is_secret =
        members.iter().any(|name| sent.get(name).and_then(|value| value.as_str()) == Some(SECRET));
    if is_secret && String::from_utf8_lossy(data).matches(SECRET).count() == 1 {
        for shown in registry::responses(data) {
            assert!(!shown.contains(SECRET), "{shown}");
        }
    }
}

/// Texts from outside in what we print and in the files that CI systems read: no new line, variable, output or command.
pub(super) fn outputs(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let escaped = text::escaped(&text);
    assert!(
        !escaped
            .chars()
            .any(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    );
    assert_eq!(text::escaped(&escaped), escaped);

    let pieces: Vec<&[u8]> = data.split(|byte| *byte == 0xff).collect();
    let out = front::guarded(&pieces);
    no_commands(&out);
    assert_eq!(front::guarded(&[&pieces.concat()]), out, "it matters how it was written");
    let spaceless = |bytes: &[u8]| bytes.iter().copied().filter(|byte| *byte != b' ').collect::<Vec<u8>>();
    assert_eq!(spaceless(&out), spaceless(&pieces.concat()), "something is lost");

    let outcome = ImageOutcome {
        kind: ImageKind::Image,
        digest: format!("sha256:{}", "a".repeat(64)).parse().unwrap(),
        media_type: text.chars().take(50).collect(),
        size: 1,
        layers: None,
        platforms: Vec::new(),
        repository: None,
        tags: Vec::new(),
        path: Some(PathBuf::from(text.as_ref())),
        store: None,
    };
    let json: serde_json::Value = serde_json::from_str(&outcome.json()).unwrap();
    assert_eq!(json["path"].as_str(), Some(text.as_ref()));
    assert!(!outcome.json().contains('\n') && outcome.line().lines().count() == 1);
    if let Ok(dotenv) = front::dotenv(&outcome) {
        assert_eq!(dotenv.lines().count(), 5, "{dotenv:?}");
        assert!(dotenv.lines().all(|line| line.starts_with("IMGRELAY_")), "{dotenv:?}");
    }
    if let Ok(step) = front::step_outputs(&outcome, "imgrelay_0") {
        assert_eq!(
            step_outputs(&step),
            [
                ("digest".to_owned(), outcome.digest.to_string()),
                ("refs".to_owned(), "[]".to_owned()),
                ("path".to_owned(), text.clone().into_owned()),
                ("size".to_owned(), "1".to_owned()),
            ]
        );
    }
}

/// Fails if GitHub's runner would take a line for a command.
fn no_commands(log: &[u8]) {
    let log = String::from_utf8_lossy(log);
    for line in log.split(['\n', '\r']) {
        assert!(!line.trim_start().starts_with("::"), "{line:?}");
        assert!(!line.contains("##["), "{line:?}");
    }
}

/// Reads a file of outputs as the runner does: `name<<delimiter`, lines, `delimiter`.
fn step_outputs(text: &str) -> Vec<(String, String)> {
    let mut outputs = Vec::new();
    let mut rest = text;
    while let Some((head, after)) = rest.split_once('\n') {
        let (name, delimiter) = head.split_once("<<").unwrap();
        let end = format!("\n{delimiter}\n");
        // An empty value has its end right after the head.
        let (value, after) = match after.strip_prefix(&end[1..]) {
            Some(after) => ("", after),
            None => after.split_once(&end).unwrap(),
        };
        outputs.push((name.to_owned(), value.to_owned()));
        rest = after;
    }
    outputs
}
