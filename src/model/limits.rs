//! Every bound on what is read from outside, with its reason.
//!
//! Each is generous against what real tools write and small against what an attacker would send.

/// Largest manifest or index, bytes. distribution-spec asks registries to take 4 MiB; some indexes are larger.
pub const DOCUMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Largest image configuration, bytes. Histories of generated images reach a few MiB.
pub const CONFIG_BYTES: u64 = 16 * 1024 * 1024;
/// Largest JSON side document of a tar (`index.json`, docker's and imgpkg's `manifest.json`), bytes.
///
/// imgpkg's holds every manifest and configuration of up to thousands of images.
pub const TABLE_OF_CONTENTS_BYTES: u64 = 256 * 1024 * 1024;
/// Largest YAML lock file, bytes.
pub const LOCK_BYTES: u64 = 16 * 1024 * 1024;
/// Largest size a descriptor may give, bytes; so many that the sizes of all [`DOCUMENTS`] together fit into 63 bits.
pub const BLOB_BYTES: u64 = 64 * 1024 * 1024 * 1024 * 1024;
/// Deepest nesting of indexes and bundles; real ones have at most 3 levels.
pub const NESTING: usize = 16;
/// Most documents (manifests and indexes) followed from one root, and most images of one archive.
pub const DOCUMENTS: usize = 100_000;
/// Most names of images in one archive; real ones have a few for each image.
pub const IMAGE_NAMES: usize = 100_000;
/// Most texts in docker's or imgpkg's `manifest.json`; thousands of images have a hundred each.
pub const TABLE_TEXTS: usize = 1_000_000;
/// Most bytes of manifests and indexes below one root; all are kept in memory until the last is written.
pub const GRAPH_BYTES: u64 = 256 * 1024 * 1024;
/// Most entries of a tar that is read as a layout or archive.
pub const ARCHIVE_ENTRIES: usize = 1_000_000;
/// Most entries of the layers of an image whose files are listed or compared; a million take some 350 MB of memory.
pub const LISTED_ENTRIES: usize = 3_000_000;
/// Most bytes of their names and link targets together; a million real names have 60 MB.
pub const LISTED_BYTES: u64 = 512 * 1024 * 1024;
/// Most requests for headers and small files of one tar at a URL. A header takes one request where the file before it is
/// larger than 128 KiB, and a bundle of thousands of images has some ten thousand such files.
pub const TAR_URL_REQUESTS: usize = 50_000;
/// Longest path of a tar entry, bytes (Linux `PATH_MAX`).
pub const PATH_BYTES: usize = 4096;
/// Largest extended (PAX) header or GNU long name, bytes; GNU tar writes a few hundred.
pub const TAR_EXTENSION_BYTES: u64 = 1024 * 1024;
/// Largest zstd window that is decoded, as a power of two: 128 MiB, what `zstd --long=27` writes; `pull` reads
/// three layers at a time.
pub const ZSTD_WINDOW_LOG: u32 = 27;
/// Most requests and blobs at the same time; each holds a connection and a few buffers.
pub const CONCURRENCY: usize = 64;
/// Largest entry of an image store, bytes; one image is a few hundred, and one of a thousand images is half a MiB.
pub const ENTRY_BYTES: u64 = 8 * 1024 * 1024;
/// Largest list of unused blobs of an image store, bytes; the 100,000 digests that one has at most are 7 to 14 MB.
pub const GC_LIST_BYTES: u64 = 16 * 1024 * 1024;
/// Largest `oci-layout` file, bytes; it holds one version number.
pub const OCI_LAYOUT_BYTES: u64 = 64 * 1024;
/// Most links followed from one name inside an archive or while a path is resolved (Linux follows 40).
pub const LINKS: usize = 40;
/// Most bytes a compressed archive may unpack to in the temporary folder; larger ones can be unpacked by hand.
pub const SPOOL_BYTES: u64 = 256 * 1024 * 1024 * 1024;
/// Most files of a folder that are looked at to find the one archive in it.
pub const CANDIDATES: usize = 10_000;
/// Deepest folder that is extracted; each level is a file handle while its content is written.
pub const FOLDER_DEPTH: usize = 512;
/// Most folders opened to reach the entries of an image, besides [`FOLDER_OPENS_PER_ENTRY`] for each entry. One that
/// links lead to, or that is far from the folder of the entry before, is reached level by level.
pub const FOLDER_OPENS: u64 = 1_000_000;
/// Most folders opened for each entry of an image on average; real trees are some 20 levels deep.
pub const FOLDER_OPENS_PER_ENTRY: u64 = 64;
/// Most entries of one layer; the largest real images have about a million.
pub const LAYER_ENTRIES: u64 = 10_000_000;
/// Largest file of certificates, bytes; the whole set of a system's authorities has a quarter of a MiB.
pub const CERTIFICATES_BYTES: u64 = 4 * 1024 * 1024;
/// Largest page of a registry's list (tags, referrers), bytes; a thousand long tags are 130 KiB.
pub const PAGE_BYTES: u64 = 8 * 1024 * 1024;
/// Deepest nesting of elements in a response from a bucket; S3's own responses have four levels.
pub const XML_DEPTH: usize = 16;
/// Longest text of an element in a response from a bucket, bytes; a key has 1,024.
pub const XML_TEXT_BYTES: usize = 16 * 1024;
/// Most pages of one list; at 50 tags a page, what some registries send, half a million tags.
pub const PAGES: usize = 10_000;

/// All pages of one list of a registry together: tags, referrers.
pub const LIST_BYTES: u64 = 32 * 1024 * 1024;

/// Entries of one list of a registry.
pub const LIST_ENTRIES: usize = 1_000_000;

/// Bytes of a body that have to move in a minute of waiting for a registry; less is taken for silence.
pub const LEAST_BYTES_PER_MINUTE: u64 = 64 * 1024;
/// Largest docker or podman credentials file, bytes; real ones have a few KiB.
pub const CREDENTIALS_BYTES: u64 = 4 * 1024 * 1024;
/// Largest response from a token server, bytes; tokens have a few KiB.
pub const TOKEN_BYTES: u64 = 1024 * 1024;
/// Largest response from a credential helper, bytes.
pub const HELPER_BYTES: usize = 1024 * 1024;
/// Most bytes read of a registry's error; the rest is thrown away, and 400 characters are shown.
pub const ERROR_BYTES: u64 = 64 * 1024;
/// Most extension headers before one entry of a tar; tools write at most three.
pub const EXTENSIONS_PER_ENTRY: usize = 16;
/// Most `urls` of one layer that are tried; real layers have one.
pub const LAYER_URLS: usize = 10;
/// Most redirects followed for one request; real ones are one or two.
pub const REDIRECTS: usize = 10;
/// Largest request of Concourse on standard input, bytes; sources and params are lines of a pipeline.
pub const REQUEST_BYTES: u64 = 16 * 1024 * 1024;
/// Largest file with tags or a digest that the params of a put name, bytes.
pub const PARAM_FILE_BYTES: u64 = 64 * 1024;
/// Largest compiled regular expression of a Concourse source, bytes; every expression runs in linear time.
pub const REGEX_BYTES: usize = 1024 * 1024;
/// Largest `.cfignore`, bytes; real ones have a few lines, and each pattern is tried on each path.
pub const IGNORE_BYTES: u64 = 1024 * 1024;
/// Largest response from a cloud provider's login, bytes; the largest real one is a token of a few KiB.
pub const CLOUD_LOGIN_BYTES: u64 = 256 * 1024;
/// Largest file with a cloud provider's token, bytes; real ones have a few KiB.
pub const TOKEN_FILE_BYTES: u64 = 64 * 1024;
/// Largest request of resource matching, bytes; 5,000 files, the most in one, with the longest paths have 21 MiB.
pub const MATCH_BYTES: u64 = 32 * 1024 * 1024;
/// Most files in one request of resource matching, as Cloud Controller's.
pub const MATCH_FILES: usize = 5000;
/// Largest list of files that an upload takes from an earlier image, bytes; 100,000 files have about 20 MB.
pub const RESOURCES_BYTES: u64 = 64 * 1024 * 1024;
/// Largest list of an image's files, bytes; a million files have 52 MB.
pub const FILE_LIST_BYTES: u64 = 64 * 1024 * 1024;
/// Largest file with keys, bytes; a key of RSA has less than 4 KiB.
pub const KEY_FILE_BYTES: u64 = 256 * 1024;
/// Most public keys of one file or folder; each signature is tried with each.
pub const KEYS: usize = 100;
/// Most memory that deriving the key of an encrypted private key may take, bytes; cosign's takes 64 MiB.
pub const KEY_DERIVATION_BYTES: u64 = 256 * 1024 * 1024;
/// Most passes over that memory; cosign makes one.
pub const KEY_DERIVATION_PASSES: u64 = 16;
/// Largest payload of a signature, bytes; cosign's have about 250 bytes and the user's annotations.
pub const PAYLOAD_BYTES: u64 = 256 * 1024;
/// Largest file that is attached to an image, bytes; SBOMs of large images have some 20 MB.
pub const ATTACHMENT_BYTES: u64 = 32 * 1024 * 1024;
/// Largest signed attestation, bytes: such a file in base64, and what is around it.
pub const ATTESTATION_BYTES: u64 = 48 * 1024 * 1024;
/// Most bytes of all attestations of one image together; they are in memory until they are verified.
pub const ATTESTATIONS_BYTES: u64 = 192 * 1024 * 1024;
/// Most signatures of one manifest, and of one envelope.
pub const SIGNATURES: usize = 100;
/// Most signatures, attestations and other manifests that say something about one image and are looked at.
pub const ATTACHED: usize = 1000;
/// Largest `/etc/passwd` or `/etc/group` of a base in which a name is looked up, bytes; real ones have a few KiB.
pub const ACCOUNTS_BYTES: u64 = 4 * 1024 * 1024;
/// Largest head of a request to `serve`, bytes; clients send less than 4 KiB, tokens included.
pub const HEAD_BYTES: usize = 32 * 1024;
/// Most header fields of a request to `serve`; clients send about ten.
pub const HEAD_FIELDS: usize = 100;
/// Most connections to `serve` at the same time, each with a thread; where another client waits, an idle or slow one is
/// closed.
pub const CONNECTIONS: usize = 64;
/// Most bytes that are pushed to `serve` in one run; they are kept in the temporary folder.
pub const COLLECTED_BYTES: u64 = 256 * 1024 * 1024 * 1024;
/// Most uploads to `serve` that are open at the same time; the oldest one ends where another begins.
pub const UPLOADS: usize = 256;
