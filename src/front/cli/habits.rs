//! Hints for what users of skopeo, crane, docker, podman, oras and kaniko type first.
//!
//! Only adds hints to a command line that was refused; accepts none.

use crate::front::failure::{Hint, Message, MessagePart, message};
use crate::front::flag::Flag;

/// Endings of the names of tars.
const TAR_ENDINGS: [&str; 6] = [".tar", ".tgz", ".tar.gz", ".tar.zst", ".tzst", ".oci"];
/// What skopeo writes in front of a path.
const TAR_TRANSPORTS: [&str; 4] = ["oci-archive:", "docker-archive:", "oci:", "dir:"];

fn command_line(before: &str, command: impl Into<String>, after: &str) -> Message {
    Message::new(vec![before.into(), MessagePart::Command(command.into()), after.into()])
}

/// Returns the hint for another tool's flag; `path` names the command, as `imgrelay tag list`.
pub(super) fn flag(typed: &str, path: &str) -> Option<Hint> {
    let writes = matches!(path, "imgrelay push" | "imgrelay copy" | "imgrelay index");
    let names = |flag: Flag, what: &str| Some(message!(flag, what));
    let text = match typed {
        "--insecure"
        | "--plain-http"
        | "--insecure-registry"
        | "--skip-tls-verify"
        | "--allow-insecure"
        | "--src-tls-verify"
        | "--dest-tls-verify" => Some(message!(
            Flag::REGISTRY_INSECURE,
            " allows plain http, ",
            Flag::REGISTRY_VERIFY_CERTS.with("false"),
            " any certificate"
        )),
        "--ca" | "--cacert" | "--ca-cert" | "--ca-file" | "--cert-dir" | "--registry-certificate" => {
            names(Flag::REGISTRY_CA_CERT_PATH, " names the CA certificate")
        }
        "--username" | "--password" | "--password-stdin" | "--creds" | "--src-creds" | "--dest-creds"
        | "-u" | "-p" => Some(message!(
            "set ",
            Flag::REGISTRY_USERNAME.by_variable(),
            " and ",
            Flag::REGISTRY_PASSWORD.by_variable()
        )),
        "--output-file" | "-o" | "--output" | "--tar-path" | "--tarball" if writes => {
            names(Flag::TO_OCI_TAR, " names the tar to write")
        }
        "--output-file" if path == "imgrelay pull" => {
            names(Flag::OUTPUT, " names the folder to extract into")
        }
        "-t" if writes => names(Flag::TAG, " gives a further tag"),
        "-d" | "--destination" | "--dest" if path == "imgrelay push" => {
            Some(message!(Flag::IMAGE.with("REPOSITORY:TAG").short(), " names the image to push"))
        }
        "-d" | "--destination" | "--dest" if writes => names(Flag::TO_REPO, " names the repository"),
        "--tar" | "--oci-tar" if path == "imgrelay push" => {
            Some(command_line("", "imgrelay copy --tar FILE --to-repo REPOSITORY:TAG", " pushes a tar"))
        }
        "--input" | "--tarball" => names(Flag::TAR, " names the tar to read"),
        "--context" | "--dockerfile" if path == "imgrelay push" => {
            names(Flag::FILE, " names the folder to pack; a Dockerfile is not run")
        }
        "--all" | "-a" | "--multi-arch" | "--preserve-digests" if path == "imgrelay copy" => {
            Some("all platforms are copied, and the digest stays".into())
        }
        "--store" if matches!(path, "imgrelay sign" | "imgrelay attach") => Some(message!(
            "change a tar, and copy it with ",
            Flag::TO_STORE.with("URL:TAG"),
            "; what belongs to the image goes along"
        )),
        "--store" if path == "imgrelay push" => Some(message!(
            Flag::TO_STORE.with("URL:TAG"),
            " writes into a store; a base in a store is copied into a tar first, for ",
            Flag::BASE_TAR
        )),
        "--verbose" | "-v" => names(Flag::DEBUG, " prints each request"),
        _ => None,
    };
    text.map(Hint::Text)
}

/// Returns the hint for another tool's command.
pub(super) fn command(typed: &str) -> Option<Hint> {
    let (command, after) = match typed {
        "manifest" | "merge" | "join" | "buildx" => {
            ("imgrelay index --tar A.tar --tar B.tar --to-oci-tar FILE", " joins images of several platforms")
        }
        "save" => ("imgrelay copy -i REFERENCE --to-oci-tar FILE", " writes an image into a tar"),
        "load" | "import" => ("imgrelay copy --tar FILE --to-repo REPOSITORY:TAG", " pushes a tar"),
        "inspect" | "show" | "config" | "discover" | "tree" => {
            ("imgrelay describe", " shows what an image or tar has")
        }
        "build" => ("imgrelay push -i REPOSITORY:TAG -f FOLDER", " packs a folder; a Dockerfile is not run"),
        "list" | "ls" | "list-tags" | "catalog" => ("imgrelay tag list -i REPOSITORY", " lists tags"),
        "digest" => ("imgrelay tag resolve -i REPOSITORY:TAG", " prints the digest"),
        "append" | "mutate" | "rebase" => {
            ("imgrelay push -i REPOSITORY:TAG --base REFERENCE -f FOLDER", " builds on an image")
        }
        "cp" | "sync" => ("imgrelay copy", " copies from any source to any destination"),
        "rm" | "rmi" | "remove" => ("imgrelay delete -i REPOSITORY@DIGEST", " deletes an image"),
        "extract" | "unpack" | "export" => {
            ("imgrelay pull -i REFERENCE -o FOLDER", " extracts the files of an image")
        }
        "validate" => ("imgrelay verify --tar FILE", " checks a tar"),
        "login" | "logout" => {
            return Some(Hint::Text(message!(
                "logins of docker and podman are read; or set ",
                Flag::REGISTRY_USERNAME.by_variable(),
                " and ",
                Flag::REGISTRY_PASSWORD.by_variable()
            )));
        }
        _ => return None,
    };
    Some(Hint::Text(command_line("", command, after)))
}

/// Returns the flag that a tar or a reference is given with, which other tools take as an argument.
pub(super) fn argument(typed: &str, path: &str) -> Option<Hint> {
    let bare = TAR_TRANSPORTS.iter().find_map(|transport| typed.strip_prefix(transport));
    let is_tar = bare.is_some() || TAR_ENDINGS.iter().any(|ending| typed.ends_with(ending));
    let image = || Flag::IMAGE.with(typed.strip_prefix("docker://").unwrap_or(typed)).short();
    let text = match (path, is_tar) {
        ("imgrelay push", true) => {
            command_line("", "imgrelay copy --tar FILE --to-repo REPOSITORY:TAG", " pushes a tar")
        }
        ("imgrelay push", false) if typed.starts_with(['.', '/']) => {
            message!("name the folder to pack with ", Flag::FILE.with(typed).short())
        }
        (
            "imgrelay copy" | "imgrelay pull" | "imgrelay describe" | "imgrelay verify" | "imgrelay index"
            | "imgrelay sign" | "imgrelay attach" | "imgrelay match" | "imgrelay serve",
            true,
        ) => message!("name the tar with ", Flag::TAR.with(bare.unwrap_or(typed))),
        (
            "imgrelay push" | "imgrelay copy" | "imgrelay pull" | "imgrelay describe" | "imgrelay index"
            | "imgrelay sign" | "imgrelay attach" | "imgrelay delete",
            false,
        ) => message!("name the image with ", image()),
        (path, false) if path.starts_with("imgrelay tag ") => message!("name the image with ", image()),
        _ => return None,
    };
    Some(Hint::Text(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::program;
    use std::ffi::OsString;

    /// Returns the hints of a refused command line, without the last one, which names the help page.
    fn hints(line: &str) -> Vec<String> {
        let words: Vec<OsString> =
            std::iter::once("imgrelay").chain(line.split_whitespace()).map(OsString::from).collect();
        let grammar = program::command();
        let error = grammar.clone().try_get_matches_from(&words).expect_err("refused");
        let failure = super::super::clap_errors::from_clap(&error, &grammar, &words, &[]);
        let mut hints: Vec<String> = failure.hints.iter().map(ToString::to_string).collect();
        assert!(hints.pop().is_some_and(|last| last.starts_with("see `imgrelay")), "{line}");
        hints
    }

    #[test]
    fn words_of_other_tools_get_the_command_that_does_the_same() {
        for (line, expected) in [
            (
                "copy -i r.io/a --insecure",
                "`--registry-insecure` allows plain http, `--registry-verify-certs=false` any certificate",
            ),
            ("push -i r.io/a -f x --ca ca.pem", "`--registry-ca-cert-path` names the CA certificate"),
            ("copy -i r.io/a --output-file a.tar", "`--to-oci-tar` names the tar to write"),
            ("copy -i r.io/a -o a.tar", "`--to-oci-tar` names the tar to write"),
            ("push -f x -t r.io/a:v1", "`--tag` gives a further tag"),
            ("push --tar a.tar", "`imgrelay copy --tar FILE --to-repo REPOSITORY:TAG` pushes a tar"),
            ("push a.tar", "`imgrelay copy --tar FILE --to-repo REPOSITORY:TAG` pushes a tar"),
            ("push .", "name the folder to pack with `-f .`"),
            ("copy a.tar", "name the tar with `--tar a.tar`"),
            ("verify oci-archive:x", "name the tar with `--tar x`"),
            ("copy docker://r.io/a", "name the image with `-i r.io/a`"),
            ("tag list r.io/a", "name the image with `-i r.io/a`"),
            (
                "manifest create",
                "`imgrelay index --tar A.tar --tar B.tar --to-oci-tar FILE` joins images of several platforms",
            ),
            (
                "merge",
                "`imgrelay index --tar A.tar --tar B.tar --to-oci-tar FILE` joins images of several platforms",
            ),
            ("save", "`imgrelay copy -i REFERENCE --to-oci-tar FILE` writes an image into a tar"),
            ("load", "`imgrelay copy --tar FILE --to-repo REPOSITORY:TAG` pushes a tar"),
            (
                "login r.io",
                "logins of docker and podman are read; or set environment variable `IMGRELAY_REGISTRY_USERNAME` and environment variable `IMGRELAY_REGISTRY_PASSWORD`",
            ),
            ("inspect r.io/a", "`imgrelay describe` shows what an image or tar has"),
            (
                "copy --username u",
                "set environment variable `IMGRELAY_REGISTRY_USERNAME` and environment variable `IMGRELAY_REGISTRY_PASSWORD`",
            ),
        ] {
            assert_eq!(hints(line), [expected], "{line}");
        }
    }

    #[test]
    fn a_misspelt_word_of_ours_keeps_its_nearest_word() {
        assert_eq!(hints("copy --to-rep x"), ["did you mean `--to-repo`?"]);
        assert_eq!(hints("verfy"), ["did you mean `verify`?"]);
        assert_eq!(hints("version x.tar"), [""; 0]);
    }

    #[test]
    fn commands_in_hints_are_commands() {
        let words = "manifest save load inspect build ls digest append cp rm extract validate";
        for word in words.split(' ') {
            let hint = command(word).expect("listed").to_string();
            let line: Vec<&str> = hint.split('`').nth(1).expect("a command").split(' ').collect();
            let parsed = program::command().try_get_matches_from(&line);
            assert!(parsed.is_ok(), "{line:?}: {:?}", parsed.err());
        }
    }
}
