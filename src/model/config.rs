//! Image configuration: what runs, and the `diff_id`s of the layers.
//!
//! Source: image-spec config.md. Member order is imgpkg's (Go's struct order), so that the bytes can be equal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json::{JsonError, Schema, check_members, null_is_empty, read_json};
use super::{Digest, Platform};

/// An image configuration, as far as imgrelay reads or writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// CPU architecture; imgpkg leaves it empty.
    #[serde(default)]
    pub architecture: String,
    /// Creation time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// How the layers came to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub history: Vec<History>,
    /// Operating system; imgpkg leaves it empty.
    #[serde(default)]
    pub os: String,
    /// Variant of the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
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
    /// The layers, before compression.
    pub rootfs: Rootfs,
    /// What a container runs with.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub config: ConfigDetails,
}

/// The members that Go's readers know in a configuration: image-spec's and Docker's.
static SCHEMA: Schema = Schema::Object(&[
    ("id", Schema::Value),
    ("parent", Schema::Value),
    ("comment", Schema::Value),
    ("created", Schema::Value),
    ("container", Schema::Value),
    ("container_config", Schema::Same(&DETAILS)),
    ("docker_version", Schema::Value),
    ("author", Schema::Value),
    ("config", Schema::Same(&DETAILS)),
    ("architecture", Schema::Value),
    ("variant", Schema::Value),
    ("os", Schema::Value),
    ("os.version", Schema::Value),
    ("os.features", Schema::Value),
    ("size", Schema::Value),
    ("rootfs", Schema::Object(&[("type", Schema::Value), ("diff_ids", Schema::Value)])),
    ("history", Schema::List(&HISTORY)),
]);

static HISTORY: Schema = Schema::Object(&[
    ("created", Schema::Value),
    ("created_by", Schema::Value),
    ("author", Schema::Value),
    ("comment", Schema::Value),
    ("empty_layer", Schema::Value),
]);

/// What a container runs with: image-spec's `ImageConfig` and Docker's `container.Config`.
static DETAILS: Schema = Schema::Object(&[
    ("Hostname", Schema::Value),
    ("Domainname", Schema::Value),
    ("User", Schema::Value),
    ("AttachStdin", Schema::Value),
    ("AttachStdout", Schema::Value),
    ("AttachStderr", Schema::Value),
    ("ExposedPorts", Schema::Value),
    ("Tty", Schema::Value),
    ("OpenStdin", Schema::Value),
    ("StdinOnce", Schema::Value),
    ("Env", Schema::Value),
    ("Cmd", Schema::Value),
    ("Healthcheck", Schema::Same(&HEALTHCHECK)),
    ("ArgsEscaped", Schema::Value),
    ("Image", Schema::Value),
    ("Volumes", Schema::Value),
    ("WorkingDir", Schema::Value),
    ("Entrypoint", Schema::Value),
    ("NetworkDisabled", Schema::Value),
    ("MacAddress", Schema::Value),
    ("OnBuild", Schema::Value),
    ("Labels", Schema::Value),
    ("StopSignal", Schema::Value),
    ("StopTimeout", Schema::Value),
    ("Shell", Schema::Value),
    ("Memory", Schema::Value),
    ("MemorySwap", Schema::Value),
    ("CpuShares", Schema::Value),
]);

static HEALTHCHECK: Schema = Schema::Object(&[
    ("Test", Schema::Value),
    ("Interval", Schema::Value),
    ("Timeout", Schema::Value),
    ("StartPeriod", Schema::Value),
    ("StartInterval", Schema::Value),
    ("Retries", Schema::Value),
]);

/// Why bytes are not an image configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, a member has the wrong form, or readers in Go find other members in it.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The top is not a JSON object.
    #[error("not a JSON object")]
    NotAnObject,
}

impl Config {
    /// Checks that every reader finds the same members in a configuration that is only passed on.
    ///
    /// Errors: [`ConfigError`]; a member that is missing or has the wrong type is none.
    pub fn check(bytes: &[u8]) -> Result<(), ConfigError> {
        Ok(check_members(bytes, &SCHEMA)?)
    }

    /// Parses a configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(ConfigError::NotAnObject);
        }
        Ok(read_json(bytes, &SCHEMA)?)
    }

    /// Returns the platform that the image is for; `None` where operating system or architecture is missing.
    #[must_use]
    pub fn platform(&self) -> Option<Platform> {
        Some(self.stated_platform()).filter(Platform::is_complete)
    }

    /// Returns the platform that the configuration names; members that it lacks are empty.
    #[must_use]
    pub fn stated_platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: self.variant.clone(),
        }
    }
}

/// One step of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Who made the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// The layers of an image, before compression, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layer tars.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub diff_ids: Vec<Digest>,
}

/// The `config` member: execution parameters, of which imgrelay writes labels only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConfigDetails {
    /// User the process runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Environment, `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub env: Vec<String>,
    /// Program and first arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Ports, an object of empty objects; only shown, never written.
    #[serde(default, skip_serializing)]
    pub exposed_ports: serde_json::Value,
    /// Volumes, in the same form; only shown, never written.
    #[serde(default, skip_serializing)]
    pub volumes: serde_json::Value,
    /// Signal that stops the container; only shown, never written.
    #[serde(default, skip_serializing)]
    pub stop_signal: Option<String>,
    /// Labels, in key order.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_empty")]
    pub labels: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF_ID: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_configuration_of_docker_is_read() {
        let text = format!(
            r#"{{"architecture":"arm64","os":"linux","variant":"v8","created":"2026-01-02T03:04:05Z","container":"x",
                "config":{{"User":"1","Env":null,"Cmd":["a"],"Entrypoint":["b"],"WorkingDir":"/w","Labels":{{"k":"v","K":"w"}},
                "Healthcheck":{{"Test":["NONE"]}},"ExposedPorts":{{"80/tcp":{{}}}}}},
                "history":[{{"created_by":"RUN x","empty_layer":true}},{{"author":"me","comment":"c"}}],
                "rootfs":{{"type":"layers","diff_ids":["{DIFF_ID}"]}}}}"#
        );
        let config = Config::parse(text.as_bytes()).unwrap();
        assert_eq!((config.architecture.as_str(), config.os.as_str()), ("arm64", "linux"));
        assert_eq!(config.variant.as_deref(), Some("v8"));
        assert_eq!(config.created.as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(config.rootfs.diff_ids, [DIFF_ID.parse().unwrap()]);
        assert_eq!(config.config.user.as_deref(), Some("1"));
        assert_eq!(config.config.env, [""; 0]);
        assert_eq!(config.config.cmd, Some(vec!["a".to_owned()]));
        assert_eq!(config.config.entrypoint, Some(vec!["b".to_owned()]));
        assert_eq!(config.config.working_dir.as_deref(), Some("/w"));
        assert_eq!(config.config.labels.len(), 2, "labels may differ in case only");
        let steps: Vec<bool> = config.history.iter().map(|step| step.empty_layer).collect();
        assert_eq!(steps, [true, false]);
        assert_eq!(config.history[1].author.as_deref(), Some("me"));
    }

    #[test]
    fn what_go_reads_differently_is_refused_in_a_configuration() {
        for (text, expected) in [
            (r#"[{}]"#, "not a JSON object"),
            ("", "not a JSON object"),
            (r#"{"rootfs":{"type":"layers"},"Rootfs":{}}"#, "member `Rootfs` is read as `rootfs`"),
            (r#"{"rootfs":{"type":"layers","diff_IDs":[]}}"#, "member `diff_IDs` is read as `diff_ids`"),
            (r#"{"rootfs":{"type":"layers"},"config":{"user":"0"}}"#, "member `user` is read as `User`"),
            (r#"{"rootfs":{"type":"layers"},"history":[{"Created":"x"}]}"#, "member `Created` is read as"),
            (r#"{"rootfs":["layers",[]]}"#, "expected an object at `rootfs`, found a list"),
            (r#"{"os":"a"}"#, "missing field `rootfs`"),
        ] {
            let error = Config::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(Config::check(br#"{"os":"a"}"#).is_ok(), "what is missing is the reader's affair");
        assert!(Config::check(br#"{"OS":"a"}"#).is_err());
    }
}
