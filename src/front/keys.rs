//! Reads keys from files, folders and variables, as flags and settings of every door name them.
//!
//! A private key is never the value of a flag: every user of the machine can read the arguments of a process.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::env::{self, Env};
use super::failure::{Failure, message};
use super::flag::Flag;
use crate::model::{Secret, SecretBytes, limits};
use crate::sign::{KeyError, KeyProblem, PublicKey, SigningKey};
use crate::stream::FileError;
use crate::transfer::signatures::Trust;

const VARIABLE: &str = "env://";
/// The beginning of a key in PEM form.
const PEM: &str = "-----BEGIN";
/// Endings of the files of a folder that are read as keys.
const ENDINGS: [&str; 2] = ["pub", "pem"];

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        let failure = Self::misuse(error.to_string());
        match error.problem {
            KeyProblem::NoPassword | KeyProblem::WrongPassword => {
                failure.hint(format!("the variable `{}` holds the password", env::COSIGN_PASSWORD))
            }
            _ => failure,
        }
    }
}

/// Reads the private key that a flag names.
pub(super) fn signing_key(flag: Flag, value: &str, env: &Env) -> Result<SigningKey, Failure> {
    let password = env.text(env::COSIGN_PASSWORD).map(Secret::new);
    let (text, name) = read(flag, value, env)?;
    match SigningKey::parse(text.expose(), &name, Some(password.as_ref().unwrap_or(&Secret::new("")))) {
        // An unset variable is the empty password, which cosign allows.
        Err(error) if error.problem == KeyProblem::WrongPassword && password.is_none() => {
            Err(KeyError { problem: KeyProblem::NoPassword, ..error }.into())
        }
        result => Ok(result?),
    }
}

/// Reads the keys, one of which must have signed each image; `None` if no key was given.
pub(super) fn trust(flag: Flag, values: &[String], env: &Env) -> Result<Option<Trust>, Failure> {
    let keys = public_keys(flag, values, env)?;
    Ok((!keys.is_empty()).then(|| Trust::of(keys)))
}

/// Reads the public keys that the values of a flag name, each once.
pub(super) fn public_keys(flag: Flag, values: &[String], env: &Env) -> Result<Vec<PublicKey>, Failure> {
    let mut keys: Vec<PublicKey> = Vec::new();
    for value in joined(values) {
        if value.contains(PEM) {
            keys.extend(PublicKey::parse_all(value.as_bytes(), "the given key")?);
            continue;
        }
        for value in files(&value)? {
            let (text, name) = read(flag, &value, env)?;
            keys.extend(PublicKey::parse_all(text.expose(), &name)?);
        }
    }
    match keys.len() {
        count if count > limits::KEYS => {
            let limit = limits::KEYS;
            Err(Failure::misuse(message!(
                flag,
                format!(": {count} keys were given, at most {limit} are used")
            )))
        }
        _ => Ok(keys),
    }
}

/// Joins the lines of PEM texts: a list in an environment variable is split at line breaks.
fn joined(values: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut open = false;
    for value in values {
        match out.last_mut() {
            Some(last) if open => {
                last.push('\n');
                last.push_str(value);
            }
            _ => out.push(value.clone()),
        }
        let begin = value.contains(PEM) || open;
        open = begin && !value.contains("-----END");
    }
    out
}

/// Returns the files of a folder that are keys, in order of name; any other value as it is.
fn files(value: &str) -> Result<Vec<String>, Failure> {
    let folder = Path::new(value);
    if value.starts_with(VARIABLE) || !folder.is_dir() {
        return Ok(vec![value.to_owned()]);
    }
    let failed = |error| FileError::io("list", folder, error);
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|end| ENDINGS.iter().any(|known| end == *known)) {
            found.push(path);
        }
        if found.len() > limits::KEYS {
            let text = format!("`{value}` has more than {} key files", limits::KEYS);
            return Err(Failure::misuse(text));
        }
    }
    if found.is_empty() {
        return Err(Failure::misuse(format!("`{value}` has no key file, expected `*.pub` or `*.pem`")));
    }
    found.sort();
    Ok(found.into_iter().map(|path| path.to_string_lossy().into_owned()).collect())
}

/// Reads a key's text, with its name for messages.
fn read(flag: Flag, value: &str, env: &Env) -> Result<(SecretBytes, String), Failure> {
    if let Some(variable) = value.strip_prefix(VARIABLE) {
        let Some(text) = env.text(variable) else {
            let text = format!(": the environment has no variable `{variable}` with a key");
            return Err(Failure::misuse(message!(flag, text)));
        };
        return Ok((SecretBytes::new(text.as_bytes().to_vec()), format!("variable `{variable}`")));
    }
    if value.contains(PEM) {
        let text = ": the value is a key itself, expected a file or `env://VARIABLE`";
        return Err(Failure::misuse(message!(flag, text))
            .hint("every user of the machine can read the arguments of a program"));
    }
    if let Some((scheme, _)) = value.split_once("://") {
        let text = format!(": `{scheme}://` is not known, expected a file or `env://VARIABLE`");
        return Err(Failure::misuse(message!(flag, text)));
    }
    let path = Path::new(value);
    let failed = |error| Failure::of_input(FileError::io("read", path, error));
    let most = limits::KEY_FILE_BYTES + 1;
    // Allocated in its full size, so that growing does not leave a copy of the key in freed memory.
    let mut bytes = Vec::with_capacity(usize::try_from(most).unwrap_or(0));
    let file = File::open(path).map_err(failed)?;
    let result = file.take(most).read_to_end(&mut bytes);
    let bytes = SecretBytes::new(bytes);
    result.map_err(failed)?;
    Ok((bytes, format!("`{value}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_a_variable_split_into_lines_is_put_together() {
        let pem = include_str!("../../tests/keys/p256.pub");
        let lines: Vec<String> = pem.lines().map(str::to_owned).collect();
        let values = [vec!["a.pub".to_owned()], lines.clone(), lines, vec!["b.pub".to_owned()]].concat();
        let expected = ["a.pub", pem.trim_end(), pem.trim_end(), "b.pub"];
        assert_eq!(joined(&values), expected);
        assert_eq!(joined(&[pem.to_owned(), "c".to_owned()]), [pem, "c"]);
    }
}
