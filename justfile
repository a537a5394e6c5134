# The project's commands by name: `just` lists them. Each is a script in ci/ or one cargo command, which also works without just.

# List the commands.
default:
    @just --list

# Install what the tests need, on Debian or Ubuntu.
setup:
    ci/setup

# Run every check, as CI does.
check:
    ci/test

# Format the sources.
fix:
    cargo fmt --all

# Run clippy as CI does.
lint:
    cargo clippy --locked --workspace --all-targets -- -D warnings

# Run the unit tests whose name has NAME in it.
unit NAME='':
    cargo test --locked --lib {{NAME}}

# Run the tests of the executable whose name has NAME in it.
it NAME='':
    cargo test --locked --test it {{NAME}}

# Renew the pages and files that tests write.
docs:
    UPDATE_DOCS=1 cargo test --locked --lib front::program
    UPDATE_DOCS=1 cargo test --locked --lib front::push_flags
    UPDATE_DOCS=1 cargo test --locked --test it carvel::scenarios
    UPDATE_DOCS=1 cargo test --locked --test it cli::json
    UPDATE_DOCS=1 cargo test --locked --test it cli::terminal
    UPDATE_DOCS=1 cargo test --locked --test it concourse::pipelines
    UPDATE_DOCS=1 cargo test --locked --test it hostile::limits
    UPDATE_DOCS=1 cargo test --locked --test it registry::matrix

# Run each fuzz target for SECONDS.
fuzz SECONDS='60':
    ci/fuzz {{SECONDS}}

# Compare the benchmarks' inputs on tiny sizes; see docs/performance.md.
bench:
    benches/compare --quick

# Compare the instructions of a small corpus with benches/instructions.txt.
instructions:
    ci/instructions

# Build one static executable for Linux on this architecture.
static:
    ci/build-static

# Run the main job against a registry that is removed at the end.
demo:
    ci/demo

# Make everything a release consists of.
release:
    ci/release
