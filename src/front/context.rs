//! The environment and the output streams that every command gets.

use std::sync::Arc;

use super::env::Env;
use super::ui::Ui;

/// What a command runs with.
#[derive(Debug)]
pub struct Context<'a> {
    /// The environment.
    pub env: &'a Env,
    /// Where text goes; shared with what the registry client tells from its threads.
    pub ui: Arc<Ui>,
}
