//! The one executable: its name (`check`, `in`, `out`) or its first argument chooses the command.

use std::process::ExitCode;

fn main() -> ExitCode {
    imgrelay::front::run(std::env::args_os())
}
