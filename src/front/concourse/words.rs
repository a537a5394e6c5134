//! Advice of the lower floors in the words of a pipeline: `source.username` instead of a flag.
//!
//! Messages stay as they are; they name objects, not flags. A hint that still speaks of flags says nothing to
//! whoever writes a pipeline and is left out.

use crate::front::failure::Failure;

/// What a hint begins with, or has in it, and what to say instead.
const INSTEAD: [(&str, &str); 8] = [
    ("no credentials for", "set `source.username` and `source.password`"),
    ("check the user name and password", "check `source.username` and `source.password`"),
    ("--registry-ca-cert-path", "add the authority's certificate to `source.ca_certs`"),
    ("--registry-insecure", "if the registry speaks plain http only, set `source.insecure: true`"),
    ("`--platform`", "choose another one with `platform` in `source` or `params`"),
    ("use `-i` to make a plain image", "set `params.kind: image`"),
    ("use `-b` to push a bundle", "set `params.kind: bundle`"),
    ("client.cert", "registries that ask for client certificates are not supported by the resource"),
];

/// Translates the hints of a failure.
pub(super) fn in_concourse_words(mut failure: Failure) -> Failure {
    let mut hints = Vec::new();
    for hint in failure.hints {
        let instead = INSTEAD.iter().find(|(part, _)| hint.contains(part));
        let hint = instead.map_or(hint, |(_, instead)| (*instead).to_owned());
        if !speaks_of_flags(&hint) && !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    failure.hints = hints;
    failure
}

fn speaks_of_flags(hint: &str) -> bool {
    ["`-", "`imgrelay ", " --"].iter().any(|sign| hint.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_fields_or_go_away() {
        let words = |hint: &str| in_concourse_words(Failure::refused("x").hint(hint)).hints;
        assert_eq!(
            words("no credentials for `r` were found: use `docker login r`, `--authfile`"),
            ["set `source.username` and `source.password`"]
        );
        assert_eq!(
            words("name the authority's certificate with `--registry-ca-cert-path FILE`"),
            ["add the authority's certificate to `source.ca_certs`"]
        );
        assert_eq!(words("choose a new folder, or replace this one with `--force`"), Vec::<String>::new());
        assert_eq!(words("`imgrelay tag list -i r` shows its tags"), Vec::<String>::new());
        assert_eq!(words("free some space"), ["free some space"]);
    }
}
