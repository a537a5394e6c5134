//! What a container runs with, as `describe` shows it: read from the configuration, nothing added.

use serde::Serialize;

use crate::model::Config;

/// What a container of the image runs with; members that the configuration does not have are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunDescription {
    /// Program and first arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Default arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// User, as the configuration writes it: a name or number, perhaps with a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Environment, `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Ports, as `80/tcp`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Paths of volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Signal that stops the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

impl RunDescription {
    /// Reads a configuration; `None` where it says nothing about running.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let details = &config.config;
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let found = Self {
            entrypoint: details.entrypoint.clone().unwrap_or_default(),
            cmd: details.cmd.clone().unwrap_or_default(),
            user: text(&details.user),
            workdir: text(&details.working_dir),
            env: details.env.clone(),
            ports: members(&details.exposed_ports),
            volumes: members(&details.volumes),
            stop_signal: text(&details.stop_signal),
        };
        (found != Self::default()).then_some(found)
    }
}

/// Returns the names of a set, which configurations write as an object of empty objects.
fn members(set: &serde_json::Value) -> Vec<String> {
    set.as_object().map(|set| set.keys().cloned().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(config: &str) -> String {
        let text = format!(r#"{{"os":"linux","config":{config},"rootfs":{{"type":"layers"}}}}"#);
        let config = Config::parse(text.as_bytes()).expect("a configuration");
        serde_json::to_string(&RunDescription::of(&config)).expect("texts are JSON")
    }

    #[test]
    fn what_runs_is_read_from_the_configuration() {
        let config = r#"{"User":"65532","ExposedPorts":{"80/tcp":{},"53/udp":{}},"Env":["A=1"],"Entrypoint":["/app"],
            "Cmd":["-v"],"Volumes":{"/data":{}},"WorkingDir":"/w","StopSignal":"SIGINT","Labels":{"a":"b"}}"#;
        assert_eq!(
            described(config),
            r#"{"entrypoint":["/app"],"cmd":["-v"],"user":"65532","workdir":"/w","env":["A=1"],"ports":["53/udp","80/tcp"],"volumes":["/data"],"stopSignal":"SIGINT"}"#
        );
        for nothing in ["null", "{}", r#"{"User":"","Cmd":null,"ExposedPorts":[],"Labels":{"a":"b"}}"#] {
            assert_eq!(described(nothing), "null", "{nothing}");
        }
    }
}
