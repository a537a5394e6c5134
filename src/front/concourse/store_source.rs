//! A pipeline's `source` with a store between jobs instead of a repository: `source.store`.
//!
//! Keys of the bucket come from the pipeline, else from the worker's own role, as those of ECR do; the worker's
//! variables name no other server.

use serde_json::value::RawValue;

use super::access::{CHECK_CONCURRENCY, CHECK_RETRIES, TRANSFER_RETRIES};
use super::cloud::{self, Cloud};
use super::fields::Fields;
use super::source::{self, Tags};
use crate::depot::{Address, BucketObjects, FolderObjects, Objects, StoreReference, WebObjects};
use crate::front::env::Env;
use crate::front::failure::Failure;
use crate::front::ui::Ui;
use crate::front::{registries, system};
use crate::model::{Platform, Tag};
use crate::registry::{Bucket, BucketOptions, ClientOptions, Encryption};
use crate::sign::PublicKey;
use std::sync::Arc;

/// Keys of other resources for buckets, and what to write instead.
const OTHERS: [(&str, &str); 10] = [
    ("bucket", "write `store: s3://BUCKET/PREFIX`"),
    ("regexp", "`tag_regex` chooses tags; every push of a tag is a version"),
    ("versioned_file", "write `store: s3://BUCKET/PREFIX` and `tag`; the bucket needs no versioning"),
    ("access_key_id", "write `aws_access_key_id`"),
    ("secret_access_key", "write `aws_secret_access_key`"),
    ("session_token", "write `aws_session_token`"),
    ("region_name", "write `aws_region`"),
    ("use_path_style", "leave it out: with `endpoint` the bucket is in the path"),
    ("skip_ssl_verification", "write `ca_certs` with the authority's certificate"),
    ("disable_ssl", "write `insecure: true`, and an `endpoint` with `http://`"),
];

/// A `source` with a store.
#[derive(Debug)]
pub(super) struct StoreSource {
    /// The store.
    pub(super) address: Address,
    /// Which tags are versions.
    pub(super) tags: Tags,
    /// The tag as it was written; `put` pushes it.
    pub(super) tag: Option<Tag>,
    /// Suffix of tags, without the `-`.
    pub(super) variant: Option<String>,
    /// The platform of an index's image.
    pub(super) platform: Platform,
    /// Keys, one of which must have signed each image.
    pub(super) verify_keys: Vec<PublicKey>,
    /// Show each request.
    pub(super) debug: bool,
    /// How many versions of a tag a put leaves; all if it does not say.
    pub(super) keep: Option<usize>,
    encryption: Option<Encryption>,
    cloud: Cloud,
    endpoint: Option<String>,
    insecure: bool,
    anonymous: bool,
    ca_certificates: Vec<String>,
}

impl StoreSource {
    /// Tells whether a `source` has a store, or a key of a resource for buckets and no repository.
    pub(super) fn is_meant(raw: Option<&RawValue>) -> bool {
        let Some(mut fields) = raw.and_then(|raw| Fields::parse("source", raw.get()).ok()) else {
            return false;
        };
        let mut has = |key| fields.raw(key).is_some_and(|value| value.get() != "\"\"");
        let others = has("bucket") || has("versioned_file");
        has("store") || (others && !has("repository"))
    }

    /// Reads it; for a put `params` may have credentials.
    pub(super) fn parse(raw: Option<&RawValue>, params: Option<&mut Fields>) -> Result<Self, Failure> {
        let mut fields = source::members(raw)?;
        if let Some(params) = params {
            fields.take_from(params, &cloud::AWS_KEYS);
        }
        for (key, advice) in OTHERS {
            if fields.raw(key).is_some() {
                return Err(fields.invalid(key, "it is a key of another resource").hint(advice));
            }
        }
        if fields.text("repository")?.is_some() {
            return Err(Failure::misuse("`source.store` and `source.repository` exclude each other"));
        }
        let text = fields.text("store")?.unwrap_or_default();
        let store: StoreReference = text.parse().map_err(|error| fields.invalid("store", error))?;
        if store.tag.is_some() || store.digest.is_some() {
            let failure = fields.invalid("store", format!("`{text}` has a tag or digest"));
            return Err(failure.hint("write the tag as `source.tag`"));
        }
        let tag = fields.scalar("tag")?.map(|tag| tag.parse::<Tag>()).transpose();
        let tag = tag.map_err(|error| fields.invalid("tag", error))?;
        let source = Self {
            address: store.address,
            tags: source::tags(&mut fields, tag.clone())?,
            tag,
            variant: fields.text("variant")?,
            platform: source::platform(&mut fields, &source::of_this_machine())?,
            verify_keys: source::verify_keys(&mut fields)?,
            debug: fields.switch("debug")?,
            keep: keep(&mut fields)?,
            encryption: encryption(&mut fields)?,
            cloud: cloud::of_bucket(&mut fields)?,
            endpoint: fields.text("endpoint")?,
            insecure: fields.switch("insecure")?,
            anonymous: fields.switch("anonymous")?,
            ca_certificates: fields.texts("ca_certs")?,
        };
        fields.finish()?;
        Ok(source)
    }

    /// Returns the bare tag of the newest version: `latest`, or the variant's name.
    pub(super) fn bare_tag(&self) -> &str {
        self.variant.as_deref().unwrap_or("latest")
    }

    /// Returns the bucket or folder with the objects of the store; sends no request.
    pub(super) fn objects(
        &self,
        is_check: bool,
        env: &Env,
        ui: &Arc<Ui>,
    ) -> Result<Arc<dyn Objects>, Failure> {
        let mut wire = registries::surroundings(env, ui);
        wire.tls.ca_certificates = source::certificates(&self.ca_certificates);
        wire.concurrency = CHECK_CONCURRENCY;
        let login = match (&self.address, self.anonymous) {
            (Address::Bucket { .. }, false) => Some(cloud::bucket_login(&self.cloud, env)?),
            _ => None,
        };
        let options = BucketOptions {
            wire,
            allow_http: self.insecure,
            retries: if is_check { CHECK_RETRIES } else { TRANSFER_RETRIES },
            retry_delay: ClientOptions::default().retry_delay,
            endpoint: self.endpoint.clone(),
            region: login.as_ref().and_then(|login| login.region.clone()),
            login,
            encryption: self.encryption.clone(),
            clock: system::clock(),
        };
        let label = self.address.to_string();
        Ok(match &self.address {
            Address::Folder(path) => Arc::new(FolderObjects::new(path.clone())),
            Address::Bucket { bucket, prefix } => {
                Arc::new(BucketObjects::new(Bucket::new(bucket, prefix, options)?, label))
            }
            Address::Web(url) => Arc::new(WebObjects::new(Bucket::of_web(url, options)?, label)),
        })
    }
}

/// Reads `keep`, a number as such or as a text.
fn keep(fields: &mut Fields) -> Result<Option<usize>, Failure> {
    match fields.scalar("keep")?.filter(|text| !text.is_empty()).map(|text| text.parse()) {
        None => Ok(None),
        Some(Ok(number)) if number > 0 => Ok(Some(number)),
        Some(_) => Err(fields.invalid("keep", "it is not a number of 1 or more")),
    }
}

/// Reads how the server encrypts, in the words of the s3 resource.
fn encryption(fields: &mut Fields) -> Result<Option<Encryption>, Failure> {
    let algorithm = fields.text("server_side_encryption")?.filter(|text| !text.is_empty());
    let key = fields.text("sse_kms_key_id")?.filter(|text| !text.is_empty());
    match (algorithm, key) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            Err(fields.invalid("sse_kms_key_id", "it needs `server_side_encryption: aws:kms`"))
        }
        (Some(algorithm), key) => Encryption::new(&algorithm, key.as_deref())
            .map(Some)
            .map_err(|problem| fields.invalid("server_side_encryption", problem)),
    }
}
