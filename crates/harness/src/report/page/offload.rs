//! Where bytes came from over time: all that had come by then if jobs came at once, else what came in each stretch of time.

use super::plot::{Plot, Size, in_both_sizes, thinned};
use super::scale::Axis;
use super::{card, escape};
use crate::report::words::{bytes, percent, seconds};
use crate::report::{Moment, Report, Sources, arrivals};

/// The most moments that are drawn.
const MOMENTS: usize = 200;
/// How long the stretches of time can be, in seconds, and the most that are drawn of them.
const STRETCHES: [f64; 16] = [0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 21_600.0, 86_400.0];
const MOST_STRETCHES: f64 = 50.0;
/// Below this part of the height a line at one copy says nothing.
const VISIBLE: f64 = 0.04;

/// A source: its name, and its bytes.
type Layer = (&'static str, fn(&Sources) -> u64);

/// The sources in the order in which they are stacked.
const LAYERS: [Layer; 3] = [("origin", |from| from.origin), ("peers", |from| from.peers), ("cache", |from| from.cache)];

pub(super) fn sum(from: &Sources) -> f64 {
    from.origin as f64 + from.peers as f64 + from.cache as f64
}

/// The card, with its legend.
pub(super) fn offload(report: &Report) -> String {
    let last = report.timeline.last().map_or(Sources::default(), |moment| moment.from);
    let all = sum(&last);
    if all <= 0.0 {
        return card("Where the bytes came from", "", "<p class=\"nothing\">No bytes moved, or nobody counted them over time.</p>");
    }
    let legend: Vec<String> = LAYERS
        .iter()
        .filter(|(_, of)| of(&last) > 0)
        .map(|(name, of)| {
            let told = format!("{name} {} · {}", percent(of(&last) as f64, all), bytes(of(&last) as f64));
            format!("<li><i class=\"key {name}\"></i>{}</li>", escape(&told))
        })
        .collect();
    let together = arrivals::are_together(report);
    let picture = in_both_sizes(|size| if together { grown(report, size, all) } else { stretches(report, size) });
    let lead = if together { "All that nodes had got by then." } else { "What nodes got in each stretch of time." };
    card("Where the bytes came from", lead, &format!("<ul class=\"legend\">{}</ul>{picture}", legend.concat()))
}

/// What had come by each moment.
fn grown(report: &Report, size: Size, all: f64) -> String {
    let moments = thinned(&report.timeline, MOMENTS);
    let x = Axis::time(arrivals::ended_s(report), size.ticks, "time since the jobs came");
    let mut plot = Plot::new(size, x, Axis::bytes(all, 7, ""));
    let mut floor: Vec<[f64; 2]> = moments.iter().map(|moment| [moment.at_s, 0.0]).collect();
    for (name, of) in LAYERS {
        let above: Vec<[f64; 2]> = moments.iter().zip(&floor).map(|(moment, [at, low])| [*at, low + of(&moment.from) as f64]).collect();
        plot.area(&format!("layer {name}"), &above, &floor, name);
        floor = above;
    }
    let copy = report.wanted_bytes as f64;
    if copy > all * VISIBLE && copy < all {
        plot.level("copy", copy, "one copy of what is wanted");
    }
    plot.finish(
        "Bytes that all nodes had got over time, stacked by source: the origin at the bottom, peers above it, their own caches on top",
    )
}

/// What came in each stretch of time.
fn stretches(report: &Report, size: Size) -> String {
    let ended_s = report.timeline.last().map_or(0.0, |moment| moment.at_s);
    let long = STRETCHES.into_iter().find(|long| ended_s / long <= MOST_STRETCHES).unwrap_or(ended_s / MOST_STRETCHES);
    let count = (ended_s / long).ceil().clamp(1.0, MOST_STRETCHES) as u32;
    let edges: Vec<f64> = (0..=count).map(|number| f64::from(number) * long).collect();
    let grown: Vec<[f64; 3]> = edges.iter().map(|edge| LAYERS.map(|(_, of)| at(&report.timeline, *edge, of))).collect();
    let came: Vec<[f64; 3]> = grown.windows(2).map(|pair| [0, 1, 2].map(|layer| (pair[1][layer] - pair[0][layer]).max(0.0))).collect();
    let most = came.iter().map(|layers| layers.iter().sum::<f64>()).fold(0.0, f64::max);
    let x = Axis::time(ended_s, size.ticks, "time since the first job came");
    let mut plot = Plot::new(size, x, Axis::bytes(most, 5, &format!(" in each {}", seconds(long))));
    for (layers, edges) in came.iter().zip(edges.windows(2)) {
        let mut floor = 0.0;
        for (bytes_come, (name, _)) in layers.iter().zip(LAYERS) {
            let title = format!("{name}: {} from {} to {}", bytes(*bytes_come), seconds(edges[0]), seconds(edges[1]));
            plot.bar(&format!("layer {name}"), [edges[0], edges[1].min(ended_s)], [floor, floor + bytes_come], &title);
            floor += bytes_come;
        }
    }
    plot.finish("Bytes that nodes got in each stretch of time, stacked by source: the origin at the bottom, peers above it, their own caches on top")
}

/// What had come by a time, on a straight line between the moments beside it.
fn at(timeline: &[Moment], time: f64, of: fn(&Sources) -> u64) -> f64 {
    let after = timeline.partition_point(|moment| moment.at_s <= time);
    let bytes_of = |number: usize| timeline.get(number).map(|moment| (moment.at_s, of(&moment.from) as f64));
    match (after.checked_sub(1).and_then(bytes_of), bytes_of(after)) {
        (Some((from_s, from)), Some((to_s, to))) if to_s > from_s => from + (to - from) * (time - from_s) / (to_s - from_s),
        (Some((_, bytes)), _) => bytes,
        (None, _) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;

    #[test]
    fn what_had_come_between_two_moments_lies_on_the_line_between_them() {
        let moment = |at_s: f64, peers: u64| Moment { at_s, from: Sources { peers, ..Sources::default() } };
        let timeline = [moment(1.0, 100), moment(3.0, 300)];
        assert_eq!([0.0, 1.0, 2.0, 9.0].map(|time| at(&timeline, time, |from| from.peers)), [0.0, 100.0, 200.0, 300.0]);
        assert_eq!(at(&[], 1.0, |from| from.peers), 0.0);
    }

    #[test]
    fn jobs_at_once_show_what_had_come_and_others_what_came_when() {
        let crowd = offload(&samples::eight());
        assert!(crowd.contains("class=\"layer peers\"") && crowd.contains("one copy of what is wanted") && crowd.contains("origin 13 %"));
        assert!(!crowd.contains("key cache"), "there was none");
        let day = offload(&samples::day());
        assert!(day.contains("in each 30 min") && day.contains("key cache"));
        assert!(!offload(&samples::ten_thousand()).contains("one copy"), "it would lie on the axis");
        assert!(offload(&samples::zero_bytes()).contains("No bytes moved"));
    }
}
