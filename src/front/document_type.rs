//! What an SBOM or provenance says of itself, so that it is not attached as something else.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// A type that a JSON document names itself by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DocumentType {
    /// SPDX 2 or 3.
    Spdx,
    /// CycloneDX.
    CycloneDx,
    /// The predicate of SLSA provenance 1.
    Provenance,
    /// A whole in-toto statement of this predicate type.
    Statement(String),
}

impl DocumentType {
    /// Returns what to call it: `a CycloneDX document`.
    pub(super) fn phrase(&self) -> String {
        match self {
            Self::Spdx => "an SPDX document".to_owned(),
            Self::CycloneDx => "a CycloneDX document".to_owned(),
            Self::Provenance => "the predicate of SLSA provenance".to_owned(),
            Self::Statement(kind) => format!("a whole in-toto statement of type `{kind}`"),
        }
    }

    /// Returns the word by which `attach` knows it.
    pub(super) fn word(&self) -> Option<&'static str> {
        match self {
            Self::Spdx => Some("spdx"),
            Self::CycloneDx => Some("cyclonedx"),
            Self::Provenance => Some("slsaprovenance1"),
            Self::Statement(_) => None,
        }
    }

    /// Returns the types that a document names, most often one; none for a text that is no JSON object.
    pub(super) fn named_in(json: &[u8]) -> Vec<Self> {
        let Ok(said) = serde_json::from_slice::<Said>(json) else { return Vec::new() };
        let is_text = |value: &Option<Value>, start: &str| {
            value.as_ref().and_then(Value::as_str).is_some_and(|text| text.starts_with(start))
        };
        let mut found = Vec::new();
        if is_text(&said.bom_format, "CycloneDX") {
            found.push(Self::CycloneDx);
        }
        // SPDX 3 is JSON-LD.
        if said.spdx_version.is_some()
            || said.spdx_id.is_some()
            || is_text(&said.context, "https://spdx.org/")
        {
            found.push(Self::Spdx);
        }
        if said.build_definition.is_some() && said.run_details.is_some() {
            found.push(Self::Provenance);
        }
        if is_text(&said.statement, "https://in-toto.io/Statement/")
            && let Some(Value::String(kind)) = said.predicate_type
        {
            found.push(Self::Statement(kind.chars().take(100).collect()));
        }
        found
    }
}

/// The members that types are told by.
#[derive(Deserialize)]
struct Said {
    #[serde(rename = "bomFormat")]
    bom_format: Option<Value>,
    #[serde(rename = "spdxVersion")]
    spdx_version: Option<IgnoredAny>,
    #[serde(rename = "SPDXID")]
    spdx_id: Option<IgnoredAny>,
    #[serde(rename = "@context")]
    context: Option<Value>,
    #[serde(rename = "buildDefinition")]
    build_definition: Option<IgnoredAny>,
    #[serde(rename = "runDetails")]
    run_details: Option<IgnoredAny>,
    #[serde(rename = "_type")]
    statement: Option<Value>,
    #[serde(rename = "predicateType")]
    predicate_type: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_name_their_type() {
        let statement = r#"{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1","predicate":{"bomFormat":"CycloneDX"}}"#;
        for (json, expected) in [
            (r#"{"bomFormat":"CycloneDX"}"#, vec![DocumentType::CycloneDx]),
            (r#"{"spdxVersion":"SPDX-2.3"}"#, vec![DocumentType::Spdx]),
            (r#"{"SPDXID":"SPDXRef-DOCUMENT"}"#, vec![DocumentType::Spdx]),
            (r#"{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld"}"#, vec![DocumentType::Spdx]),
            (r#"{"@context":"https://example.com"}"#, vec![]),
            (r#"{"buildDefinition":{},"runDetails":{}}"#, vec![DocumentType::Provenance]),
            (r#"{"buildDefinition":{}}"#, vec![]),
            (statement, vec![DocumentType::Statement("https://slsa.dev/provenance/v1".to_owned())]),
            (
                r#"{"bomFormat":"CycloneDX","spdxVersion":""}"#,
                vec![DocumentType::CycloneDx, DocumentType::Spdx],
            ),
            (r#"{"bomFormat":"other","predicateType":"a","nested":{"SPDXID":1}}"#, vec![]),
            ("[]", vec![]),
            ("text", vec![]),
        ] {
            assert_eq!(DocumentType::named_in(json.as_bytes()), expected, "{json}");
        }
    }
}
