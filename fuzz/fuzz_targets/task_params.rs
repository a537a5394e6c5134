//! libFuzzer's side of the target `task_params`; the body is in the library.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| imgrelay_fuzz::run("task_params", data));
