//! Reads the XML that S3 answers with: a few elements by their path, and nothing else of XML.
//!
//! Strict and bounded: no document types, so there are no entities to expand, no comments inside of names, no nesting
//! beyond what S3 has. What is not read here is a list that cannot be trusted, and an error. Source: "Amazon S3 API
//! Reference", ListObjectsV2, InitiateMultipartUpload, REST error responses.

use crate::model::limits;

/// Calls `found` with the path of each element, its names joined by `/`, and its text, when the element ends.
///
/// Errors: what is wrong; `found` may have been called before.
pub(super) fn read(text: &str, found: &mut dyn FnMut(&str, &str)) -> Result<(), &'static str> {
    let mut rest = text.trim_start_matches('\u{feff}');
    let mut names: Vec<&str> = Vec::new();
    let mut roots = 0;
    let mut content = String::new();
    loop {
        let (before, markup) = match rest.split_once('<') {
            Some(parts) => parts,
            None if names.is_empty() && rest.trim().is_empty() && roots == 1 => return Ok(()),
            None => return Err("it ends inside of an element"),
        };
        if names.is_empty() && !before.trim().is_empty() {
            return Err("there is text outside of the elements");
        }
        unescape(before, &mut content)?;
        if let Some(after) = markup.strip_prefix('?') {
            rest = after.split_once("?>").ok_or("a declaration does not end")?.1;
            continue;
        }
        if let Some(after) = markup.strip_prefix("!--") {
            rest = after.split_once("-->").ok_or("a comment does not end")?.1;
            continue;
        }
        if markup.starts_with('!') {
            return Err("it has a document type or unparsed text");
        }
        let (tag, after) = markup.split_once('>').ok_or("a tag does not end")?;
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            if names.last() != Some(&name.trim_end()) {
                return Err("an element ends that did not begin");
            }
            found(&names.join("/"), content.trim());
            content.clear();
            names.pop();
            continue;
        }
        let (tag, is_empty) = match tag.strip_suffix('/') {
            Some(tag) => (tag, true),
            None => (tag, false),
        };
        let name = tag.split_ascii_whitespace().next().unwrap_or_default();
        if name.is_empty() || !name.bytes().all(is_of_name) || tag.contains('<') || !tag.starts_with(name) {
            return Err("a tag has no valid name");
        }
        if names.is_empty() {
            roots += 1;
        }
        if roots > 1 {
            return Err("there is more than one element outside of others");
        }
        if names.len() >= limits::XML_DEPTH {
            return Err("its elements are nested more than 16 levels deep");
        }
        content.clear();
        if !is_empty {
            names.push(name);
        }
    }
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte)
}

/// Appends text with its references replaced.
fn unescape(mut text: &str, to: &mut String) -> Result<(), &'static str> {
    while let Some((before, after)) = text.split_once('&') {
        to.push_str(before);
        let (name, rest) = after.split_once(';').ok_or("a reference does not end")?;
        let character = match name {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let number = name.strip_prefix('#').ok_or("a reference is unknown")?;
                let number = match number.strip_prefix('x') {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => number.parse(),
                };
                number.ok().and_then(char::from_u32).ok_or("a reference is no character")?
            }
        };
        to.push(character);
        text = rest;
    }
    to.push_str(text);
    if to.len() > limits::XML_TEXT_BYTES {
        Err("an element has more than 16384 bytes of text")
    } else {
        Ok(())
    }
}

/// One page of a list of keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) keys: Vec<String>,
    /// What keys begin with that were put together by a delimiter.
    pub(super) prefixes: Vec<String>,
    /// What to go on with; none on the last page.
    pub(super) next: Option<String>,
}

/// Reads the response of ListObjectsV2.
pub(super) fn read_page(text: &str) -> Result<Page, &'static str> {
    let (mut page, mut truncated, mut token, mut is_list) = (Page::default(), false, None, false);
    read(text, &mut |path, text| {
        is_list |= path == "ListBucketResult";
        match path {
            "ListBucketResult/Contents/Key" => page.keys.push(text.to_owned()),
            "ListBucketResult/CommonPrefixes/Prefix" => page.prefixes.push(text.to_owned()),
            "ListBucketResult/IsTruncated" => truncated = text == "true",
            "ListBucketResult/NextContinuationToken" => token = Some(text.to_owned()),
            _ => {}
        }
    })?;
    match (is_list, truncated, token) {
        (false, ..) => Err("it is no list of keys"),
        (true, true, None) => Err("it is incomplete and does not say how to continue"),
        (true, true, token) => Ok(Page { next: token, ..page }),
        (true, false, _) => Ok(page),
    }
}

/// What an error says; empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct XmlProblem {
    pub(super) code: String,
    pub(super) message: String,
    /// Where the bucket is, if it is elsewhere.
    pub(super) region: String,
}

/// Reads an error; `None` if the text is none.
pub(super) fn read_error(text: &str) -> Option<XmlProblem> {
    let (mut problem, mut is_error) = (XmlProblem::default(), false);
    read(text, &mut |path, text| {
        is_error |= path == "Error";
        match path {
            "Error/Code" => problem.code = text.to_owned(),
            "Error/Message" => problem.message = text.to_owned(),
            "Error/Region" => problem.region = text.to_owned(),
            _ => {}
        }
    })
    .ok()?;
    is_error.then_some(problem)
}

/// Reads the text of one element directly below the root, whose name servers do not agree on.
pub(super) fn read_one(text: &str, name: &str) -> Option<String> {
    let mut value = None;
    read(text, &mut |found, text| {
        if found.split_once('/').is_some_and(|(_, below)| below == name) {
            value = Some(text.to_owned());
        }
    })
    .ok()?;
    value.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_keys_prefixes_and_how_it_goes_on() {
        let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/\">\
            <Name>b</Name><IsTruncated>true</IsTruncated><Contents><Key>a&amp;b</Key><Size>1</Size>\
            <Owner><ID>x</ID></Owner></Contents><!-- x --><Contents><Key>&#x63;&#100;</Key></Contents>\
            <CommonPrefixes><Prefix>tags/v1/</Prefix></CommonPrefixes><Prefix/>\
            <NextContinuationToken>1/x==</NextContinuationToken></ListBucketResult>";
        let page = read_page(text).unwrap();
        assert_eq!(page.keys, ["a&b", "cd"]);
        assert_eq!((page.prefixes, page.next.as_deref()), (vec!["tags/v1/".to_owned()], Some("1/x==")));
        let last = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        assert_eq!(read_page(last), Ok(Page::default()));
    }

    #[test]
    fn what_is_no_response_of_s3_is_refused() {
        for (text, expected) in [
            ("", "it ends inside of an element"),
            ("{}", "it ends inside of an element"),
            ("<a>", "it ends inside of an element"),
            ("x<a></a>", "there is text outside of the elements"),
            ("<a></b>", "an element ends that did not begin"),
            ("</a>", "an element ends that did not begin"),
            ("<a></a><b></b>", "there is more than one element outside of others"),
            ("<a", "a tag does not end"),
            ("< a></a>", "a tag has no valid name"),
            ("<a<b></a>", "a tag has no valid name"),
            ("<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>", "it has a document type or unparsed text"),
            ("<a><![CDATA[x]]></a>", "it has a document type or unparsed text"),
            ("<a>&b;</a>", "a reference is unknown"),
            ("<a>&amp</a>", "a reference does not end"),
            ("<a>&#xd800;</a>", "a reference is no character"),
            ("<?xml", "a declaration does not end"),
            ("<!-- ", "a comment does not end"),
            ("<html></html>", "it is no list of keys"),
            (
                "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
                "it is incomplete and does not say how to continue",
            ),
        ] {
            assert_eq!(read_page(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn elements_have_a_bound_in_depth_and_in_text() {
        let deep = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
        assert_eq!(read_page(&deep(16)), Err("it is no list of keys"));
        assert_eq!(read_page(&deep(17)), Err("its elements are nested more than 16 levels deep"));
        let long = |bytes: usize| format!("<a>{}</a>", "x".repeat(bytes));
        assert_eq!(read_page(&long(16_384)), Err("it is no list of keys"));
        assert_eq!(read_page(&long(16_385)), Err("an element has more than 16384 bytes of text"));
    }

    #[test]
    fn errors_have_code_and_message() {
        let text = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Reduce</Message></Error>";
        let problem = XmlProblem { code: "SlowDown".into(), message: "Reduce".into(), region: String::new() };
        assert_eq!(read_error(text), Some(problem));
        for other in ["", "<Errors><Code>a</Code></Errors>", "<Error><Code>a</Error>", "plain"] {
            assert_eq!(read_error(other), None, "{other}");
        }
        let begun = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>";
        assert_eq!(read_one(begun, "UploadId").as_deref(), Some("u"));
        assert_eq!(read_one(begun, "Key"), None);
    }

    #[test]
    fn references_stand_for_their_characters() {
        let unescaped = |text: &str| {
            let mut to = String::new();
            unescape(text, &mut to).map(|()| to)
        };
        for (text, expected) in [
            ("a &lt; b &gt; c", "a < b > c"),
            ("&amp;&quot;&apos;", "&\"'"),
            ("&#65;&#x42;&#xe9;", "AB\u{e9}"),
            ("&amp;lt;", "&lt;"),
            ("", ""),
        ] {
            assert_eq!(unescaped(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, reason) in [
            ("a & b", "a reference does not end"),
            ("&nbsp;", "a reference is unknown"),
            ("&#xd800;", "a reference is no character"),
            ("&#x;", "a reference is no character"),
        ] {
            assert_eq!(unescaped(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn names_have_letters_digits_and_four_signs() {
        let read = |name: &str| read_error(&format!("<Error><{name}/><Code>c</Code></Error>")).is_some();
        for name in ["a", "Z9", "a-b", "a_b", "a.b", "s3:Key"] {
            assert!(read(name), "{name}");
        }
        for name in ["a$", "a,b", "a;b", "\u{e9}", "a\"b", "a&b", "a'", "(a)"] {
            assert!(!read(name), "{name}");
        }
    }
}
