//! What a delta tar lacks: blobs that were left out because the other side has them (docs/formats/delta-tar.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Digest, Malformed, limits};

/// A blob that a tar was written without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its digest.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// What had it: the name of an image or of a file.
    pub from: String,
}

/// Blobs that were left out, by digest.
pub(super) type LeftOutBlobs = BTreeMap<Digest, LeftOut>;

/// Writes the value of the annotation.
#[must_use]
pub fn left_out_to_text(blobs: &[LeftOut]) -> String {
    serde_json::to_string(blobs).expect("a struct of texts and numbers is always JSON")
}

/// Reads the value of the annotation.
pub(super) fn parse(text: &str) -> Result<LeftOutBlobs, String> {
    let blobs: Vec<LeftOut> =
        serde_json::from_str(text).map_err(|error| Malformed::from(error).to_string())?;
    if blobs.len() > limits::DOCUMENTS {
        return Err(format!("it lists {} blobs, at most {} are accepted", blobs.len(), limits::DOCUMENTS));
    }
    if let Some(large) = blobs.iter().find(|blob| blob.size > limits::BLOB_BYTES) {
        return Err(format!(
            "blob `{}` has {} bytes, at most {} are accepted",
            large.digest,
            large.size,
            limits::BLOB_BYTES
        ));
    }
    Ok(blobs.into_iter().map(|blob| (blob.digest.clone(), blob)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written_and_others_are_refused() {
        let blob = |content: &[u8], size| LeftOut {
            digest: Digest::sha256_of(content),
            size,
            from: "reg.example/app:v1".to_owned(),
        };
        let list = [blob(b"a", 0), blob(b"b", limits::BLOB_BYTES)];
        let read = parse(&left_out_to_text(&list)).unwrap();
        assert_eq!(read.len(), 2);
        assert!(list.iter().all(|blob| read.get(&blob.digest) == Some(blob)));
        for (text, expected) in [
            ("", "it is empty"),
            ("[", "the text ends inside a value at line 1 column 1"),
            ("{}", "invalid type: object, expected a list"),
            (r#"[{"digest":"x","size":1,"from":""}]"#, "`x`"),
            (r#"[{"digest":"sha256:00","size":1,"from":""}]"#, "64"),
            (&left_out_to_text(&[blob(b"c", limits::BLOB_BYTES + 1)]), "at most 70368744177664 are accepted"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let many = vec![blob(b"a", 1); limits::DOCUMENTS + 1];
        assert!(parse(&left_out_to_text(&many)).unwrap_err().contains("it lists 100001 blobs"));
    }
}
