//! The tables of a page: limits, settings, and nodes.

use super::{escape, offload, wide_card};
use crate::report::nodes::Cells;
use crate::report::words::{bytes, count, many, number, seconds};
use crate::report::{OfNode, Report, arrivals, markdown, nodes as of_nodes};

/// The most nodes that have a row each.
const ROWS: usize = 64;

/// What had to hold, and whether it did.
pub(super) fn limits(report: &Report) -> String {
    if report.limits.is_empty() {
        return wide_card("", "Limits", "", "<p class=\"nothing\">This scenario sets none.</p>");
    }
    let row = |judged: &crate::report::Judged| {
        let (class, mark) = if judged.kept { ("kept", "✓ kept") } else { ("broken", "✗ broken") };
        let part = judged.value.map_or(1.0, |value| if judged.most > 0.0 { value / judged.most } else { value.min(2.0) });
        // The limit itself is at two thirds of the bar.
        let part = (part * 200.0 / 3.0).clamp(0.0, 100.0);
        format!(
            "<li class=\"{class}\"><span>{}</span><b style=\"--part:{part:.1}%\"></b><em>{} <small>of at most {}</small></em>\
            <strong>{mark}</strong></li>",
            escape(&judged.what),
            escape(&judged.value_told()),
            escape(&judged.number(judged.most))
        )
    };
    let rows: String = report.limits.iter().map(row).collect();
    let void = if report.void.is_some() { "This run is void: what is said of times says how fast this machine is." } else { "" };
    // Beside a picture where there is no card of the bound.
    let class = if report.bound.is_some() { "all" } else { "" };
    wide_card(class, "Limits", void, &format!("<ul class=\"limits\">{rows}</ul>"))
}

/// What was played.
pub(super) fn settings(report: &Report) -> String {
    let mut resources: Vec<&String> = report.jobs.iter().flat_map(|job| &job.resources).collect();
    resources.sort_unstable();
    resources.dedup();
    let named =
        if resources.len() > 4 { many(resources.len(), "resource") } else { resources.into_iter().cloned().collect::<Vec<_>>().join(", ") };
    let patience =
        report.patience.map_or_else(|| "no limit".to_owned(), |patience| format!("{} times straight from the origin", number(patience)));
    let rows = [
        ("Way", report.way.to_string()),
        ("Seed", report.seed.to_string()),
        ("Market", if report.lone { "none: each for itself".to_owned() } else { "one for all".to_owned() }),
        ("Nodes", of_nodes::crowd(report)),
        ("Lines", markdown::links(report)),
        ("Jobs", format!("{} {}", count(report.jobs.len() as u64), arrivals::told(report))),
        ("Wanted", format!("{} {named}", bytes(report.wanted_bytes as f64))),
        ("Must leave the origin", bytes(report.floor_bytes as f64)),
        (
            "T*",
            report
                .bound
                .map_or_else(|| "none: jobs did not come at once, or did not all want the same".to_owned(), |bound| seconds(bound.seconds)),
        ),
        ("Patience", patience),
        ("Chunks", format!("{} KiB", count(report.chunk_bytes / 1024))),
        (
            "The origin answered",
            format!("{} with {}", many(report.origin.requests as usize, "request"), bytes(report.origin.body_bytes as f64)),
        ),
        ("Played in", seconds(report.played_s)),
    ];
    let rows: String = rows.iter().map(|(name, is)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(is))).collect();
    wide_card("all", "What was played", "", &format!("<dl class=\"settings\">{rows}</dl>"))
}

/// Each node while they are few, else their kinds and quantiles.
pub(super) fn nodes(report: &Report) -> String {
    if report.nodes.is_empty() {
        return wide_card("all", "Nodes", "", "<p class=\"nothing\">There were none.</p>");
    }
    if report.nodes.len() <= ROWS {
        let bars: Vec<String> = report.nodes.iter().map(sources).collect();
        return wide_card("all", "Nodes", "", &table(&of_nodes::each(report), &bars));
    }
    let kinds = table(&of_nodes::kinds(report), &[]);
    let body = format!("{kinds}{}", table(&of_nodes::quantiles(report), &[]));
    let lead =
        format!("{}: what became of the middle one of each kind, and of all from the least to the most.", many(report.nodes.len(), "node"));
    wide_card("all", "Nodes", &escape(&lead), &body)
}

/// A bar of where the bytes of a node came from.
fn sources(node: &OfNode) -> String {
    let all = offload::sum(&node.from);
    let part = |name: &str, bytes: u64| {
        let part = if all > 0.0 { bytes as f64 / all * 100.0 } else { 0.0 };
        if part > 0.0 { format!("<i class=\"{name}\" style=\"--part:{part:.1}%\"></i>") } else { String::new() }
    };
    let parts = [part("origin", node.from.origin), part("peers", node.from.peers), part("cache", node.from.cache)];
    format!("<td class=\"sources\"><span>{}</span></td>", parts.concat())
}

/// A table; `bars` are one more cell for each row.
fn table(cells: &Cells, bars: &[String]) -> String {
    let more = if bars.is_empty() { "" } else { "<th scope=\"col\" class=\"sources\">sources</th>" };
    let mut titles: Vec<String> = cells.titles.iter().map(|title| format!("<th scope=\"col\">{}</th>", escape(title))).collect();
    // Beside the name, where it is seen on narrow screens too.
    titles.insert(titles.len().min(1), more.to_owned());
    let row = |(number, row): (usize, &Vec<String>)| {
        let first = row.first().map_or_else(String::new, |name| format!("<th scope=\"row\">{}</th>", escape(name)));
        let others: String = row.iter().skip(1).map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        format!("<tr>{first}{}{others}</tr>\n", bars.get(number).map_or("", String::as_str))
    };
    let rows: String = cells.rows.iter().enumerate().map(row).collect();
    let (head, body) = (format!("<thead><tr>{}</tr></thead>", titles.concat()), format!("<tbody>\n{rows}</tbody>"));
    format!("<div class=\"scroll\" role=\"region\" aria-label=\"Table of nodes\" tabindex=\"0\"><table>{head}{body}</table></div>")
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;

    #[test]
    fn limits_say_what_was_measured_and_whether_they_held() {
        let card = limits(&samples::mixed());
        assert_eq!((card.matches("✓ kept").count(), card.matches("✗ broken").count()), (2, 2));
        assert!(card.contains("1.02 <small>of at most 1.00</small>"));
        assert!(limits(&samples::void()).contains("This run is void") && limits(&samples::nothing()).contains("sets none"));
        assert!(limits(&samples::never()).contains("could not be measured"));
    }

    #[test]
    fn each_node_has_a_bar_of_its_sources_while_they_are_few() {
        let few = nodes(&samples::eight());
        assert_eq!(few.matches("<td class=\"sources\"").count(), 8);
        let many = nodes(&samples::ten_thousand());
        assert!(many.matches("<tr>").count() < 20 && many.contains("10,000 nodes"));
    }

    #[test]
    fn settings_tell_what_is_needed_to_play_it_again() {
        let card = settings(&samples::eight());
        for told in ["namespaces", "origin 10.0 MB/s, uplinks ", "256 KiB", "512 MB model", "8 at once", "no limit"] {
            assert!(card.contains(told), "{told}");
        }
    }
}
