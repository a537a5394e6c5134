//! libFuzzer's side of the target `docker_save_read`; the body is in the library.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| imgrelay_fuzz::run("docker_save_read", data));
