//! `Package` and `PackageMetadata`: what kapp-controller checks when it reads a package repository.
//!
//! Lenient, unlike the rest of this module: a document may have fields that are not known here, and each broken rule
//! is a value, not an error. Source: kapp-controller `pkg/pkgrepository/app_template.go`,
//! `pkg/apiserver/apis/datapackaging/validation/validations.go`; kbld `pkg/kbld/config` (ids of an ImagesLock).

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::model::SemanticVersion;

use super::yaml::{self, LockError};

/// Group and version of what a package repository holds.
pub const PACKAGING_API_VERSION: &str = "data.packaging.carvel.dev/v1alpha1";
/// The folder of a package repository that kapp-controller reads.
pub const PACKAGES_FOLDER: &str = "packages";
/// Annotation of an ImagesLock's image that tells kbld which text it replaces.
pub const KBLD_ID: &str = "kbld.carvel.dev/id";
/// Longest name of an object in Kubernetes, bytes (RFC 1123 subdomain).
const NAME_BYTES: usize = 253;

/// One document of a YAML file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackagingObject {
    /// Line of its `kind` (or `apiVersion`), from 1; 0 when it has neither.
    pub line: u64,
    /// `apiVersion`, empty when there is none.
    pub api_version: String,
    /// `kind`, empty when there is none.
    pub kind: String,
    /// `metadata.name`.
    pub name: Option<String>,
    /// The `spec` of a `Package`; meaningless for another kind.
    pub spec: PackageSpec,
}

/// The fields of a `Package`'s `spec` that the rules need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageSpec {
    /// `refName`: the name of its `PackageMetadata`.
    pub ref_name: Option<String>,
    /// `version`.
    pub version: Option<String>,
    /// The number of steps in each list of `template.spec`.
    pub steps: [(&'static str, usize); 3],
    /// `imgpkgBundle.image` of each fetch step that has one, with the field's path.
    pub bundles: Vec<(String, String)>,
}

/// A rule that a document breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackageRule {
    /// kapp-controller does not keep objects of this kind.
    #[error(
        "`{kind}` of `{api_version}` is dropped by kapp-controller, which keeps `Package` and `PackageMetadata` of `{PACKAGING_API_VERSION}`"
    )]
    OtherKind {
        /// `kind`.
        kind: String,
        /// `apiVersion`.
        api_version: String,
    },
    /// A required field is missing.
    #[error("`{kind}` has no `{field}`")]
    Missing {
        /// `kind`.
        kind: String,
        /// The field's path.
        field: &'static str,
    },
    /// The name does not follow the rules for packages.
    #[error(
        "`{field}` is `{found}`, expected a domain name in lower case of at least three parts, as `app.team.example`"
    )]
    Name {
        /// The field's path.
        field: &'static str,
        /// What is there.
        found: String,
    },
    /// The name is not made of `spec.refName` and `spec.version`.
    #[error("`metadata.name` is `{found}`, expected `{expected}` (`spec.refName`, a dot, `spec.version`)")]
    PackageName {
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// Not a semantic version.
    #[error("`spec.version` is `{found}`, expected a semantic version as `1.2.3`")]
    Version {
        /// What is there.
        found: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    api_version: Option<Spanned<String>>,
    #[serde(default)]
    kind: Option<Spanned<String>>,
    #[serde(default)]
    metadata: Option<RawMetadata>,
    #[serde(default)]
    spec: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawMetadata {
    #[serde(default)]
    name: Option<String>,
}

/// Reads every document of a file; empty ones are left out.
///
/// Errors: [`LockError::Yaml`] when it is not YAML, or a document is not an object as Kubernetes has them.
pub fn read_packaging_objects(text: &str) -> Result<Vec<PackagingObject>, LockError> {
    let raw: Vec<Raw> = yaml::read_all(text)?;
    Ok(raw.into_iter().map(PackagingObject::of).collect())
}

impl PackagingObject {
    fn of(raw: Raw) -> Self {
        let line = raw.kind.as_ref().or(raw.api_version.as_ref()).map_or(0, |text| text.referenced.line());
        let value = |text: Option<Spanned<String>>| text.map(|text| text.value).unwrap_or_default();
        Self {
            line,
            api_version: value(raw.api_version),
            kind: value(raw.kind),
            name: raw.metadata.and_then(|metadata| metadata.name).filter(|name| !name.is_empty()),
            spec: PackageSpec::of(&raw.spec.unwrap_or_default()),
        }
    }

    /// Returns whether it is one of the two kinds, of any version of their group.
    #[must_use]
    pub fn is_packaging(&self) -> bool {
        matches!(self.kind.as_str(), "Package" | "PackageMetadata")
            && self.api_version.split('/').next().is_some_and(|group| group.ends_with("packaging.carvel.dev"))
    }

    /// Returns the rules that it breaks as a document of a package repository.
    #[must_use]
    pub fn broken_rules(&self) -> Vec<PackageRule> {
        if self.api_version != PACKAGING_API_VERSION {
            return vec![self.other_kind()];
        }
        match self.kind.as_str() {
            "PackageMetadata" => self.check_name("metadata.name", self.name.as_ref()).into_iter().collect(),
            "Package" => self.check_package(),
            _ => vec![self.other_kind()],
        }
    }

    fn other_kind(&self) -> PackageRule {
        let or_none = |text: &str| if text.is_empty() { "(none)".to_owned() } else { text.to_owned() };
        PackageRule::OtherKind { kind: or_none(&self.kind), api_version: or_none(&self.api_version) }
    }

    fn missing(&self, field: &'static str) -> PackageRule {
        PackageRule::Missing { kind: self.kind.clone(), field }
    }

    fn check_name(&self, field: &'static str, name: Option<&String>) -> Option<PackageRule> {
        match name {
            None => Some(self.missing(field)),
            Some(name) if is_qualified(name) => None,
            Some(name) => Some(PackageRule::Name { field, found: name.clone() }),
        }
    }

    fn check_package(&self) -> Vec<PackageRule> {
        let mut broken: Vec<PackageRule> = Vec::new();
        broken.extend(self.check_name("spec.refName", self.spec.ref_name.as_ref()));
        match &self.spec.version {
            None => broken.push(self.missing("spec.version")),
            Some(version) if SemanticVersion::parse_strict(version).is_some() => {}
            Some(version) => broken.push(PackageRule::Version { found: version.clone() }),
        }
        match (&self.name, &self.spec.ref_name, &self.spec.version) {
            (None, ..) => broken.push(self.missing("metadata.name")),
            (Some(name), Some(ref_name), Some(version)) => {
                let expected = format!("{ref_name}.{version}");
                if *name != expected {
                    broken.push(PackageRule::PackageName { found: name.clone(), expected });
                }
            }
            _ => {}
        }
        let empty = self.spec.steps.iter().filter(|(_, steps)| *steps == 0);
        broken.extend(empty.map(|(field, _)| self.missing(field)));
        broken
    }
}

impl PackageSpec {
    fn of(spec: &serde_json::Value) -> Self {
        // A version that YAML reads as a number is not a semantic version; the error shows it as written.
        let text = |field: &str| match spec.get(field) {
            Some(serde_json::Value::String(text)) if !text.is_empty() => Some(text.clone()),
            Some(serde_json::Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let steps = |path: &str| spec.pointer(path).and_then(serde_json::Value::as_array);
        let count = |path: &str| steps(path).map_or(0, Vec::len);
        let fetches = steps("/template/spec/fetch").into_iter().flatten().enumerate();
        let bundles = fetches.filter_map(|(number, step)| {
            let image = step.pointer("/imgpkgBundle/image")?.as_str()?;
            Some((format!("spec.template.spec.fetch[{number}].imgpkgBundle.image"), image.to_owned()))
        });
        Self {
            ref_name: text("refName"),
            version: text("version"),
            steps: [
                ("spec.template.spec.fetch", count("/template/spec/fetch")),
                ("spec.template.spec.template", count("/template/spec/template")),
                ("spec.template.spec.deploy", count("/template/spec/deploy")),
            ],
            bundles: bundles.collect(),
        }
    }
}

/// Returns whether a text is an RFC 1123 subdomain of at least three labels.
fn is_qualified(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= NAME_BYTES && name.split('.').all(is_label) && name.split('.').count() >= 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<String> {
        let objects = read_packaging_objects(text).unwrap();
        objects.iter().flat_map(PackagingObject::broken_rules).map(|rule| rule.to_string()).collect()
    }

    const STEPS: &str = "  template:\n    spec:\n      fetch: [{imgpkgBundle: {image: reg.example/a@sha256:12}}]\n      \
                         template: [{ytt: {}}]\n      deploy: [{kapp: {}}]\n";

    fn package(name: &str, ref_name: &str, version: &str) -> String {
        format!(
            "apiVersion: {PACKAGING_API_VERSION}\nkind: Package\nmetadata: {{name: {name}}}\nspec:\n  \
             refName: {ref_name}\n  version: {version}\n{STEPS}"
        )
    }

    #[test]
    fn names_and_versions_are_those_kapp_controller_takes() {
        let metadata = |name| {
            format!(
                "apiVersion: {PACKAGING_API_VERSION}\nkind: PackageMetadata\nmetadata: {{name: {name}}}\n"
            )
        };
        for name in ["app.team.example", "a.b.c.d", "0.1.2-x"] {
            assert_eq!(rules(&metadata(name)), [""; 0], "{name}");
        }
        for name in ["app.team", "App.team.example", "a..b", "-a.b.c", "a.b.c-", "a_b.c.d", &"a.".repeat(130)]
        {
            let broken = rules(&metadata(name));
            assert!(broken.len() == 1 && broken[0].starts_with("`metadata.name` is "), "{name}: {broken:?}");
        }
        for version in ["1.0.0", "0.10.2", "1.0.0-rc.1", "1.0.0-0a", "1.0.0+vmware.01", "1.0.0-a.b+c-d"] {
            let broken = rules(&package(&format!("a.b.c.{version}"), "a.b.c", version));
            assert_eq!(broken, [""; 0], "{version}");
        }
        for version in
            ["v1.0.0", "1.0", "1.0.0.0", "01.0.0", "1.0.0-01", "1.0.0-", "1.0.0+", "latest", "1.0.0-a..b"]
        {
            let broken = rules(&package(&format!("a.b.c.{version}"), "a.b.c", version));
            assert!(
                broken.len() == 1 && broken[0].starts_with("`spec.version` is "),
                "{version}: {broken:?}"
            );
        }
        assert_eq!(
            rules(&package("a.b.c-1.0.0", "a.b.c", "1.0.0")),
            [
                "`metadata.name` is `a.b.c-1.0.0`, expected `a.b.c.1.0.0` (`spec.refName`, a dot, `spec.version`)"
            ]
        );
    }

    #[test]
    fn fields_that_are_missing_are_named() {
        let text = format!("apiVersion: {PACKAGING_API_VERSION}\nkind: Package\n");
        let expected = [
            "`Package` has no `spec.refName`",
            "`Package` has no `spec.version`",
            "`Package` has no `metadata.name`",
            "`Package` has no `spec.template.spec.fetch`",
            "`Package` has no `spec.template.spec.template`",
            "`Package` has no `spec.template.spec.deploy`",
        ];
        assert_eq!(rules(&text), expected);
    }

    #[test]
    fn other_kinds_and_versions_are_dropped_ones() {
        for (text, expected) in [
            ("apiVersion: v1\nkind: Secret\n", "`Secret` of `v1` is dropped by kapp-controller"),
            (
                "apiVersion: packaging.carvel.dev/v1alpha1\nkind: Package\n",
                "`Package` of `packaging.carvel.dev/v1alpha1` is dropped",
            ),
            (
                "apiVersion: data.packaging.carvel.dev/v1alpha1\nkind: PackageRepository\n",
                "`PackageRepository` of `data.packaging.carvel.dev/v1alpha1` is dropped",
            ),
            ("a: 1\n", "`(none)` of `(none)` is dropped"),
        ] {
            let broken = rules(text);
            assert!(broken.len() == 1 && broken[0].starts_with(expected), "{text}: {broken:?}");
        }
    }

    #[test]
    fn documents_are_read_with_their_lines() {
        let text = format!(
            "# only a comment\n---\n{}---\napiVersion: v1\nkind: ConfigMap\n1: {{}}\n",
            package("a.b.c.1.0.0", "a.b.c", "1.0.0")
        );
        let objects = read_packaging_objects(&text).unwrap();
        assert_eq!(objects.len(), 2, "{objects:?}");
        assert_eq!((objects[0].line, objects[0].is_packaging()), (4, true));
        let image = "spec.template.spec.fetch[0].imgpkgBundle.image".to_owned();
        assert_eq!(objects[0].spec.bundles, [(image, "reg.example/a@sha256:12".to_owned())]);
        assert_eq!((objects[1].line, objects[1].is_packaging()), (16, false));
        for text in ["{{{", "- a\n- b\n", "a: [\n", "kind: Package\nmetadata: []\n"] {
            assert!(matches!(read_packaging_objects(text), Err(LockError::Yaml { .. })), "{text}");
        }
    }

    #[test]
    fn kind_and_group_decide_whether_a_document_is_of_packaging() {
        let is_packaging = |version: &str, kind: &str| {
            let text = format!("apiVersion: {version}\nkind: {kind}\n");
            read_packaging_objects(&text).unwrap()[0].is_packaging()
        };
        for (version, kind, expected) in [
            (PACKAGING_API_VERSION, "Package", true),
            (PACKAGING_API_VERSION, "PackageMetadata", true),
            ("data.packaging.carvel.dev/v2", "Package", true),
            (PACKAGING_API_VERSION, "PackageInstall", false),
            ("v1", "Package", false),
            ("v1/packaging.carvel.dev", "Package", false),
        ] {
            assert_eq!(is_packaging(version, kind), expected, "{version} {kind}");
        }
    }

    #[test]
    fn a_name_has_three_labels_and_at_most_253_bytes() {
        let long = |length: usize| format!("a.b.{}", "c".repeat(length - 4));
        for (name, expected) in [
            ("a.b.c", true),
            ("a.b", false),
            ("a.b.", false),
            ("a.b.c-d", true),
            ("a.b.-c", false),
            (&long(NAME_BYTES), true),
            (&long(NAME_BYTES + 1), false),
        ] {
            assert_eq!(is_qualified(name), expected, "{name}");
        }
        assert_eq!(NAME_BYTES, 253);
    }

    #[test]
    fn a_document_has_line_name_and_the_images_of_its_bundles() {
        let text = "---\nkind: Package\nmetadata: {name: ''}\nspec:\n  refName: ''\n  version: 1.5\n  template:\n    \
                    spec:\n      fetch:\n      - image: {url: x}\n      - imgpkgBundle: {image: reg.example/a}\n";
        let objects = read_packaging_objects(text).unwrap();
        let [package] = objects.as_slice() else { panic!("{objects:?}") };
        assert_eq!((package.line, package.api_version.as_str(), &package.name), (2, "", &None));
        let spec = &package.spec;
        assert_eq!((&spec.ref_name, spec.version.as_deref()), (&None, Some("1.5")));
        assert_eq!(spec.steps.map(|(_, count)| count), [2, 0, 0]);
        let field = "spec.template.spec.fetch[1].imgpkgBundle.image".to_owned();
        assert_eq!(spec.bundles, [(field, "reg.example/a".to_owned())]);
        let objects = read_packaging_objects("metadata: {name: a}\n").unwrap();
        let [empty] = objects.as_slice() else { panic!("{objects:?}") };
        assert_eq!((empty.line, empty.name.as_deref()), (0, Some("a")));
    }
}
