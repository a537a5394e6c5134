//! Writing objects: in one request, or a large one in parts that are repeated alone.

use std::io::{self, Read};
use std::sync::{Mutex, mpsc};
use std::thread;

use sha2::{Digest as _, Sha256};

use crate::model::{Algorithm, Descriptor, Method};
use crate::stream::lock;

use super::super::blob_body::BlobBody;
use super::error::BucketError;
use super::parts::PartPermit;
use super::sending::{BucketBody, BucketCall, ObjectResponse};
use super::xml;
use super::{Bucket, Encryption};

/// Objects of at least this size are sent in parts; the others in one request.
const IN_PARTS_FROM: u64 = 64 * 1024 * 1024;
/// Size of a part, of which the last one may have less: some servers want all of one size. Each is in memory while it
/// is sent.
const PART: u64 = 8 * 1024 * 1024;
/// Parts of one object that are sent at the same time.
const AT_ONCE: usize = 4;
/// Most parts of one object; Amazon allows 10,000.
const PARTS: u64 = 9_000;

impl Bucket {
    /// Writes a small object, replacing an older one.
    pub fn write(&self, key: &str, bytes: &[u8]) -> Result<(), BucketError> {
        let mut call = BucketCall::new(Method::Put, Some(key), format!("write `{}`", self.place.key(key)));
        call.headers.extend(self.options.encryption.iter().flat_map(Encryption::headers));
        call.hash = hex(bytes);
        call.content = BucketBody::Bytes(bytes);
        self.send(&call).map(drop)
    }

    /// Deletes an object; one that is not there is no error.
    pub fn delete(&self, key: &str) -> Result<(), BucketError> {
        let mut call =
            BucketCall::new(Method::Delete, Some(key), format!("delete `{}`", self.place.key(key)));
        call.accepted = &[404];
        self.send(&call).map(drop)
    }

    /// Writes a blob; `progress` gets the number of bytes since its last call.
    ///
    /// Errors: [`BucketError::Source`] if `body` cannot be read, or is not what the descriptor says.
    pub fn write_blob(
        &self,
        key: &str,
        blob: &Descriptor,
        body: &dyn BlobBody,
        progress: &dyn Fn(u64),
    ) -> Result<(), BucketError> {
        if blob.size >= IN_PARTS_FROM || blob.digest.algorithm() != Algorithm::Sha256 {
            return self.write_in_parts(key, blob, body, progress);
        }
        if blob.size == 0 {
            return self.write(key, &[]);
        }
        let mut call = BucketCall::new(Method::Put, Some(key), format!("write `{}`", self.place.key(key)));
        call.headers.extend(self.options.encryption.iter().flat_map(Encryption::headers));
        // Amazon and others compare it with what they receive.
        call.hash = blob.digest.hex().to_owned();
        call.content = BucketBody::Body { body, size: blob.size, progress };
        self.send(&call).map(drop)
    }

    fn write_in_parts(
        &self,
        key: &str,
        blob: &Descriptor,
        body: &dyn BlobBody,
        progress: &dyn Fn(u64),
    ) -> Result<(), BucketError> {
        let task = || format!("write `{}`", self.place.key(key));
        let mut call = BucketCall::new(Method::Post, Some(key), task());
        call.query.push(("uploads", String::new()));
        call.headers.extend(self.options.encryption.iter().flat_map(Encryption::headers));
        call.read_success = true;
        let begun = match self.send(&call)? {
            ObjectResponse::Text(text) => xml::read_one(&text, "UploadId"),
            ObjectResponse::Stream(_) => None,
        };
        let Some(upload) = begun else {
            return Err(self.invalid_response(task(), "it names no upload".to_owned()));
        };
        let sent = self.send_parts(key, blob, body, progress, &upload);
        let result = sent.and_then(|parts| match self.complete(key, &upload, &parts) {
            // An earlier attempt may have succeeded without its response reaching us.
            Err(BucketError::Rejected { status: 404, .. }) if self.size(key)? == Some(blob.size) => Ok(()),
            result => result,
        });
        if result.is_err() {
            let mut call = BucketCall::new(Method::Delete, Some(key), task());
            call.query.push(("uploadId", upload));
            // What cannot be taken back is invisible, and a lifecycle rule may remove it.
            let _ = self.send(&call);
        }
        result
    }

    /// Sends all parts, several at a time; returns the tag of each.
    fn send_parts(
        &self,
        key: &str,
        blob: &Descriptor,
        body: &dyn BlobBody,
        progress: &dyn Fn(u64),
        upload: &str,
    ) -> Result<Vec<String>, BucketError> {
        let size = PART.max(blob.size.div_ceil(PARTS));
        let mut reader = body.open().map_err(BucketError::Source)?;
        let (work, jobs) = mpsc::sync_channel::<(usize, Vec<u8>, PartPermit<'_>)>(0);
        let jobs = Mutex::new(jobs);
        let (done, results) = mpsc::channel();
        let run = |done: mpsc::Sender<_>| {
            loop {
                // Held while waiting: the next job is for whichever thread waits first.
                let Ok((number, part, place)) = lock(&jobs).recv() else { return };
                let tag = self.send_part(key, upload, number, &part);
                let size = part.len() as u64;
                drop((part, place));
                // After the first failure the others are not taken.
                let _ = done.send((number, size, tag));
            }
        };
        thread::scope(|scope| {
            let start = || {
                let done = done.clone();
                thread::Builder::new().spawn_scoped(scope, move || run(done)).map(drop)
            };
            start().map_err(BucketError::Source)?;
            // With fewer threads it only takes longer.
            let _ = (1..AT_ONCE).try_for_each(|_| start());
            let mut tags: Vec<String> = Vec::new();
            let mut left = 0;
            let take = |tags: &mut Vec<String>, (number, size, tag): (usize, u64, Result<String, _>)| {
                tags.resize(tags.len().max(number), String::new());
                if let Some(place) = tags.get_mut(number - 1) {
                    *place = tag?;
                }
                progress(size);
                Ok::<(), BucketError>(())
            };
            let work = work;
            for number in 1.. {
                let place = self.parts.take();
                let mut part = Vec::new();
                reader.by_ref().take(size).read_to_end(&mut part).map_err(BucketError::Source)?;
                let is_last = (part.len() as u64) < size;
                if part.is_empty() && number > 1 {
                    break;
                }
                if is_last {
                    // The end of the reader is where a wrong digest is found.
                    let mut rest = [0];
                    if reader.read(&mut rest).map_err(BucketError::Source)? > 0 {
                        return Err(BucketError::Source(io::ErrorKind::InvalidData.into()));
                    }
                }
                if work.send((number, part, place)).is_err() {
                    return Err(BucketError::Source(io::ErrorKind::BrokenPipe.into()));
                }
                left += 1;
                while let Ok(result) = results.try_recv() {
                    left -= 1;
                    take(&mut tags, result)?;
                }
                if is_last {
                    break;
                }
            }
            drop(work);
            for result in results.iter().take(left) {
                take(&mut tags, result)?;
            }
            Ok(tags)
        })
    }

    fn send_part(&self, key: &str, upload: &str, number: usize, part: &[u8]) -> Result<String, BucketError> {
        let task = format!("write part {number} of `{}`", self.place.key(key));
        let mut call = BucketCall::new(Method::Put, Some(key), task.clone());
        call.query.push(("partNumber", number.to_string()));
        call.query.push(("uploadId", upload.to_owned()));
        call.hash = hex(part);
        call.content = BucketBody::Bytes(part);
        let ObjectResponse::Stream(response) = self.send(&call)? else {
            return Err(self.invalid_response(task, "it has a body".to_owned()));
        };
        match response.header("etag") {
            Some(tag) => Ok(tag.to_owned()),
            None => Err(self.invalid_response(task, "it has no `ETag`".to_owned())),
        }
    }

    fn complete(&self, key: &str, upload: &str, parts: &[String]) -> Result<(), BucketError> {
        let mut text = "<CompleteMultipartUpload>".to_owned();
        for (number, tag) in (1..).zip(parts) {
            let tag = tag.replace('&', "&amp;").replace('<', "&lt;");
            text.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"));
        }
        text.push_str("</CompleteMultipartUpload>");
        let mut call = BucketCall::new(Method::Post, Some(key), format!("write `{}`", self.place.key(key)));
        call.query.push(("uploadId", upload.to_owned()));
        call.hash = hex(text.as_bytes());
        call.content = BucketBody::Bytes(text.as_bytes());
        // An error may come after the status: 200 says only that the server began to put the parts together.
        call.read_success = true;
        self.send(&call).map(drop)
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
