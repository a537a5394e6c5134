//! Writers and collections of one store at the same time, in memory: every step of one may come between two of another.
//!
//! Time passes in jumps, and never where the rules of docs/formats/store.md say that little time passes: between a
//! writer's last look at the clock and its entry, and inside of a collection. Each rule has a run without it, which has
//! to lose a blob.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use testkit::random::Random;

use super::collect::{CollectReport, CollectRequest, SHORTEST_GRACE};
use super::read::blob_key;
use super::{Depot, DepotError, Objects, PushTime};
use crate::model::{Annotations, Descriptor, ImageManifest, RawDocument, Tag, keys, media_type};
use crate::registry::BlobBody;
use crate::stream::lock;

/// Objects in memory, with a clock that tests set; a thread may be interrupted before each operation.
#[derive(Debug, Default)]
struct Memory {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    clock: AtomicU64,
    operations: AtomicU64,
}

impl Memory {
    fn step(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        match self.operations.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60 {
            0 => thread::sleep(Duration::from_micros(50)),
            1..6 => thread::yield_now(),
            _ => {}
        }
        lock(&self.objects)
    }
}

impl Objects for Memory {
    fn label(&self) -> String {
        "memory".to_owned()
    }
    fn read(&self, key: &str, _: u64) -> Result<Option<Vec<u8>>, DepotError> {
        Ok(self.step().get(key).cloned())
    }
    fn open(&self, key: &str, _: u64) -> Result<Option<Box<dyn Read + Send + '_>>, DepotError> {
        let found = self.step().get(key).cloned();
        Ok(found.map(|bytes| -> Box<dyn Read + Send> { Box::new(std::io::Cursor::new(bytes)) }))
    }
    fn size(&self, key: &str) -> Result<Option<u64>, DepotError> {
        Ok(self.step().get(key).map(|bytes| bytes.len() as u64))
    }
    fn write(&self, key: &str, bytes: &[u8]) -> Result<(), DepotError> {
        self.step().insert(key.to_owned(), bytes.to_vec());
        Ok(())
    }
    fn write_blob(
        &self,
        key: &str,
        _: &Descriptor,
        body: &dyn BlobBody,
        _: &dyn Fn(u64),
    ) -> Result<(), DepotError> {
        let mut bytes = Vec::new();
        body.open().and_then(|mut reader| reader.read_to_end(&mut bytes)).map_err(DepotError::Source)?;
        self.write(key, &bytes)
    }
    fn delete(&self, key: &str) -> Result<(), DepotError> {
        self.step().remove(key);
        Ok(())
    }
    fn delay(&self) -> Duration {
        Duration::ZERO
    }
    fn list(
        &self,
        folder: &str,
        _: usize,
        take: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), DepotError> {
        let begin = format!("{folder}/");
        let keys: Vec<String> = self.step().keys().cloned().collect();
        let _ = keys.iter().filter_map(|key| key.strip_prefix(&begin)).try_for_each(take);
        Ok(())
    }
    fn folders(&self, _: &str) -> Result<Vec<String>, DepotError> {
        Ok(Vec::new())
    }
    fn any(&self) -> Result<Option<String>, DepotError> {
        Ok(self.step().keys().next().cloned())
    }
    fn now(&self) -> Result<PushTime, DepotError> {
        Ok(PushTime::of_milliseconds(self.clock.load(Ordering::SeqCst)))
    }
}

/// Which rules count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// All of them.
    All,
    /// A writer does not look at what a collection is about to delete.
    NoObjections,
    /// A writer that took long writes its entries all the same.
    NoLimit,
    /// Blobs are deleted in the run after the one that listed them.
    NoGrace,
}

/// An image of two blobs that others have too: unused ones are used again soon.
struct Image {
    blobs: Vec<(Descriptor, Vec<u8>)>,
    manifest: RawDocument,
}

fn image(number: u64) -> Image {
    let config = format!(r#"{{"architecture":"amd64","os":"linux","comment":"{number}"}}"#).into_bytes();
    let layer = format!("layer {}", number % 3).into_bytes();
    let blobs = vec![
        (Descriptor::of_bytes(media_type::OCI_CONFIG, &config), config),
        (Descriptor::of_bytes(media_type::OCI_LAYER, &layer), layer),
    ];
    let manifest = RawDocument::of_manifest(ImageManifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: blobs[0].0.clone(),
        layers: vec![blobs[1].0.clone()],
        subject: None,
        annotations: Annotations::new(),
    });
    Image { blobs, manifest }
}

/// A store, its clock, and what happened.
struct Run {
    memory: Arc<Memory>,
    rules: Rules,
    /// Time passes only while it is not held.
    time: RwLock<()>,
    deleted: AtomicU64,
    objected: AtomicU64,
    again: AtomicU64,
    lost: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Run {
    fn new(rules: Rules) -> Self {
        let memory = Memory { clock: AtomicU64::new(1_764_423_047_582), ..Memory::default() };
        Self {
            memory: Arc::new(memory),
            rules,
            time: RwLock::new(()),
            deleted: AtomicU64::new(0),
            objected: AtomicU64::new(0),
            again: AtomicU64::new(0),
            lost: Mutex::default(),
            is_over: AtomicBool::new(false),
        }
    }

    fn depot(&self) -> Depot {
        let mut depot = Depot::create(Arc::clone(&self.memory) as Arc<dyn Objects>).unwrap();
        depot.timing.pause = Duration::from_micros(100);
        depot
    }

    /// Pushes as `transfer::copy_to_depot` does.
    fn push(&self, depot: &Depot, image: &Image, tag: &Tag, random: &mut Random) {
        let root = image.manifest.descriptor();
        let mut needed: Vec<_> = image.blobs.iter().map(|(blob, _)| &blob.digest).collect();
        needed.push(&root.digest);
        let annotations = Annotations::from([(keys::REF_NAME.to_owned(), tag.to_string())]);
        let named = Descriptor { annotations, ..root.clone() };
        let mut attempt = 0;
        loop {
            attempt += 1;
            let needed = if self.rules == Rules::NoObjections { &[] } else { needed.as_slice() };
            let before = depot.marks().unwrap().kept.len();
            let protection = depot.protect(needed, &|| {}).unwrap();
            self.objected.fetch_add(u64::from(depot.marks().unwrap().kept.len() > before), Ordering::Relaxed);
            for (blob, bytes) in &image.blobs {
                if !depot.holds(blob).unwrap() {
                    depot.write_blob(blob, bytes, &|_| {}).unwrap();
                }
            }
            if !depot.holds(&root).unwrap() {
                depot.write_document(&image.manifest).unwrap();
            }
            if random.below(8) == 0 {
                thread::sleep(Duration::from_millis(4));
            }
            let _time = self.time.read().unwrap();
            // One attempt after the other, as long as it takes.
            if self.rules == Rules::NoLimit || depot.is_protected(protection, 1).unwrap_or(false) {
                depot.write_entry(tag, &root, &[named]).unwrap();
                break;
            }
        }
        self.again.fetch_add(attempt - 1, Ordering::Relaxed);
        self.check(depot);
    }

    /// Notes every version that is there and is not whole.
    fn check(&self, depot: &Depot) {
        for version in depot.versions().unwrap() {
            let is_whole = || -> Option<()> {
                let bytes = self.memory.read(&blob_key(&version.digest), 0).unwrap()?;
                let document = RawDocument::parse(bytes, None).unwrap();
                for child in document.document().children() {
                    self.memory.size(&blob_key(&child.digest)).unwrap()?;
                }
                Some(())
            };
            if is_whole().is_none() && self.memory.size(&version.key()).unwrap().is_some() {
                lock(&self.lost).push(version.key());
            }
        }
    }

    fn collect(&self, depot: &Depot, random: &mut Random) {
        let request = CollectRequest {
            tags: Vec::new(),
            keep: Some(1),
            keep_for: None,
            grace: if self.rules == Rules::NoGrace { Duration::ZERO } else { SHORTEST_GRACE },
            dry_run: false,
        };
        let time = self.time.read().unwrap();
        let CollectReport { blobs, .. } = depot.collect(&request).unwrap();
        drop(time);
        self.deleted.fetch_add(blobs, Ordering::Relaxed);
        let _time = self.time.write().unwrap();
        let minutes = if random.below(4) == 0 { 3 * 60 } else { random.below(25) };
        self.memory.clock.fetch_add(minutes * 60 * 1000, Ordering::SeqCst);
    }

    /// Runs six writers and two collections until so many blobs were deleted, or something is lost.
    fn until(&self, deleted: u64) {
        let deadline = Instant::now() + Duration::from_secs(60);
        thread::scope(|scope| {
            for number in 0..6 {
                let run = move || {
                    let (depot, mut random) = (self.depot(), Random::new(number));
                    while !self.is_over.load(Ordering::Relaxed) {
                        let tag: Tag = random.pick(&["a", "b", "c"]).parse().unwrap();
                        let image = image(random.below(12));
                        self.push(&depot, &image, &tag, &mut random);
                    }
                };
                thread::Builder::new().spawn_scoped(scope, run).unwrap();
            }
            for number in 10..12 {
                let run = move || {
                    let (depot, mut random) = (self.depot(), Random::new(number));
                    while !self.is_over.load(Ordering::Relaxed) {
                        self.collect(&depot, &mut random);
                        let is_enough = self.deleted.load(Ordering::Relaxed) >= deleted;
                        let is_over = is_enough || !lock(&self.lost).is_empty() || Instant::now() > deadline;
                        self.is_over.fetch_or(is_over, Ordering::Relaxed);
                    }
                };
                thread::Builder::new().spawn_scoped(scope, run).unwrap();
            }
        });
    }
}

#[test]
fn six_writers_and_two_collections_lose_no_blob() {
    let run = Run::new(Rules::All);
    run.until(400);
    assert_eq!(*lock(&run.lost), [""; 0]);
    let [deleted, objected, again] =
        [&run.deleted, &run.objected, &run.again].map(|number| number.load(Ordering::Relaxed));
    assert!(deleted >= 400 && objected > 0 && again > 0, "{deleted} deleted, {objected} kept, {again} again");
}

#[test]
fn without_any_one_of_the_rules_a_blob_is_lost() {
    for (rules, name) in [
        (Rules::NoObjections, "objections"),
        (Rules::NoLimit, "a limit for a push"),
        (Rules::NoGrace, "a grace"),
    ] {
        let run = Run::new(rules);
        run.until(u64::MAX);
        assert!(!lock(&run.lost).is_empty(), "without {name} nothing was lost in a minute");
    }
}
