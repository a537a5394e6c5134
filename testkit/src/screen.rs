//! A terminal of a given width, with the features that progress bars use: its lines, and the lines it had before.
//!
//! It implements the control sequences that bars send, and panics on any other.

/// The screen, and every line that was erased or overwritten.
#[derive(Debug)]
pub struct Screen {
    columns: usize,
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// Lines as they were before they were erased.
    seen: Vec<String>,
}

impl Screen {
    /// Applies the output of a program to a terminal with so many columns.
    #[must_use]
    pub fn of(columns: usize, written: &str) -> Self {
        let mut screen = Self { columns, rows: vec![Vec::new()], row: 0, column: 0, seen: Vec::new() };
        let mut rest = written.chars();
        while let Some(character) = rest.next() {
            match character {
                '\r' => screen.column = 0,
                '\n' => screen.down(1),
                '\u{1b}' => {
                    assert_eq!(rest.next(), Some('['), "a sequence of control characters");
                    let mut parameters = String::new();
                    let end = loop {
                        match rest.next().expect("the sequence ends") {
                            end if end.is_ascii_alphabetic() => break end,
                            parameter => parameters.push(parameter),
                        }
                    };
                    screen.control(&parameters, end);
                }
                other => screen.put(other),
            }
        }
        screen
    }

    /// Returns the lines on the screen, without spaces at their ends and without empty lines at the end.
    #[must_use]
    pub fn text(&self) -> String {
        let lines: Vec<String> = self.rows.iter().map(|row| line(row)).collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// Returns every line that was erased or overwritten, in order.
    #[must_use]
    pub fn seen(&self) -> &[String] {
        &self.seen
    }

    fn put(&mut self, character: char) {
        if self.column == self.columns {
            self.column = 0;
            self.down(1);
        }
        let row = &mut self.rows[self.row];
        if row.len() <= self.column {
            row.resize(self.column + 1, ' ');
        }
        row[self.column] = character;
        self.column += 1;
    }

    fn down(&mut self, count: usize) {
        self.row += count;
        while self.rows.len() <= self.row {
            self.rows.push(Vec::new());
        }
    }

    fn control(&mut self, parameters: &str, end: char) {
        let count = parameters.parse::<usize>().unwrap_or(1);
        match (end, parameters) {
            ('m', _) | ('h' | 'l', "?25") => {}
            ('A', _) => self.row = self.row.saturating_sub(count),
            ('B', _) => self.down(count),
            ('C', _) => self.column += count,
            ('D', _) => self.column = self.column.saturating_sub(count),
            ('G', _) => self.column = count - 1,
            ('K', "" | "0") => {
                self.remember(self.row);
                self.rows[self.row].truncate(self.column);
            }
            ('K', "2") => {
                self.remember(self.row);
                self.rows[self.row].clear();
            }
            ('J', "" | "0") => {
                (self.row..self.rows.len()).for_each(|row| self.remember(row));
                self.rows[self.row].truncate(self.column);
                self.rows.truncate(self.row + 1);
            }
            _ => panic!("unknown control sequence `{parameters}{end}`"),
        }
    }

    fn remember(&mut self, row: usize) {
        let text = line(&self.rows[row]);
        if !text.is_empty() && self.seen.last() != Some(&text) {
            self.seen.push(text);
        }
    }
}

fn line(row: &[char]) -> String {
    row.iter().collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_erased_is_remembered_and_what_is_too_long_goes_on_below() {
        let screen =
            Screen::of(10, "one\r\ntwo\r\n\u{1b}[1A\u{1b}[2Kthree\r\n\u{1b}[?25l0123456789a\r\n\u{1b}[31mz");
        assert_eq!(screen.text(), "one\nthree\n0123456789\na\nz");
        assert_eq!(screen.seen(), ["two"]);
        let screen = Screen::of(10, "12345\r12\u{1b}[K");
        assert_eq!((screen.text().as_str(), screen.seen()), ("12", &["12345".to_owned()][..]));
    }
}
