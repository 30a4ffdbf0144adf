//! Shows how far a command is: bars on a terminal, plain lines elsewhere, nothing where only a document is wanted.

use std::io::{Write, stderr};
use std::time::{Duration, Instant};

use console::{Term, measure_text_width};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder_node::{Phase, ResourceProgress};

use crate::terminal::{plain, remark};

/// How often a plain line is written for a resource that moves.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The most bars shown at once: more would scroll.
const MAX_BARS: usize = 20;
/// The fewest columns of an address that are shown.
const MIN_ADDRESS: usize = 16;
/// The columns beside the address: a bar of 12, and the figures.
const BAR_AND_FIGURES: usize = 54;

/// Where progress goes. Everything is written to standard error.
pub(crate) enum Screen {
    Bars { all: MultiProgress, bars: Vec<ProgressBar> },
    Lines { written: Instant, phases: Vec<Phase> },
    Silent,
}

impl Screen {
    /// A screen that draws with `all`, unless only a document is wanted or standard error is no terminal.
    pub(crate) fn new(json: bool, all: MultiProgress) -> Self {
        if json {
            return Self::Silent;
        }
        if all.is_hidden() {
            return Self::Lines { written: Instant::now(), phases: Vec::new() };
        }
        Self::Bars { all, bars: Vec::new() }
    }

    /// Shows how far each resource is.
    pub(crate) fn show(&mut self, resources: &[ResourceProgress]) {
        match self {
            Self::Bars { all, bars } => show_bars(all, bars, &rows(resources)),
            Self::Lines { written, phases } => {
                let due = written.elapsed() >= LINE_EVERY;
                for (number, resource) in resources.iter().enumerate() {
                    let before = phases.get(number).copied();
                    let moved = before != Some(resource.phase) && resource.phase != Phase::Listing;
                    if moved || (due && resource.phase == Phase::Fetching) {
                        remark([format!("{}: {}", resource.address, line(resource))]);
                    }
                }
                *phases = resources.iter().map(|resource| resource.phase).collect();
                if due {
                    *written = Instant::now();
                }
            }
            Self::Silent => {}
        }
    }

    /// Leaves the bars where they are.
    pub(crate) fn end(&mut self) {
        if let Self::Bars { bars, .. } = self {
            bars.iter().filter(|bar| !bar.is_finished()).for_each(ProgressBar::abandon);
        }
    }

    /// Leaves the bars as they are shown: the terminal may have written the key that interrupted them where they end.
    pub(crate) fn interrupt(&mut self) {
        if let Self::Bars { all, .. } = self {
            all.set_draw_target(ProgressDrawTarget::hidden());
            remark([""]);
        }
        self.end();
    }
}

/// Writes lines to standard error, above the bars if there are any.
pub(crate) struct Beside(pub(crate) MultiProgress);

impl Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.is_hidden() {
            return stderr().write(bytes);
        }
        self.0.println(String::from_utf8_lossy(bytes).trim_end())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn show_bars(all: &MultiProgress, bars: &mut Vec<ProgressBar>, rows: &[ResourceProgress]) {
    bars.extend((bars.len()..rows.len()).map(|_| all.add(ProgressBar::new(0))));
    let columns = usize::from(Term::stderr().size().1);
    let most = (columns * 2 / 5).min(columns.saturating_sub(BAR_AND_FIGURES)).max(MIN_ADDRESS);
    let addresses: Vec<String> = rows.iter().map(|row| shortened(&plain(&row.address), most)).collect();
    let longest = addresses.iter().map(|address| measure_text_width(address)).max().unwrap_or_default();
    for ((bar, row), address) in bars.iter().zip(rows).zip(addresses) {
        let padding = longest - measure_text_width(&address);
        bar.set_style(style(row.phase));
        bar.set_prefix(address + &" ".repeat(padding));
        bar.set_length(row.bytes);
        bar.set_position(done(row));
        bar.set_message(line(row));
        if row.phase == Phase::Complete && !bar.is_finished() {
            bar.finish();
        }
    }
}

fn style(phase: Phase) -> ProgressStyle {
    let template = match phase {
        Phase::Listing | Phase::Complete => "{prefix:.bold} {msg}",
        Phase::Fetching => "{prefix:.bold} {wide_bar:.cyan/blue} {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {eta:>4}",
    };
    // The templates are ours: if one were wrong, the plain bar would do.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// What is shown on one line each: the last sums up those that have none of their own.
fn rows(resources: &[ResourceProgress]) -> Vec<ResourceProgress> {
    if resources.len() <= MAX_BARS {
        return resources.to_vec();
    }
    let (alone, rest) = resources.split_at(MAX_BARS - 1);
    let sum = |count: fn(&ResourceProgress) -> u64| rest.iter().map(count).sum();
    let all = |phase| rest.iter().all(|resource| resource.phase == phase);
    let phase = [Phase::Listing, Phase::Complete].into_iter().find(|phase| all(*phase)).unwrap_or(Phase::Fetching);
    let summed = ResourceProgress {
        address: format!("{} more resources", rest.len()),
        phase,
        bytes: sum(|resource| resource.bytes),
        cache: sum(|resource| resource.cache),
        peers: sum(|resource| resource.peers),
        origin: sum(|resource| resource.origin),
    };
    [alone, &[summed]].concat()
}

/// An address in at most so many columns: its two ends, if it is longer.
fn shortened(address: &str, columns: usize) -> String {
    if measure_text_width(address) <= columns {
        return address.to_owned();
    }
    let room = columns.saturating_sub(1);
    let head = fitting(address.chars(), room / 2);
    let tail: Vec<char> = fitting(address.chars().rev(), room - room / 2).chars().collect();
    format!("{head}…{}", tail.iter().rev().collect::<String>())
}

/// As many of the first characters as fit in so many columns.
fn fitting(chars: impl Iterator<Item = char>, columns: usize) -> String {
    let mut used = 0;
    let fits = |char: &char| {
        used += measure_text_width(char.encode_utf8(&mut [0; 4]));
        used <= columns
    };
    chars.take_while(fits).collect()
}

fn done(resource: &ResourceProgress) -> u64 {
    resource.cache + resource.peers + resource.origin
}

fn line(resource: &ResourceProgress) -> String {
    match resource.phase {
        Phase::Listing => "asking its origin".to_owned(),
        Phase::Fetching => format!("{} of {} ({})", HumanBytes(done(resource)), HumanBytes(resource.bytes), sources(resource)),
        Phase::Complete => format!("complete, {} ({})", HumanBytes(resource.bytes), sources(resource)),
    }
}

/// Where the bytes came from.
fn sources(resource: &ResourceProgress) -> String {
    let sources = [("cache", resource.cache), ("peers", resource.peers), ("origin", resource.origin)];
    let parts: Vec<String> =
        sources.iter().filter(|(_, bytes)| *bytes > 0).map(|(name, bytes)| format!("{name} {}", HumanBytes(*bytes))).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(number: u64, phase: Phase) -> ResourceProgress {
        ResourceProgress { address: format!("hf:models/org/{number}"), phase, bytes: 10, cache: 1, peers: 2, origin: number }
    }

    #[test]
    fn the_last_bar_sums_up_the_resources_that_have_none() {
        let resources = |count: u64| (0..count).map(|number| resource(number, Phase::Fetching)).collect::<Vec<_>>();
        assert_eq!(rows(&resources(20)), resources(20));
        let shown = rows(&resources(23));
        assert_eq!(shown[..19], resources(19));
        let address = "4 more resources".to_owned();
        let sum = ResourceProgress { address, phase: Phase::Fetching, bytes: 40, cache: 4, peers: 8, origin: 19 + 20 + 21 + 22 };
        assert_eq!(shown[19..], [sum]);
    }

    #[test]
    fn the_sum_is_complete_when_all_of_it_is() {
        let phase_with = |last| {
            let mut resources: Vec<_> = (0..21).map(|number| resource(number, Phase::Complete)).collect();
            resources[20].phase = last;
            rows(&resources)[19].phase
        };
        assert_eq!(phase_with(Phase::Complete), Phase::Complete);
        assert_eq!(phase_with(Phase::Listing), Phase::Fetching);
    }

    #[test]
    fn a_long_address_keeps_its_ends_and_fits() {
        assert_eq!(shortened("hf:models/org/name", 18), "hf:models/org/name");
        assert_eq!(shortened("hf:models/org/name@main", 16), "hf:mode…ame@main");
        assert_eq!(shortened("s3://日本日本日本日本/日本", 13), "s3://…/日本");
        for columns in 1..30 {
            assert!(measure_text_width(&shortened("s3://bucket/日本日本日本/日本日本", columns)) <= columns);
        }
    }
}
