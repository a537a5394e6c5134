//! Verified signatures as lines, as JSON and as a failure.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::failure::Failure;
use super::main_image::stored_roots;
use super::text;
use crate::model::list::clause_list;
use crate::sign::ClaimKind;
use crate::store::Store;
use crate::transfer::events::Silent;
use crate::transfer::signatures::{StatementContent, Trust, Verdict, Verification, verify_signatures};
use crate::transfer::{self, Attached, Collection, Gathering, ImageLocator, ImageSource};

/// Verifies the images of a tar or folder with the signatures in it.
pub(super) fn of_store(store: &Store, trust: &Trust) -> Result<Vec<Verification>, Failure> {
    let locator = ImageLocator::over(store, None);
    let gathering = Gathering { thick: false, attached: Attached::default(), concurrency: 1 };
    let collection = transfer::gather(&locator, stored_roots(store.roots()), &gathering, &Silent)?;
    Ok(verify_signatures(&locator, &collection, trust)?)
}

/// Refuses a collection unless each of its roots is signed; without keys there is no check.
pub(super) fn demand(
    source: &dyn ImageSource,
    collection: &Collection,
    trust: Option<&Trust>,
) -> Result<(), Failure> {
    let Some(trust) = trust else { return Ok(()) };
    for verification in verify_signatures(source, collection, trust)? {
        verification.check()?;
    }
    Ok(())
}

/// Returns which attached manifests are fetched: with keys also signatures.
pub(super) fn attached(asked: Attached, trust: Option<&Trust>) -> Attached {
    match trust {
        Some(_) => Attached { cosign: true, referrers: true, ..asked },
        None => asked,
    }
}

/// Writes a line for each signature and attestation.
pub(super) fn lines(verifications: &[Verification]) -> String {
    let mut out = String::new();
    for verification in verifications {
        for one in &verification.statements {
            let verdict = match &one.verdict {
                Verdict::Accepted { key } => format!("accepted, key {key}"),
                Verdict::Wrong { problem } => format!("wrong: {problem}"),
                Verdict::NotAsked { reason } => format!("not accepted: {reason}"),
                Verdict::Unsigned => "not signed".to_owned(),
            };
            let line = format!(
                "{}@{}: {}: {verdict}",
                verification.place,
                verification.image,
                what(&one.statement.content)
            );
            writeln!(out, "{}", text::escaped(&line)).expect("writing to a String cannot fail");
        }
    }
    out
}

/// Describes a statement: `` signature for `reg.example/app:v1` ``.
pub(super) fn what(content: &StatementContent) -> String {
    match content {
        StatementContent::Claim(claim) => {
            let name = claim.identity.as_ref().map(|name| format!(" for `{name}`")).unwrap_or_default();
            match &claim.kind {
                ClaimKind::Signature => format!("signature{name}"),
                ClaimKind::Attestation { predicate_type } => {
                    format!("attestation of type `{predicate_type}`")
                }
            }
        }
        StatementContent::Unreadable(_) => "signature".to_owned(),
        StatementContent::Other { artifact_type } => format!("referrer of type `{artifact_type}`"),
    }
}

/// Writes all statements as JSON.
pub(super) fn json(verifications: &[Verification]) -> Value {
    let statement = |one: &transfer::signatures::CheckedStatement| {
        let (verdict, detail) = match &one.verdict {
            Verdict::Accepted { key } => ("accepted", Some(key)),
            Verdict::Wrong { problem } => ("wrong", Some(problem)),
            Verdict::NotAsked { reason } => ("not accepted", Some(reason)),
            Verdict::Unsigned => ("not signed", None),
        };
        let mut value = transfer::signatures::describe(&one.statement);
        value["verdict"] = json!(verdict);
        if let Some(detail) = detail {
            value["detail"] = json!(detail);
        }
        value
    };
    let image = |verification: &Verification| {
        let missing: Vec<String> = verification.missing.iter().map(ToString::to_string).collect();
        let statements: Vec<Value> = verification.statements.iter().map(statement).collect();
        json!({ "digest": verification.image, "statements": statements, "missing": missing })
    };
    verifications.iter().map(image).collect()
}

/// Returns the failure of images without an accepted signature, or with an invalid one.
pub(super) fn failure(verifications: &[Verification]) -> Option<Failure> {
    if let Some(error) = verifications.iter().find_map(|verification| verification.check().err()) {
        return Some(error.into());
    }
    let wrong: Vec<String> = verifications.iter().flat_map(Verification::wrong).collect();
    let place = verifications.first().map(|verification| verification.place.clone()).unwrap_or_default();
    (!wrong.is_empty()).then(|| {
        Failure::difference(format!("`{place}` has signatures that are wrong: {}", clause_list(wrong)))
    })
}
