//! libFuzzer's side of the target `encrypted_key`; the body is in the library.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| imgrelay_fuzz::run("encrypted_key", data));
