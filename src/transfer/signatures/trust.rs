//! Verifies the statements about an image with the user's keys, and tells whether the image is signed.

use std::collections::HashSet;

use crate::lock::cosign_subject;
use crate::model::{Digest, Reference};
use crate::sign::{ClaimKind, Doubt, PublicKey};

use super::super::{Collection, ImageSource, Member, Role, TransferError};
use super::stored::{StatementContent, StoredStatement, statements};

/// A required statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// A signature of the image.
    Signature,
    /// A signed statement of this predicate type.
    Attestation(String),
}

impl std::fmt::Display for Requirement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signature => f.write_str("signature"),
            Self::Attestation(predicate_type) => write!(f, "attestation of type `{predicate_type}`"),
        }
    }
}

/// Which signatures are accepted, and which are required.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// A signature of any of these keys is accepted.
    pub keys: Vec<PublicKey>,
    /// The image name that signatures must have; `None` accepts any.
    pub identity: Option<Reference>,
    /// All of these are required.
    pub require: Vec<Requirement>,
}

impl Trust {
    /// Requires a signature by one of these keys, with any image name.
    #[must_use]
    pub fn of(keys: Vec<PublicKey>) -> Self {
        Self { keys, identity: None, require: vec![Requirement::Signature] }
    }
}

/// The verdict on one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This key made it.
    Accepted {
        /// Where the key was read from.
        key: String,
    },
    /// It is about another image, or not valid, or cannot be read.
    Wrong {
        /// What is wrong.
        problem: String,
    },
    /// Its signer is not one of the accepted ones.
    NotAsked {
        /// Why it is not accepted.
        reason: String,
    },
    /// It is not signed.
    Unsigned,
}

/// A statement with its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedStatement {
    /// The statement.
    pub statement: StoredStatement,
    /// The verdict.
    pub verdict: Verdict,
}

/// All statements about one image with their verdicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Where the image is.
    pub place: String,
    /// The image.
    pub image: Digest,
    /// The statements, in stored order.
    pub statements: Vec<CheckedStatement>,
    /// Required statements that are missing.
    pub missing: Vec<Requirement>,
}

impl Verification {
    /// Returns the error [`TransferError::Unsigned`] if a required statement is missing.
    pub fn check(&self) -> Result<(), TransferError> {
        match self.missing.first() {
            None => Ok(()),
            Some(missing) => Err(TransferError::Unsigned {
                place: self.place.clone(),
                image: self.image.clone(),
                missing: missing.to_string(),
                problems: self.problems(missing),
            }),
        }
    }

    /// Returns what is wrong with statements, also if others are accepted.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        let wrong = self.statements.iter().filter_map(|checked| match &checked.verdict {
            Verdict::Wrong { problem } => Some(format!("{}: {problem}", checked.statement.place)),
            _ => None,
        });
        wrong.collect()
    }

    /// Returns for each statement why it does not meet the requirement.
    fn problems(&self, missing: &Requirement) -> Vec<String> {
        let about = |checked: &&CheckedStatement| match &checked.statement.content {
            StatementContent::Claim(claim) => serves(&claim.kind, missing),
            StatementContent::Unreadable(_) => true,
            StatementContent::Other { .. } => false,
        };
        let problem = |checked: &CheckedStatement| match &checked.verdict {
            Verdict::Wrong { problem } | Verdict::NotAsked { reason: problem } => {
                Some(format!("{}: {problem}", checked.statement.place))
            }
            Verdict::Accepted { .. } | Verdict::Unsigned => None,
        };
        self.statements.iter().filter(about).filter_map(problem).collect()
    }
}

fn serves(kind: &ClaimKind, requirement: &Requirement) -> bool {
    match (kind, requirement) {
        (ClaimKind::Signature, Requirement::Signature) => true,
        (ClaimKind::Attestation { predicate_type }, Requirement::Attestation(wanted)) => {
            predicate_type == wanted
        }
        _ => false,
    }
}

/// Lists the images that need signatures of their own: those that no signed digest covers.
///
/// The digest of a bundle or index covers the images it names. Any other member, also one with a `subject` and a tag of
/// its own, would reach a registry under its tag without a signature.
fn images_to_verify(collection: &Collection) -> Vec<&Member> {
    let mut covered: HashSet<&Digest> = HashSet::new();
    let mut open: Vec<&Member> = collection.members.iter().filter(|one| one.role == Role::Root).collect();
    while let Some(member) = open.pop() {
        let locked = member.bundle.iter().flat_map(|lock| &lock.images);
        for digest in locked.filter_map(|image| image.image.digest.as_ref()) {
            if covered.insert(digest) {
                open.extend(collection.member(digest));
            }
        }
    }
    let needs_verification = |member: &&Member| match member.role {
        Role::Root => true,
        Role::Referenced => !covered.contains(&member.descriptor.digest),
        Role::Attached => member.tags().iter().any(|tag| !is_attached_tag(tag.as_str())),
    };
    collection.members.iter().filter(needs_verification).collect()
}

/// Tells whether a tag is the tag of attached manifests, which names no image.
fn is_attached_tag(tag: &str) -> bool {
    cosign_subject(tag).is_some() || tag.ends_with(".image-locations.imgpkg")
}

/// Verifies the images of a collection, each by its own digest.
///
/// Errors: those of reading. An image without a required signature is a [`Verification`], no error.
pub fn verify_signatures(
    source: &dyn ImageSource,
    collection: &Collection,
    trust: &Trust,
) -> Result<Vec<Verification>, TransferError> {
    let verify = |image: &Digest| {
        let found = statements(source, &collection.members, image)?;
        let statements: Vec<CheckedStatement> =
            found.into_iter().map(|statement| checked(statement, image, trust)).collect();
        let is_missing = |requirement: &&Requirement| {
            !statements.iter().any(|checked| match (&checked.statement.content, &checked.verdict) {
                (StatementContent::Claim(claim), Verdict::Accepted { .. }) => {
                    serves(&claim.kind, requirement)
                }
                _ => false,
            })
        };
        let missing = trust.require.iter().filter(is_missing).cloned().collect();
        Ok(Verification { place: source.label(), image: image.clone(), statements, missing })
    };
    images_to_verify(collection).into_iter().map(|member| verify(&member.descriptor.digest)).collect()
}

fn checked(statement: StoredStatement, image: &Digest, trust: &Trust) -> CheckedStatement {
    let verdict = match &statement.content {
        StatementContent::Unreadable(error) => Verdict::Wrong { problem: error.to_string() },
        StatementContent::Other { .. } => Verdict::Unsigned,
        StatementContent::Claim(claim) => match claim.check(image, &trust.keys, trust.identity.as_ref()) {
            Ok(key) => Verdict::Accepted { key: key.name().to_owned() },
            Err(doubt) => doubted(&doubt),
        },
    };
    CheckedStatement { statement, verdict }
}

fn doubted(doubt: &Doubt) -> Verdict {
    match doubt.is_wrong() {
        true => Verdict::Wrong { problem: doubt.to_string() },
        false => Verdict::NotAsked { reason: doubt.to_string() },
    }
}
