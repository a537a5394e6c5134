//! A check that serde leaves out: members that stand twice in one JSON object.
//!
//! RFC 8259 section 4 leaves open which of them counts; readers differ, so documents that have them are refused.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::digest::excerpt;

const MARK: &str = "repeated member: ";

/// Returns the name of the first member that stands twice in one object, at any depth.
///
/// Errors: when the bytes are not JSON.
pub fn find_repeated_member(bytes: &[u8]) -> Result<Option<String>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    match Anything.deserialize(&mut deserializer) {
        Ok(()) => deserializer.end().map(|()| None),
        Err(error) => {
            // serde's errors are text; ours is recognised by its beginning and ends before the position.
            let text = error.to_string();
            let Some(rest) = text.strip_prefix(MARK) else { return Err(error) };
            let name = rest.rsplit_once(" at line ").map_or(rest, |(name, _)| name);
            Ok(Some(name.to_owned()))
        }
    }
}

struct Anything;

impl<'de> DeserializeSeed<'de> for Anything {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Anything {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(Name(name)) = members.next_key()? {
            if seen.contains(&name) {
                return Err(A::Error::custom(format!("{MARK}{}", excerpt(&name))));
            }
            seen.insert(name);
            members.next_value_seed(Self)?;
        }
        Ok(())
    }
}

struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_members_are_found_at_any_depth() {
        for (text, expected) in [
            (r#"{"a":1,"b":{"a":2},"c":[{"a":1},{"a":2}],"d":null,"e":-1.5,"f":true}"#, None),
            (r#"{"a":1,"a":1}"#, Some("a")),
            (r#"{"a":1,"\u0061":1}"#, Some("a")),
            (r#"[{"x":{"k at line 1":[],"k at line 1":[]}}]"#, Some("k at line 1")),
        ] {
            assert_eq!(find_repeated_member(text.as_bytes()).unwrap().as_deref(), expected, "{text}");
        }
        assert!(find_repeated_member(b"{} x").is_err());
        assert!(find_repeated_member("[".repeat(100_000).as_bytes()).is_err());
    }
}
