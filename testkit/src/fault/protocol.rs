//! The responses of a correct registry, by the distribution specification.

use super::message::{Request, Response, base64, parse_query, unescape};
use super::state::{Access, State, digest_of, matches_digest};

pub(super) fn token(state: &mut State, request: &Request, body: &[u8]) -> Response {
    let Access::Bearer { user, password, expires_in, .. } = state.access.clone() else {
        state.unexpected.push("a token was asked for".into());
        return Response::new(404);
    };
    let scopes: Vec<String> = if request.method == "POST" {
        let form = String::from_utf8_lossy(body).into_owned();
        let fields = parse_query(&form);
        if fields.get("refresh_token").map(String::as_str) != Some(password) {
            return Response::new(401).body(br#"{"details":"invalid refresh token"}"#.to_vec());
        }
        fields.get("scope").map(|scope| scope.split(' ').map(str::to_owned).collect()).unwrap_or_default()
    } else {
        let wanted = format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
        if request.headers.get("authorization") != Some(&wanted) {
            return Response::new(401).body(br#"{"details":"incorrect username or password"}"#.to_vec());
        }
        let query = request.path.split_once('?').map_or("", |(_, query)| query);
        query.split('&').filter_map(|pair| pair.strip_prefix("scope=")).map(unescape).collect()
    };
    state.counter += 1;
    let token = format!("token-{}", state.counter);
    crate::planted::plant(&token);
    let granted = scopes.into_iter().take(state.scopes_honoured).collect::<Vec<_>>().join(" ");
    state.tokens.insert(token.clone(), granted);
    let life = expires_in.map(|life| format!(",\"expires_in\":{life}")).unwrap_or_default();
    let key = if state.counter.is_multiple_of(2) { "token" } else { "access_token" };
    Response::new(200).body(format!("{{\"{key}\":\"{token}\"{life}}}").into_bytes())
}

pub(super) fn blob_response(request: &Request, blob: &[u8]) -> Response {
    let plain = |status, bytes: &[u8]| {
        Response::new(status).header("content-type", "application/octet-stream").body(bytes.to_vec())
    };
    let start = request
        .headers
        .get("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let response = match start {
        Some(start) if start >= blob.len() => {
            plain(416, b"").header("content-range", format!("bytes */{}", blob.len()))
        }
        Some(start) => plain(206, &blob[start..])
            .header("content-range", format!("bytes {start}-{}/{}", blob.len() - 1, blob.len())),
        None => plain(200, blob),
    };
    response.header("docker-content-digest", request.reference.clone())
}

pub(super) fn open_session(state: &mut State, request: &Request, body: &[u8]) -> Response {
    if !request.headers.contains_key("content-length") {
        return Response::error(411, "LENGTH_REQUIRED");
    }
    if let Some(digest) = request.query.get("digest").filter(|_| state.single_posts) {
        if !matches_digest(digest, body) {
            return Response::error(400, "DIGEST_INVALID");
        }
        state.blobs.insert((request.name.clone(), digest.clone()), body.to_vec());
        let location = format!("/v2/{}/blobs/{digest}", request.name);
        return Response::new(201)
            .header("location", location)
            .header("docker-content-digest", digest.clone());
    }
    // A registry that does not have the blob opens a session instead, as docker's does.
    if request.query.contains_key("mount") && !request.query.contains_key("from") {
        // Quay fails on it.
        state.unexpected.push(format!("a mount from nowhere: {}", request.path));
    }
    if let (Some(digest), Some(from)) = (request.query.get("mount"), request.query.get("from"))
        && state.mounts
        && let Some(blob) = state.blobs.get(&(from.clone(), digest.clone())).cloned()
    {
        state.blobs.insert((request.name.clone(), digest.clone()), blob);
        let location = format!("/v2/{}/blobs/{digest}", request.name);
        return Response::new(201)
            .header("location", location)
            .header("docker-content-digest", digest.clone());
    }
    state.counter += 1;
    let id = format!("session-{}", state.counter);
    state.sessions.insert(id.clone(), Vec::new());
    let location = format!("/v2/{}/blobs/uploads/{id}?_state=secret%2B{}", request.name, state.counter);
    let response = Response::new(202).header("location", location).header("range", "0-0");
    match state.least_chunk {
        0 => response,
        least => response.header("oci-chunk-min-length", least.to_string()),
    }
}

pub(super) fn session(state: &mut State, request: &Request, body: &[u8]) -> Response {
    let place = format!("/v2/{}/blobs/uploads/{}", request.name, request.reference);
    // Real registries sign the state; a client must send it back unchanged.
    if !request.path.contains("_state=secret%2B") {
        return Response::error(400, "BLOB_UPLOAD_INVALID");
    }
    let (chunk_limit, least_chunk, monolithic) = (state.chunk_limit, state.least_chunk, state.monolithic);
    let Some(held) = state.sessions.get_mut(&request.reference) else {
        return Response::error(404, "BLOB_UPLOAD_UNKNOWN");
    };
    let location = format!("{place}?_state=secret%2B{}", held.len() + body.len());
    let range = |len: usize| format!("0-{}", len.saturating_sub(1));
    match request.method.as_str() {
        "GET" => Response::new(204).header("range", range(held.len())).header("location", location),
        "DELETE" => {
            state.sessions.remove(&request.reference);
            Response::new(204)
        }
        "PATCH" => {
            let start =
                request.headers.get("content-range").and_then(|text| text.split('-').next()?.parse().ok());
            if start.is_some_and(|start: usize| start != held.len()) || start.is_none() && !held.is_empty() {
                return Response::error(416, "RANGE_INVALID").header("range", range(held.len()));
            }
            if start.is_some() {
                // Only the last chunk may be smaller than the minimum; another one after it is refused.
                let after_last = !state.ended.insert(request.reference.clone());
                if body.len() >= least_chunk {
                    state.ended.remove(&request.reference);
                }
                if body.len() > chunk_limit || after_last {
                    return Response::error(416, "SIZE_INVALID");
                }
            }
            held.extend_from_slice(body);
            Response::new(202).header("range", range(held.len())).header("location", location)
        }
        _ if !monolithic && !body.is_empty() => Response::error(404, "BLOB_UNKNOWN"),
        _ => {
            held.extend_from_slice(body);
            let digest = request.query.get("digest").cloned().unwrap_or_default();
            let blob = state.sessions.remove(&request.reference).unwrap_or_default();
            if !matches_digest(&digest, &blob) {
                return Response::error(400, "DIGEST_INVALID");
            }
            state.blobs.insert((request.name.clone(), digest.clone()), blob);
            Response::new(201)
                .header("location", format!("/v2/{}/blobs/{digest}", request.name))
                .header("docker-content-digest", digest)
        }
    }
}

pub(super) fn manifest(state: &mut State, request: &Request, body: &[u8]) -> Response {
    let (name, reference) = (request.name.clone(), request.reference.clone());
    let digest = match state.tags.get(&(name.clone(), reference.clone())) {
        Some(digest) => digest.clone(),
        None => reference.clone(),
    };
    match request.method.as_str() {
        "PUT" => {
            let media_type = request.headers.get("content-type").cloned().unwrap_or_default();
            let digest = digest_of(body);
            let value: serde_json::Value = match serde_json::from_slice(body) {
                Ok(value) => value,
                Err(_) => return Response::error(400, "MANIFEST_INVALID"),
            };
            let blobs = value["layers"].as_array().cloned().unwrap_or_default();
            for blob in blobs.iter().chain(value.get("config")) {
                if blob["mediaType"].as_str().is_some_and(|kind| kind.contains(".nondistributable.")) {
                    continue;
                }
                let blob = blob["digest"].as_str().unwrap_or("").to_owned();
                if !state.blobs.contains_key(&(name.clone(), blob)) {
                    return Response::error(400, "MANIFEST_BLOB_UNKNOWN");
                }
            }
            if state.immutable_tags && state.tags.contains_key(&(name.clone(), reference.clone())) {
                return Response::error(400, "TAG_INVALID");
            }
            state.manifests.insert((name.clone(), digest.clone()), (media_type, body.to_vec()));
            if !reference.contains(':') {
                state.tags.insert((name.clone(), reference), digest.clone());
            }
            let response = Response::new(201)
                .header("location", format!("/v2/{}/manifests/{digest}", request.name))
                .header("docker-content-digest", digest.clone());
            let subject = value["subject"]["digest"].as_str().filter(|_| state.referrers_api);
            match subject {
                Some(subject) => response.header("oci-subject", subject),
                None => response,
            }
        }
        "DELETE" => {
            let gone = if reference.contains(':') {
                state.tags.retain(|(own, _), target| *own != name || *target != reference);
                state.manifests.remove(&(name, reference)).is_some()
            } else {
                state.tags.remove(&(name, reference)).is_some()
            };
            if gone { Response::new(202) } else { Response::error(404, "MANIFEST_UNKNOWN") }
        }
        _ => match state.manifests.get(&(name, digest.clone())) {
            Some((media_type, bytes)) => Response::new(200)
                .header("content-type", media_type.clone())
                .header("docker-content-digest", digest)
                .body(bytes.clone()),
            None => Response::error(404, "MANIFEST_UNKNOWN"),
        },
    }
}

pub(super) fn tags(state: &State, request: &Request) -> Response {
    let last = request.query.get("last").cloned().unwrap_or_default();
    let all: Vec<&String> = state
        .tags
        .keys()
        .filter(|(name, tag)| *name == request.name && *tag > last)
        .map(|(_, tag)| tag)
        .collect();
    let page: Vec<&&String> = all.iter().take(state.page).collect();
    let response = Response::new(200).header("content-type", "application/json");
    let response = match page.last() {
        Some(last) if page.len() < all.len() => {
            response.header("link", format!("</v2/{}/tags/list?last={last}>; rel=\"next\"", request.name))
        }
        _ => response,
    };
    let list = if page.is_empty() { "null".to_owned() } else { format!("{page:?}") };
    response.body(format!("{{\"name\":\"{}\",\"tags\":{list}}}", request.name).into_bytes())
}

pub(super) fn referrers(state: &State, request: &Request) -> Response {
    if !state.referrers_api {
        return Response::error(404, "NOT_FOUND");
    }
    let found: Vec<serde_json::Value> = state
        .manifests
        .iter()
        .filter(|((name, _), _)| *name == request.name)
        .filter_map(|((_, digest), (media_type, bytes))| {
            let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
            (value["subject"]["digest"].as_str() == Some(&request.reference)).then(|| {
                serde_json::json!({
                    "mediaType": media_type, "digest": digest, "size": bytes.len(),
                    "artifactType": value["artifactType"],
                })
            })
        })
        .collect();
    let media_type = "application/vnd.oci.image.index.v1+json";
    let body = serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "manifests": found});
    Response::new(200).header("content-type", media_type).body(body.to_string().into_bytes())
}
