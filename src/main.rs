//! The one executable: what it does is chosen by its name (`check`, `in`, `out`) or its first argument.

use std::process::ExitCode;

fn main() -> ExitCode {
    imgrelay::front::run(std::env::args_os())
}
