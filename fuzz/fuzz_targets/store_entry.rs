//! libFuzzer's side of the target `store_entry`; the body is in the library.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| imgrelay_fuzz::run("store_entry", data));
