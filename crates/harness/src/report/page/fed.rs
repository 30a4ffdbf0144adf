//! Who fed whom: a circle of ribbons while nodes are few, a matrix while each still has a row, groups of nodes beyond.

use super::{chord, escape, matrix, wide_card};
use crate::report::{Report, arrivals};

/// The most nodes that are drawn as a circle, and the most that have a row each.
const CIRCLE: usize = 40;
const ROWS: usize = 200;
/// How many groups there are beyond, about.
const GROUPS: usize = 40;

/// Who can send: the origin first, then nodes.
pub(super) const ORIGIN: usize = 0;

/// Content that one sent another, each by its place: 0 is the origin, 1 the first node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Flow {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) bytes: f64,
}

/// One place in a picture: a node, a group of nodes, or the origin.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    pub(super) name: String,
    /// What sets it apart; all places of a kind are neighbours.
    pub(super) kind: String,
}

/// What a picture shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Market {
    pub(super) places: Vec<Place>,
    pub(super) flows: Vec<Flow>,
}

/// The card.
pub(super) fn fed(report: &Report) -> String {
    let market = Market::of(report);
    // As high as the two cards beside it if jobs came over time.
    let class = if arrivals::are_together(report) { "" } else { "tall" };
    let card = |title: &str, lead: &str, body: &str| wide_card(class, title, lead, body);
    let title = "Who fed whom";
    if market.flows.is_empty() {
        return card(title, "", "<p class=\"nothing\">Nobody sent anything.</p>");
    }
    let count = report.nodes.len();
    if count <= CIRCLE {
        let lead = "A ribbon is wide at who sent and has the sender's colour; rest on an arc to see what it sent.";
        return card(title, lead, &chord::drawn(&market));
    }
    if count <= ROWS {
        let lead = "Each row is what one node sent, each column what one received; the origin is the first row. Nodes stand by kind, then by uplink.";
        return card(title, lead, &matrix::drawn(&market));
    }
    let market = market.grouped(GROUPS);
    let lead = format!(
        "Each row is what some nodes sent, each column what they received; the origin is the first row. {} groups of about {} nodes, by kind, then by uplink.",
        market.places.len() - 1,
        count.div_ceil(GROUPS)
    );
    card(title, &escape(&lead), &matrix::drawn(&market))
}

impl Market {
    /// Everyone by themselves; in the order of nodes for a circle, else by kind and uplink.
    pub(super) fn of(report: &Report) -> Self {
        let mut order: Vec<usize> = (0..report.nodes.len()).collect();
        let kind = |number: usize| crate::report::nodes::kind(&report.nodes[number]);
        if order.len() > CIRCLE {
            // Holders first, then by kind; of each kind the widest uplinks first.
            order.sort_by_cached_key(|number| {
                let node = &report.nodes[*number];
                (!node.warm, kind(*number), std::cmp::Reverse(node.uplink.unwrap_or(u64::MAX)))
            });
        }
        let mut places = vec![Place { name: "origin".to_owned(), kind: "origin".to_owned() }];
        places.extend(order.iter().map(|number| Place { name: report.nodes[*number].name.clone(), kind: kind(*number) }));
        let mut place_of = vec![0; order.len()];
        for (place, number) in order.iter().enumerate() {
            place_of[*number] = place + 1;
        }
        let from_origin = report.nodes.iter().enumerate().map(|(number, node)| (ORIGIN, place_of[number], node.from.origin));
        let known = |number: usize| place_of.get(number).copied();
        let from_peers = report.fed.iter().filter_map(|fed| Some((known(fed.from)?, known(fed.to)?, fed.bytes)));
        let flows = from_origin.chain(from_peers).filter(|(.., bytes)| *bytes > 0);
        let flows = flows.map(|(from, to, bytes)| Flow { from, to, bytes: bytes as f64 }).collect();
        Self { places, flows }
    }

    /// Neighbours of a kind together, about `most` groups in all.
    pub(super) fn grouped(&self, most: usize) -> Self {
        let long = (self.places.len() - 1).div_ceil(most).max(1);
        let mut groups: Vec<(Place, usize)> = Vec::new();
        let mut group_of = Vec::with_capacity(self.places.len());
        for place in &self.places {
            match groups.last_mut() {
                Some((last, members)) if last.kind == place.kind && *members < long => *members += 1,
                _ => groups.push((place.clone(), 1)),
            }
            group_of.push(groups.len() - 1);
        }
        let places = groups.into_iter().map(|(place, members)| match members {
            1 => place,
            _ => Place { name: format!("{} and {} more", place.name, members - 1), kind: place.kind },
        });
        let places: Vec<Place> = places.collect();
        let mut sums = vec![0.0; places.len() * places.len()];
        for flow in &self.flows {
            sums[group_of[flow.from] * places.len() + group_of[flow.to]] += flow.bytes;
        }
        let flow = |(number, bytes): (usize, f64)| Flow { from: number / places.len(), to: number % places.len(), bytes };
        let flows = sums.into_iter().enumerate().filter(|(_, bytes)| *bytes > 0.0).map(flow).collect();
        Self { places, flows }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Fed, samples};
    use super::*;

    #[test]
    fn the_origin_feeds_too_and_no_byte_is_lost_in_groups() {
        let report = samples::ten_thousand();
        let market = Market::of(&report);
        let sum = |market: &Market| market.flows.iter().map(|flow| flow.bytes).sum::<f64>();
        let grouped = market.grouped(40);
        assert!(grouped.places.len() == 41 && grouped.flows.len() <= 41 * 41);
        assert!((sum(&market) / sum(&grouped) - 1.0).abs() < 1e-9);
        assert!(grouped.flows.iter().any(|flow| flow.from == ORIGIN));
    }

    #[test]
    fn groups_never_mix_kinds() {
        let mut report = samples::ten_thousand();
        report.nodes[5].warm = true;
        let places = Market::of(&report).grouped(40).places;
        assert_eq!((places[1].name.as_str(), places[1].kind.as_str()), ("node-5", "warm"));
        assert!(places[2..].iter().all(|place| place.kind == "cold"));
    }

    #[test]
    fn the_picture_fits_the_number_of_nodes() {
        let class = |report| ["class=\"chord\"", "class=\"matrix\"", "Nobody sent"].map(|class| fed(&report).contains(class));
        assert_eq!(class(samples::eight()), [true, false, false]);
        assert_eq!(class(samples::mixed()), [false, true, false]);
        assert_eq!(class(samples::ten_thousand()), [false, true, false]);
        assert_eq!(class(samples::nothing()), [false, false, true]);
    }

    #[test]
    fn who_is_not_in_the_list_of_nodes_is_left_out() {
        let mut report = samples::eight();
        report.fed.push(Fed { from: 99, to: 0, bytes: 5 });
        assert_eq!(Market::of(&report).flows, Market::of(&samples::eight()).flows);
    }
}
