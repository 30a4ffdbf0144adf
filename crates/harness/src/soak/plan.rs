//! What happens in a soak, and when: the same for the same seed.

use fastrand::Rng;
use larder_harness::market::Rogue;

use super::goods::{GUARDED, OPEN};

/// How many daemons there are; the first is the bootstrap.
pub(super) const NODES: usize = 8;
/// How many of them, from the first on, are never stopped: their samples show what grows.
pub(super) const STEADY: usize = 3;
/// The nodes whose jobs may show the token: one that is steady, one that is not.
pub(super) const TRUSTED: [usize; 2] = [1, 4];
/// Seconds at the end in which nothing new goes wrong, so that all can end well.
const QUIET_S: f64 = 20.0;
/// The first seconds, in which nothing goes wrong.
const PEACE_S: f64 = 5.0;

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Event {
    /// A job comes.
    Job(PlannedJob),
    /// A daemon is stopped, something may be done to its store, and it is started again.
    Stop {
        /// Whose.
        node: usize,
        /// How.
        how: Stop,
        /// What is done to its store meanwhile.
        harm: Harm,
        /// Seconds until it is started again.
        away_s: f64,
    },
    /// A daemon does nothing for some seconds.
    Freeze {
        /// Whose.
        node: usize,
        /// For how long.
        for_s: f64,
    },
    /// The origin fails for some seconds.
    Origin {
        /// How.
        failing: Failing,
        /// For how long.
        for_s: f64,
    },
    /// A liar takes part for some seconds.
    Liar {
        /// What it does.
        kind: Rogue,
        /// For how long.
        for_s: f64,
    },
    /// A bit of a blob that nobody uses is flipped in the store of a daemon that runs.
    Flip {
        /// Whose.
        node: usize,
    },
}

/// A job that comes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PlannedJob {
    /// Where, or at the next node that runs.
    pub(super) node: usize,
    /// What it wants: the number of a repository.
    pub(super) repository: usize,
    /// Whether it shows the token.
    pub(super) shows_token: bool,
    /// Whether it is a command, or else a job of the API.
    pub(super) command: bool,
    /// Seconds after which it is cancelled.
    pub(super) cancel_after_s: Option<f64>,
    /// Seconds that its lease is held when it is ready.
    pub(super) hold_s: f64,
}

/// How a daemon is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// SIGKILL.
    Killed,
    /// SIGTERM.
    Ended,
}

/// What is done to the store of a daemon that does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    /// Nothing.
    None,
    /// Its index is removed.
    Index,
    /// A bit of a blob is flipped.
    Flip,
}

/// How the origin fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failing {
    /// 503 to everything.
    Unavailable,
    /// 429 to everything.
    TooMany,
    /// Every body ends in its middle.
    Cut,
    /// Every connection is closed, those too on which content is under way.
    Down,
}

const KINDS: [Rogue; 9] = [
    Rogue::Stalls,
    Rogue::SendsFalse,
    Rogue::SwearsFalse,
    Rogue::SwearsNearly,
    Rogue::Refuses,
    Rogue::Dawdles,
    Rogue::SendsOther,
    Rogue::SignsFalse,
    Rogue::SignsNearly,
];
const FAILINGS: [Failing; 4] = [Failing::Unavailable, Failing::Cut, Failing::TooMany, Failing::Down];

/// All events of a soak of so many seconds, by time.
pub(super) fn plan(seed: u64, seconds: f64) -> Vec<(f64, Event)> {
    // Each kind has chance of its own, so that a change of one leaves the others as they are.
    let chance = |kind: u64| Rng::with_seed(seed.wrapping_mul(8).wrapping_add(kind));
    let mut all = Vec::new();
    let mut fill = |kind: u64, from_s: f64, to_s: f64, mean_s: f64, event: &mut dyn FnMut(&mut Rng, usize) -> Event| {
        let mut rng = chance(kind);
        all.extend(times(&mut rng, from_s, to_s, mean_s).into_iter().enumerate().map(|(number, at_s)| (at_s, event(&mut rng, number))));
    };
    let quiet_s = seconds - QUIET_S;
    fill(0, 0.0, seconds, 0.5, &mut |rng, _| Event::Job(job(rng)));
    fill(1, PEACE_S, quiet_s, 8.0, &mut |rng, _| Event::Stop {
        node: rng.usize(STEADY..NODES),
        how: if rng.bool() { Stop::Killed } else { Stop::Ended },
        harm: [Harm::None, Harm::None, Harm::Index, Harm::Flip][rng.usize(..4)],
        away_s: between(rng, 0.0, 6.0),
    });
    fill(2, PEACE_S, quiet_s, 15.0, &mut |rng, _| Event::Freeze { node: rng.usize(..NODES), for_s: between(rng, 2.0, 7.0) });
    fill(3, PEACE_S, quiet_s, 20.0, &mut |rng, number| Event::Origin {
        failing: FAILINGS[number % FAILINGS.len()],
        for_s: between(rng, 2.0, 7.0),
    });
    fill(4, PEACE_S, quiet_s, 12.0, &mut |rng, number| Event::Liar { kind: KINDS[number % KINDS.len()], for_s: between(rng, 10.0, 30.0) });
    fill(5, PEACE_S, quiet_s, 8.0, &mut |rng, _| Event::Flip { node: rng.usize(..NODES) });
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all
}

/// Moments that come at random, `mean_s` apart.
fn times(rng: &mut Rng, from_s: f64, to_s: f64, mean_s: f64) -> Vec<f64> {
    let mut at_s = from_s;
    let next = || {
        at_s += -mean_s * (1.0 - rng.f64()).ln();
        (at_s < to_s).then_some(at_s)
    };
    std::iter::from_fn(next).collect()
}

fn between(rng: &mut Rng, least: f64, most: f64) -> f64 {
    least + (most - least) * rng.f64()
}

fn job(rng: &mut Rng) -> PlannedJob {
    let guarded = rng.u32(..100) < 12;
    let shows_token = guarded && rng.bool();
    let repository = if guarded { OPEN + rng.usize(..GUARDED) } else { rng.usize(..OPEN) };
    PlannedJob {
        node: if shows_token { TRUSTED[rng.usize(..TRUSTED.len())] } else { rng.usize(..NODES) },
        repository,
        shows_token,
        command: rng.u32(..100) < 30,
        cancel_after_s: (rng.u32(..100) < 20).then(|| between(rng, 0.0, 1.0)),
        hold_s: between(rng, 0.0, 6.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_events_and_another_others() {
        assert_eq!(plan(7, 300.0), plan(7, 300.0));
        assert_ne!(plan(7, 300.0), plan(8, 300.0));
    }

    #[test]
    fn five_minutes_hold_events_of_every_kind_and_leave_the_steady_alone() {
        for seed in 0..20 {
            let events = plan(seed, 300.0);
            assert!(events.windows(2).all(|pair| pair[0].0 <= pair[1].0));
            let count = |of: &dyn Fn(&Event) -> bool| events.iter().filter(|(_, event)| of(event)).count();
            let stops = |event: &Event| matches!(event, Event::Stop { .. });
            let kinds = KINDS.iter().map(|wanted| count(&|event| matches!(event, Event::Liar { kind, .. } if kind == wanted)));
            assert!(kinds.min() > Some(0), "seed {seed}: a liar is missing");
            assert!(count(&|event| matches!(event, Event::Origin { .. })) >= FAILINGS.len(), "seed {seed}");
            assert!(count(&stops) > 5 && count(&|event| matches!(event, Event::Freeze { .. })) > 2, "seed {seed}");
            let steady = |event: &Event| matches!(event, Event::Stop { node, .. } if *node < STEADY);
            assert_eq!(count(&steady), 0, "seed {seed}");
            let early_or_late = |(at_s, event): &&(f64, Event)| (*at_s < PEACE_S || *at_s > 280.0) && !matches!(event, Event::Job(_));
            assert_eq!(events.iter().filter(early_or_late).count(), 0, "seed {seed}");
        }
    }

    #[test]
    fn only_jobs_of_trusted_nodes_show_the_token_and_only_for_what_is_guarded() {
        let shown = plan(3, 3600.0).into_iter().filter_map(|(_, event)| match event {
            Event::Job(job) if job.shows_token => Some(job),
            Event::Job(_) | Event::Stop { .. } | Event::Freeze { .. } | Event::Origin { .. } | Event::Liar { .. } | Event::Flip { .. } => {
                None
            }
        });
        let shown: Vec<PlannedJob> = shown.collect();
        assert!(shown.len() > 50 && shown.iter().all(|job| TRUSTED.contains(&job.node) && job.repository >= OPEN));
    }
}
