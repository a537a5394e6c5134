//! Advice in the words of a pipeline: `source.username` instead of a flag.
//!
//! Fields stand for flags of `push` only where a put packs files; [`super::packing`] names those. A hint about any
//! other flag is left out, because a pipeline has no field for it.

use super::packing;
use crate::front::failure::{FlagNames, Hint, Mention, Vocabulary};

/// The words of `check`, `in` and `out`.
#[derive(Clone, Copy, Debug)]
pub(in crate::front) struct PipelineWords;

impl FlagNames for PipelineWords {
    fn flag(&self, mention: &Mention) -> Option<String> {
        packing::field(mention, &|key| format!("params.{key}"))
    }

    fn command(&self, _: &str) -> Option<String> {
        None
    }
}

impl Vocabulary for PipelineWords {
    fn instead(&self, hint: &Hint) -> Option<String> {
        let text = match hint {
            Hint::LogIn { .. } | Hint::Withheld { .. } => "set `source.username` and `source.password`",
            Hint::CheckLogin { .. } => "check `source.username` and `source.password`",
            Hint::TrustCa => "add the authority's certificate to `source.ca_certs`",
            Hint::ClientCertificate => {
                "registries that ask for client certificates are not supported by the resource"
            }
            Hint::ChoosePlatform => "choose another one with `platform` in `source` or `params`",
            Hint::KindImage => "set `params.kind: image`",
            Hint::KindBundle => "set `params.kind: bundle`",
            Hint::WriteAllLayers | Hint::CredentialHelper | Hint::Text(_) => return None,
        };
        Some(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::failure::message;
    use crate::front::flag::Flag;

    #[test]
    fn flags_become_fields_or_go_away() {
        let said = |hint: Hint| hint.render(&PipelineWords);
        let login = said(Hint::LogIn { host: "r".to_owned() });
        assert_eq!(login.as_deref(), Some("set `source.username` and `source.password`"));
        let trust = said(Hint::TrustCa);
        assert_eq!(trust.as_deref(), Some("add the authority's certificate to `source.ca_certs`"));
        let links = said(message!("or use ", Flag::SYMLINKS.with("copy")).into());
        assert_eq!(links.as_deref(), Some("or use `params.symlinks: copy`"));
        assert_eq!(said(message!("choose a new folder, or use ", Flag::FORCE).into()), None);
        assert_eq!(said(Hint::command("", "imgrelay tag list -i r", " shows its tags")), None);
        assert_eq!(said("free some space".into()).as_deref(), Some("free some space"));
    }
}
