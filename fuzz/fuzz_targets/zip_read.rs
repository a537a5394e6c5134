//! libFuzzer's side of the target `zip_read`; the body is in the library.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| imgrelay_fuzz::run("zip_read", data));
