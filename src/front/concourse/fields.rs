//! Strict reading of JSON objects: the reader takes every known member by name, and any other member is an error.
//!
//! Keys are matched without regard to case, as Go programs do: Concourse's own keys arrive in either form. Values
//! are kept as their text, so that the number `1.10` stays `1.10`. Messages name the path and never the value.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::front::failure::Failure;
use crate::front::text;
use crate::model::Malformed;

/// The members of one object.
#[derive(Debug)]
pub(super) struct Fields {
    path: String,
    members: BTreeMap<String, (String, Box<RawValue>)>,
    asked: Vec<&'static str>,
}

/// The members of an object in their order; a map would drop duplicates without an error.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl Fields {
    /// Reads an object; `null` is an empty one. `path` is its name in messages; empty for the request itself.
    pub(super) fn parse(path: &str, text: &str) -> Result<Self, Failure> {
        let mut fields = Self { path: path.to_owned(), members: BTreeMap::new(), asked: Vec::new() };
        if text.trim() == "null" {
            return Ok(fields);
        }
        if !text.trim_start().starts_with('{') {
            let name = if path.is_empty() { "the request" } else { path };
            return Err(Failure::misuse(format!("`{name}` is {}, expected an object", kind_of(text))));
        }
        let Members(members) = serde_json::from_str(text).map_err(|error| not_json(path, &error))?;
        for (name, value) in members {
            let key = name.to_ascii_lowercase();
            if let Some((other, _)) = fields.members.insert(key, (name.clone(), value)) {
                let (one, two) = (fields.path_of(&other), fields.path_of(&name));
                return Err(Failure::misuse(match one == two {
                    true => format!("field `{one}` is there twice"),
                    false => format!("`{one}` and `{two}` are the same field"),
                }));
            }
        }
        Ok(fields)
    }

    /// Returns the full name of a member.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Takes a member's text; `null` counts as absent.
    pub(super) fn raw(&mut self, key: &'static str) -> Option<Box<RawValue>> {
        self.asked.push(key);
        self.members.remove(key).map(|(_, value)| value).filter(|value| value.get() != "null")
    }

    /// Replaces members by those of another object; empty ones change nothing.
    pub(super) fn take_from(&mut self, other: &mut Self, keys: &[&'static str]) {
        for key in keys {
            let value = other.raw(key).filter(|value| !matches!(value.get(), "\"\"" | "[]"));
            if let Some(value) = value {
                self.members.insert((*key).to_owned(), ((*key).to_owned(), value));
            }
        }
    }

    /// Takes a text without the line break at its end; an empty one counts as absent.
    ///
    /// A secret or version that a credential manager or a `load_var` read from a file often ends with one.
    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, Failure> {
        let Some(raw) = self.raw(key) else { return Ok(None) };
        let text = self.parsed::<String>(key, raw.get(), "text")?;
        Ok(Some(without_line_end(&text)).filter(|text| !text.is_empty()))
    }

    /// Takes a text or a number, which keeps the form it was written in.
    pub(super) fn scalar(&mut self, key: &'static str) -> Result<Option<String>, Failure> {
        match self.raw(key) {
            Some(raw) => self.written(key, raw.get()),
            None => Ok(None),
        }
    }

    /// Takes a text or a number; a list of texts stays JSON.
    pub(super) fn scalar_or_list(&mut self, key: &'static str) -> Result<Option<String>, Failure> {
        match self.raw(key) {
            Some(raw) if raw.get().starts_with('[') => {
                let _ = self.parsed::<Vec<String>>(key, raw.get(), "list of texts")?;
                Ok(Some(raw.get().to_owned()))
            }
            Some(raw) => self.written(key, raw.get()),
            None => Ok(None),
        }
    }

    fn written(&self, key: &str, written: &str) -> Result<Option<String>, Failure> {
        if written.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return Ok(Some(written.to_owned()));
        }
        let text = self.parsed::<String>(key, written, "text or a number")?;
        Ok(Some(without_line_end(&text)).filter(|text| !text.is_empty()))
    }

    /// Takes a switch, also as the text `"true"` or `"false"`, as variables often have it.
    pub(super) fn switch(&mut self, key: &'static str) -> Result<bool, Failure> {
        Ok(self.given_switch(key)?.unwrap_or(false))
    }

    /// Takes a switch; `None` if it is absent.
    pub(super) fn given_switch(&mut self, key: &'static str) -> Result<Option<bool>, Failure> {
        let Some(raw) = self.raw(key) else { return Ok(None) };
        match raw.get() {
            "true" | "\"true\"" => Ok(Some(true)),
            "false" | "\"false\"" => Ok(Some(false)),
            "\"\"" => Ok(None),
            other => Err(self.wrong(key, other, "`true` or `false`")),
        }
    }

    /// Takes a list of texts; a single text is a list of one.
    pub(super) fn texts(&mut self, key: &'static str) -> Result<Vec<String>, Failure> {
        let Some(raw) = self.raw(key) else { return Ok(Vec::new()) };
        let texts = if raw.get().starts_with('"') {
            vec![self.parsed::<String>(key, raw.get(), "text")?]
        } else {
            self.parsed::<Vec<String>>(key, raw.get(), "a list of texts")?
        };
        Ok(texts.iter().map(|text| without_line_end(text)).filter(|text| !text.is_empty()).collect())
    }

    /// Takes an object of texts and numbers.
    pub(super) fn table(&mut self, key: &'static str) -> Result<BTreeMap<String, String>, Failure> {
        let Some(raw) = self.raw(key) else { return Ok(BTreeMap::new()) };
        let path = self.path_of(key);
        let Members(members) =
            serde_json::from_str(raw.get()).map_err(|_| self.wrong(key, raw.get(), "an object of texts"))?;
        let mut table = BTreeMap::new();
        for (name, value) in members {
            let text = match serde_json::from_str::<String>(value.get()) {
                Ok(text) => text,
                Err(_) if !value.get().starts_with(['{', '[']) => value.get().to_owned(),
                Err(_) => {
                    let found = kind_of(value.get());
                    return Err(Failure::misuse(format!("`{path}.{name}` is {found}, expected text")));
                }
            };
            if table.insert(name.clone(), text).is_some() {
                return Err(Failure::misuse(format!("field `{path}.{name}` is there twice")));
            }
        }
        Ok(table)
    }

    /// Takes an object.
    pub(super) fn object(&mut self, key: &'static str) -> Result<Option<Self>, Failure> {
        let path = self.path_of(key);
        self.raw(key).map(|raw| Self::parse(&path, raw.get())).transpose()
    }

    /// Ends the reading; a member that was not taken is an error.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let Some((key, (name, _))) = self.members.first_key_value() else { return Ok(()) };
        let failure = Failure::misuse(format!("unknown field `{}`", self.path_of(name)));
        Err(match text::nearest(key, self.asked.iter().copied()) {
            Some(near) => failure.hint(format!("did you mean `{}`?", self.path_of(near))),
            None => failure.hint(format!("known are {}", known(&self.asked))),
        })
    }

    /// Makes the failure for a value of a member that cannot be used.
    pub(super) fn invalid(&self, key: &str, problem: impl fmt::Display) -> Failure {
        Failure::misuse(format!("`{}`: {problem}", self.path_of(key)))
    }

    fn parsed<T: serde::de::DeserializeOwned>(
        &self,
        key: &str,
        written: &str,
        expected: &str,
    ) -> Result<T, Failure> {
        serde_json::from_str(written).map_err(|_| self.wrong(key, written, expected))
    }

    fn wrong(&self, key: &str, written: &str, expected: &str) -> Failure {
        Failure::misuse(format!("`{}` is {}, expected {expected}", self.path_of(key), kind_of(written)))
    }
}

fn without_line_end(text: &str) -> String {
    text.trim_end_matches(['\n', '\r']).to_owned()
}

/// Lists all names, because a user searches the list for the right one.
fn known(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// Names the kind of a JSON value without showing it.
fn kind_of(written: &str) -> &'static str {
    match written.trim_start().chars().next() {
        Some('{') => "an object",
        Some('[') => "a list",
        Some('"') => "a text of another form",
        Some('t' | 'f') => "a switch",
        Some('n') => "`null`",
        None => "empty",
        Some(_) => "a number",
    }
}

fn not_json(path: &str, error: &serde_json::Error) -> Failure {
    let place = if path.is_empty() { "standard input" } else { path };
    Failure::misuse(format!("cannot read {place}: {}", Malformed::without_values(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::parse("source", text).unwrap()
    }

    #[test]
    fn members_are_taken_by_name_in_upper_and_lower_case() {
        let mut all = fields(
            r#"{"Repository":"a","TAG":1.10,"insecure":"true","debug":false,"list":["a",""],"one":"x","t":{"A":1,"b":"c"},"empty":"","nothing":null}"#,
        );
        assert_eq!(all.text("repository").unwrap().as_deref(), Some("a"));
        assert_eq!(all.scalar("tag").unwrap().as_deref(), Some("1.10"));
        assert_eq!((all.switch("insecure"), all.switch("debug")), (Ok(true), Ok(false)));
        assert_eq!(all.texts("list").unwrap(), ["a"]);
        assert_eq!(all.texts("one").unwrap(), ["x"]);
        assert_eq!(all.text("empty"), Ok(None));
        assert_eq!(all.text("nothing"), Ok(None));
        assert_eq!(all.text("absent"), Ok(None));
        let table = all.table("t").unwrap();
        assert_eq!(
            table.into_iter().collect::<Vec<_>>(),
            [("A".into(), "1".into()), ("b".into(), "c".into())]
        );
        all.finish().unwrap();
        assert!(Fields::parse("source", " null").unwrap().finish().is_ok());
    }

    #[test]
    fn a_member_that_is_there_twice_is_refused() {
        let refused = |text: &str| Fields::parse("source", text).unwrap_err().message.to_string();
        assert_eq!(refused(r#"{"tag":"a","tag":"a"}"#), "field `source.tag` is there twice");
        assert_eq!(refused(r#"{"tag":"a","Tag":"a"}"#), "`source.tag` and `source.Tag` are the same field");
        let twice = fields(r#"{"labels":{"a":1,"A":2,"a":3}}"#).table("labels").unwrap_err();
        assert_eq!(twice.message, "field `source.labels.a` is there twice");
        let request = super::super::protocol::Request::read(&br#"{"source":{},"source":{}}"#[..]);
        assert_eq!(request.unwrap_err().message, "field `source` is there twice");
    }

    #[test]
    fn an_unknown_member_is_refused_with_its_name() {
        let mut all = fields(r#"{"repositry":"a"}"#);
        assert_eq!(all.text("repository"), Ok(None));
        let failure = all.finish().unwrap_err();
        assert_eq!(failure.message, "unknown field `source.repositry`");
        assert_eq!(failure.hints, ["did you mean `source.repository`?"]);
        let mut all = fields(r#"{"zzz":1}"#);
        assert_eq!((all.text("a"), all.text("b")), (Ok(None), Ok(None)));
        assert_eq!(all.finish().unwrap_err().hints, ["known are `a`, `b`"]);
    }

    #[test]
    fn wrong_kinds_are_named_without_their_value() {
        for (text, key, expected) in [
            (r#"{"password":["hunter2"]}"#, "password", "`source.password` is a list, expected text"),
            (r#"{"password":12}"#, "password", "`source.password` is a number, expected text"),
            (r#"{"password":{"a":"hunter2"}}"#, "password", "`source.password` is an object, expected text"),
        ] {
            assert_eq!(fields(text).text(key).unwrap_err().message, expected);
        }
        let failure = fields(r#"{"insecure":"hunter2"}"#).switch("insecure").unwrap_err();
        assert_eq!(
            failure.message,
            "`source.insecure` is a text of another form, expected `true` or `false`"
        );
        for (text, expected) in [
            ("[]", "`source` is a list, expected an object"),
            ("{\"a\":}", "cannot read source: it is not valid JSON at line 1 column 6"),
            (r#"{"tag":1,"Tag":2}"#, "`source.tag` and `source.Tag` are the same field"),
        ] {
            assert_eq!(Fields::parse("source", text).unwrap_err().message, expected);
        }
    }
}
