//! A matrix of senders and receivers: the darker a cell, the more bytes.

use std::ops::Range;

use super::fed::{Market, ORIGIN};
use super::svg::{Anchor, Picture};
use crate::report::words::bytes;

const SIDE: f64 = 460.0;
/// Places for the names of kinds, to the left and above.
const MARGIN: f64 = 76.0;
/// How many shades there are.
const SHADES: usize = 9;
/// The most places of which each cell has a name of its own.
const NAMED: usize = 64;
/// A kind whose rows are lower has no name beside them.
const LOWEST_NAME: f64 = 9.0;
/// What is between the origin's row and the others.
const ORIGIN_GAP: f64 = 8.0;
/// About how wide a letter is.
const WIDTH_OF_LETTER: f64 = 7.0;

/// The shade of so many bytes, from 1; shades grow with the root, so that small flows can be seen.
fn shade(bytes: f64, most: f64) -> usize {
    let part = (bytes / most).clamp(0.0, 1.0).sqrt();
    ((part * SHADES as f64).ceil() as usize).clamp(1, SHADES)
}

/// Where cells lie, and what was sent: a row for each sender, the origin's first, a column for each receiver.
struct Grid {
    sent: Vec<Vec<f64>>,
    /// How wide and high a cell is.
    side: f64,
}

impl Grid {
    fn of(market: &Market) -> Self {
        let columns = market.places.len() - 1;
        let mut sent = vec![vec![0.0; columns]; columns + 1];
        for flow in market.flows.iter().filter(|flow| flow.to != ORIGIN) {
            sent[flow.from][flow.to - 1] += flow.bytes;
        }
        Self { sent, side: (SIDE - MARGIN - ORIGIN_GAP - LOWEST_NAME - 1.0) / (columns + 1) as f64 }
    }

    fn columns(&self) -> usize {
        self.sent.len() - 1
    }

    /// The origin's row can be seen even if all others are thin.
    fn height(&self, row: usize) -> f64 {
        if row == ORIGIN { self.side.max(LOWEST_NAME) } else { self.side }
    }

    /// The upper left corner of a cell.
    fn place(&self, row: usize, column: usize) -> [f64; 2] {
        let above = if row == ORIGIN { 0.0 } else { self.height(ORIGIN) + ORIGIN_GAP + (row - 1) as f64 * self.side };
        [MARGIN + column as f64 * self.side, MARGIN + above]
    }

    /// The most bytes of any cell of some rows.
    fn most(&self, rows: Range<usize>) -> f64 {
        self.sent[rows].iter().flatten().copied().fold(0.0, f64::max)
    }

    /// Each cell by itself, with what it says.
    fn named(&self, picture: &mut Picture, market: &Market, rows: Range<usize>) {
        let most = self.most(rows.clone());
        for row in rows {
            for (column, sent) in self.sent[row].iter().enumerate().filter(|(_, sent)| **sent > 0.0) {
                let title = format!("{} to {}: {}", market.places[row].name, market.places[column + 1].name, bytes(*sent));
                let size = [self.side - 0.4, self.height(row) - 0.4];
                picture.rectangle(&format!("s{}", shade(*sent, most)), self.place(row, column), size, &title);
            }
        }
    }

    /// One path for each shade, neighbours in a row together: 40,000 cells are drawn in few letters.
    fn merged(&self, picture: &mut Picture, rows: Range<usize>) {
        let most = self.most(rows.clone());
        let mut paths = vec![String::new(); SHADES + 1];
        for row in rows {
            let shades: Vec<usize> = self.sent[row].iter().map(|sent| if *sent > 0.0 { shade(*sent, most) } else { 0 }).collect();
            let mut column = 0;
            for run in shades.chunk_by(|a, b| a == b) {
                if run[0] > 0 {
                    let ([x, y], wide, high) = (self.place(row, column), self.side * run.len() as f64, self.height(row));
                    paths[run[0]].push_str(&format!("M{x:.2} {y:.2}h{wide:.2}v{high:.2}h-{wide:.2}z"));
                }
                column += run.len();
            }
        }
        for (shade, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
            picture.path(&format!("s{shade}"), path, "");
        }
    }

    /// Names of kinds beside their rows and above their columns, and lines along them.
    fn kinds(&self, picture: &mut Picture, market: &Market) {
        let origin = [MARGIN - 8.0, MARGIN + self.height(ORIGIN) / 2.0 + 4.0];
        picture.words("tick", origin, Anchor::End, "origin");
        picture.words("title", [0.0, MARGIN - 30.0], Anchor::Start, "sent by");
        picture.words("title", [MARGIN, MARGIN - 30.0], Anchor::Start, "received by");
        let mut first = 1;
        for kind in market.places[1..].chunk_by(|a, b| a.kind == b.kind) {
            let (name, long) = (kind[0].kind.as_str(), kind.len() as f64 * self.side);
            let [left, top] = [self.place(first, first - 1)[0], self.place(first, 0)[1]];
            picture.line("bracket", [MARGIN - 3.0, top + 0.5], [MARGIN - 3.0, top + long - 0.5]);
            picture.line("bracket", [left + 0.5, MARGIN - 3.0], [left + long - 0.5, MARGIN - 3.0]);
            if long >= LOWEST_NAME {
                picture.words("tick", [MARGIN - 8.0, top + long / 2.0 + 4.0], Anchor::End, name);
            }
            if long >= WIDTH_OF_LETTER * name.chars().count() as f64 {
                picture.words("tick", [left + long / 2.0, MARGIN - 9.0], Anchor::Middle, name);
            }
            first += kind.len();
        }
    }
}

/// The matrix, and what its shades mean.
pub(super) fn drawn(market: &Market) -> String {
    let grid = Grid::of(market);
    let (columns, mut picture) = (grid.columns(), Picture::new(SIDE, SIDE));
    let across = columns as f64 * grid.side;
    picture.rectangle("empty", grid.place(ORIGIN, 0), [across, grid.height(ORIGIN)], "");
    picture.rectangle("empty", grid.place(1, 0), [across, across], "");
    // The origin's row has a scale of its own: it sends little, and that is the point.
    for (name, rows) in [("origin", ORIGIN..1), ("peers", 1..columns + 1)] {
        picture.group(&format!("shades {name}"), "", |picture| {
            if columns <= NAMED { grid.named(picture, market, rows) } else { grid.merged(picture, rows) }
        });
    }
    grid.kinds(&mut picture, market);
    let shows = format!("A matrix of what the origin and {columns} nodes or groups of nodes sent one another");
    picture.finish("matrix", &shows) + &key(grid.most(ORIGIN..1), grid.most(1..columns + 1))
}

/// What the shades mean.
fn key(most_origin: f64, most_peers: f64) -> String {
    let row = |name: &str, most: f64| {
        let shades: String = (1..=SHADES).map(|shade| format!("<i class=\"s{shade}\"></i>")).collect();
        format!("<li class=\"shades {name}\">{name} 0 <span>{shades}</span> {}</li>", bytes(most))
    };
    let peers = if most_peers > 0.0 { row("peers", most_peers) } else { String::new() };
    format!("<ul class=\"legend\">{}{peers}</ul>", row("origin", most_origin))
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;

    #[test]
    fn more_bytes_have_a_darker_shade() {
        assert_eq!([0.0, 1.0, 25.0, 99.0, 100.0].map(|bytes| shade(bytes, 100.0)), [1, 1, 5, 9, 9]);
        assert_eq!(shade(1.0, 0.0), 9);
    }

    #[test]
    fn kinds_are_named_beside_their_rows() {
        let svg = drawn(&Market::of(&samples::mixed()));
        for kind in ["warm", "cold", "liar", "origin"] {
            assert!(svg.contains(&format!(">{kind}</text>")), "{kind}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn a_matrix_of_two_hundred_nodes_is_small_enough_to_be_mailed() {
        let mut report = samples::ten_thousand();
        report.nodes.truncate(200);
        report.fed =
            (0..40_000).map(|pair| crate::report::Fed { from: pair / 200, to: pair % 200, bytes: 1 + pair as u64 * 7919 % 100 }).collect();
        let svg = drawn(&Market::of(&report));
        assert!(svg.len() < 2_000_000, "{}", svg.len());
    }
}
