//! libFuzzer's side of the target `concourse_request`; the body is in the library.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| imgrelay_fuzz::run("concourse_request", data));
