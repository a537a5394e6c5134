//! `check`: lists the versions of a resource, oldest first.
//!
//! A tag or a repository that does not exist has no versions; it is no error, because the first `put` may make it.
//! With a cursor, `check` sends no requests for older version numbers. The matches of an expression have no such
//! order, so `check` sends a HEAD request for each of them, many at the same time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use super::access::CHECK_CONCURRENCY;
use super::protocol::Version;
use super::source::{MirrorSource, Source, Tags, Versions};
use crate::front::failure::{Failure, Kind};
use crate::front::ui::Ui;
use crate::model::time::Timestamp;
use crate::model::{Config, Digest, Repository, SemanticVersion, Tag, Target, limits};
use crate::registry::Client;
use crate::stream::{into_value, lock};
use crate::transfer::{self, ImageSource as _, RegistrySource};

/// Prefixes of pre-releases; a tag with another one is a variant.
const PRE_RELEASES: [&str; 3] = ["alpha", "beta", "rc"];

/// Lists the versions, asking the mirror first.
pub(super) fn run(
    source: &Source,
    cursor: Option<&Version>,
    client: &Client,
    ui: &Ui,
) -> Result<Vec<Version>, Failure> {
    if let Some(MirrorSource { repository, .. }) = &source.mirror {
        let check = Check { source, cursor, client, repository, ui };
        match check.versions() {
            Ok(versions) if !versions.is_empty() => return Ok(versions),
            Ok(_) => ui.note(&format!("mirror `{repository}` has no such tag; asking the registry itself")),
            Err(failure) => {
                ui.warning(&format!(
                    "mirror `{repository}`: {}; asking the registry itself",
                    failure.message
                ));
            }
        }
    }
    Check { source, cursor, client, repository: &source.repository, ui }.versions()
}

struct Check<'a> {
    source: &'a Source,
    cursor: Option<&'a Version>,
    client: &'a Client,
    repository: &'a Repository,
    ui: &'a Ui,
}

impl Check<'_> {
    fn versions(&self) -> Result<Vec<Version>, Failure> {
        match &self.source.tags {
            Tags::One(tag) => self.one(tag),
            Tags::Matching { regex, by_creation } => {
                let tags = self.list()?;
                let matching = tags.into_iter().filter(|tag| regex.is_match(tag.as_bytes()));
                self.matching(&matching.collect::<Vec<_>>(), *by_creation)
            }
            Tags::Versions(rule) => {
                let tags = self.list()?;
                self.newest(&tags, rule)
            }
        }
    }

    /// Lists the tags; a repository that does not exist has none.
    fn list(&self) -> Result<Vec<String>, Failure> {
        match self.client.list_tags(self.repository) {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            listed => Ok(listed?),
        }
    }

    fn digest(&self, target: &Target) -> Result<Option<Digest>, Failure> {
        Ok(self.client.find_digest(self.repository, target)?)
    }

    /// Returns the digest of one tag, after its previous digest if the registry still has that.
    fn one(&self, tag: &Tag) -> Result<Vec<Version>, Failure> {
        let Some(digest) = self.digest(&Target::Tag(tag.clone()))? else { return Ok(Vec::new()) };
        let mut versions = self.moved_away(tag.as_str(), &digest)?;
        versions.push(Version::new(tag.as_str(), digest));
        Ok(versions)
    }

    /// Returns the cursor if its tag points elsewhere now and its content is still there.
    fn moved_away(&self, tag: &str, now: &Digest) -> Result<Vec<Version>, Failure> {
        match self.cursor {
            Some(Version { digest: before, .. }) if before != now => {
                let there =
                    self.digest(&Target::Digest(before.clone())).or_else(|failure| match failure.kind {
                        // The registry is reachable: it resolved the tag. Artifactory answers 500 for a digest that it
                        // has deleted (concourse/docker-image-resource#69); every later check would fail the same way.
                        Kind::Remote | Kind::Refused => {
                            self.ui
                                .warning(&format!("the previous version is left out: {}", failure.message));
                            Ok(None)
                        }
                        _ => Err(failure),
                    })?;
                Ok(there.into_iter().map(|digest| Version::new(tag, digest)).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Sends HEAD requests for many tags at the same time; tags that are gone are left out.
    fn digests<'t>(&self, tags: &[&'t str]) -> Result<Vec<(&'t str, Digest)>, Failure> {
        let found = Mutex::new(vec![None; tags.len()]);
        let numbered: Vec<(usize, &str)> = tags.iter().copied().enumerate().collect();
        transfer::for_each(&numbered, CHECK_CONCURRENCY, |(number, tag)| {
            // A name that violates the grammar of tags cannot be requested.
            let Ok(tag) = tag.parse::<Tag>() else { return Ok(()) };
            let digest = self.client.find_digest(self.repository, &Target::Tag(tag))?;
            lock(&found)[*number] = digest;
            Ok(())
        })?;
        let found = into_value(found);
        Ok(tags.iter().copied().zip(found).filter_map(|(tag, digest)| Some((tag, digest?))).collect())
    }

    /// Returns every tag, in the registry's order or by creation time.
    fn matching(&self, tags: &[String], by_creation: bool) -> Result<Vec<Version>, Failure> {
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let mut found = self.digests(&tags)?;
        if by_creation {
            let created = self.creation_times(&found)?;
            found.sort_by_key(|(_, digest)| created.get(digest).copied().unwrap_or_default());
        }
        let mut versions = Vec::new();
        let cursor_tag = self.cursor.and_then(|cursor| cursor.tag.as_deref());
        if let Some((tag, now)) = found.iter().find(|(tag, _)| Some(*tag) == cursor_tag) {
            versions = self.moved_away(tag, now)?;
        }
        versions.extend(found.into_iter().map(|(tag, digest)| Version::new(tag, digest)));
        Ok(versions)
    }

    /// Reads the creation times of images, each digest once.
    fn creation_times(&self, found: &[(&str, Digest)]) -> Result<BTreeMap<Digest, Timestamp>, Failure> {
        let mut digests: Vec<Digest> = found.iter().map(|(_, digest)| digest.clone()).collect();
        digests.sort();
        digests.dedup();
        let times = Mutex::new(BTreeMap::new());
        let source = RegistrySource::new(self.client, self.repository.clone());
        transfer::for_each(&digests, CHECK_CONCURRENCY, |digest| {
            let root = source.resolve(&Target::Digest(digest.clone()))?;
            let manifest = transfer::find_manifest(&source, &root, Some(&self.source.platform))?;
            let Some(manifest) = manifest.manifest() else { return Ok(()) };
            let bytes = source.read_blob(&manifest.config, limits::CONFIG_BYTES)?;
            // An artifact without a time comes before all others.
            let created = Config::parse(&bytes).ok().and_then(|config| config.created);
            let moment = created.and_then(|text| Timestamp::parse_rfc3339(&text)).unwrap_or_default();
            lock(&times).insert(digest.clone(), moment);
            Ok(())
        })?;
        Ok(into_value(times))
    }

    /// Returns version numbers in their order, one for each digest, and the bare tag last.
    fn newest(&self, tags: &[String], rule: &Versions) -> Result<Vec<Version>, Failure> {
        let bare = self.source.bare_tag();
        let mut candidates: Vec<(&str, SemanticVersion)> = tags
            .iter()
            .filter(|tag| *tag != bare)
            .filter_map(|tag| Some((tag.as_str(), candidate(tag, self.source.variant.as_deref(), rule)?)))
            .collect();
        let older = self.leave_out_older(&mut candidates)?;
        let mut asked: Vec<&str> = candidates.iter().map(|(tag, _)| *tag).collect();
        asked.extend(tags.iter().map(String::as_str).filter(|tag| *tag == bare));
        let found = self.digests(&asked)?;
        let numbers: HashMap<&str, &SemanticVersion> =
            candidates.iter().map(|(tag, version)| (*tag, version)).collect();
        let mut best: Vec<(&str, &SemanticVersion, &Digest)> = Vec::new();
        let mut known: HashMap<&Digest, usize> = HashMap::new();
        for (tag, digest) in found.iter().filter(|(tag, _)| *tag != bare) {
            let Some(version) = numbers.get(tag) else { continue };
            let at = *known.entry(digest).or_insert(best.len());
            match best.get_mut(at) {
                Some(one) if is_better(version, one.1) => *one = (tag, version, digest),
                Some(_) => {}
                None => best.push((tag, version, digest)),
            }
        }
        best.sort_by(|(_, one, _), (_, two, _)| one.precedence(two));
        let mut versions: Vec<Version> =
            best.iter().map(|(tag, _, digest)| Version::new(tag, (*digest).clone())).collect();
        let newest = found.iter().find(|(tag, _)| *tag == bare).filter(|_| rule.constraint.is_none());
        if let Some((tag, digest)) = newest
            && !best.iter().any(|(.., known)| *known == digest)
            // A bare tag that stays with an older version is no new version either.
            && !self.digests(&older)?.iter().any(|(_, known)| known == digest)
        {
            versions.push(Version::new(tag, digest.clone()));
        }
        Ok(versions)
    }

    /// Removes the tags that are not newer than the cursor, if the cursor's tag did not move, and returns them.
    fn leave_out_older<'t>(
        &self,
        candidates: &mut Vec<(&'t str, SemanticVersion)>,
    ) -> Result<Vec<&'t str>, Failure> {
        let cursor = self.cursor.and_then(|cursor| Some((cursor.tag()?, &cursor.digest)));
        let Some((tag, digest)) = cursor else { return Ok(Vec::new()) };
        let at_cursor = candidates.iter().find(|(candidate, _)| *candidate == tag.as_str()).cloned();
        let Some((name, at_cursor)) = at_cursor else { return Ok(Vec::new()) };
        if self.digest(&Target::Tag(tag))?.as_ref() != Some(digest) {
            return Ok(Vec::new());
        }
        let (newer, older) = std::mem::take(candidates).into_iter().partition(|(candidate, version)| {
            *candidate == name || version.precedence(&at_cursor) == std::cmp::Ordering::Greater
        });
        *candidates = newer;
        let older: Vec<(&str, SemanticVersion)> = older;
        Ok(older.into_iter().map(|(tag, _)| tag).collect())
    }
}

/// Returns the version of a tag, if it is one.
pub(super) fn candidate(tag: &str, variant: Option<&str>, rule: &Versions) -> Option<SemanticVersion> {
    let bare = match variant {
        Some(variant) => tag.strip_suffix(variant)?.strip_suffix('-')?,
        None => tag,
    };
    let version = SemanticVersion::parse_loose(bare)?;
    if rule.constraint.as_ref().is_some_and(|constraint| !constraint.allows(&version)) {
        return None;
    }
    if version.is_pre_release() {
        let counts = |prefix: &str| version.pre_release.starts_with(prefix);
        let known = PRE_RELEASES.iter().any(|prefix| counts(prefix));
        let extra = rule.prefixes.iter().any(|prefix| counts(prefix));
        // Another `-` begins another variant; prefixes from the pipeline may have a `-`.
        let plain = !version.pre_release.contains('-') || !rule.prefixes.is_empty();
        if !rule.pre_releases || !plain || !(known || extra) {
            return None;
        }
    }
    Some(version)
}

/// Returns how exactly a tag gives its version: `1.2.3` is more exact than `1.2`.
fn exactness(version: &SemanticVersion) -> usize {
    version.original().matches('.').count()
}

/// Compares two versions of one digest: a final one is preferred, then a more exact one.
fn is_better(new: &SemanticVersion, known: &SemanticVersion) -> bool {
    match (known.is_pre_release(), new.is_pre_release()) {
        (false, true) => false,
        (true, false) => true,
        _ => exactness(new) > exactness(known),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::concourse::access::{self, Purpose};
    use crate::front::concourse::constraint::Constraint;
    use crate::front::env::Env;
    use crate::front::ui::Settings;
    use crate::front::ui::tests::captured;
    use std::sync::Arc;
    use testkit::fault::{Access, Fault, FaultRegistry, Thing, digest_of, on};

    /// Runs a check against a registry; returns `tag@digest` with the first characters of the digest.
    fn check(registry: &FaultRegistry, source: &str, cursor: Option<&Version>) -> Vec<String> {
        let repository = format!("{}/team/app", registry.host());
        let source =
            source.replacen('{', &format!("{{\"repository\":\"{repository}\","), 1).replace(",}", "}");
        let source = crate::front::concourse::source::tests::parse(&source).unwrap();
        let (ui, ..) = captured(&Settings::default());
        let ui = Arc::new(ui);
        let client = access::client(&source, Purpose::Check, &Env::default(), &ui).unwrap();
        let versions = run(&source, cursor, &client, &ui).unwrap();
        let shown = |version: &Version| {
            format!("{}@{}", version.tag.as_deref().unwrap_or("-"), &version.digest.to_string()[7..11])
        };
        versions.iter().map(shown).collect()
    }

    /// Puts an image under tags and returns its digest.
    fn image(registry: &FaultRegistry, name: &str, tags: &[&str]) -> Digest {
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let config = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","annotations":{{"name":"{name}"}},"layers":[],"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}}}}"#
        );
        let digest = digest_of(manifest.as_bytes());
        for tag in tags {
            registry.put_manifest("team/app", tag, &digest, media_type, manifest.as_bytes());
        }
        digest.parse().unwrap()
    }

    #[test]
    fn a_repository_that_was_never_pushed_has_no_versions() {
        let registry = FaultRegistry::start(Access::Open, Vec::new());
        for source in [r#"{"tag":"v1"}"#, r#"{"tag_regex":"^v"}"#, r#"{"semver_constraint":">=1"}"#, "{}"] {
            assert_eq!(check(&registry, source, None), Vec::<String>::new(), "{source}");
        }
    }

    #[test]
    fn a_cursor_that_moved_comes_before_what_its_tag_is_now() {
        let registry = FaultRegistry::start(Access::Open, Vec::new());
        let old = image(&registry, "old", &["v1"]);
        let new = image(&registry, "new", &["v1"]);
        let short = |digest: &Digest| format!("v1@{}", &digest.to_string()[7..11]);
        let cursor = Version::new("v1", old.clone());
        assert_eq!(check(&registry, r#"{"tag":"v1"}"#, Some(&cursor)), [short(&old), short(&new)]);
        assert_eq!(check(&registry, r#"{"tag_regex":"v"}"#, Some(&cursor)), [short(&old), short(&new)]);
        assert_eq!(check(&registry, r#"{"tag":"v1"}"#, None), [short(&new)]);
        let gone = Version::new("v1", Digest::sha256_of(b"gone"));
        assert_eq!(check(&registry, r#"{"tag":"v1"}"#, Some(&gone)), [short(&new)]);
    }

    #[test]
    fn a_registry_that_fails_for_the_previous_digest_does_not_stop_the_check() {
        let error = || Fault::Response(403, vec![], String::new());
        // A HEAD that fails is followed by a GET.
        let rules = vec![on("HEAD", Thing::Manifest, error()).nth(2), on("GET", Thing::Manifest, error())];
        let registry = FaultRegistry::start(Access::Open, rules);
        let old = image(&registry, "old", &["v1"]);
        let new = image(&registry, "new", &["v1"]);
        let found = check(&registry, r#"{"tag":"v1"}"#, Some(&Version::new("v1", old)));
        assert_eq!(found, [format!("v1@{}", &new.to_string()[7..11])]);
    }

    #[test]
    fn version_numbers_come_in_their_order_and_a_digest_once() {
        let registry = FaultRegistry::start(Access::Open, Vec::new());
        let one = image(&registry, "one", &["1.9.0", "1.9", "latest"]);
        let two = image(&registry, "two", &["1.10.0"]);
        let short = |tag: &str, digest: &Digest| format!("{tag}@{}", &digest.to_string()[7..11]);
        assert_eq!(check(&registry, "{}", None), [short("1.9.0", &one), short("1.10.0", &two)]);
        assert_eq!(check(&registry, r#"{"semver_constraint":"<1.10"}"#, None), [short("1.9.0", &one)]);
        let cursor = Version::new("1.10.0", two.clone());
        assert_eq!(check(&registry, "{}", Some(&cursor)), [short("1.10.0", &two)]);
    }

    #[test]
    fn tags_count_as_versions_by_the_rules() {
        let finals = Versions::default();
        let pre = Versions { pre_releases: true, ..Versions::default() };
        let own = Versions { pre_releases: true, prefixes: vec!["dev".into()], ..Versions::default() };
        let bounded = Versions { constraint: Some(Constraint::parse("<2").unwrap()), ..Versions::default() };
        for (tag, variant, rule, counts) in [
            ("1.2.3", None, &finals, true),
            ("latest", None, &finals, false),
            ("1.2.3-rc.1", None, &finals, false),
            ("1.2.3-rc.1", None, &pre, true),
            ("1.2.3-alpine", None, &pre, false),
            ("1.2.3-rc.1-alpine", None, &pre, false),
            ("1.2.3-dev.1", None, &pre, false),
            ("1.2.3-dev.1", None, &own, true),
            ("1.2.3-rc.1-x", None, &own, true),
            ("1.2.3-alpine", Some("alpine"), &finals, true),
            ("1.2.3", Some("alpine"), &finals, false),
            ("1.2.3alpine", Some("alpine"), &finals, false),
            ("1.2.3-rc.1-alpine", Some("alpine"), &pre, true),
            ("1.9", None, &bounded, true),
            ("2.0", None, &bounded, false),
        ] {
            assert_eq!(candidate(tag, variant, rule).is_some(), counts, "{tag} {variant:?} {rule:?}");
        }
    }

    #[test]
    fn a_digest_gets_its_best_name() {
        let better = |new: &str, known: &str| {
            is_better(
                &SemanticVersion::parse_loose(new).unwrap(),
                &SemanticVersion::parse_loose(known).unwrap(),
            )
        };
        assert!(better("1.2.3", "1.2") && !better("1.2", "1.2.3"));
        assert!(better("1", "1.0.0-rc.1") && !better("1.0.0-rc.1", "1"));
        assert!(better("1.0.0-rc.2", "1.0.0-rc"));
    }
}
