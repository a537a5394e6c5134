//! Micro-benchmarks of the hot paths: `cargo bench --bench micro`.
fn main() {
    divan::main();
}
