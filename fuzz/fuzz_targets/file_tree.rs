//! libFuzzer's side of the target `file_tree`; the body is in the library.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| imgrelay_fuzz::run("file_tree", data));
