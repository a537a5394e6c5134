//! Responses of the reading endpoints.
//!
//! Source: distribution-spec, "Pull", "Content Discovery".

use serde::Serialize;

use crate::model::{Annotations, Descriptor, Digest, ImageIndex, Method, RawDocument, Target, media_type};
use crate::store::StoreError;

use super::head::Head;
use super::held::Held;
use super::images::Images;
use super::paging::Page;
use super::response::{Code, Response};
use super::route::query_value;

/// Returns a manifest or index as it is stored, and ignores `Accept`: a converted document would have another digest.
pub(super) fn manifest(document: Option<&RawDocument>, target: &Target) -> Result<Response, Response> {
    let Some(document) = document else {
        let text = format!("there is no manifest `{target}` in this repository");
        return Err(Response::error(404, Code::ManifestUnknown, &text));
    };
    let digest = match target {
        Target::Digest(digest) => digest,
        Target::Tag(_) => document.digest(),
    };
    Ok(Response::of(200, document.media_type(), document.bytes())
        .with("Docker-Content-Digest", digest.to_string())
        .with("ETag", format!("\"{digest}\"")))
}

/// Finds a blob; for a request that does not read it, makes sure that it is there.
pub(super) fn held<'a>(images: &'a Images, digest: &Digest, method: Method) -> Result<Held<'a>, Response> {
    let found = images.held(digest).and_then(|held| match held {
        Some(held) if method == Method::Head && !held.is_there()? => Ok(None),
        held => Ok(held),
    });
    match found {
        Ok(Some(held)) => Ok(held),
        Ok(None) => {
            Err(Response::error(404, Code::BlobUnknown, &format!("there is no blob `{digest}` here")))
        }
        Err(error) => Err(unreadable(&error)),
    }
}

/// Answers that a store does not give a blob.
pub(super) fn unreadable(error: &StoreError) -> Response {
    match error {
        StoreError::Gone { .. } | StoreError::Missing { .. } | StoreError::LeftOut { .. } => {
            Response::error(404, Code::BlobUnknown, &error.to_string())
        }
        _ => Response::error(500, Code::Unknown, &error.to_string()),
    }
}

/// Returns the fields of every response with a blob.
pub(super) fn blob_fields(digest: &Digest) -> Vec<(&'static str, String)> {
    vec![
        ("Content-Type", "application/octet-stream".to_owned()),
        ("Docker-Content-Digest", digest.to_string()),
        ("ETag", format!("\"{digest}\"")),
        ("Accept-Ranges", "bytes".to_owned()),
    ]
}

#[derive(Serialize)]
struct TagList<'a> {
    name: &'a str,
    tags: &'a [&'a str],
}

/// Lists the tags of a repository.
pub(super) fn tags(images: &Images, name: &str, head: &Head) -> Result<Response, Response> {
    let tags = images.tags(name);
    let path = format!("/v2/{name}/tags/list");
    let page = Page::of(tags.iter().map(String::as_str), &path, &head.query)?;
    let response = Response::json(&TagList { name, tags: &page.entries });
    Ok(page.link(response))
}

#[derive(Serialize)]
struct Catalog<'a> {
    repositories: &'a [&'a str],
}

/// Lists the repositories, as docker's registry does; the specification has no such list.
pub(super) fn catalog(images: &Images, head: &Head) -> Result<Response, Response> {
    let repositories = images.repositories();
    let page = Page::of(repositories.iter().map(String::as_str), "/v2/_catalog", &head.query)?;
    let response = Response::json(&Catalog { repositories: &page.entries });
    Ok(page.link(response))
}

/// Lists the referrers of a manifest, also of one that is not there.
pub(super) fn referrers(images: &Images, subject: &Digest, head: &Head) -> Result<Response, Response> {
    let filter = query_value(&head.query, "artifactType")?.filter(|kind| !kind.is_empty());
    let is_wanted =
        |entry: &Descriptor| filter.is_none() || entry.artifact_type.as_deref() == filter.as_deref();
    let index = RawDocument::of_index(ImageIndex {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        artifact_type: None,
        manifests: images.referrers(subject).into_iter().filter(is_wanted).collect(),
        subject: None,
        annotations: Annotations::new(),
    });
    let response = Response::of(200, media_type::OCI_INDEX, index.bytes());
    Ok(match filter {
        Some(_) => response.with("OCI-Filters-Applied", "artifactType"),
        None => response,
    })
}
