//! The configuration of an image that runs: what is edited is replaced, all else stays as the base has it, byte for byte.
//!
//! Source: image-spec config.md; the rules for single members are those of a Dockerfile's instructions.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::model::{Config, ConfigDetails, ConfigError, History, Members, Platform, Rootfs, to_json};

use super::super::entries::PackedLayer;
use super::super::image::ZERO_TIME;

/// The search path of an image from scratch, as Docker sets it.
const USUAL_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Ends the texts of our own steps of the history.
const MADE_BY: &str = "# imgrelay";

/// What is changed in a configuration; none and empty leave it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigEdits {
    /// Program and first arguments; an empty list takes the base's away.
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments; an empty list takes the base's away.
    pub cmd: Option<Vec<String>>,
    /// Environment: replaces by name, new names come last.
    pub env: Vec<(String, String)>,
    /// User, as numbers.
    pub user: Option<String>,
    /// Working folder, absolute.
    pub workdir: Option<String>,
    /// Ports, as `8080/tcp`; added to the base's.
    pub ports: Vec<String>,
    /// Paths of volumes, absolute; added to the base's.
    pub volumes: Vec<String>,
    /// Signal that stops the container.
    pub stop_signal: Option<String>,
    /// Labels: replaces by key.
    pub labels: BTreeMap<String, String>,
    /// Creation time, RFC 3339; Go's zero time where none is given.
    pub created: Option<String>,
}

impl ConfigEdits {
    /// Returns the creation time that is written.
    #[must_use]
    pub fn created(&self) -> &str {
        self.created.as_deref().unwrap_or(ZERO_TIME)
    }

    /// Writes the edits as a Dockerfile would, for the history; empty if there are none.
    fn instructions(&self) -> String {
        let words = |words: &Vec<String>| serde_json::to_string(words).unwrap_or_default();
        let mut all: Vec<String> = Vec::new();
        all.extend(self.labels.iter().map(|(key, value)| format!("LABEL {key}={value}")));
        all.extend(self.env.iter().map(|(name, value)| format!("ENV {name}={value}")));
        all.extend(self.volumes.iter().map(|path| format!("VOLUME {path}")));
        all.extend(self.ports.iter().map(|port| format!("EXPOSE {port}")));
        all.extend(self.user.iter().map(|user| format!("USER {user}")));
        all.extend(self.workdir.iter().map(|folder| format!("WORKDIR {folder}")));
        all.extend(self.stop_signal.iter().map(|signal| format!("STOPSIGNAL {signal}")));
        all.extend(self.entrypoint.iter().map(|list| format!("ENTRYPOINT {}", words(list))));
        all.extend(self.cmd.iter().map(|list| format!("CMD {}", words(list))));
        all.join("; ")
    }
}

/// An edited configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EditedConfig {
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// The default arguments of the base that a new entrypoint took away.
    pub(super) dropped_cmd: Option<Vec<String>>,
}

/// Makes the configuration that an image from scratch begins with.
#[must_use]
pub(super) fn scratch_config(platform: &Platform) -> Vec<u8> {
    to_json(&Config {
        architecture: platform.architecture.clone(),
        created: Some(ZERO_TIME.to_owned()),
        history: Vec::new(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        os_version: None,
        os_features: Vec::new(),
        rootfs: Rootfs { kind: "layers".to_owned(), diff_ids: Vec::new() },
        config: ConfigDetails { env: vec![USUAL_PATH.to_owned()], ..ConfigDetails::default() },
    })
}

/// A layer for the configuration: what it is, and what the history says of it.
pub(super) type LayerStep<'a> = (&'a PackedLayer, &'a [u8]);

/// Edits a configuration and adds layers to it.
///
/// Shape: members keep their order; new ones come last. A step of the history is added for each layer and one for the
/// edits, unless the base's history is not complete: readers count its steps against the layers.
/// Errors: the base's configuration cannot be read.
pub(super) fn edit_config(
    base: &[u8],
    edits: &ConfigEdits,
    layers: &[LayerStep<'_>],
) -> Result<EditedConfig, ConfigError> {
    let before = Config::parse(base)?;
    let json = |error: serde_json::Error| ConfigError::from(crate::model::JsonError::from(error));
    let mut top = Members::parse(base).map_err(json)?;
    let details = top.get("config").map(|text| Members::parse(text.as_bytes())).transpose().map_err(json)?;
    let mut details = details.unwrap_or_default();
    let dropped_cmd = edit_details(&mut details, &before, edits).map_err(json)?;
    top.set("created", &edits.created());
    top.set_members("config", &details);
    let rootfs = top.get("rootfs").map(|text| Members::parse(text.as_bytes())).transpose().map_err(json)?;
    let mut rootfs = rootfs.unwrap_or_default();
    let mut diff_ids = before.rootfs.diff_ids.clone();
    diff_ids.extend(layers.iter().map(|(layer, _)| layer.diff_id.clone()));
    rootfs.set("diff_ids", &diff_ids);
    top.set_members("rootfs", &rootfs);
    let steps = before.history.iter().filter(|step| !step.empty_layer).count();
    if steps == before.rootfs.diff_ids.len() {
        let mut history = raw_list(top.get("history")).map_err(json)?;
        history.extend(own_steps(edits, layers));
        top.set_list("history", &history);
    }
    Ok(EditedConfig { bytes: top.to_bytes(), dropped_cmd })
}

/// Reads a list as the texts of its items.
pub(super) fn raw_list(text: Option<&str>) -> Result<Vec<String>, serde_json::Error> {
    let items: Vec<Box<RawValue>> = text.map(serde_json::from_str).transpose()?.unwrap_or_default();
    Ok(items.iter().map(|item| item.get().to_owned()).collect())
}

/// Returns the steps that are added to the history.
fn own_steps(edits: &ConfigEdits, layers: &[LayerStep<'_>]) -> Vec<String> {
    let step = |created_by: String, empty_layer| {
        let step = History {
            created: Some(edits.created().to_owned()),
            created_by: Some(format!("{created_by} {MADE_BY}")),
            empty_layer,
            ..History::default()
        };
        String::from_utf8(to_json(&step)).expect("JSON that was written is UTF-8")
    };
    let copied = |(_, destination): &LayerStep<'_>| {
        step(format!("COPY {}", String::from_utf8_lossy(destination)), false)
    };
    let mut steps: Vec<String> = layers.iter().map(copied).collect();
    let instructions = edits.instructions();
    if !instructions.is_empty() {
        steps.push(step(instructions, true));
    }
    steps
}

/// Edits what a container runs with; returns the default arguments that went with the old entrypoint.
fn edit_details(
    details: &mut Members,
    before: &Config,
    edits: &ConfigEdits,
) -> Result<Option<Vec<String>>, serde_json::Error> {
    if !edits.env.is_empty() {
        details.set("Env", &env(&before.config.env, &edits.env));
    }
    set_list(details, "Entrypoint", edits.entrypoint.as_ref());
    let mut dropped = None;
    if edits.entrypoint.is_some() && edits.cmd.is_none() {
        // As Docker does: the arguments were meant for the old program.
        dropped = before.config.cmd.clone().filter(|cmd| !cmd.is_empty());
        details.remove("Cmd");
    }
    set_list(details, "Cmd", edits.cmd.as_ref());
    for (name, value) in
        [("User", &edits.user), ("WorkingDir", &edits.workdir), ("StopSignal", &edits.stop_signal)]
    {
        if let Some(value) = value {
            details.set(name, value);
        }
    }
    for (name, keys) in [("ExposedPorts", &edits.ports), ("Volumes", &edits.volumes)] {
        edit_map(details, name, keys.iter().map(|key| (key, &Empty {})))?;
    }
    edit_map(details, "Labels", edits.labels.iter())?;
    Ok(dropped)
}

#[derive(serde::Serialize)]
struct Empty {}

fn set_list(details: &mut Members, name: &str, list: Option<&Vec<String>>) {
    match list {
        Some(list) if list.is_empty() => details.remove(name),
        Some(list) => details.set(name, list),
        None => {}
    }
}

/// Adds entries to a map, or replaces them.
fn edit_map<'a, T: serde::Serialize + 'a>(
    details: &mut Members,
    name: &str,
    entries: impl Iterator<Item = (&'a String, &'a T)>,
) -> Result<(), serde_json::Error> {
    let mut entries = entries.peekable();
    if entries.peek().is_none() {
        return Ok(());
    }
    let map = details.get(name).map(|text| Members::parse(text.as_bytes())).transpose()?;
    let mut map = map.unwrap_or_default();
    for (key, value) in entries {
        map.set(key, value);
    }
    details.set_members(name, &map);
    Ok(())
}

/// Lays an environment over the base's.
fn env(base: &[String], edits: &[(String, String)]) -> Vec<String> {
    let mut all = base.to_vec();
    for (name, value) in edits {
        let text = format!("{name}={value}");
        let same = |item: &&mut String| item.split('=').next() == Some(name.as_str());
        match all.iter_mut().find(same) {
            Some(old) => *old = text,
            None => all.push(text),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Descriptor, Digest, media_type};

    const DIFF_ID: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn layer() -> PackedLayer {
        PackedLayer {
            descriptor: Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::sha256_of(b"z"), 1),
            diff_id: Digest::sha256_of(b""),
            uncompressed_size: 0,
            entries: 1,
            links_left_out: 0,
        }
    }

    fn edited(base: &str, edits: &ConfigEdits, layers: &[LayerStep<'_>]) -> (String, Option<Vec<String>>) {
        let EditedConfig { bytes, dropped_cmd } = edit_config(base.as_bytes(), edits, layers).unwrap();
        (String::from_utf8(bytes).unwrap(), dropped_cmd)
    }

    #[test]
    fn an_image_from_scratch_gets_the_usual_path_and_what_was_asked_for() {
        let start = scratch_config(&"linux/arm/v7".parse().unwrap());
        let edits = ConfigEdits {
            entrypoint: Some(vec!["/srv".into(), "<a>".into()]),
            env: vec![("PORT".into(), "8080".into())],
            user: Some("65532:65532".into()),
            workdir: Some("/srv".into()),
            ports: vec!["8080/tcp".into()],
            volumes: vec!["/data".into()],
            stop_signal: Some("SIGINT".into()),
            labels: [("k".to_owned(), "v".to_owned())].into(),
            created: Some("2026-11-29T00:00:00Z".into()),
            ..ConfigEdits::default()
        };
        let (text, dropped) = edited(&String::from_utf8(start).unwrap(), &edits, &[(&layer(), b"/srv")]);
        let expected = format!(
            r#"{{"architecture":"arm","created":"2026-11-29T00:00:00Z","os":"linux","variant":"v7","rootfs":{{"type":"layers","diff_ids":["{DIFF_ID}"]}},"config":{{"Env":["{USUAL_PATH}","PORT=8080"],"Entrypoint":["/srv","\u003ca\u003e"],"User":"65532:65532","WorkingDir":"/srv","StopSignal":"SIGINT","ExposedPorts":{{"8080/tcp":{{}}}},"Volumes":{{"/data":{{}}}},"Labels":{{"k":"v"}}}},"history":[{{"created":"2026-11-29T00:00:00Z","created_by":"COPY /srv # imgrelay"}},{{"created":"2026-11-29T00:00:00Z","created_by":"LABEL k=v; ENV PORT=8080; VOLUME /data; EXPOSE 8080/tcp; USER 65532:65532; WORKDIR /srv; STOPSIGNAL SIGINT; ENTRYPOINT [\"/srv\",\"\u003ca\u003e\"] # imgrelay","empty_layer":true}}]}}"#
        );
        assert_eq!(text, expected);
        assert_eq!(dropped, None);
    }

    /// A base with members that imgrelay does not know.
    fn base() -> String {
        format!(
            r#"{{"created":"2020-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{{"Hostname":"<h>","Env":["PATH=/b","A=1"],"Cmd":["sh"],"Entrypoint":["/old"],"Healthcheck":{{"Interval": 30000000000,"Test":["CMD","x"]}},"Labels":{{"z":"1","a":"2"}},"OnBuild":["RUN x"]}},"moby.buildkit.cache.v0":"e30=","rootfs":{{"type":"layers","diff_ids":["{DIFF_ID}"]}},"history":[{{"created":"2020-01-01T00:00:00.1Z","created_by":"ADD","x":1.0}},{{"created_by":"CMD","empty_layer":true}}],"container_config":{{"Tty":false}}}}"#
        )
    }

    #[test]
    fn what_is_not_edited_stays_byte_for_byte() {
        let edits = ConfigEdits { env: vec![("A".into(), "9".into())], ..ConfigEdits::default() };
        let (text, dropped) = edited(&base(), &edits, &[]);
        let step = format!(
            r#",{{"created":"{ZERO_TIME}","created_by":"ENV A=9 # imgrelay","empty_layer":true}}],"container_config""#
        );
        let expected = base()
            .replacen("2020-01-01T00:00:00Z", ZERO_TIME, 1)
            .replace("A=1", "A=9")
            .replace(r#"],"container_config""#, &step);
        assert_eq!(text, expected);
        assert_eq!(dropped, None);
    }

    #[test]
    fn a_new_entrypoint_drops_the_bases_arguments_unless_new_ones_are_given() {
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        for (entrypoint, cmd, entrypoint_left, cmd_left, dropped) in [
            (words(&["/new"]), None, r#""Entrypoint":["/new"]"#, "", words(&["sh"])),
            (words(&["/new"]), words(&["-v"]), r#""Entrypoint":["/new"]"#, r#""Cmd":["-v"]"#, None),
            (None, words(&["-v"]), r#""Entrypoint":["/old"]"#, r#""Cmd":["-v"]"#, None),
            (words(&[]), None, "", "", words(&["sh"])),
        ] {
            let edits = ConfigEdits { entrypoint, cmd, ..ConfigEdits::default() };
            let (text, found) = edited(&base(), &edits, &[]);
            for (name, left) in [("Entrypoint", entrypoint_left), ("Cmd", cmd_left)] {
                let is_there = text.contains(&format!("\"{name}\":"));
                assert!(text.contains(left) && is_there != left.is_empty(), "{left}: {text}");
            }
            assert_eq!(found, dropped);
        }
    }

    #[test]
    fn a_history_that_does_not_fit_the_layers_gets_no_steps() {
        let base = base().replace(r#","empty_layer":true"#, "");
        let (text, _) = edited(&base, &ConfigEdits::default(), &[(&layer(), b"/x")]);
        assert!(!text.contains("imgrelay"), "{text}");
        assert!(text.contains(&format!(r#""diff_ids":["{DIFF_ID}","{DIFF_ID}"]"#)), "{text}");
    }

    #[test]
    fn maps_of_the_base_keep_their_order() {
        let labels = [("a".to_owned(), "9".to_owned()), ("n".to_owned(), "8".to_owned())].into();
        let (text, _) = edited(&base(), &ConfigEdits { labels, ..ConfigEdits::default() }, &[]);
        assert!(text.contains(r#""Labels":{"z":"1","a":"9","n":"8"}"#), "{text}");
    }
}
