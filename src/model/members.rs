//! A JSON object whose members keep their order and their bytes, so that one of them can be changed alone.
//!
//! For documents of other tools of which imgrelay changes a part: what is not changed is written as it was read, also
//! numbers and escapes. Reading checks nothing but the form of an object; callers check the document before.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::document::to_json;

/// The members of a JSON object, in order.
#[derive(Clone, Debug, Default)]
pub struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// Reads an object.
    ///
    /// Errors: not JSON, or not an object.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Returns the text of a member; `null` counts as absent.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(member, _)| member == name);
        found.map(|(_, value)| value.get()).filter(|text| *text != "null")
    }

    /// Sets a member to the value that `to_json` writes: in its place, or after the others.
    pub fn set<T: serde::Serialize>(&mut self, name: &str, value: &T) {
        self.set_raw(name, to_json(value));
    }

    /// Sets a member to other members.
    pub fn set_members(&mut self, name: &str, value: &Self) {
        self.set_raw(name, value.to_bytes());
    }

    /// Sets a member to a list of which each item is the text of a JSON value.
    pub fn set_list(&mut self, name: &str, items: &[String]) {
        self.set_raw(name, format!("[{}]", items.join(",")).into_bytes());
    }

    fn set_raw(&mut self, name: &str, json: Vec<u8>) {
        let text = String::from_utf8(json).expect("JSON that was written is UTF-8");
        let value = RawValue::from_string(text).expect("JSON that was written is JSON");
        match self.0.iter_mut().find(|(member, _)| member == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Removes a member.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(member, _)| member != name);
    }

    /// Writes the object: no blanks between members, each value as it was read or set.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![b'{'];
        for (index, (name, value)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend(to_json(name));
            out.push(b':');
            out.extend_from_slice(value.get().as_bytes());
        }
        out.push(b'}');
        out
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, Box<RawValue>>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(members: &Members) -> String {
        String::from_utf8(members.to_bytes()).unwrap()
    }

    #[test]
    fn what_is_not_changed_keeps_its_bytes_and_its_place() {
        let json =
            r#"{ "z" : 1.50e3, "a":{"x": [ 1,2 ], "<":"\u00e9<"},"n":null, "s":18446744073709551617 }"#;
        let mut members = Members::parse(json.as_bytes()).unwrap();
        let same = r#"{"z":1.50e3,"a":{"x": [ 1,2 ], "<":"\u00e9<"},"n":null,"s":18446744073709551617}"#;
        assert_eq!(text(&members), same);
        assert_eq!(members.get("z"), Some("1.50e3"));
        assert_eq!((members.get("n"), members.get("b")), (None, None));
        members.set("a", &["<"]);
        members.set("new", &true);
        members.remove("z");
        members.set_list("list", &["1.0".to_owned(), "{}".to_owned()]);
        members.set_members("s", &Members::default());
        let changed = r#"{"a":["\u003c"],"n":null,"s":{},"new":true,"list":[1.0,{}]}"#;
        assert_eq!(text(&members), changed);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for wrong in ["", "[]", "1", "null", "{", r#"{"a":}"#, "{} {}"] {
            assert!(Members::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
