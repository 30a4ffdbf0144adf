//! What runs of markets show: promises, tables, and the time that no scheme can beat.

use std::io::{IsTerminal, Write};

/// What bounds the time in which nodes get the same bytes. Rates are in bytes a second, and none where there is no limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// The bytes that each of them wants.
    pub bytes: u64,
    /// How many want them.
    pub cold: u64,
    /// How many copies leave the origin; at most `cold`.
    pub copies: u64,
    /// What each can be sent.
    pub downlink: Option<u64>,
    /// What the origin can send.
    pub origin: Option<u64>,
    /// What all nodes together can send, those included that hold the bytes already.
    pub uplinks: Option<u64>,
}

impl Bound {
    /// `T*`: the seconds after which the last node can be done at best.
    ///
    /// Source: Kumar and Ross 2006; Mundinger, Weber, Weiss 2008.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        let time = |copies: u64, rate: Option<u64>| rate.map_or(0.0, |rate| copies as f64 * self.bytes as f64 / rate as f64);
        let from_peers = self.cold.saturating_sub(self.copies);
        [time(1, self.downlink), time(self.copies, self.origin), time(from_peers, self.uplinks)].into_iter().fold(0.0, f64::max)
    }

    /// The seconds that one node alone takes straight from the origin.
    #[must_use]
    pub fn alone(&self) -> f64 {
        Self { cold: 1, copies: 1, ..*self }.seconds()
    }
}

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

    const MB: u64 = 1_000_000;

    fn seconds(cold: u64, copies: u64, downlink: Option<u64>, origin: u64, uplinks: u64) -> f64 {
        Bound { bytes: 100 * MB, cold, copies, downlink, origin: Some(origin * MB), uplinks: Some(uplinks * MB) }.seconds()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn the_narrowest_of_downlink_origin_and_uplinks_bounds_the_time() {
        assert!(near(seconds(8, 1, None, 10, 80), 10.0), "the origin sends the one copy");
        assert!(near(seconds(8, 1, Some(10 * MB), 40, 40), 17.5), "home lines: seven copies by uplinks of half the downlinks");
        assert!(near(seconds(8, 1, Some(2 * MB), 40, 80), 50.0), "a narrow downlink");
        assert!(near(seconds(8, 8, None, 10, 80), 80.0), "each alone: the origin sends every copy");
    }

    #[test]
    fn holders_lend_their_uplinks_and_the_origin_sends_nothing() {
        assert!(near(seconds(7, 0, None, 10, 80), 8.75));
        let unlimited = Bound { bytes: 5, cold: 7, copies: 1, downlink: None, origin: None, uplinks: None };
        assert!(near(unlimited.seconds(), 0.0), "no limit, no bound");
    }

    #[test]
    fn one_node_alone_is_bound_by_its_downlink_and_the_origin() {
        let bound = Bound { bytes: 100 * MB, cold: 8, copies: 1, downlink: Some(10 * MB), origin: Some(40 * MB), uplinks: Some(40 * MB) };
        assert!(near(bound.alone(), 10.0));
    }

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
