//! The environment and the output streams that every command gets.

use std::sync::Arc;

use super::env::Env;
use super::ui::Ui;

/// The context of a command.
#[derive(Debug)]
pub struct Context<'a> {
    /// The environment.
    pub env: &'a Env,
    /// The output streams; shared with the observer of the registry client's threads.
    pub ui: Arc<Ui>,
}
