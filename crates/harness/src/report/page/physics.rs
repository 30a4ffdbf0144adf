//! What bounds the time: the formula of `T*`, its letters in this run, and a bar for each term beside what was measured.

use super::{card, escape};
use crate::report::words::{NOTHING, seconds};
use crate::report::{OfBound, Report};

/// A bar that is longer than this many of the longest other is cut.
const LONGEST: f64 = 1.5;

const FORMULA: &str = "<p class=\"formula\"><b>T*</b> = max( <span class=\"term\"><i>F</i> / <i>d</i></span>, \
    <span class=\"term\"><i>k F</i> / <i>u</i><sub>origin</sub></span>, \
    <span class=\"term\">(<i>N</i> − <i>k</i>) <i>F</i> / Σ<i>u</i> )</span></p>";

/// The card; nothing for a run that has no bound.
pub(super) fn physics(report: &Report) -> String {
    let title = "What bounds the time";
    let Some(bound) = report.bound else { return String::new() };
    let letter = |(letter, is): (&str, String)| {
        let meaning = match letter {
            "F" => "bytes that each wants",
            "N" => "nodes that want them",
            "k" => "copies that leave the origin",
            "d" => "the slowest downlink",
            "u_origin" => "what the origin sends",
            _ => "all uplinks together",
        };
        let letter = letter.replace("u_origin", "u<sub>origin</sub>").replace("sum ", "Σ");
        format!("<div><dt><i>{letter}</i></dt><dd>{} <small>{meaning}</small></dd></div>", escape(&is))
    };
    let letters: String = report.letters(&bound).into_iter().map(letter).collect();
    let body = format!("{FORMULA}<dl class=\"letters\">{letters}</dl>{}", bars(report, &bound));
    card(title, "No scheme is faster than the greatest of these: one downlink, the origin, and all uplinks each take their time.", &body)
}

/// The class of a bar, its name, and its seconds.
type Bar = (&'static str, &'static str, f64);

fn bars(report: &Report, bound: &OfBound) -> String {
    let waits = report.waits();
    let mut bars: Vec<Bar> = vec![
        ("term", "one downlink, F/d", bound.downlink_s),
        ("term", "the origin, kF/u", bound.origin_s),
        ("term", "all uplinks, (N−k)F/Σu", bound.uplinks_s),
        ("bound", "T*", bound.seconds),
        ("measured", "first node", waits.first().copied().unwrap_or(f64::INFINITY)),
        ("measured", "median node", report.wait(0.5)),
        ("measured", "last node", report.wait(1.0)),
        ("alone", "one alone from the origin", bound.alone_s),
    ];
    if let Some(all_direct_s) = all_direct(report, bound) {
        bars.push(("alone", "each from the origin, at best", all_direct_s));
    }
    let longest = bars[..7].iter().map(|(.., long)| *long).filter(|long| long.is_finite()).fold(0.0, f64::max) * LONGEST;
    let all = bars.iter().map(|(.., long)| *long).filter(|long| *long <= longest).fold(0.0, f64::max);
    let drawn: String = bars.into_iter().map(|bar| drawn(bar, if all > 0.0 { all } else { 1.0 })).collect();
    format!("<ul class=\"bars\">{drawn}</ul>")
}

/// What the last of them waits if each reads for itself.
fn all_direct(report: &Report, bound: &OfBound) -> Option<f64> {
    let wanting: std::collections::BTreeSet<usize> = report.jobs.iter().map(|job| job.node).collect();
    let rate = report.origin.rate.filter(|rate| *rate > 0 && wanting.len() > 1)?;
    Some((wanting.len() as f64 * report.wanted_bytes as f64 / rate as f64).max(bound.downlink_s))
}

fn drawn((class, name, long): Bar, all: f64) -> String {
    let over = if long > all { " over" } else { "" };
    let part = (long / all).clamp(0.0, 1.0) * 100.0;
    let told = if long > 0.0 || class != "term" { seconds(long) } else { NOTHING.to_owned() };
    format!("<li class=\"{class}{over}\"><span>{name}</span><b style=\"--part:{part:.1}%\"></b><em>{}</em></li>", escape(&told))
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;

    #[test]
    fn the_terms_stand_beside_what_was_measured() {
        let card = physics(&samples::eight());
        for told in ["512 MB", "10.0 MB/s", ">51.2 s<", ">55.8 s<", "each from the origin, at best", "6 min 50 s", "no limit"] {
            assert!(card.contains(told), "{told}");
        }
        assert!(card.contains("alone over"), "a bar that would make all others short is cut");
    }

    #[test]
    fn a_run_without_a_bound_has_no_formula() {
        assert!(physics(&samples::day()).is_empty());
        assert!(!physics(&samples::zero_bytes()).contains("NaN"));
        assert!(physics(&samples::never()).contains(">never<"));
    }
}
