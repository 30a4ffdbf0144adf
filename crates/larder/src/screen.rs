//! Shows how far a command is: bars on a terminal, plain lines elsewhere, nothing where only a document is wanted.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use larder_node::{Phase, ResourceProgress};

/// How often a plain line is written for a resource that moves.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The most bars shown at once: more would scroll.
const MAX_BARS: usize = 20;

/// Where progress goes. Everything is written to standard error.
pub(crate) enum Screen {
    Bars { all: MultiProgress, bars: Vec<ProgressBar> },
    Lines { written: Instant, phases: Vec<Phase> },
    Silent,
}

impl Screen {
    pub(crate) fn new(json: bool) -> Self {
        if json {
            return Self::Silent;
        }
        if stderr().is_terminal() {
            return Self::Bars { all: MultiProgress::new(), bars: Vec::new() };
        }
        Self::Lines { written: Instant::now(), phases: Vec::new() }
    }

    /// Shows how far each resource is.
    pub(crate) fn show(&mut self, resources: &[ResourceProgress]) {
        match self {
            Self::Bars { all, bars } => {
                for resource in resources.iter().take(MAX_BARS).skip(bars.len()) {
                    bars.push(all.add(bar(&resource.address)));
                }
                for (bar, resource) in bars.iter().zip(resources) {
                    bar.set_length(resource.bytes);
                    bar.set_position(done(resource));
                    bar.set_message(sources(resource));
                    if resource.phase == Phase::Complete && !bar.is_finished() {
                        bar.finish();
                    }
                }
            }
            Self::Lines { written, phases } => {
                let due = written.elapsed() >= LINE_EVERY;
                for (number, resource) in resources.iter().enumerate() {
                    let before = phases.get(number).copied();
                    let moved = before != Some(resource.phase) && resource.phase != Phase::Listing;
                    if moved || (due && resource.phase == Phase::Fetching) {
                        eprintln!("{}: {}", resource.address, line(resource));
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

    /// Leaves the terminal as it was, with the bars where they ended.
    pub(crate) fn end(&mut self) {
        if let Self::Bars { bars, .. } = self {
            bars.iter().filter(|bar| !bar.is_finished()).for_each(ProgressBar::abandon);
        }
    }
}

fn bar(address: &str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_prefix(address.to_owned());
    let template = "{prefix:.bold} {wide_bar:.cyan/blue} {bytes:>10}/{total_bytes} {bytes_per_sec:>12} {eta:>4} {msg}";
    // The template is ours: if it were wrong, the plain bar would do.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
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
