//! imgrelay's engine: builds OCI images from folders, carries them as OCI layout tars, pushes and pulls them.
//!
//! # What is promised
//!
//! Nothing yet: the package is not published (`publish = false`), and any name may change with any release. The
//! stable interface is the executable: its flags, exit codes, result formats and the bytes it writes. The library is
//! public for the tests, the fuzz targets and the benchmarks, and for reading.
//!
//! Everything below the front is silent: no output, no environment, no clock, no exit. Two things belong to the
//! process and not to a value, the request to stop ([`stream::cancel`]) and the list of temporary files to remove
//! before the process ends ([`stream::temporary`]); `docs/decisions/0004-process-wide-state.md` says why, and what it
//! means for a program with two users of the library.
//!
//! # Floors
//!
//! Lowest first; a module uses only those that its row in `ARCHITECTURE.md` allows (checked by a test):
//!
//! | floor | modules |
//! |---|---|
//! | 0 values | [`model`], [`lock`], [`sign`] |
//! | 1 bytes | [`stream`], [`tree`], [`tar`], [`zip`] |
//! | 2 images at rest and in a registry | [`store`], [`registry`] |
//! | 3 packing, serving, stores between jobs | [`pack`], [`serve`], [`depot`] |
//! | 4 moving | [`transfer`] |
//! | 5 front | `front`: the executable |
//!
//! # Example
//!
//! Packs a folder into an OCI layout tar, opens the tar and reads the layer back:
//!
//! ```
//! use std::io::Read as _;
//!
//! use imgrelay::pack::{ImageOptions, LayerOptions, MediaTypes, PackageChecks, Profile};
//! use imgrelay::store::layout::LayoutTarget;
//! use imgrelay::stream::Decoder;
//! use imgrelay::transfer::events::Silent;
//! use imgrelay::transfer::{PackRequest, pack_to_layout};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = std::env::temp_dir().join(format!("imgrelay-doctest-{}", std::process::id()));
//! std::fs::create_dir_all(folder.join("app"))?;
//! std::fs::write(folder.join("app/hello.txt"), "hello")?;
//! let request = PackRequest {
//!     roots: vec![folder.join("app")],
//!     profile: Some(Profile::IMAGE),
//!     layer: LayerOptions::default(),
//!     image: ImageOptions {
//!         media_types: MediaTypes::Oci,
//!         platform: None,
//!         labels: [("version".to_owned(), "1.2.3".to_owned())].into(),
//!         annotations: Default::default(),
//!     },
//!     expected_digest: None,
//!     package_checks: PackageChecks::Off,
//! };
//! let tar = folder.join("app.tar");
//! let name = "registry.example/team/app:1.2.3".parse()?;
//! let packed = pack_to_layout(&request, &LayoutTarget::File(tar.clone()), &[name], &Silent)?;
//!
//! let store = imgrelay::store::open(&tar, &folder)?;
//! let root = &store.roots()[0].image.descriptor;
//! assert_eq!(root.digest, *packed.manifest.digest());
//! let manifest = imgrelay::store::read_document(&store, root)?;
//! let layer = &manifest.manifest().expect("one image was packed").layers[0];
//! let blob = imgrelay::store::open_verified(&store, layer)?;
//! let mut unpacked = Vec::new();
//! Decoder::new(Box::new(blob))?.read_to_end(&mut unpacked)?;
//! assert!(unpacked.windows(5).any(|window| window == b"hello"));
//! # std::fs::remove_dir_all(folder)?;
//! # Ok(())
//! # }
//! ```

pub mod depot;
#[doc(hidden)]
pub mod front;
pub mod lock;
pub mod model;
pub mod pack;
pub mod registry;
pub mod serve;
pub mod sign;
pub mod store;
pub mod stream;
pub mod tar;
pub mod transfer;
pub mod tree;
pub mod zip;
