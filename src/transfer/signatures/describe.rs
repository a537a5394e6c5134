//! A statement as JSON, for `describe`: what it says, not whether it is trusted.

use serde_json::{Map, Value};

use crate::sign::ClaimKind;

use super::stored::{StatementContent, StoredStatement};

/// Writes a statement as JSON.
///
/// Members: `kind` (`signature`, `attestation`, `unreadable`, `referrer`), `place`, and, where there is one, `form`,
/// `identity`, `predicateType`, `keyHint`, `annotations`, `artifactType`, `problem`.
#[must_use]
pub fn describe(statement: &StoredStatement) -> Value {
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| {
        members.insert(name.to_owned(), value);
    };
    put("place", statement.place.clone().into());
    match &statement.content {
        StatementContent::Claim(claim) => {
            put("form", claim.form.name().into());
            match &claim.kind {
                ClaimKind::Signature => put("kind", "signature".into()),
                ClaimKind::Attestation { predicate_type } => {
                    put("kind", "attestation".into());
                    put("predicateType", predicate_type.clone().into());
                }
            }
            if let Some(identity) = &claim.identity {
                put("identity", identity.clone().into());
            }
            if let Some(hint) = claim.hint() {
                put("keyHint", hint.into());
            }
            if !claim.annotations.is_empty() {
                put("annotations", claim.annotations.clone().into_iter().collect::<Map<_, _>>().into());
            }
        }
        StatementContent::Unreadable(error) => {
            put("kind", "unreadable".into());
            put("problem", error.to_string().into());
        }
        StatementContent::Other { artifact_type } => {
            put("kind", "referrer".into());
            put("artifactType", artifact_type.clone().into());
        }
    }
    Value::Object(members)
}
