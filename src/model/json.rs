//! Reading JSON documents as Go's `encoding/json` reads them, or not at all.
//!
//! Nearly every other reader of images (containerd, docker, podman, skopeo, crane, imgpkg) is written in Go. Where
//! serde would read another value from the same bytes, two readers would see two images under one digest, so such
//! documents are refused. `docs/formats/json-documents.md` lists the differences. Floor 0: no I/O.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::digest::excerpt;
use super::malformed::Malformed;

/// Go tools write `null` for an empty list or map; it means the same.
pub(super) fn null_is_empty<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// What a Go reader expects at one place of a document.
///
/// Members are compared as Go does, see `fold`: exactly in maps, whose keys belong to users, and without case in
/// objects that Go reads into a struct.
#[derive(Clone, Copy, Debug)]
pub enum Schema {
    /// An object that Go reads into a struct with these members, and perhaps others.
    Object(&'static [(&'static str, Schema)]),
    /// A list of such values.
    List(&'static Schema),
    /// The same as another schema; lets one contain itself.
    Same(&'static Schema),
    /// Anything else: a text, a number, a map, a value that is not looked at.
    Value,
}

/// Why a JSON document is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Not JSON, or a member has the wrong type.
    #[error(transparent)]
    Json(Malformed),
    /// Not UTF-8: Go replaces such bytes by U+FFFD, others refuse them (RFC 8259 8.1 forbids them).
    #[error("byte {at} is not UTF-8")]
    NotUtf8 {
        /// Position of the first such byte, from 0.
        at: usize,
    },
    /// An object has a name twice; readers differ in which one they use (RFC 8259 4).
    #[error("member `{name}` is there twice")]
    Repeated {
        /// The name.
        name: String,
    },
    /// A name that Go reads as another one, because it ignores case.
    #[error(
        "member `{name}` is read as `{other}` by programs that ignore case, and as another one by others"
    )]
    OtherCase {
        /// The name.
        name: String,
        /// The member that a reader in Go takes it for.
        other: String,
    },
    /// A list or another value in place of an object; serde reads structs from lists too, other readers do not.
    #[error("expected an object{}, found {found}", at(name))]
    NotAnObject {
        /// The member, or the empty text for the document itself.
        name: String,
        /// What is there.
        found: &'static str,
    },
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error.into())
    }
}

fn at(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" at `{name}`") }
}

/// Reads a document, if every reader in Go reads the same values from it.
///
/// Errors: [`JsonError`].
/// Cost: the text is parsed twice; memory as much as its names.
pub fn read_json<'a, T: Deserialize<'a>>(bytes: &'a [u8], schema: &Schema) -> Result<T, JsonError> {
    check_members(bytes, schema)?;
    Ok(serde_json::from_slice(bytes)?)
}

/// Checks that serde and Go's `encoding/json` find the same members in a document.
///
/// Errors: [`JsonError`]; also for repeated names at any depth, lone surrogates, and more than 128 levels.
pub fn check_members(bytes: &[u8], schema: &Schema) -> Result<(), JsonError> {
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(JsonError::NotUtf8 { at: error.valid_up_to() });
    }
    let fault = RefCell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let checked = Check { schema, name: "", fault: &fault }.deserialize(&mut deserializer);
    match (fault.into_inner(), checked) {
        (Some(fault), _) => Err(fault),
        (None, checked) => Ok(checked.and_then(|()| deserializer.end())?),
    }
}

/// Folds a name as Go's `encoding/json` does before it compares it with a struct's members.
///
/// Two letters outside of ASCII fold into it: `ſ` (U+017F) into `s`, and the Kelvin sign (U+212A) into `k`. Known
/// members are ASCII, so a rough rule for all other letters is enough.
/// Source: Go 1.22 `encoding/json/fold.go`; Unicode `CaseFolding.txt`, status C and S.
fn fold(name: &str) -> String {
    let letter = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_lowercase().next().unwrap_or(letter),
    };
    name.chars().map(letter).collect()
}

#[derive(Clone, Copy)]
struct Check<'a> {
    schema: &'a Schema,
    /// The member that is checked.
    name: &'a str,
    fault: &'a RefCell<Option<JsonError>>,
}

impl Check<'_> {
    /// Keeps the fault and returns an error that only ends the parsing.
    fn fail<E: serde::de::Error>(self, fault: JsonError) -> E {
        self.fault.replace(Some(fault));
        E::custom("")
    }

    fn members(self) -> Option<&'static [(&'static str, Schema)]> {
        let mut schema = self.schema;
        loop {
            match schema {
                Schema::Object(members) => return Some(members),
                Schema::Same(other) => schema = other,
                Schema::List(_) | Schema::Value => return None,
            }
        }
    }

    fn not_an_object<E: serde::de::Error>(self, found: &'static str) -> Result<(), E> {
        match self.members() {
            Some(_) => Err(self.fail(JsonError::NotAnObject { name: excerpt(self.name), found })),
            None => Ok(()),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Check<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.not_an_object("a boolean")
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.not_an_object("a number")
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.not_an_object("a number")
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.not_an_object("a number")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.not_an_object("a text")
    }

    // Go leaves a struct unchanged for `null`; the caller decides whether the member may be absent.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.not_an_object("a list")?;
        let schema = match self.schema {
            Schema::List(item) => item,
            _ => &Schema::Value,
        };
        while items.next_element_seed(Check { schema, ..self })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let known = self.members();
        // The key is the folded name: two members with one key are one member for Go.
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        while let Some(name) = members.next_key::<String>()? {
            let folded = if known.is_some() { fold(&name) } else { name.clone() };
            let member = known.into_iter().flatten().find(|(known, _)| known.eq_ignore_ascii_case(&folded));
            let schema = match member {
                Some((known, _)) if *known != name => {
                    let (name, other) = (excerpt(&name), (*known).to_owned());
                    return Err(self.fail(JsonError::OtherCase { name, other }));
                }
                Some((_, schema)) => schema,
                None => &Schema::Value,
            };
            match seen.entry(folded) {
                Entry::Occupied(first) if *first.get() == name => {
                    return Err(self.fail(JsonError::Repeated { name: excerpt(&name) }));
                }
                Entry::Occupied(first) => {
                    let other = excerpt(first.get());
                    return Err(self.fail(JsonError::OtherCase { name: excerpt(&name), other }));
                }
                Entry::Vacant(free) => drop(free.insert(name.clone())),
            }
            members.next_value_seed(Check { schema, name: &name, ..self })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ITEM: Schema = Schema::Object(&[
        ("mediaType", Schema::Value),
        ("size", Schema::Value),
        ("links", Schema::List(&Schema::Value)),
        ("annotations", Schema::Value),
        ("inner", Schema::Same(&ITEM)),
    ]);
    static DOCUMENT: Schema = Schema::Object(&[("layers", Schema::List(&ITEM)), ("config", ITEM)]);

    fn check(text: &str) -> Result<(), String> {
        check_members(text.as_bytes(), &DOCUMENT).map_err(|error| error.to_string())
    }

    #[test]
    fn documents_that_go_reads_alike_pass() {
        for text in [
            "{}",
            " {\"layers\": [], \"config\": null}\n",
            r#"{"layers":[{"mediaType":"a","size":1},null],"config":{"mediaType":"b"}}"#,
            // The keys of maps are the user's.
            r#"{"config":{"annotations":{"a":"1","A":"2","mediaType":"x","MediaType":"y","k":"","\u212a":""}}}"#,
            r#"{"x":{"b":1,"B":[{"c":2,"C":true,"d":-1.5,"e":null,"f":"g"}]}}"#,
            r#"{"layers":null,"config":{"inner":{"inner":{"size":2}}}}"#,
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn names_equal_in_go_and_repeated_names_are_refused_where_a_reader_matches_them() {
        let other = |name: &str, other: &str| {
            format!(
                "member `{name}` is read as `{other}` by programs that ignore case, and as another one by others"
            )
        };
        let twice = |name: &str| format!("member `{name}` is there twice");
        for (text, expected) in [
            (r#"{"layers":[],"Layers":[]}"#, other("Layers", "layers")),
            (r#"{"Layers":[],"layers":[]}"#, other("Layers", "layers")),
            (r#"{"Layers":[]}"#, other("Layers", "layers")),
            (r#"{"LAYERS":null}"#, other("LAYERS", "layers")),
            ("{\"layer\u{17f}\":[]}", other("layer\u{17f}", "layers")),
            (r#"{"layer\u017f":[]}"#, other("layer\u{17f}", "layers")),
            ("{\"config\":{\"lin\u{212a}s\":[]}}", other("lin\u{212a}s", "links")),
            (r#"{"layers":[{"mediaType":"a"},{"mediatype":"b"}]}"#, other("mediatype", "mediaType")),
            (r#"{"config":{"inner":{"inner":{"Size":2}}}}"#, other("Size", "size")),
            (r#"{"other":1,"Other":2}"#, other("Other", "other")),
            (r#"{"layers":[],"layers":[]}"#, twice("layers")),
            (r#"{"layers":[],"l\u0061yers":[]}"#, twice("layers")),
            (r#"{"x":[{"y":{"a":1,"a":2}}]}"#, twice("a")),
            (r#"{"config":{"annotations":{"a":"1","a":"2"}}}"#, twice("a")),
            (r#"{"config":[]}"#, "expected an object at `config`, found a list".to_owned()),
            (r#"{"config":["a",1]}"#, "expected an object at `config`, found a list".to_owned()),
            (r#"{"config":"a"}"#, "expected an object at `config`, found a text".to_owned()),
            (r#"{"layers":[true]}"#, "expected an object at `layers`, found a boolean".to_owned()),
            (r#"{"layers":[[]]}"#, "expected an object at `layers`, found a list".to_owned()),
            (r#"[]"#, "expected an object, found a list".to_owned()),
            ("1", "expected an object, found a number".to_owned()),
        ] {
            assert_eq!(check(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        assert!(matches!(check_members(b"{\"a\":\"\xff\"}", &DOCUMENT), Err(JsonError::NotUtf8 { at: 6 })));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        for text in ["", "{} x", "{}\0", "\u{feff}{}", r#"{"a":"\ud800"}"#, r#"{"a":01}"#, &deep] {
            let error = check_members(text.as_bytes(), &DOCUMENT);
            assert!(matches!(error, Err(JsonError::Json(_))), "{text}: {error:?}");
        }
        assert!(check_members("[".repeat(100_000).as_bytes(), &Schema::Value).is_err());
    }

    #[test]
    fn documents_are_read_into_structs_after_the_check() {
        #[derive(serde::Deserialize)]
        struct Item {
            size: u64,
        }
        assert_eq!(read_json::<Item>(br#"{"size":3}"#, &ITEM).unwrap().size, 3);
        for wrong in [r#"{"Size":3}"#, "[3]", r#"{"size":1e3}"#, r#"{"size":1.0}"#, r#"{"size":-0}"#] {
            assert!(read_json::<Item>(wrong.as_bytes(), &ITEM).is_err(), "{wrong}");
        }
    }
}
