//! Flags whose value is one of a fixed list: each word with its meaning.
//!
//! The parser of the command line takes the words from here, for suggestions and completion, and `resolve` the
//! meanings; the values of a door that fills the arguments itself are checked by `resolve` only.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::client_config::ClientProgram;
use crate::front::text;
use crate::front::ui::{Progress, When};
use crate::pack::{LayerSplit, MediaTypes, PackageChecks, Profile};
use crate::transfer::signatures::SignatureFormat;
use crate::tree::SymlinkPolicy;

/// The words of one flag; an empty value means that the flag was not given.
#[derive(Debug)]
pub struct Choices<T: 'static>(&'static [(&'static str, T)]);

impl<T: Copy> Choices<T> {
    /// Returns what a word means.
    ///
    /// Errors: a sentence without the flag's name, as it is written after `cannot be`.
    pub fn find(&self, word: &str) -> Result<T, String> {
        let found = self.0.iter().find(|(known, _)| *known == word);
        let expected = || text::quoted_list(self.0.iter().map(|(known, _)| known));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| format!("`{word}`, expected one of {}", expected()))
    }
}

impl<T> Clone for Choices<T> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<T: Sync> TypedValueParser for Choices<T> {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        if value.is_empty() {
            return Ok(String::new());
        }
        let listed = PossibleValuesParser::new(self.0.iter().map(|(word, _)| *word));
        listed.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(|(word, _)| PossibleValue::new(*word))))
    }
}

/// `--print-config`.
pub const PRINT_CONFIG: Choices<ClientProgram> = Choices(&[
    ("buildkit", ClientProgram::BuildKit),
    ("containers", ClientProgram::Containers),
    ("containerd", ClientProgram::Containerd),
    ("docker", ClientProgram::Docker),
]);
/// `--symlinks`.
pub const SYMLINKS: Choices<SymlinkPolicy> = Choices(&[
    ("keep", SymlinkPolicy::Keep),
    ("copy", SymlinkPolicy::Copy),
    ("refuse", SymlinkPolicy::Refuse),
    ("verbatim", SymlinkPolicy::Verbatim),
    ("omit", SymlinkPolicy::Omit),
]);

/// `--format`.
pub const FORMAT: Choices<Profile> = Choices(&[
    ("image", Profile::IMAGE),
    ("flux", Profile::FLUX),
    ("oras", Profile::ORAS),
    ("argocd", Profile::ARGO_CD),
]);

/// `--media-types`.
pub const MEDIA_TYPES: Choices<MediaTypes> =
    Choices(&[("oci", MediaTypes::Oci), ("docker", MediaTypes::Docker)]);

/// `--layers`.
pub const LAYERS: Choices<LayerSplit> = Choices(&[("1", LayerSplit::One), ("auto", LayerSplit::Auto)]);

/// `--package-checks`.
pub const PACKAGE_CHECKS: Choices<PackageChecks> =
    Choices(&[("warn", PackageChecks::Warn), ("refuse", PackageChecks::Refuse), ("off", PackageChecks::Off)]);

/// `--signature-format`.
pub const SIGNATURE_FORMAT: Choices<SignatureFormat> = Choices(&[
    ("simplesigning", SignatureFormat::SimpleSigning),
    ("bundle", SignatureFormat::Bundle),
    ("both", SignatureFormat::Both),
]);

/// `--progress`.
pub const PROGRESS: Choices<Progress> = Choices(&[
    ("auto", Progress::Auto),
    ("plain", Progress::Plain),
    ("bar", Progress::Bar),
    ("none", Progress::None),
]);

/// `--color`.
pub const COLOR: Choices<When> = Choices(&[
    ("auto", When::Auto),
    ("always", When::Always),
    ("never", When::Never),
    ("true", When::Always),
    ("false", When::Never),
]);

/// `--output-type`.
pub const OUTPUT_TYPE: Choices<DescribeForm> =
    Choices(&[("text", DescribeForm::Text), ("yaml", DescribeForm::Yaml), ("json", DescribeForm::Json)]);

/// The form of a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescribeForm {
    /// For people.
    Text,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_its_meaning_and_another_one_names_the_list() {
        assert_eq!(SYMLINKS.find("copy"), Ok(SymlinkPolicy::Copy));
        assert_eq!(
            SYMLINKS.find("Copy"),
            Err("`Copy`, expected one of `keep`, `copy`, `refuse`, `verbatim`, `omit`".to_owned())
        );
    }
}
