//! Upload sessions: bytes that arrive in one request or several; the last request has the digest.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, TryLockError};

use crate::model::{Algorithm, Digest, Hasher, limits};
use crate::stream::lock;

use super::spool::{Pushed, Spool};

/// Bytes read from a connection at a time.
const BUFFER: usize = 256 * 1024;

/// The open sessions by name.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    sessions: Mutex<BTreeMap<String, Slot>>,
}

#[derive(Debug)]
struct Slot {
    /// Number of the session in the order of their beginnings.
    number: u64,
    repository: String,
    session: Arc<Mutex<Session>>,
}

/// One upload.
#[derive(Debug)]
pub(super) struct Session {
    upload: Pushed,
    /// Hashes what arrives with SHA-256, which almost every client uses.
    hasher: Hasher,
}

/// Why bytes were not stored.
#[derive(Debug)]
pub(super) enum UploadError {
    /// There is no such session in this repository.
    Unknown,
    /// Another request works on the session.
    Busy,
    /// The client's bytes could not be read; those that came before are kept.
    Client(io::Error),
    /// The bytes could not be stored.
    Storage(io::Error),
}

impl Session {
    fn new() -> Self {
        Self { upload: Pushed::default(), hasher: Algorithm::Sha256.hasher() }
    }

    /// Returns the bytes that have arrived.
    pub(super) fn size(&self) -> u64 {
        self.upload.size()
    }

    /// Stores everything that a client sends.
    pub(super) fn receive(&mut self, spool: &Spool, body: &mut dyn Read) -> Result<(), UploadError> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    let bytes = &buffer[..count];
                    // After an error some of these bytes may be in the file but not in the size; they will be
                    // overwritten.
                    spool.append(&mut self.upload, bytes).map_err(UploadError::Storage)?;
                    self.hasher.update(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(UploadError::Client(error)),
            }
        }
    }

    /// Ends the upload; returns its bytes, or their digest if it is not `expected`.
    fn finish(self, spool: &Spool, expected: &Digest) -> Result<Result<Pushed, Digest>, UploadError> {
        let found = match expected.algorithm() {
            Algorithm::Sha256 => self.hasher.finish(),
            other => spool.digest(&self.upload, other).map_err(UploadError::Storage)?,
        };
        if found == *expected {
            return Ok(Ok(self.upload));
        }
        spool.drop_upload(&self.upload);
        Ok(Err(found))
    }
}

/// A session that a request works on.
pub(super) type Working = Arc<Mutex<Session>>;

impl Uploads {
    /// Begins a session and returns its name; the oldest one ends if there are too many.
    pub(super) fn begin(&self, repository: &str, spool: &Spool) -> String {
        let mut sessions = lock(&self.sessions);
        if sessions.len() >= limits::UPLOADS {
            let oldest = sessions.iter().min_by_key(|(_, slot)| slot.number).map(|(name, _)| name.clone());
            if let Some(slot) = oldest.and_then(|name| sessions.remove(&name))
                && let Ok(session) = slot.session.try_lock()
            {
                spool.drop_upload(&session.upload);
            }
        }
        let number = sessions.values().map(|slot| slot.number + 1).max().unwrap_or(0);
        let name = session_name(number);
        let slot =
            Slot { number, repository: repository.to_owned(), session: Arc::new(Mutex::new(Session::new())) };
        let _ = sessions.insert(name.clone(), slot);
        name
    }

    /// Finds a session of a repository.
    pub(super) fn find(&self, repository: &str, name: &str) -> Result<Working, UploadError> {
        let sessions = lock(&self.sessions);
        let slot = sessions.get(name).filter(|slot| slot.repository == repository);
        slot.map(|slot| Arc::clone(&slot.session)).ok_or(UploadError::Unknown)
    }

    /// Runs work on a session, unless another request does.
    pub(super) fn with<T>(
        working: &Working,
        work: impl FnOnce(&mut Session) -> Result<T, UploadError>,
    ) -> Result<T, UploadError> {
        match working.try_lock() {
            Ok(mut session) => work(&mut session),
            Err(TryLockError::WouldBlock) => Err(UploadError::Busy),
            Err(TryLockError::Poisoned(poisoned)) => work(&mut poisoned.into_inner()),
        }
    }

    /// Ends a session and returns its bytes, or their digest if it is not `expected`.
    pub(super) fn finish(
        &self,
        name: &str,
        working: &Working,
        spool: &Spool,
        expected: &Digest,
    ) -> Result<Result<Pushed, Digest>, UploadError> {
        let session = Self::with(working, |session| Ok(std::mem::replace(session, Session::new())))?;
        let _ = lock(&self.sessions).remove(name);
        session.finish(spool, expected)
    }

    /// Ends a session and drops its bytes.
    pub(super) fn cancel(&self, repository: &str, name: &str, spool: &Spool) -> Result<(), UploadError> {
        let working = self.find(repository, name)?;
        let session = Self::with(&working, |session| Ok(std::mem::replace(session, Session::new())))?;
        let _ = lock(&self.sessions).remove(name);
        spool.drop_upload(&session.upload);
        Ok(())
    }

    /// Stores a blob that comes in one request, without a session.
    pub(super) fn at_once(
        spool: &Spool,
        body: &mut dyn Read,
        expected: &Digest,
    ) -> Result<Result<Pushed, Digest>, UploadError> {
        let mut session = Session::new();
        match session.receive(spool, body) {
            Ok(()) => session.finish(spool, expected),
            Err(error) => {
                spool.drop_upload(&session.upload);
                Err(error)
            }
        }
    }
}

/// Returns a session name that a client cannot guess.
fn session_name(number: u64) -> String {
    let mut bytes = [0_u8; 16];
    // This fails only in early boot; the number still makes the name unique.
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if filled.is_err() {
        bytes[..8].copy_from_slice(&number.to_le_bytes());
    }
    format!("{:032x}", u128::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_takes_bytes_in_pieces_and_is_for_one_request_at_a_time() {
        let spool = Spool::create(&std::env::temp_dir()).unwrap();
        let uploads = Uploads::default();
        let name = uploads.begin("a", &spool);
        assert!(matches!(uploads.find("b", &name), Err(UploadError::Unknown)), "of another repository");
        let working = uploads.find("a", &name).unwrap();
        for part in [&b"abc"[..], b"", b"def"] {
            let mut part = part;
            Uploads::with(&working, |session| session.receive(&spool, &mut part)).unwrap();
        }
        let held = working.lock().unwrap();
        assert_eq!(held.size(), 6);
        assert!(matches!(Uploads::with(&working, |_| Ok(())), Err(UploadError::Busy)));
        drop(held);
        let pushed = uploads.finish(&name, &working, &spool, &Digest::sha256_of(b"abcdef")).unwrap();
        assert_eq!(pushed.unwrap().size(), 6);
        assert!(matches!(uploads.find("a", &name), Err(UploadError::Unknown)));
    }

    #[test]
    fn a_wrong_digest_is_reported_in_either_algorithm() {
        let spool = Spool::create(&std::env::temp_dir()).unwrap();
        let mut hasher = Algorithm::Sha512.hasher();
        hasher.update(b"x");
        let sha512 = hasher.finish();
        for digest in [Digest::sha256_of(b"x"), sha512] {
            assert!(Uploads::at_once(&spool, &mut &b"x"[..], &digest).unwrap().is_ok(), "{digest}");
            assert!(Uploads::at_once(&spool, &mut &b"y"[..], &digest).unwrap().is_err(), "{digest}");
        }
    }

    #[test]
    fn the_oldest_session_ends_when_there_are_too_many() {
        let spool = Spool::create(&std::env::temp_dir()).unwrap();
        let uploads = Uploads::default();
        let names: Vec<String> = (0..=limits::UPLOADS).map(|_| uploads.begin("a", &spool)).collect();
        let open = names.iter().filter(|name| uploads.find("a", name).is_ok()).count();
        assert_eq!(open, limits::UPLOADS);
        assert!(uploads.find("a", &names[0]).is_err(), "the oldest session ends");
    }
}
