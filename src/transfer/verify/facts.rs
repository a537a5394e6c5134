//! Compares facts that the documents of an image say twice, after all documents were read.
//!
//! The source and severity of each rule are in `docs/formats/facts-said-twice.md`. Facts outside of documents are
//! compared when a store is opened (`store::agreement`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::model::time::Timestamp;
use crate::model::{Annotations, Descriptor, Digest, Document, ImageIndex, Malformed, Platform, RawDocument};
use crate::store::Store;

use super::advice::Advice;
use super::report::{Fault, Problem};

/// Annotation by which BuildKit says which manifest an attestation is about.
const ATTESTATION_OF: &str = "vnd.docker.reference.digest";
const ATTESTATION_TYPE: &str = "vnd.docker.reference.type";

/// What one index says about one of its members.
struct Claim {
    /// `None` for `index.json`.
    index: Option<Digest>,
    member: Digest,
    platform: Option<Platform>,
    artifact_type: Option<String>,
}

impl Claim {
    /// Names the document that says it.
    fn place(&self) -> String {
        self.index.as_ref().map_or("`index.json`".to_owned(), |index| format!("index `{index}`"))
    }
}

/// Facts of a manifest that other documents say too.
struct OfManifest {
    config: Digest,
    layers: usize,
    has_files: bool,
    artifact_type: String,
    subject: Option<Digest>,
}

/// Members of a configuration that other documents say too, or that readers need.
#[derive(Debug, Deserialize)]
struct OfConfig {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default, rename = "os.version")]
    os_version: Option<String>,
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    history: Option<Vec<Step>>,
}

#[derive(Debug, Deserialize)]
struct Step {
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    empty_layer: bool,
}

/// Collects what documents say, and compares it.
#[derive(Default)]
pub(super) struct Facts {
    claims: Vec<Claim>,
    manifests: BTreeMap<Digest, OfManifest>,
    configs: BTreeMap<Digest, OfConfig>,
    /// Indexes with their members.
    indexes: BTreeMap<Digest, Vec<Digest>>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Advice>,
}

impl Facts {
    /// Records what a document says.
    pub(super) fn document(&mut self, raw: &RawDocument) {
        let digest = raw.digest();
        self.created_annotation(digest, raw.document().annotations());
        match raw.document() {
            Document::Index(index) => self.index(digest, index),
            Document::Manifest(manifest) => {
                let own = manifest.artifact_type.clone();
                let layers = &manifest.layers;
                let has_files =
                    layers.iter().all(|layer| crate::model::media_type::is_layer(&layer.media_type));
                self.manifests.insert(
                    digest.clone(),
                    OfManifest {
                        config: manifest.config.digest.clone(),
                        layers: layers.len(),
                        has_files,
                        artifact_type: own.unwrap_or_else(|| manifest.config.media_type.clone()),
                        subject: manifest.subject.as_ref().map(|subject| subject.digest.clone()),
                    },
                );
            }
        }
    }

    fn index(&mut self, digest: &Digest, index: &ImageIndex) {
        let members: Vec<Digest> = index.manifests.iter().map(|member| member.digest.clone()).collect();
        let mut platforms: Vec<(&Platform, &Digest)> = Vec::new();
        let mut listed = BTreeSet::new();
        for member in &index.manifests {
            self.created_annotation(digest, &member.annotations);
            self.claims.push(Claim {
                index: Some(digest.clone()),
                member: member.digest.clone(),
                platform: member.platform.clone(),
                artifact_type: member.artifact_type.clone(),
            });
            self.attestation(digest, member, &members);
            if !listed.insert((&member.digest, member.platform.as_ref().map(Platform::sort_key))) {
                let text = format!("index `{digest}` lists `{}` twice", member.digest);
                self.warn(digest, "entry-twice", text);
            }
            let Some(platform) = member.platform.as_ref().filter(|one| is_known(one)) else { continue };
            if member.artifact_type.is_some() {
                continue;
            }
            match platforms.iter().find(|(known, _)| *known == platform) {
                Some((_, other)) if **other != member.digest => self.warn(
                    digest,
                    "platform-twice",
                    format!(
                        "index `{digest}` has two images for `{platform}`, `{other}` and `{}`; readers take the first",
                        member.digest
                    ),
                ),
                Some(_) => {}
                None => platforms.push((platform, &member.digest)),
            }
        }
        self.indexes.insert(digest.clone(), members);
    }

    fn attestation(&mut self, index: &Digest, member: &Descriptor, members: &[Digest]) {
        if member.annotations.get(ATTESTATION_TYPE).is_none_or(|kind| kind != "attestation-manifest") {
            return;
        }
        let about = member.annotations.get(ATTESTATION_OF);
        if !about.is_some_and(|about| members.iter().any(|digest| digest.to_string() == *about)) {
            let about = about.map_or("nothing".to_owned(), |about| format!("`{}`", about.escape_debug()));
            let text = format!(
                "attestation `{}` is about {about}, which index `{index}` does not have",
                member.digest
            );
            self.warn(&member.digest, "attestation", text);
        }
    }

    fn created_annotation(&mut self, digest: &Digest, annotations: &Annotations) {
        let Some(created) = annotations.get("org.opencontainers.image.created") else { return };
        if Timestamp::parse_rfc3339(created).is_none() {
            let text = format!(
                "annotation `org.opencontainers.image.created` of `{digest}` is `{}`, which is no date (RFC 3339)",
                created.escape_debug()
            );
            self.warn(digest, "date", text);
        }
    }

    /// Records what a configuration says.
    pub(super) fn config(&mut self, digest: &Digest, bytes: &[u8]) {
        let config: OfConfig = match serde_json::from_slice(bytes) {
            Ok(config) => config,
            Err(error) => {
                let error = Malformed::from(error);
                let reason = format!("configuration `{digest}` is not valid: {error}");
                return self.report(digest, Fault::Document { reason }, &[]);
            }
        };
        let steps = config.history.as_deref().unwrap_or_default();
        let dates = config.created.iter().map(|date| ("created", date));
        let dates =
            dates.chain(steps.iter().filter_map(|step| Some(("history.created", step.created.as_ref()?))));
        let wrong = dates.filter(|(_, date)| Timestamp::parse_rfc3339(date).is_none());
        let wrong: Vec<(&str, String)> = wrong.map(|(member, date)| (member, date.clone())).collect();
        // Programs in Go read these members as dates, and refuse the configuration where that fails.
        if let Some((member, date)) = wrong.first() {
            let date = date.escape_debug();
            let reason =
                format!("configuration `{digest}` has `{member}` `{date}`, which is no date (RFC 3339)");
            self.report(digest, Fault::Document { reason }, &[]);
        }
        // imgpkg leaves out both in everything that it makes.
        for (empty, other, member) in
            [(&config.os, &config.architecture, "os"), (&config.architecture, &config.os, "architecture")]
        {
            if empty.is_empty() && !other.is_empty() {
                self.warn(digest, "required", format!("configuration `{digest}` has no `{member}`"));
            }
        }
        self.configs.insert(digest.clone(), config);
    }

    fn warn(&mut self, blob: &Digest, fact: &'static str, detail: String) {
        self.warnings.push(Advice::Inconsistent { blob: blob.clone(), fact, detail });
    }

    fn report(&mut self, blob: &Digest, fault: Fault, referred_by: &[&Digest]) {
        let referred_by = referred_by.iter().map(ToString::to_string).collect();
        self.problems.push(Problem { blob: blob.clone(), fault, referred_by });
    }

    /// Compares what was noted, when all documents were read.
    pub(super) fn compare(&mut self, store: &Store) {
        self.roots(store);
        self.platforms();
        self.histories();
        self.artifact_types();
        self.referrers(store);
    }

    /// Records what `index.json` says about its members.
    fn roots(&mut self, store: &Store) {
        let descriptors = store.roots().iter().map(|root| &root.image.descriptor);
        self.claims.extend(descriptors.map(|descriptor| Claim {
            index: None,
            member: descriptor.digest.clone(),
            platform: descriptor.platform.clone(),
            artifact_type: descriptor.artifact_type.clone(),
        }));
    }

    /// Compares the platform of an index's member with that of its configuration: readers choose by the first and run
    /// by the second.
    fn platforms(&mut self) {
        let mut found = Vec::new();
        for claim in &self.claims {
            let Some(platform) = &claim.platform else { continue };
            let Some(config) = self.manifests.get(&claim.member).map(|one| &one.config) else { continue };
            let Some(own) = self.configs.get(config) else { continue };
            let own_platform = Platform {
                architecture: own.architecture.clone(),
                os: own.os.clone(),
                os_version: own.os_version.clone(),
                os_features: Vec::new(),
                variant: own.variant.clone(),
            };
            if platform.contradicts(&own_platform) {
                let reason = format!(
                    "{} says that image `{}` is for `{platform}`, but its configuration `{config}` says \
                     `{own_platform}`",
                    claim.place(),
                    claim.member
                );
                found.push((claim.member.clone(), reason, claim.index.clone()));
            }
        }
        for (member, reason, index) in found {
            self.report(&member, Fault::Contradiction { reason }, index.as_ref().as_slice());
        }
    }

    /// image-spec config.md: each step of the history makes a layer, or says that it makes none.
    fn histories(&mut self) {
        let mut found = Vec::new();
        for of in self.manifests.values().filter(|of| of.has_files) {
            let Some(steps) = self.configs.get(&of.config).and_then(|config| config.history.as_ref()) else {
                continue;
            };
            let made = steps.iter().filter(|step| !step.empty_layer).count();
            if !steps.is_empty() && made != of.layers {
                let text = format!(
                    "the history of configuration `{}` has {made} steps that make a layer, for {} layers",
                    of.config, of.layers
                );
                found.push((of.config.clone(), text));
            }
        }
        for (config, text) in found {
            self.warn(&config, "history", text);
        }
    }

    fn artifact_types(&mut self) {
        let mut found = Vec::new();
        for claim in &self.claims {
            let (Some(said), Some(of)) = (&claim.artifact_type, self.manifests.get(&claim.member)) else {
                continue;
            };
            if *said != of.artifact_type {
                let text = format!(
                    "{} says that `{}` has artifact type `{}`, its manifest says `{}`",
                    claim.place(),
                    claim.member,
                    said.escape_debug(),
                    of.artifact_type.escape_debug()
                );
                found.push((claim.member.clone(), text));
            }
        }
        for (member, text) in found {
            self.warn(&member, "artifact-type", text);
        }
    }

    /// A list of referrers under the tag `sha256-<hex>` lists manifests whose `subject` is that digest.
    fn referrers(&mut self, store: &Store) {
        let mut found = Vec::new();
        for root in store.roots() {
            let tags = root.image.names.iter().filter_map(|name| name.tag.as_ref());
            let subjects: BTreeSet<String> = tags.filter_map(|tag| subject_of_tag(tag.as_str())).collect();
            let (Some(about), Some(members)) =
                (subjects.first(), self.indexes.get(&root.image.descriptor.digest))
            else {
                continue;
            };
            for member in members {
                let Some(of) = self.manifests.get(member) else { continue };
                if of.subject.as_ref().is_none_or(|subject| subject.to_string() != *about) {
                    let says = of.subject.as_ref().map_or("none".to_owned(), |one| format!("`{one}`"));
                    let text = format!(
                        "the list of referrers of `{about}` has `{member}`, whose `subject` is {says}"
                    );
                    found.push((member.clone(), text));
                }
            }
        }
        for (member, text) in found {
            self.warn(&member, "referrers", text);
        }
    }
}

/// Attestations sit in an index under the platform `unknown/unknown`.
fn is_known(platform: &Platform) -> bool {
    platform.os != "unknown" && platform.architecture != "unknown"
}

/// Reads `sha256-<hex>`, the tag of a list of referrers.
fn subject_of_tag(tag: &str) -> Option<String> {
    let hex = tag.strip_prefix("sha256-")?;
    (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| format!("sha256:{hex}"))
}
