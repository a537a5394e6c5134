//! cosign's encrypted private keys: JSON in a PEM block, scrypt over the password, NaCl's secretbox.
//!
//! Source: go-securesystemslib `encrypted/encrypted.go`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::model::{Schema, Secret, SecretBytes, limits, read_json};

use super::key_error::KeyProblem;
use super::secretbox;

const SCRYPT: &str = "scrypt";
const SECRETBOX: &str = "nacl/secretbox";

static SCHEMA: Schema = Schema::Object(&[
    (
        "kdf",
        Schema::Object(&[
            ("name", Schema::Value),
            ("params", Schema::Object(&[("N", Schema::Value), ("r", Schema::Value), ("p", Schema::Value)])),
            ("salt", Schema::Value),
        ]),
    ),
    ("cipher", Schema::Object(&[("name", Schema::Value), ("nonce", Schema::Value)])),
    ("ciphertext", Schema::Value),
]);

#[derive(Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u64,
    r: u64,
    p: u64,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// Opens an encrypted key and returns the PKCS#8 bytes inside.
///
/// Cost: with cosign's parameters 64 MiB of memory and a fifth of a second; at most
/// [`limits::KEY_DERIVATION_BYTES`].
pub(super) fn open(json: &[u8], password: &Secret) -> Result<SecretBytes, KeyProblem> {
    let wrong = |problem: &dyn std::fmt::Display| KeyProblem::Sealed { problem: problem.to_string() };
    let sealed: Sealed = read_json(json, &SCHEMA).map_err(|error| wrong(&error))?;
    expect_name(&sealed.kdf.name, SCRYPT)?;
    expect_name(&sealed.cipher.name, SECRETBOX)?;
    let params = scrypt_params(&sealed.kdf.params)?;
    let decode = |name: &str, text: &str| {
        STANDARD.decode(text).map_err(|_| wrong(&format_args!("`{name}` is not base64")))
    };
    let salt = decode("salt", &sealed.kdf.salt)?;
    let nonce = decode("nonce", &sealed.cipher.nonce)?;
    let nonce: [u8; 24] = nonce
        .try_into()
        .map_err(|nonce: Vec<u8>| wrong(&format_args!("`nonce` has {} bytes, expected 24", nonce.len())))?;
    let ciphertext = decode("ciphertext", &sealed.ciphertext)?;
    let mut key = SecretBytes::new(vec![0; 32]);
    scrypt::scrypt(password.expose().as_bytes(), &salt, &params, key.expose_mut())
        .map_err(|_| wrong(&"scrypt cannot make a key of 32 bytes"))?;
    let key: &[u8; 32] = key.expose().try_into().map_err(|_| wrong(&"the key has no 32 bytes"))?;
    secretbox::open(key, &nonce, &ciphertext).ok_or(KeyProblem::WrongPassword)
}

fn expect_name(found: &str, expected: &'static str) -> Result<(), KeyProblem> {
    if found == expected {
        return Ok(());
    }
    Err(KeyProblem::Cipher { found: found.chars().take(40).collect(), expected })
}

/// Checks the parameters of scrypt before it uses memory and time.
fn scrypt_params(params: &Params) -> Result<scrypt::Params, KeyProblem> {
    let &Params { n, r, p } = params;
    let refused = |problem| KeyProblem::Scrypt { n, r, p, problem };
    if !n.is_power_of_two() || n < 2 || r == 0 || p == 0 {
        return Err(refused("N is a power of two, r and p are at least 1"));
    }
    let memory = n.checked_mul(128).and_then(|bytes| bytes.checked_mul(r));
    if memory.is_none_or(|bytes| bytes > limits::KEY_DERIVATION_BYTES) {
        return Err(refused("it takes more than 256 MiB of memory"));
    }
    if p > limits::KEY_DERIVATION_PASSES {
        return Err(refused("p is at most 16"));
    }
    let log = u8::try_from(n.trailing_zeros()).map_err(|_| refused("N is too large"))?;
    let small = |value: u64| u32::try_from(value).map_err(|_| refused("r and p are too large"));
    scrypt::Params::new(log, small(r)?, small(p)?).map_err(|_| refused("scrypt has no such parameters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap parameters, so that the table of wrong files is fast.
    fn sealed() -> serde_json::Value {
        serde_json::json!({
            "kdf": {"name": "scrypt", "params": {"N": 2, "r": 1, "p": 1}, "salt": "c2FsdA=="},
            "cipher": {"name": "nacl/secretbox", "nonce": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
            "ciphertext": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        })
    }

    fn problem(json: &serde_json::Value) -> String {
        open(json.to_string().as_bytes(), &Secret::new("x")).err().map(|error| error.to_string()).unwrap()
    }

    #[test]
    fn what_scrypt_is_asked_for_is_bounded() {
        for (n, r, p, expected) in [
            (1_u64 << 16, 8_u64, 1_u64, "cannot be decrypted"),
            (1 << 18, 8, 1, "cannot be decrypted"),
            (1 << 19, 8, 1, "more than 256 MiB"),
            (1 << 20, 1, 1, "cannot be decrypted"),
            (1 << 21, 8, 1, "more than 256 MiB"),
            (1 << 63, 1 << 40, 1, "more than 256 MiB"),
            (3, 8, 1, "power of two"),
            (1, 8, 1, "power of two"),
            (0, 8, 1, "power of two"),
            (2, 0, 1, "at least 1"),
            (2, 1, 0, "at least 1"),
            (2, 1, 16, "cannot be decrypted"),
            (2, 1, 17, "p is at most 16"),
        ] {
            // The large accepted ones are only checked, because running scrypt would take seconds.
            let params = scrypt_params(&Params { n, r, p });
            match params {
                Ok(_) => assert_eq!(expected, "cannot be decrypted", "N={n} r={r} p={p}"),
                Err(error) => assert!(error.to_string().contains(expected), "N={n} r={r} p={p}: {error}"),
            }
        }
    }

    #[test]
    fn each_part_of_an_encrypted_key_that_is_wrong_is_named() {
        assert_eq!(problem(&sealed()), "cannot be decrypted: the password is wrong, or the file was changed");
        for (path, value, expected) in [
            ("/kdf/name", "argon2", "is encrypted with `argon2`, expected `scrypt`"),
            ("/cipher/name", "aes", "is encrypted with `aes`, expected `nacl/secretbox`"),
            ("/kdf/salt", "!", "`salt` is not base64"),
            ("/cipher/nonce", "AA==", "`nonce` has 1 bytes, expected 24"),
            ("/ciphertext", "A", "`ciphertext` is not base64"),
            ("/kdf/params/N", "2", "invalid type: string"),
        ] {
            let mut json = sealed();
            *json.pointer_mut(path).unwrap() = value.into();
            assert!(problem(&json).contains(expected), "{path}: {}", problem(&json));
        }
        let twice = sealed().to_string().replacen('{', r#"{"ciphertext":"","#, 1);
        let error = open(twice.as_bytes(), &Secret::new("")).err().unwrap().to_string();
        assert!(error.contains("member `ciphertext` is there twice"), "{error}");
    }
}
