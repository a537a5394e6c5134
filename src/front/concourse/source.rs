//! A pipeline's `source`: repository, credentials, and which tags are versions.
//!
//! Every key of registry-image-resource is read and checked before the first request.

use regex::bytes::{Regex, RegexBuilder};
use serde_json::value::RawValue;

use super::cloud::{self, Cloud};
use super::constraint::Constraint;
use super::fields::Fields;
use crate::front::failure::Failure;
use crate::model::{Platform, Registry, Repository, Tag, limits};
use crate::registry::{CaCertificates, Secret};
use crate::sign::PublicKey;

/// User name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    /// User name, or a fixed word such as `_json_key` or `oauth2accesstoken`.
    pub(super) username: String,
    /// Password, key file or token.
    pub(super) password: Secret,
}

/// Which tags are versions.
#[derive(Clone, Debug)]
pub(super) enum Tags {
    /// This one: each digest it points at is a version.
    One(Tag),
    /// Tags that an expression matches.
    Matching {
        /// The expression.
        regex: Regex,
        /// Order by creation time instead of the registry's order.
        by_creation: bool,
    },
    /// Tags that are version numbers.
    Versions(Versions),
}

/// Which version numbers count.
#[derive(Clone, Debug, Default)]
pub(super) struct Versions {
    /// Bounds.
    pub(super) constraint: Option<Constraint>,
    /// Whether pre-releases are included.
    pub(super) pre_releases: bool,
    /// Prefixes of pre-releases besides `alpha`, `beta` and `rc`.
    pub(super) prefixes: Vec<String>,
}

/// Another registry that is asked first when reading.
#[derive(Clone, Debug)]
pub(super) struct MirrorSource {
    /// The same repository there.
    pub(super) repository: Repository,
    /// Credentials for it.
    pub(super) login: Option<Login>,
}

/// A `source`.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The repository.
    pub(super) repository: Repository,
    /// The repository as it was written.
    pub(super) written: String,
    /// Whether plain http is allowed.
    pub(super) insecure: bool,
    /// Which tags are versions.
    pub(super) tags: Tags,
    /// The tag as it was written; `put` pushes it.
    pub(super) tag: Option<Tag>,
    /// Suffix of tags, without the `-`.
    pub(super) variant: Option<String>,
    /// Credentials.
    pub(super) login: Option<Login>,
    /// Login with a cloud's own protocol.
    pub(super) cloud: Option<Cloud>,
    /// The mirror that is asked first.
    pub(super) mirror: Option<MirrorSource>,
    /// Certificates to trust, PEM.
    pub(super) ca_certificates: Vec<String>,
    /// The platform of an index's image.
    pub(super) platform: Platform,
    /// Labels to show.
    pub(super) labels: Option<Regex>,
    /// Annotations to show.
    pub(super) annotations: Option<Regex>,
    /// Keys, one of which must have signed each image.
    pub(super) verify_keys: Vec<PublicKey>,
    /// Show each request.
    pub(super) debug: bool,
    /// Warnings, printed once the output is set up.
    pub(super) warnings: Vec<String>,
}

impl Source {
    /// Reads a `source`.
    pub(super) fn parse(raw: Option<&RawValue>) -> Result<Self, Failure> {
        Self::read(members(raw)?)
    }

    /// Reads the `source` of a put, whose `params` may have credentials, for example short-lived keys from an earlier
    /// step.
    pub(super) fn parse_with(raw: Option<&RawValue>, params: &mut Fields) -> Result<Self, Failure> {
        let mut fields = members(raw)?;
        fields.take_from(params, &["username", "password"]);
        fields.take_from(params, &cloud::AWS_KEYS);
        Self::read(fields)
    }

    fn read(mut fields: Fields) -> Result<Self, Failure> {
        let mut warnings = Vec::new();
        refuse_content_trust(&mut fields)?;
        let cloud = Cloud::parse(&mut fields)?;
        let mut login = login(&mut fields, &mut warnings)?;
        if cloud.is_some() {
            login = None;
        }
        let Some(written) = fields.text("repository")? else {
            return Err(
                fields.invalid("repository", "it is missing, expected a name such as `ghcr.io/team/app`")
            );
        };
        let full = match &cloud {
            Some(cloud) => cloud.repository(&written)?,
            None => written.clone(),
        };
        let repository = repository(&fields, &full)?;
        let tag = fields.scalar("tag")?;
        let tag =
            tag.map(|tag| tag.parse::<Tag>()).transpose().map_err(|error| fields.invalid("tag", error))?;
        let variant = fields.text("variant")?;
        if let Some(variant) = &variant {
            let fits = variant.parse::<Tag>().is_ok();
            if !fits {
                return Err(fields.invalid("variant", format!("`{variant}` cannot be part of a tag")));
            }
        }
        let tags = tags(&mut fields, tag.clone())?;
        let mirror = mirror(&mut fields, &repository, &mut warnings)?;
        let source = Self {
            repository,
            written,
            insecure: fields.switch("insecure")?,
            tags,
            tag,
            variant,
            login,
            cloud,
            mirror,
            ca_certificates: fields.texts("ca_certs")?,
            platform: platform(&mut fields, &of_this_machine())?,
            labels: regex(&mut fields, "label_regex")?,
            annotations: regex(&mut fields, "annotation_regex")?,
            verify_keys: verify_keys(&mut fields)?,
            debug: fields.switch("debug")?,
            warnings,
        };
        fields.finish()?;
        Ok(source)
    }

    /// Returns the bare tag of the newest version: `latest`, or the variant's name.
    pub(super) fn bare_tag(&self) -> &str {
        self.variant.as_deref().unwrap_or("latest")
    }
}

pub(super) fn members(raw: Option<&RawValue>) -> Result<Fields, Failure> {
    let Some(raw) = raw else { return Err(Failure::misuse("`source` is missing")) };
    Fields::parse("source", raw.get())
}

/// Reads the fields that choose the tags.
pub(super) fn tags(fields: &mut Fields, tag: Option<Tag>) -> Result<Tags, Failure> {
    let by_expression = regex(fields, "tag_regex")?;
    let by_creation = fields.switch("created_at_sort")?;
    let constraint = fields.text("semver_constraint")?;
    let constraint = constraint.map(|text| Constraint::parse(&text)).transpose();
    let versions = Versions {
        constraint: constraint.map_err(|problem| fields.invalid("semver_constraint", problem))?,
        pre_releases: fields.switch("pre_releases")?,
        prefixes: fields.texts("pre_release_prefixes")?,
    };
    Ok(match (tag, by_expression) {
        (Some(tag), _) => Tags::One(tag),
        (None, Some(regex)) => Tags::Matching { regex, by_creation },
        (None, None) => Tags::Versions(versions),
    })
}

fn repository(fields: &Fields, text: &str) -> Result<Repository, Failure> {
    text.parse::<Repository>().map_err(|error| {
        let failure = fields.invalid("repository", error);
        match text.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') && name.parse::<Repository>().is_ok() => {
                failure.hint(format!("write `repository: {name}` and `tag: {tag}`"))
            }
            _ => failure,
        }
    })
}

fn login(fields: &mut Fields, warnings: &mut Vec<String>) -> Result<Option<Login>, Failure> {
    let (username, password) = (fields.text("username")?, fields.text("password")?);
    Ok(match (username, password) {
        (Some(username), Some(password)) => Some(Login { username, password: Secret::new(password) }),
        (None, None) => None,
        (username, _) => {
            let given = if username.is_some() { "username" } else { "password" };
            let (given, missing) = (
                fields.path_of(given),
                fields.path_of(if given == "username" { "password" } else { "username" }),
            );
            warnings.push(format!("`{given}` is given without `{missing}`; both are ignored"));
            None
        }
    })
}

/// Reads `registry_mirror`; it is used for Docker Hub only, so that it can be a default for all resources.
fn mirror(
    fields: &mut Fields,
    repository: &Repository,
    warnings: &mut Vec<String>,
) -> Result<Option<MirrorSource>, Failure> {
    let Some(mut mirror) = fields.object("registry_mirror")? else { return Ok(None) };
    let host = mirror.text("host")?;
    let login = login(&mut mirror, warnings)?;
    let Some(host) = host else {
        return Err(mirror.invalid("host", "it is missing, expected a name such as `mirror.gcr.io`"));
    };
    let registry: Registry = host.parse().map_err(|error| mirror.invalid("host", error))?;
    let at_mirror = format!("{registry}/{}", repository.name());
    let at_mirror: Repository = at_mirror.parse().map_err(|error| mirror.invalid("host", error))?;
    mirror.finish()?;
    let of_docker_hub = repository.registry().to_string() == "docker.io";
    Ok(of_docker_hub.then_some(MirrorSource { repository: at_mirror, login }))
}

/// Reads `platform`; missing parts are those of `otherwise`.
pub(super) fn platform(fields: &mut Fields, otherwise: &Platform) -> Result<Platform, Failure> {
    let mut platform = otherwise.clone();
    let Some(mut wanted) = fields.object("platform")? else { return Ok(platform) };
    if let Some(architecture) = wanted.text("architecture")? {
        (platform.architecture, platform.variant) = match architecture.split_once('/') {
            Some((architecture, variant)) => (architecture.to_owned(), Some(variant.to_owned())),
            None => (architecture, None),
        };
    }
    if let Some(variant) = wanted.text("variant")? {
        platform.variant = Some(variant);
    }
    if let Some(os) = wanted.text("os")? {
        platform.os = os;
    }
    wanted.finish()?;
    Ok(platform)
}

/// Returns the platform of images that the worker can run.
pub(super) fn of_this_machine() -> Platform {
    Platform { architecture: architecture(), ..Platform::linux_amd64() }
}

/// Returns certificates of `ca_certs` with their names for messages.
pub(super) fn certificates(pems: &[String]) -> Vec<CaCertificates> {
    let named = |(index, pem): (usize, &String)| CaCertificates {
        name: format!("`source.ca_certs[{index}]`"),
        pem: pem.clone().into_bytes(),
    };
    pems.iter().enumerate().map(named).collect()
}

/// Returns the architecture of this executable by Go's name, which is the worker's.
fn architecture() -> String {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
    .to_owned()
}

fn regex(fields: &mut Fields, key: &'static str) -> Result<Option<Regex>, Failure> {
    let Some(text) = fields.text(key)? else { return Ok(None) };
    // Without Unicode `\d` and `\w` are ASCII, as in Go.
    let built = RegexBuilder::new(&text).unicode(false).size_limit(limits::REGEX_BYTES).build();
    built.map(Some).map_err(|error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        fields.invalid(key, format!("not a regular expression: {}", last.trim_start_matches("error: ")))
    })
}

/// Reads `verify_key`: public keys in PEM, one after the other.
pub(super) fn verify_keys(fields: &mut Fields) -> Result<Vec<PublicKey>, Failure> {
    let Some(text) = fields.text("verify_key")? else { return Ok(Vec::new()) };
    let name = format!("`{}`", fields.path_of("verify_key"));
    Ok(PublicKey::parse_all(text.as_bytes(), &name)?)
}

fn refuse_content_trust(fields: &mut Fields) -> Result<(), Failure> {
    match fields.raw("content_trust") {
        None => Ok(()),
        Some(_) => Err(fields
            .invalid("content_trust", "signing by Notary v1 is not supported; its servers are being shut down")
            .hint("remove it, and sign after the `put` with cosign or notation, by the digest that `put` returns")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn parse(text: &str) -> Result<Source, Failure> {
        let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
        Source::parse(Some(&raw))
    }

    fn message(text: &str) -> String {
        let failure = parse(text).unwrap_err();
        std::iter::once(failure.message.to_string())
            .chain(failure.hints.iter().map(ToString::to_string))
            .collect::<Vec<_>>()
            .join(" | ")
    }

    #[test]
    fn every_key_of_the_reference_is_understood() {
        let source = parse(
            r#"{"repository":"team/app","insecure":true,"tag":1.10,"tag_regex":"^a","created_at_sort":true,
            "variant":"slim","semver_constraint":">=1","pre_releases":true,"pre_release_prefixes":["dev"],
            "username":"u","password":"p","registry_mirror":{"host":"mirror.example","username":"m","password":"n"},
            "ca_certs":["a","b"],"platform":{"architecture":"arm64/v8","os":"linux"},"label_regex":"^org",
            "annotation_regex":".","debug":true,"aws_region":"","azure_acr":false}"#,
        )
        .unwrap();
        assert_eq!(source.repository.to_string(), "docker.io/team/app");
        assert_eq!(source.written, "team/app");
        assert!(matches!(&source.tags, Tags::One(tag) if tag.as_str() == "1.10"));
        assert_eq!(source.platform.to_string(), "linux/arm64/v8");
        let mirror = source.mirror.as_ref().unwrap();
        assert_eq!(mirror.repository.to_string(), "mirror.example/team/app");
        assert_eq!(mirror.login.as_ref().unwrap().username, "m");
        assert_eq!((source.ca_certificates.len(), source.insecure, source.debug), (2, true, true));
        assert_eq!((source.bare_tag(), source.warnings.len()), ("slim", 0));
    }

    #[test]
    fn how_tags_are_found_follows_from_what_is_given() {
        let tags = |text: &str| parse(&format!(r#"{{"repository":"r.example/a"{text}}}"#)).unwrap().tags;
        assert!(matches!(tags(""), Tags::Versions(_)));
        assert!(matches!(tags(r#","tag":"""#), Tags::Versions(_)));
        assert!(matches!(tags(r#","tag_regex":"^v""#), Tags::Matching { by_creation: false, .. }));
        assert!(matches!(tags(r#","tag":"x","tag_regex":"^v""#), Tags::One(_)));
    }

    #[test]
    fn a_mirror_counts_only_for_docker_hub() {
        for (repository, expected) in [
            ("busybox", Some("m.example/library/busybox")),
            ("team/app", Some("m.example/team/app")),
            ("docker.io/team/app", Some("m.example/team/app")),
            ("index.docker.io/busybox", Some("m.example/library/busybox")),
            ("ghcr.io/team/app", None),
        ] {
            let text = format!(r#"{{"repository":"{repository}","registry_mirror":{{"host":"m.example"}}}}"#);
            let found = parse(&text).unwrap().mirror.map(|mirror| mirror.repository.to_string());
            assert_eq!(found.as_deref(), expected, "{repository}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_as_the_pipeline_writes_it() {
        for (text, expected) in [
            ("{}", "`source.repository`: it is missing"),
            (r#"{"repository":"a","tagg":"x"}"#, "unknown field `source.tagg` | did you mean `source.tag`?"),
            (r#"{"repository":"a","tag":"Bad tag!"}"#, "`source.tag`: tag `Bad tag!` is not valid"),
            (r#"{"repository":"r.example/a:1"}"#, "write `repository: r.example/a` and `tag: 1`"),
            (
                r#"{"repository":"a","tag_regex":"("}"#,
                "`source.tag_regex`: not a regular expression: unclosed group",
            ),
            (
                r#"{"repository":"a","semver_constraint":"abc"}"#,
                "`source.semver_constraint`: `abc` is not a version",
            ),
            (
                r#"{"repository":"a","content_trust":{"server":"x"}}"#,
                "`source.content_trust`: signing by Notary v1",
            ),
            (r#"{"repository":"a","registry_mirror":{}}"#, "`source.registry_mirror.host`: it is missing"),
            (r#"{"repository":"a","platform":{"arch":"x"}}"#, "unknown field `source.platform.arch`"),
            (r#"{"repository":"a","variant":"a b"}"#, "`source.variant`: `a b` cannot be part of a tag"),
        ] {
            assert!(message(text).contains(expected), "{text}: {}", message(text));
        }
        assert_eq!(Source::parse(None).unwrap_err().message, "`source` is missing");
    }

    #[test]
    fn half_a_login_is_no_login_and_said() {
        let source = parse(r#"{"repository":"a","username":"u","password":""}"#).unwrap();
        assert_eq!(source.login, None);
        assert_eq!(
            source.warnings,
            ["`source.username` is given without `source.password`; both are ignored"]
        );
    }
}
