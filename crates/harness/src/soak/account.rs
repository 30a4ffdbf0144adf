//! What came of a soak: how often what happened, what each daemon became, which promises were broken.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use larder_harness::report::{Screen, megabytes};
use serde::Serialize;

use super::growth::{Growth, Line};

/// What must hold all along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Promise {
    /// What is laid, and what is kept.
    Content,
    /// The token, and what it opens.
    Secrets,
    /// How jobs end.
    Jobs,
    /// How daemons start, answer and end.
    Daemons,
    /// Who is banned.
    Blame,
    /// What stores hold.
    Quota,
    /// What daemons use.
    Growth,
}

const PROMISES: [(Promise, &str); 7] = [
    (Promise::Content, "each file that is laid or kept is its origin's, byte for byte"),
    (Promise::Secrets, "the token, and the bytes it opens, are nowhere but where they belong"),
    (Promise::Jobs, "each job ends as it should, and in time"),
    (Promise::Daemons, "each daemon starts, answers within a second, and ends in time"),
    (Promise::Blame, "no node that keeps the promises is banned"),
    (Promise::Quota, "no store holds more than its quota"),
    (Promise::Growth, "no daemon grows"),
];

/// A broken promise.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Violation {
    /// Seconds since the soak began.
    at_s: f64,
    promise: Promise,
    what: String,
}

/// All that is told of a soak.
#[derive(Debug, Default, Serialize)]
pub(super) struct Account {
    pub(super) seed: u64,
    /// Seconds that events came.
    pub(super) seconds: f64,
    /// How often what happened, and bytes where the name says so.
    counts: BTreeMap<String, u64>,
    /// Samples of each process.
    pub(super) lines: Vec<Line>,
    /// What became of those that lasted.
    growth: BTreeMap<String, Vec<Growth>>,
    violations: Vec<Violation>,
    /// What was done, in the order of its times.
    done: Vec<Done>,
}

/// Something that was done to a node, or to what is around it.
#[derive(Debug, Serialize)]
struct Done {
    at_s: f64,
    what: String,
}

impl Account {
    /// Nothing has happened yet.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Counts something once.
    pub(super) fn count(&mut self, what: &str) {
        self.add(what, 1);
    }

    /// Counts something so often.
    pub(super) fn add(&mut self, what: &str, times: u64) {
        *self.counts.entry(what.to_owned()).or_default() += times;
    }

    /// Counts something that was done, and remembers to what.
    pub(super) fn did(&mut self, at_s: f64, what: &str, to: &str) {
        self.count(what);
        self.done.push(Done { at_s, what: format!("{what}: {to}") });
    }

    /// Remembers a broken promise, and says so.
    pub(super) fn broke(&mut self, at_s: f64, promise: Promise, what: &str) {
        Screen::new().say(&format!("BROKEN at {at_s:.1} s, seed {}, {promise:?}: {what}", self.seed));
        self.violations.push(Violation { at_s, promise, what: what.to_owned() });
    }

    /// Whether all promises were kept.
    pub(super) fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Judges what each daemon became.
    pub(super) fn judge_growth(&mut self) {
        for line in std::mem::take(&mut self.lines) {
            let growth = line.growth();
            for grown in growth.iter().filter(|growth| !growth.is_bounded()) {
                let what = format!("{}: {} was {}, is {}, may be {}", line.node, grown.what, grown.first, grown.last, grown.most);
                self.broke(self.seconds, Promise::Growth, &what);
            }
            if !growth.is_empty() {
                self.growth.insert(format!("{} after {} restarts", line.node, line.restarts), growth);
            }
            self.lines.push(line);
        }
    }

    /// Shows it.
    pub(super) fn show(&self, screen: &mut Screen) {
        let told = |(what, times): (&String, &u64)| {
            let times = if what.contains("bytes") { megabytes(*times) } else { times.to_string() };
            vec![what.clone(), times]
        };
        screen.table(&["what happened", ""], &self.counts.iter().map(told).collect::<Vec<_>>());
        let rows: Vec<Vec<String>> = self.growth.iter().map(|(name, growth)| row(name, growth)).collect();
        let titles: Vec<&str> = self.growth.values().next().into_iter().flatten().map(|growth| growth.what).collect();
        screen.table(&[&["medians, first and last"], titles.as_slice()].concat(), &rows);
        for (promise, text) in PROMISES {
            let broken = self.violations.iter().filter(|violation| violation.promise == promise).count();
            let times = if broken == 0 { String::new() } else { format!(": {broken} times not") };
            screen.promise(broken == 0, &format!("{text}{times}"));
        }
    }

    /// Writes it as JSON.
    pub(super) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(file, text + "\n").with_context(|| file.display().to_string())
    }
}

fn row(name: &str, growth: &[Growth]) -> Vec<String> {
    let told = |growth: &Growth| match growth.what {
        "memory" | "disk beside content" => format!("{} {}", megabytes(growth.first), megabytes(growth.last)),
        _ => format!("{} {}", growth.first, growth.last),
    };
    std::iter::once(name.to_owned()).chain(growth.iter().map(told)).collect()
}
