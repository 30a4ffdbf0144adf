//! Looking around: direct questions to connected peers, and what is remembered of what was looked for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_content::{Holding, NodeId, Subject};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::control::{ControlRecord, Link, SUBJECTS_A_FRAME};
use crate::event::Sighting;
use crate::holdings::MOST_HOLDERS_TOLD;
use crate::shared::{Shared, lock};

/// The most subjects whose holders are dialled when they are heard of.
const MOST_INTEREST: usize = 65_536;
/// How long a look keeps up that interest.
const INTEREST: Duration = Duration::from_secs(3600);
/// The most peers that are asked.
const MOST_ASKED: usize = 48;
/// The most rows taken of the answer to one question.
pub(crate) const MOST_ANSWERS: usize = 4096;

/// The questions that are open.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    open: HashMap<u32, Question>,
    last: u32,
    interest: HashMap<Subject, Instant>,
}

#[derive(Debug)]
struct Question {
    to: NodeId,
    subjects: HashSet<Subject>,
    found: Vec<Sighting>,
    /// How many it was told of for each subject.
    holders: HashMap<Subject, usize>,
    is_answered: bool,
    answered: Arc<Notify>,
}

impl Questions {
    /// Whether a subject was looked for in the last hour.
    pub(crate) fn is_of_interest(&self, subject: &Subject) -> bool {
        self.interest.get(subject).is_some_and(|until| *until > Instant::now())
    }

    /// Takes an answer, and gives what of it was asked for: of a subject no more holders than an honest answer has, and of nobody
    /// that it has it no more but of who says so.
    pub(crate) fn answer(&mut self, question: u32, from: NodeId, is_last: bool, mut rows: Vec<Sighting>) -> Vec<Sighting> {
        rows.retain(|row| row.holding != Holding::Gone || row.node == from);
        if question == 0 {
            let mut holders = HashMap::new();
            rows.retain(|row| self.is_of_interest(&row.subject) && is_one_of_few(&mut holders, row));
            return rows;
        }
        let Some(open) = self.open.get_mut(&question).filter(|open| open.to == from && !open.is_answered) else { return Vec::new() };
        let room = MOST_ANSWERS.saturating_sub(open.found.len());
        rows.retain(|row| open.subjects.contains(&row.subject) && is_one_of_few(&mut open.holders, row));
        rows.truncate(room);
        open.found.extend(&rows);
        if is_last {
            open.is_answered = true;
            open.answered.notify_one();
        }
        rows
    }

    fn want(&mut self, subjects: &[Subject]) {
        let now = Instant::now();
        if self.interest.len() + subjects.len() > MOST_INTEREST {
            self.interest.retain(|_, until| *until > now);
        }
        for subject in subjects {
            if self.interest.len() < MOST_INTEREST || self.interest.contains_key(subject) {
                self.interest.insert(*subject, now + INTEREST);
            }
        }
    }

    fn ask(&mut self, to: NodeId, subjects: &[Subject], answered: Arc<Notify>) -> u32 {
        self.last = self.last.wrapping_add(1).max(1);
        let subjects = subjects.iter().copied().collect();
        self.open.insert(self.last, Question { to, subjects, found: Vec::new(), holders: HashMap::new(), is_answered: false, answered });
        self.last
    }
}

/// Counts a row, and says whether it is within what one peer may tell of a subject: the holders that it gives out, and itself.
fn is_one_of_few(holders: &mut HashMap<Subject, usize>, row: &Sighting) -> bool {
    let count = holders.entry(row.subject).or_default();
    *count += 1;
    *count <= MOST_HOLDERS_TOLD + 1
}

/// The questions of one look; they are closed when it ends, however it ends.
struct Look<'a> {
    shared: &'a Shared,
    subjects: &'a [Subject],
    answered: Arc<Notify>,
    asked: HashSet<NodeId>,
    questions: Vec<u32>,
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        let mut questions = lock(&self.shared.questions);
        for question in &self.questions {
            questions.open.remove(question);
        }
    }
}

impl Look<'_> {
    fn ask_those_who_are_there(&mut self) {
        let mut links = self.shared.links();
        links.sort_by_key(|link| (!link.is_bootstrap.load(Ordering::Relaxed), link.since));
        for link in links {
            if self.asked.len() >= MOST_ASKED {
                return;
            }
            if self.asked.insert(link.node) {
                self.ask(&link);
            }
        }
    }

    fn ask(&mut self, link: &Link) {
        for subjects in self.subjects.chunks(SUBJECTS_A_FRAME) {
            let question = lock(&self.shared.questions).ask(link.node, subjects, Arc::clone(&self.answered));
            self.questions.push(question);
            let subjects = subjects.iter().map(|subject| subject.0).collect();
            if !link.send(&ControlRecord::WhoHas { question, subjects }) {
                self.give_up(|open| open.to == link.node);
            }
        }
    }

    fn give_up(&self, on: impl Fn(&Question) -> bool) {
        let mut questions = lock(&self.shared.questions);
        for question in &self.questions {
            if let Some(open) = questions.open.get_mut(question)
                && on(open)
            {
                open.is_answered = true;
            }
        }
    }

    fn is_over(&self) -> bool {
        // A peer that has left answers no more.
        let there: HashSet<NodeId> = self.shared.links().iter().map(|link| link.node).collect();
        self.give_up(|open| !there.contains(&open.to));
        let questions = lock(&self.shared.questions);
        let is_answered = |question: &u32| questions.open.get(question).is_none_or(|open| open.is_answered);
        self.shared.awaited.load(Ordering::Relaxed) == 0 && self.questions.iter().all(is_answered)
    }
}

/// Asks who has `subjects`, and waits for the answers, or for `look_for` at most. Bootstraps that are being dialled are waited for.
pub(crate) async fn look(shared: &Shared, subjects: &[Subject]) -> Vec<Sighting> {
    lock(&shared.questions).want(subjects);
    let deadline = Instant::now() + shared.config.look_for;
    let mut arrivals = shared.arrivals.subscribe();
    let answered = Arc::new(Notify::new());
    let mut look = Look { shared, subjects, answered: Arc::clone(&answered), asked: HashSet::new(), questions: Vec::new() };
    loop {
        look.ask_those_who_are_there();
        if look.is_over() {
            break;
        }
        let change = async {
            tokio::select! {
                () = answered.notified() => {}
                _ = arrivals.changed() => {}
            }
        };
        if timeout_at(deadline, change).await.is_err() {
            break;
        }
    }
    let mut found: HashMap<(Subject, NodeId), Holding> = HashMap::new();
    for open in look.questions.iter().filter_map(|question| lock(&shared.questions).open.remove(question)) {
        found.extend(open.found.iter().map(|sighting| ((sighting.subject, sighting.node), sighting.holding)));
    }
    for subject in subjects {
        found.extend(shared.holders(*subject, MOST_HOLDERS_TOLD).into_iter().map(|(node, holding)| ((*subject, node), holding)));
    }
    found.retain(|(_, node), holding| *node != shared.identity.id() && *holding != Holding::Gone);
    found.into_iter().map(|((subject, node), holding)| Sighting { subject, node, holding }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(node: u8, holding: Holding) -> Sighting {
        Sighting { subject: Subject([7; 32]), node: NodeId([node; 32]), holding }
    }

    #[test]
    fn of_one_informant_few_holders_are_taken_and_no_word_that_others_have_nothing() {
        let (mut questions, liar) = (Questions::default(), NodeId([200; 32]));
        let question = questions.ask(liar, &[Subject([7; 32])], Arc::new(Notify::new()));
        for first in [0, 50, 100] {
            let rows = (first..first + 50).map(|node| sighting(node, Holding::Complete)).collect();
            questions.answer(question, liar, false, rows);
        }
        assert_eq!(questions.open[&question].found.len(), MOST_HOLDERS_TOLD + 1);
        let gone = vec![sighting(1, Holding::Gone), sighting(200, Holding::Gone)];
        questions.want(&[Subject([7; 32])]);
        assert_eq!(questions.answer(0, liar, true, gone), [sighting(200, Holding::Gone)]);
        let rows = (0..150).map(|node| sighting(node, Holding::Complete)).collect();
        assert_eq!(questions.answer(0, liar, true, rows).len(), MOST_HOLDERS_TOLD + 1);
    }
}
