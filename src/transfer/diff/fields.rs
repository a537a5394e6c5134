//! Fields of configurations and annotations that differ: lists of variables by name, objects by member.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::model::{Annotations, Platform};

/// A field with two values; one of them is missing where the field is new or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// Its name: `config.Env.PATH`.
    pub field: String,
    /// What it was.
    pub old: Option<Value>,
    /// What it is.
    pub new: Option<Value>,
}

/// Members of a configuration that say what layers say, or how they were made.
const LEFT_OUT: [&str; 2] = ["rootfs", "history"];
/// Deepest objects that are compared member by member; below, they are compared as a whole.
const DEPTH: usize = 3;

/// Returns which fields of two configurations differ, in order of their names.
///
/// A configuration that is no JSON object has one field without a name.
pub(super) fn of_configs(old: &[u8], new: &[u8]) -> Vec<FieldChange> {
    let fields = |bytes: &[u8]| {
        let mut found = BTreeMap::new();
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(members)) => {
                for (name, value) in
                    members.into_iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()))
                {
                    flatten(name, value, 1, &mut found);
                }
            }
            Ok(value) => {
                found.insert(String::new(), value);
            }
            Err(_) => {}
        }
        found
    };
    changes(fields(old), fields(new))
}

/// Returns which annotations differ, in order of their keys.
pub(super) fn of_annotations(old: &Annotations, new: &Annotations) -> Vec<FieldChange> {
    let fields = |all: &Annotations| {
        all.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect()
    };
    changes(fields(old), fields(new))
}

/// Returns the platform that a configuration names.
pub(super) fn platform(old: Option<&Platform>, new: Option<&Platform>) -> Option<String> {
    new.or(old).map(ToString::to_string)
}

fn flatten(name: String, value: Value, depth: usize, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) if depth < DEPTH => {
            for (key, value) in members {
                flatten(format!("{name}.{key}"), value, depth + 1, found);
            }
        }
        Value::Array(items) if name == "config.Env" && items.iter().all(Value::is_string) => {
            for item in items {
                let text = item.as_str().unwrap_or_default();
                let (variable, value) = text.split_once('=').unwrap_or((text, ""));
                found.insert(format!("{name}.{variable}"), Value::String(value.to_owned()));
            }
        }
        value => {
            found.insert(name, value);
        }
    }
}

fn changes(mut old: BTreeMap<String, Value>, mut new: BTreeMap<String, Value>) -> Vec<FieldChange> {
    let names: BTreeSet<String> = old.keys().chain(new.keys()).cloned().collect();
    let change = |field: String| {
        let (old, new) = (old.remove(&field), new.remove(&field));
        (old != new).then_some(FieldChange { field, old, new })
    };
    names.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_labels_and_lists_are_compared_by_name() {
        let old = json!({"os": "linux", "created": "1", "config": {"Env": ["A=1", "B=2=3", "C"], "Cmd": ["x"],
            "Labels": {"l.a": "1"}, "User": "0"}, "rootfs": {"diff_ids": []}, "history": [1]});
        let new = json!({"os": "linux", "created": "2", "config": {"Env": ["A=1", "B=4", "D="], "Cmd": ["x", "y"],
            "Labels": {"l.a": "1", "l.b": "2"}, "User": "0"}, "rootfs": {"diff_ids": [1]}});
        let found = of_configs(old.to_string().as_bytes(), new.to_string().as_bytes());
        let found: Vec<(&str, Option<Value>, Option<Value>)> =
            found.iter().map(|one| (one.field.as_str(), one.old.clone(), one.new.clone())).collect();
        assert_eq!(
            found,
            [
                ("config.Cmd", Some(json!(["x"])), Some(json!(["x", "y"]))),
                ("config.Env.B", Some(json!("2=3")), Some(json!("4"))),
                ("config.Env.C", Some(json!("")), None),
                ("config.Env.D", None, Some(json!(""))),
                ("config.Labels.l.b", None, Some(json!("2"))),
                ("created", Some(json!("1")), Some(json!("2"))),
            ]
        );
    }

    #[test]
    fn configurations_of_artifacts_are_compared_as_they_are() {
        assert_eq!(of_configs(b"{}", br#"{"config":{"Labels":{}}}"#), [], "nothing in it is nothing");
        assert_eq!(of_configs(b"{}", b"[1]").len(), 1);
        assert_eq!(of_configs(b"not json", b"{}"), []);
    }
}
