//! What people see of a run: lines, promises and tables.

use std::io::{IsTerminal, Write};

/// `91.3 MB`, `20.0 kB`, `0`.
#[must_use]
pub fn megabytes(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        1..50_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        50_000.. => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Standard output for people: colours where it is a terminal, plain text elsewhere.
#[derive(Debug)]
pub struct Screen {
    colours: bool,
    broken: usize,
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Screen {
    /// Standard output as it is.
    #[must_use]
    pub fn new() -> Self {
        Self { colours: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(), broken: 0 }
    }

    /// How many promises were broken.
    #[must_use]
    pub fn broken(&self) -> usize {
        self.broken
    }

    /// A line.
    pub fn say(&self, line: &str) {
        // Nobody may be there to read it.
        let _ = writeln!(std::io::stdout(), "{line}");
    }

    /// Says whether a promise was kept, and remembers if not.
    pub fn promise(&mut self, kept: bool, text: &str) {
        self.broken += usize::from(!kept);
        let word = if kept { self.paint("32", "ok     ") } else { self.paint("1;31", "BROKEN ") };
        self.say(&format!("{word} {text}"));
    }

    /// Rows below their titles; the first column is aligned left, the others right.
    pub fn table(&self, titles: &[&str], rows: &[Vec<String>]) {
        for (number, line) in lines(titles, rows).iter().enumerate() {
            self.say(&if number == 0 { self.paint("1", line) } else { line.clone() });
        }
        self.say("");
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn lines(titles: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&titles).chain(rows).collect();
    let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
    let width = |column: usize| all.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let padded = |row: &Vec<String>, column: usize| match column {
        0 => format!("{:<width$}", cell(row, column), width = widths[column]),
        _ => format!("{:>width$}", cell(row, column), width = widths[column]),
    };
    let line = |row: &&Vec<String>| (0..widths.len()).map(|column| padded(row, column)).collect::<Vec<_>>().join("  ");
    all.iter().map(|row| line(row).trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["longer".to_owned(), "22222".to_owned()]];
        assert_eq!(lines(&["", "n"], &rows), ["            n", "a           1", "longer  22222"]);
    }

    #[test]
    fn bytes_are_told_in_the_unit_that_suits_them() {
        assert_eq!([0, 999, 50_000, 91_300_000].map(megabytes), ["0", "1.0 kB", "0.1 MB", "91.3 MB"]);
    }
}
