//! A circle of nodes and the origin, and a ribbon for what one sent another.

use std::f64::consts::TAU;

use super::fed::{Flow, Market, ORIGIN};
use super::svg::{Picture, at, escape};
use crate::report::words::bytes;

const SIDE: f64 = 460.0;
const MIDDLE: f64 = SIDE / 2.0;
/// Where the arcs of the circle lie, and how near ribbons come at who sends and at who receives.
const OUTSIDE: f64 = 164.0;
const INSIDE: f64 = 152.0;
const SENDS: f64 = 150.0;
const RECEIVES: f64 = 142.0;
/// Which part of the circle is between arcs.
const GAPS: f64 = 0.08;
/// The most letters of a name.
const LETTERS: usize = 8;
/// The angle that a name takes.
const NAME: f64 = 0.075;
/// Hues of nodes, from the first to the last; the origin's is far from all of them.
const HUES: [f64; 2] = [175.0, 275.0];

/// Part of the circle, from an angle to another, from the top clockwise.
type Arc = [f64; 2];

/// One sender's or receiver's end of a ribbon.
struct Ribbon {
    flow: Flow,
    sends: Arc,
    receives: Arc,
}

/// The circle.
pub(super) fn drawn(market: &Market) -> String {
    let (arcs, ribbons) = laid_out(market);
    let mut picture = Picture::new(SIDE, SIDE);
    let count = market.places.len();
    let name = |place: usize| market.places[place].name.as_str();
    let mut named = 0.0;
    for (place, arc) in arcs.iter().enumerate() {
        let (class, style) = dress(market, place, count);
        picture.group(&class, &style, |picture| {
            let own: Vec<&Ribbon> = ribbons.iter().filter(|ribbon| ribbon.flow.from == place).collect();
            for ribbon in &own {
                let title = format!("{} to {}: {}", name(place), name(ribbon.flow.to), bytes(ribbon.flow.bytes));
                picture.path("ribbon", &ribbon.path(), &title);
            }
            let sent = own.iter().map(|ribbon| ribbon.flow.bytes).sum();
            let got = market.flows.iter().filter(|flow| flow.to == place).map(|flow| flow.bytes).sum();
            let title = format!("{} ({}) sent {}, received {}", name(place), market.places[place].kind, bytes(sent), bytes(got));
            picture.path("arc", &ring(*arc), &title);
            let middle = (arc[0] + arc[1]) / 2.0;
            // Names of places that are too near to one that has its name would cover that.
            if place == ORIGIN || (middle - named >= NAME && TAU - middle >= NAME) {
                named = middle;
                picture.spoke("spoke", OUTSIDE + 7.0, middle, &shortened(name(place)));
            }
        });
    }
    let shows =
        format!("A circle of the origin and {} nodes; ribbons between them are as wide as the bytes that one sent another", count - 1);
    format!("<div class=\"round\">{}</div>{}", picture.finish("chord", &shows), key(market))
}

/// Names of the kinds of nodes that there are, with how each is drawn.
fn key(market: &Market) -> String {
    let has = |test: fn(&str) -> bool| market.places.iter().skip(1).any(|place| test(&place.kind));
    let mut entries = vec![("origin", "origin")];
    entries.extend(has(|kind| kind.contains("cold")).then_some(("node", "nodes that were cold")));
    entries.extend(has(|kind| kind.contains("warm")).then_some(("warm", "nodes that were warm")));
    entries.extend(has(|kind| kind.contains("liar")).then_some(("liar", "liars")));
    let entries: Vec<String> =
        entries.iter().map(|(class, name)| format!("<li><i class=\"key {class}\"></i>{}</li>", escape(name))).collect();
    format!("<ul class=\"legend\">{}</ul>", entries.concat())
}

/// How a place is coloured: its class, and the hue of a cold node.
fn dress(market: &Market, place: usize, count: usize) -> (String, String) {
    let kind = market.places[place].kind.as_str();
    if place == ORIGIN {
        return ("from origin".to_owned(), String::new());
    }
    if kind.starts_with("liar") || kind.starts_with("warm") {
        return (format!("from {}", &kind[..4]), String::new());
    }
    let part = (place - 1) as f64 / (count - 2).max(1) as f64;
    ("from node".to_owned(), format!("--hue:{}", at(HUES[0] + (HUES[1] - HUES[0]) * part)))
}

fn shortened(name: &str) -> String {
    let mut letters = name.chars();
    let short: String = letters.by_ref().take(LETTERS).collect();
    if letters.next().is_some() { format!("{}…", short.trim_end()) } else { short }
}

/// The arc of each place, and the ribbons: an arc is as long as all that its place sent and received.
fn laid_out(market: &Market) -> (Vec<Arc>, Vec<Ribbon>) {
    let count = market.places.len();
    let all: f64 = market.flows.iter().map(|flow| flow.bytes).sum::<f64>() * 2.0;
    let gap = TAU * GAPS / count as f64;
    let per_byte = TAU * (1.0 - GAPS) / all;
    // The ends of each place: what it receives first, then what it sends, each from the nearest neighbour behind around to that ahead.
    let mut ends: Vec<Vec<(bool, usize, usize)>> = vec![Vec::new(); count];
    for (number, flow) in market.flows.iter().enumerate() {
        let around = |of: usize, other: usize| (of + count - other) % count;
        ends[flow.from].push((true, around(flow.from, flow.to), number));
        ends[flow.to].push((false, around(flow.to, flow.from), number));
    }
    let mut halves = vec![[[0.0; 2]; 2]; market.flows.len()];
    let (mut arcs, mut angle) = (Vec::with_capacity(count), 0.0);
    for ends in &mut ends {
        ends.sort_unstable();
        let begin = angle;
        for (sends, _, number) in ends.iter() {
            let long = market.flows[*number].bytes * per_byte;
            halves[*number][usize::from(!*sends)] = [angle, angle + long];
            angle += long;
        }
        arcs.push([begin, angle]);
        angle += gap;
    }
    // The origin's middle is at the top.
    let turn = arcs.first().map_or(0.0, |origin: &Arc| (origin[0] + origin[1]) / 2.0);
    let turned = |arc: Arc| arc.map(|angle| angle - turn);
    let ribbon = |(flow, [sends, receives]): (&Flow, &[Arc; 2])| Ribbon { flow: *flow, sends: turned(*sends), receives: turned(*receives) };
    (arcs.into_iter().map(turned).collect(), market.flows.iter().zip(&halves).map(ribbon).collect())
}

/// A point of the circle.
fn point(radius: f64, angle: f64) -> String {
    format!("{} {}", at(MIDDLE + radius * angle.sin()), at(MIDDLE - radius * angle.cos()))
}

/// From one angle of a circle to another, beginning where the path is.
fn sweep(radius: f64, from: f64, to: f64) -> String {
    let long = usize::from((to - from).abs() > TAU / 2.0);
    let clockwise = usize::from(to > from);
    format!("A{0} {0} 0 {long} {clockwise} {1}", at(radius), point(radius, to))
}

fn ring([from, to]: Arc) -> String {
    // An arc without a length could not be seen.
    let to = to.max(from + 0.004);
    let (outer, inner) = (sweep(OUTSIDE, from, to), sweep(INSIDE, to, from));
    format!("M{}{outer}L{}{inner}z", point(OUTSIDE, from), point(INSIDE, to))
}

impl Ribbon {
    fn path(&self) -> String {
        let ([from, to], [first, last]) = (self.sends, self.receives);
        format!(
            "M{}{}Q{MIDDLE} {MIDDLE} {}{}Q{MIDDLE} {MIDDLE} {}z",
            point(SENDS, from),
            sweep(SENDS, from, to),
            point(RECEIVES, first),
            sweep(RECEIVES, first, last),
            point(SENDS, from)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;

    #[test]
    fn arcs_and_ribbons_take_the_whole_circle_but_the_gaps() {
        let market = Market::of(&samples::eight());
        let (arcs, ribbons) = laid_out(&market);
        let arc_sum: f64 = arcs.iter().map(|[from, to]| to - from).sum();
        let ends: f64 = ribbons.iter().flat_map(|ribbon| [ribbon.sends, ribbon.receives]).map(|[from, to]| to - from).sum();
        assert!((arc_sum - TAU * (1.0 - GAPS)).abs() < 1e-6 && (ends - arc_sum).abs() < 1e-6);
        for ribbon in &ribbons {
            let inside = |end: Arc, of: Arc| end[0] >= of[0] - 1e-9 && end[1] <= of[1] + 1e-9;
            assert!(inside(ribbon.sends, arcs[ribbon.flow.from]) && inside(ribbon.receives, arcs[ribbon.flow.to]));
        }
    }

    #[test]
    fn every_ribbon_says_who_sent_whom_how_much() {
        let svg = drawn(&Market::of(&samples::eight()));
        assert_eq!(svg.matches("class=\"ribbon\"").count(), 8 + 8 * 7);
        assert!(svg.contains("<title>origin to node-0: ") && svg.contains("<title>node-0 to node-7: "));
    }

    #[test]
    fn no_name_covers_another() {
        let mut report = samples::mixed();
        report.nodes.truncate(30);
        let svg = drawn(&Market::of(&report));
        assert_eq!(svg.matches("class=\"arc\"").count(), 31);
        // 18 liars neither sent nor received, so that they are all at one place.
        assert!(svg.matches("class=\"spoke\"").count() <= 14, "{}", svg.matches("class=\"spoke\"").count());
    }

    #[test]
    fn one_node_alone_is_fed_by_the_origin() {
        let mut report = samples::eight();
        report.nodes.truncate(1);
        report.fed.clear();
        let svg = drawn(&Market::of(&report));
        assert!(svg.matches("class=\"ribbon\"").count() == 1 && !svg.contains("NaN"));
        assert_eq!((shortened("node-0"), shortened("a-very-long-name")), ("node-0".to_owned(), "a-very-l…".to_owned()));
    }
}
