//! Platforms: `os/architecture[/variant]`, and how one is chosen from an index.
//!
//! Source: image-spec image-index.md, `platform`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::digest::excerpt;
use super::json::null_is_empty;

/// The platform an image is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture in Go's names (`amd64`, `arm64`).
    #[serde(default)]
    pub architecture: String,
    /// Operating system in Go's names (`linux`).
    #[serde(default)]
    pub os: String,
    /// Version of the operating system; Windows only.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system; Windows only.
    #[serde(
        rename = "os.features",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub os_features: Vec<String>,
    /// Variant of the CPU (`v7`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("platform `{found}` is not of the form `os/architecture` or `os/architecture/variant`")]
pub struct PlatformError {
    found: String,
}

impl Platform {
    /// Returns `linux/amd64`, the platform of an image when the user names none.
    ///
    /// Never the host's platform: the same input has to give the same bytes on every machine.
    #[must_use]
    pub fn linux_amd64() -> Self {
        Self {
            architecture: "amd64".into(),
            os: "linux".into(),
            os_version: None,
            os_features: Vec::new(),
            variant: None,
        }
    }

    /// Tells whether operating system and architecture are there; attestations have `unknown/unknown`.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let is_known = |part: &str| !part.is_empty() && part != "unknown";
        is_known(&self.os) && is_known(&self.architecture)
    }

    /// Tells whether an image for `self` serves a request for `wanted`; a variant counts only when asked for.
    ///
    /// Builders leave out the usual variant: `v8` of `arm64`, `v7` of `arm`, `v1` of `amd64` (containerd's rule).
    #[must_use]
    pub fn serves(&self, wanted: &Self) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (wanted.variant.is_none() || self.variant_or_usual() == wanted.variant.as_deref())
    }

    /// Tells whether an image that is listed for `self` is for another platform by its own configuration.
    ///
    /// What only one of the two says is no contradiction: imgpkg leaves out all of it, many builders the variant.
    #[must_use]
    pub fn contradicts(&self, own: &Self) -> bool {
        let is_said = |part: &str| !part.is_empty();
        let differs = |said: &str, own: &str| is_said(said) && is_said(own) && said != own;
        // Attestations sit in an index under the platform `unknown/unknown`.
        if self.os == "unknown" || self.architecture == "unknown" {
            return false;
        }
        let versions = (self.os_version.as_deref(), own.os_version.as_deref());
        let variants = self.variant.is_some()
            && own.variant.as_deref().is_some_and(is_said)
            && is_said(&own.os)
            && is_said(&own.architecture)
            && !own.serves(self);
        differs(&self.os, &own.os)
            || differs(&self.architecture, &own.architecture)
            || variants
            || matches!(versions, (Some(said), Some(own)) if differs(said, own))
    }

    fn variant_or_usual(&self) -> Option<&str> {
        self.variant.as_deref().or(match self.architecture.as_str() {
            "arm64" => Some("v8"),
            "arm" => Some("v7"),
            "amd64" => Some("v1"),
            _ => None,
        })
    }

    /// Returns what two platforms have in common when they are the same one, in the order in which they are listed.
    ///
    /// Shape: operating system, architecture, variant (the usual one where none is given), OS version, OS features.
    #[must_use]
    pub fn sort_key(&self) -> (&str, &str, Option<&str>, Option<&str>, &[String]) {
        let variant = self.variant_or_usual();
        (&self.os, &self.architecture, variant, self.os_version.as_deref(), &self.os_features)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let sane = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some((*variant).to_owned())),
            _ => return Err(PlatformError { found: excerpt(text) }),
        };
        if !parts.iter().all(sane) {
            return Err(PlatformError { found: excerpt(text) });
        }
        Ok(Self {
            architecture: (*architecture).to_owned(),
            os: (*os).to_owned(),
            variant,
            ..Self::linux_amd64()
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platform_texts_are_accepted_or_refused() {
        for text in ["linux/amd64", "linux/arm/v7", "windows/amd64"] {
            assert_eq!(text.parse::<Platform>().map(|p| p.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_variant_counts_only_when_asked_for() {
        let v7: Platform = "linux/arm/v7".parse().unwrap();
        assert!(v7.serves(&"linux/arm".parse().unwrap()));
        assert!(!v7.serves(&"linux/arm/v6".parse().unwrap()));
        assert!(!v7.serves(&"linux/arm64".parse().unwrap()));
        for (has, wanted, expected) in [
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm64", "linux/arm64/v9", false),
            ("linux/arm", "linux/arm/v7", true),
            ("linux/arm", "linux/arm/v6", false),
            ("linux/amd64", "linux/amd64/v3", false),
        ] {
            let has: Platform = has.parse().unwrap();
            assert_eq!(has.serves(&wanted.parse().unwrap()), expected, "{has} {wanted}");
        }
    }

    #[test]
    fn platforms_contradict_each_other_where_both_say_something() {
        let platform = |text: &str| -> Platform {
            let parts: Vec<String> = text.split('/').map(str::to_owned).collect();
            let part = |at: usize| parts.get(at).cloned();
            let (os, architecture) = (part(0).unwrap_or_default(), part(1).unwrap_or_default());
            let variant = part(2).filter(|variant| !variant.is_empty());
            Platform { os, architecture, variant, os_version: part(3), ..Platform::linux_amd64() }
        };
        for (said, own, expected) in [
            ("linux/amd64", "linux/amd64", false),
            ("linux/arm64", "linux/amd64", true),
            ("windows/amd64", "linux/amd64", true),
            ("linux/arm64/v8", "linux/arm64", false),
            ("linux/arm64", "linux/arm64/v8", false),
            ("linux/arm/v6", "linux/arm/v7", true),
            ("linux/arm/v6", "linux/arm", false),
            ("unknown/unknown", "linux/amd64", false),
            ("linux/amd64", "", false),
            ("linux/amd64", "/arm64", true),
            ("windows/amd64//10.0.1", "windows/amd64//10.0.2", true),
            ("windows/amd64//10.0.1", "windows/amd64", false),
        ] {
            assert_eq!(platform(said).contradicts(&platform(own)), expected, "{said} {own}");
        }
    }

    #[test]
    fn platforms_are_sorted_and_compared_with_the_usual_variant() {
        let windows = Platform {
            os: "windows".into(),
            os_version: Some("10.0.1".into()),
            os_features: vec!["win32k".into()],
            ..Platform::linux_amd64()
        };
        let features = ["win32k".to_owned()];
        assert_eq!(windows.sort_key(), ("windows", "amd64", Some("v1"), Some("10.0.1"), &features[..]));
        for (text, expected) in [
            ("linux/arm64", ("linux", "arm64", Some("v8"))),
            ("linux/arm64/v8", ("linux", "arm64", Some("v8"))),
            ("linux/arm", ("linux", "arm", Some("v7"))),
            ("linux/arm/v6", ("linux", "arm", Some("v6"))),
            ("linux/s390x", ("linux", "s390x", None)),
        ] {
            let platform: Platform = text.parse().unwrap();
            let (os, architecture, variant, version, features) = platform.sort_key();
            assert_eq!((os, architecture, variant), expected, "{text}");
            assert_eq!((version, features.len()), (None, 0), "{text}");
        }
    }
}
