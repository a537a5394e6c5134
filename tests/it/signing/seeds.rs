//! Seeds of the fuzz targets of signatures and keys: output of this program and of cosign.

use super::keys::FILES;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"e3b0…"}}],"predicateType":"a","predicate":{}}`
const STATEMENT: &str = "eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCJzdWJqZWN0IjpbeyJkaWdlc3QiOnsic2hhMjU2IjoiZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NSJ9fV0sInByZWRpY2F0ZVR5cGUiOiJhIiwicHJlZGljYXRlIjp7fX0=";

/// Returns the seeds of a target.
pub(crate) fn of(target: &str) -> Vec<Vec<u8>> {
    let envelope = format!(
        r#"{{"payload":"{STATEMENT}","payloadType":"application/vnd.in-toto+json","signatures":[{{"keyid":"","sig":"AAAA"}}]}}"#
    );
    match target {
        "signature_payload" => ["null", r#"{"commit":"12ab"}"#]
            .map(|optional| {
                format!(
                    r#"{{"critical":{{"identity":{{"docker-reference":"reg.example/app"}},"image":{{"docker-manifest-digest":"{DIGEST}"}},"type":"cosign container image signature"}},"optional":{optional}}}"#
                )
                .into_bytes()
            })
            .to_vec(),
        "signature_envelope" => vec![envelope.into_bytes()],
        "signature_bundle" => [r#""publicKey":{"hint":"x"}"#, r#""certificate":{"rawBytes":""}"#]
            .map(|material| {
                format!(
                    r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{{{material}}},"dsseEnvelope":{envelope}}}"#
                )
                .into_bytes()
            })
            .to_vec(),
        // Cheap parameters; expensive ones are skipped.
        "encrypted_key" => [2, 3, 65536]
            .map(|n| {
                format!(
                    r#"{{"kdf":{{"name":"scrypt","params":{{"N":{n},"r":1,"p":1}},"salt":"c2FsdA=="}},"cipher":{{"name":"nacl/secretbox","nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}},"ciphertext":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}"#
                )
                .into_bytes()
            })
            .to_vec(),
        _ => FILES.iter().map(|(_, text)| text.as_bytes().to_vec()).collect(),
    }
}
