//! The configuration of a client of `serve`: plain http, and this address as a mirror of other registries.
//!
//! Source: BuildKit `docs/buildkitd.toml.md`, containerd `docs/hosts.md`, containers-registries.conf(5), dockerd(8).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::json;

/// A program with a configuration of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientProgram {
    /// `buildkitd.toml`.
    BuildKit,
    /// `registries.conf` of skopeo, podman and buildah.
    Containers,
    /// `hosts.toml`, one in a folder for each registry.
    Containerd,
    /// `daemon.json`.
    Docker,
}

/// Returns the lines for a client: the address in plain http, and as a mirror of `mirrored` registries.
pub(super) fn lines(client: ClientProgram, address: &str, mirrored: &BTreeSet<String>) -> String {
    let mut out = String::new();
    let mut add = |text: String| out.write_str(&text).expect("writing to a String cannot fail");
    match client {
        ClientProgram::BuildKit => {
            add(format!("[registry.\"{address}\"]\n  http = true\n"));
            for registry in mirrored {
                add(format!("\n[registry.\"{registry}\"]\n  mirrors = [\"{address}\"]\n"));
            }
        }
        ClientProgram::Containers => {
            add(format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n"));
            for registry in mirrored {
                add(format!(
                    "\n[[registry]]\nlocation = \"{registry}\"\n\n[[registry.mirror]]\nlocation = \"{address}\"\ninsecure = true\n"
                ));
            }
        }
        ClientProgram::Containerd => {
            let host = format!("[host.\"http://{address}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
            let place = |registry: &str| format!("# /etc/containerd/certs.d/{registry}/hosts.toml\n");
            add(format!("{}server = \"http://{address}\"\n\n{host}", place(address)));
            for registry in mirrored {
                let server = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
                add(format!("\n{}server = \"https://{server}\"\n\n{host}", place(registry)));
            }
        }
        ClientProgram::Docker => {
            let mut config = json!({"insecure-registries": [address]});
            // docker supports mirrors of Docker Hub only.
            if mirrored.contains("docker.io") {
                config["registry-mirrors"] = json!([format!("http://{address}")]);
            }
            add(format!("{config:#}\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_gets_the_address_and_its_mirrors() {
        let mirrored = BTreeSet::from(["reg.example".to_owned()]);
        let of = |client| lines(client, "127.0.0.1:5000", &mirrored);
        assert_eq!(
            of(ClientProgram::BuildKit),
            "[registry.\"127.0.0.1:5000\"]\n  http = true\n\n[registry.\"reg.example\"]\n  mirrors = [\"127.0.0.1:5000\"]\n"
        );
        assert!(of(ClientProgram::Containers).ends_with(
            "\n[[registry]]\nlocation = \"reg.example\"\n\n[[registry.mirror]]\nlocation = \"127.0.0.1:5000\"\ninsecure = true\n"
        ));
        assert!(
            of(ClientProgram::Containerd)
                .contains("server = \"https://reg.example\"\n\n[host.\"http://127.0.0.1:5000\"]")
        );
        assert_eq!(
            of(ClientProgram::Docker),
            "{\n  \"insecure-registries\": [\n    \"127.0.0.1:5000\"\n  ]\n}\n"
        );
        let hub = BTreeSet::from(["docker.io".to_owned()]);
        assert!(
            lines(ClientProgram::Docker, "h:1", &hub)
                .contains("\"registry-mirrors\": [\n    \"http://h:1\"\n  ]")
        );
        assert!(
            lines(ClientProgram::Containerd, "h:1", &hub)
                .contains("server = \"https://registry-1.docker.io\"")
        );
    }
}
