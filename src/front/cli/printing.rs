//! Long results on standard output, printed in pieces: a list of a million files is never in memory as text.

use serde_json::Value;

use crate::front::failure::Failure;
use crate::front::ui::Ui;
use crate::model::invisible::escape_in_json;

/// Bytes that are printed at once.
const PIECE: usize = 64 * 1024;

/// Collects lines and prints them.
pub(super) struct Printer<'a> {
    ui: &'a Ui,
    text: String,
    /// Items written of each list that is open.
    items: Vec<usize>,
}

impl<'a> Printer<'a> {
    pub(super) fn new(ui: &'a Ui) -> Self {
        Self { ui, text: String::new(), items: Vec::new() }
    }

    /// Prints a line; text from outside in it has to be escaped.
    pub(super) fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.text.push_str(line);
        self.text.push('\n');
        self.flush_at(PIECE)
    }

    /// Begins a JSON object that ends with a list, the name of which is `list`; inside a list it is an item.
    pub(super) fn json_open(&mut self, members: &[(&str, Value)], list: &str) -> Result<(), Failure> {
        self.separate();
        self.text.push('{');
        for (name, value) in members {
            self.text.push_str(&format!("\"{name}\":{},", escape_in_json(&value.to_string())));
        }
        self.text.push_str(&format!("\"{list}\":["));
        self.items.push(0);
        self.flush_at(PIECE)
    }

    /// Adds an item to the list.
    pub(super) fn json_item(&mut self, item: &Value) -> Result<(), Failure> {
        self.separate();
        self.text.push_str(&escape_in_json(&item.to_string()));
        self.flush_at(PIECE)
    }

    /// Ends the list and begins another one, named `list`, of the same object.
    pub(super) fn json_next(&mut self, list: &str) -> Result<(), Failure> {
        if let Some(items) = self.items.last_mut() {
            *items = 0;
        }
        self.text.push_str(&format!("],\"{list}\":["));
        self.flush_at(PIECE)
    }

    /// Ends the list and its object.
    pub(super) fn json_close(&mut self) -> Result<(), Failure> {
        self.items.pop();
        self.text.push_str("]}");
        if self.items.is_empty() {
            self.text.push('\n');
        }
        self.flush_at(PIECE)
    }

    fn separate(&mut self) {
        if let Some(items) = self.items.last_mut() {
            if *items > 0 {
                self.text.push(',');
            }
            *items += 1;
        }
    }

    /// Prints what is left.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.flush_at(1)
    }

    fn flush_at(&mut self, least: usize) -> Result<(), Failure> {
        if self.text.len() >= least {
            self.ui.print(&self.text)?;
            self.text.clear();
        }
        Ok(())
    }
}
