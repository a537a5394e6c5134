//! libFuzzer's side of the target `retry_after`; the body is in the library.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| imgrelay_fuzz::run("retry_after", data));
