//! A report as one page of HTML: it needs no script, no font and no address beside itself, so that it can be kept, mailed and printed.

mod chord;
mod completion;
mod fed;
mod matrix;
mod offload;
mod physics;
mod plot;
mod scale;
mod svg;
mod tables;
mod tiles;

use std::path::Path;

use anyhow::Context;

use super::words::{count, many};
use super::{Report, arrivals};
use svg::escape;

const STYLE: &str = include_str!("style.css");

impl Report {
    /// The page.
    #[must_use]
    pub fn page(&self) -> String {
        let name = escape(&self.scenario);
        let [completion, waiting] = completion::completion(self);
        let cards = [
            offload::offload(self),
            completion,
            fed::fed(self),
            physics::physics(self),
            waiting,
            tables::limits(self),
            tables::settings(self),
            tables::nodes(self),
        ];
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{name}, {way}: a report of Larder</title>\n\
            <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
            <link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}</style>\n</head>\n<body>\n{header}<main>\n{tiles}<div class=\"cards\">\n{cards}</div>\n\
            </main>\n<footer>Larder harness, report version {version}. This page holds all that it shows and asks nobody for anything.</footer>\n\
            </body>\n</html>\n",
            way = self.way,
            header = header(self),
            tiles = tiles::tiles(self),
            cards = cards.concat(),
            version = self.version,
        )
    }

    /// Writes the plot of how jobs came to be ready, as a picture in SVG that brings its colours along.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn write_plot(&self, path: &Path) -> anyhow::Result<()> {
        let itself = "<svg xmlns=\"http://www.w3.org/2000/svg\" style=\"background: var(--card)\" ";
        let plot = completion::plot(self).replacen("<svg ", itself, 1);
        let picture = plot.replacen('>', &format!("><style>{STYLE}</style>"), 1) + "\n";
        std::fs::write(path, picture).with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Writes the page.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn write_page(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::write(path, self.page()).with_context(|| format!("{} cannot be written", path.display()))
    }
}

fn header(report: &Report) -> String {
    let broken = report.limits.iter().filter(|limit| !limit.kept).count();
    let all = report.limits.len();
    let (class, verdict) = match (&report.void, broken, all) {
        (Some(_), ..) => ("void", "Void: times of this run say nothing".to_owned()),
        (None, 0, 0) => ("none", "No limits were set".to_owned()),
        (None, 0, 1) => ("kept", "✓ The limit held".to_owned()),
        (None, 0, _) => ("kept", format!("✓ All {} limits held", count(all as u64))),
        (None, ..) => ("broken", format!("✗ {} of {} broken", count(broken as u64), many(all, "limit"))),
    };
    let why =
        report.void.as_ref().map_or_else(String::new, |why| format!("<p class=\"why\"><b>This run is void:</b> {}.</p>", escape(why)));
    let facts = format!(
        "{}, seed {}, {}, {} {}",
        report.way,
        report.seed,
        many(report.nodes.len(), "node"),
        many(report.jobs.len(), "job"),
        arrivals::told(report)
    );
    format!(
        "<header>\n<p class=\"kicker\">{}</p>\n<h1>{}</h1>\n<p class=\"about\">{}</p>\n<p class=\"verdict {class}\">{verdict}</p>{why}\n</header>\n",
        escape(&facts),
        escape(&report.scenario),
        escape(&report.about)
    )
}

/// A part of the page below a title; `lead` and `body` are HTML.
fn card(title: &str, lead: &str, body: &str) -> String {
    wide_card("", title, lead, body)
}

fn wide_card(class: &str, title: &str, lead: &str, body: &str) -> String {
    let lead = if lead.is_empty() { String::new() } else { format!("<p class=\"lead\">{lead}</p>") };
    format!("<section class=\"card {class}\"><h2>{}</h2>{lead}{body}</section>\n", escape(title))
}

#[cfg(test)]
mod tests {
    use super::super::samples;

    /// Fails unless every element that begins also ends, in order.
    fn is_well_formed(html: &str) {
        let mut open: Vec<&str> = Vec::new();
        let body = &html[html.find("<body>").unwrap()..];
        for tag in body.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
                None => open.push(tag.split(' ').next().unwrap()),
            }
        }
        assert!(open.is_empty() || open == ["html"], "{open:?}");
    }

    #[test]
    fn every_report_has_a_plot_that_is_a_picture_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        for report in samples::all().iter().filter(|report| !report.jobs.is_empty()) {
            let file = folder.path().join("plot.svg");
            report.write_plot(&file).unwrap();
            let picture = std::fs::read_to_string(file).unwrap();
            assert!(picture.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && picture.ends_with("</svg>\n"), "{picture}");
            assert!(picture.contains("<style>") && !picture.contains("NaN"), "{}", report.scenario);
        }
    }

    #[test]
    fn every_report_is_a_whole_page_without_numbers_that_are_none() {
        for report in samples::all() {
            let page = report.page();
            is_well_formed(&page.replace("</html>", ""));
            for none in ["NaN", "inf ", "inf<", "\"inf", "Some(", "None"] {
                assert!(!page.contains(none), "{}: {none}", report.scenario);
            }
        }
    }

    #[test]
    fn a_page_asks_nobody_for_anything() {
        for report in samples::all() {
            let page = report.page();
            for outside in ["http:", "https:", "//", "<script", "@import", "url(", "src="] {
                assert!(!page.contains(outside), "{}: {outside}", report.scenario);
            }
        }
    }

    #[test]
    fn what_a_scenario_says_is_never_read_as_html() {
        let mut report = samples::eight();
        let evil = "<script>alert('\"&')</script>";
        for text in [
            &mut report.scenario,
            &mut report.about,
            &mut report.nodes[0].name,
            &mut report.limits[0].what,
            &mut report.jobs[0].resources[0],
        ] {
            *text = evil.to_owned();
        }
        report.void = Some(evil.to_owned());
        let page = report.page();
        assert!(!page.contains("<script") && page.matches("&lt;script&gt;").count() >= 6);
    }

    #[test]
    fn ten_thousand_nodes_make_a_page_that_can_be_mailed() {
        let page = samples::ten_thousand().page();
        assert!(page.len() < 1_000_000, "{}", page.len());
        assert!(page.contains("of each node") && page.contains("10,000 nodes"));
    }

    #[test]
    fn what_went_wrong_stands_at_the_top() {
        let top = |page: String| page.split("<main>").next().unwrap_or_default().to_owned();
        assert!(top(samples::void().page()).contains("This run is void:</b> the processor was 93 % busy"));
        assert!(top(samples::void().page()).contains("class=\"verdict void\">Void: times of this run say nothing"));
        assert!(top(samples::never().page()).contains("✗ 2 of 2 limits broken"));
        assert!(top(samples::eight().page()).contains("✓ All 4 limits held"));
    }
}
