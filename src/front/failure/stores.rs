//! Messages and exit codes for images at rest: tars, folders, stores between jobs, buckets and web servers.

use super::hint::trust_hint;
use super::{Failure, Hint, Kind, message};
use crate::depot::{AddressError, DepotError};
use crate::front::flag::Flag;
use crate::registry::BucketError;
use crate::store::StoreError;
use crate::tar::TarError;

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        const AGAIN: &str = "make or fetch the file again";
        match error {
            StoreError::File(error) => error.into(),
            StoreError::Mismatch { .. } => Self::of(Kind::Difference, &error).hint(AGAIN),
            StoreError::Contradiction { .. } => Self::of(Kind::Difference, &error)
                .hint(format!("other programs read another image from it; {AGAIN}")),
            StoreError::Tar { source: TarError::Truncated { .. }, .. } => {
                Self::of(Kind::Refused, &error).hint(format!("the file is not complete; {AGAIN}"))
            }
            StoreError::Missing { .. } => Self::of(Kind::Refused, &error).hint(AGAIN).hint(
                // moby/moby#49473
                "`docker save` with the containerd image store leaves out blobs that it has not pulled; pull the \
                 image for all platforms first, or copy it from the registry",
            ),
            StoreError::LeftOut { .. } => Self::of(Kind::Refused, &error).hint(message!(
                "make the full tar with `copy` and ",
                Flag::BASE_TAR.with("WHAT"),
                "; `describe` says what it was made on"
            )),
            StoreError::Tar { .. } | StoreError::Damaged { .. } => {
                Self::of(Kind::Refused, &error).hint(AGAIN)
            }
            StoreError::UnknownKind { .. } => Self::of(Kind::Refused, &error).hint(Hint::command(
                "make one with ",
                "imgrelay push --to-oci-tar FILE",
                "",
            )),
            StoreError::Gone { .. } => Self::of(Kind::Refused, &error)
                .hint("push the image again; a clean-up of old objects may have removed it"),
            StoreError::Remote { is_unreachable: true, .. } => {
                Self::of(Kind::Remote, &error).hint(BUCKET_UNREACHABLE)
            }
            StoreError::Remote { .. } | StoreError::Document { .. } | StoreError::TooLarge { .. } | StoreError::NotSelected { .. } => {
                Self::of(Kind::Refused, &error)
            }
        }
    }
}

impl From<DepotError> for Failure {
    fn from(error: DepotError) -> Self {
        let failure = Self::of(Kind::Refused, &error);
        match error {
            DepotError::Store(error) => error.into(),
            DepotError::File(error) => error.into(),
            DepotError::Bucket(error) => error.into(),
            DepotError::NotAStore { .. } => failure.hint(message!(
                "check the URL; a store is created by the first ",
                Flag::TO_STORE.with("URL:TAG"),
                " into an empty place"
            )),
            DepotError::NoVersion { .. } => failure.hint("push the image again, or choose another version"),
            _ => failure,
        }
    }
}

const BUCKET_UNREACHABLE: &str =
    "check that the bucket's server can be reached from here (`AWS_ENDPOINT_URL_S3`), or try again later";

impl From<BucketError> for Failure {
    fn from(error: BucketError) -> Self {
        let of = |kind| Self::of(kind, &error);
        match &error {
            BucketError::Refused { anonymous: true, .. } => of(Kind::Refused).hint(message!(
                "the request was not signed; leave ",
                Flag::REGISTRY_ANON,
                " out, and set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`"
            )),
            BucketError::Refused { .. } => of(Kind::Refused).hint(
                "the keys need `s3:GetObject` and `s3:ListBucket` for the prefix, and `s3:PutObject` to push",
            ),
            BucketError::NoBucket { .. } => of(Kind::Refused)
                .hint("create the bucket, or check its name and the endpoint (`AWS_ENDPOINT_URL_S3`)"),
            BucketError::NoParts { .. } | BucketError::Scattered { .. } => of(Kind::Refused).hint(message!(
                "download the file first, or pipe it to ",
                Flag::TAR.with("-"),
                ", which makes a temporary copy"
            )),
            BucketError::Changed { .. } => of(Kind::Refused).hint("run the command again"),
            BucketError::Rejected { status: 401 | 403, .. } => of(Kind::Refused)
                .hint("no credentials are sent to web servers; a presigned URL is valid for a limited time"),
            BucketError::Unreachable { .. } => of(Kind::Remote).hint(BUCKET_UNREACHABLE),
            BucketError::Trust { problem, .. } => match trust_hint(problem) {
                Some(hint) => of(Kind::Refused).hint(hint),
                None => of(Kind::Refused),
            },
            BucketError::Configuration { .. } => of(Kind::Misuse),
            BucketError::Keys { .. } => of(Kind::Misuse).hint(message!(
                "set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or read a public bucket with ",
                Flag::REGISTRY_ANON
            )),
            _ => of(Kind::Refused),
        }
    }
}

impl From<AddressError> for Failure {
    fn from(error: AddressError) -> Self {
        Self::of(Kind::Misuse, &error)
    }
}
