//! libFuzzer's side of the target `signature_bundle`; the body is in the library.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| imgrelay_fuzz::run("signature_bundle", data));
