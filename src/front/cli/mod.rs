//! The command line: flags as they are typed, their checked values, and the commands.
//!
//! [`args`] has the typed flags, [`resolve`] checks their values; every other module is a command or is shared by
//! several. [`super::program`] has the list of commands.

mod additions;
pub mod args;
pub(super) mod attach;
pub(super) mod cat;
pub mod choices;
pub(super) mod clap_errors;
pub mod client_config;
mod collecting;
pub(super) mod completion;
mod copied_lock;
pub(super) mod copy;
mod copy_to_store;
mod deltas;
pub(super) mod describe;
pub(super) mod diff;
pub mod diff_args;
mod diff_report;
pub mod environment;
mod examples;
pub(super) mod grammar;
mod habits;
pub(super) mod index;
pub mod index_args;
pub mod look_args;
mod looking;
pub(super) mod ls;
pub(super) mod matching;
mod naming;
mod open_source;
mod placing;
mod printing;
pub(super) mod pull;
pub(super) mod push;
pub(super) mod repeated;
pub mod resolve;
mod run_args;
mod runnable;
mod running;
pub(super) mod serve;
pub mod serve_args;
pub(super) mod sign;
pub mod sign_args;
mod stdin;
pub(super) mod store;
pub mod store_args;
mod stores;
pub(super) mod tag;
pub mod tag_args;
mod tar_output;
pub mod values;
pub(super) mod verify;
pub(super) mod version;
mod without;
