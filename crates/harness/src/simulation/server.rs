//! Who sends content, and in what order: streams take turns, chunk by chunk, each with so much on its way at most.
//!
//! A stream is what one asker wants of a node, or one read from the origin; it answers its questions one after the other.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use larder_engine::{ReadId, Time};

/// One question, and how far it is answered. Chunks are the engine's.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) node: u32,
    pub(super) read: ReadId,
    pub(super) file: u32,
    pub(super) next: u32,
    pub(super) end: u32,
    /// Whether it is for the file as it is known to be, not for whatever there is of it.
    pub(super) proven: bool,
}

/// A chunk on its way.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) to: u32,
    pub(super) server: u32,
    pub(super) stream: u64,
    pub(super) read: ReadId,
    pub(super) file: u32,
    pub(super) bytes: u64,
}

#[derive(Debug, Default)]
struct Stream {
    asks: VecDeque<Ask>,
    in_flight: usize,
    /// Whether it stands in the line of turns.
    stands: bool,
    last_arrival: Time,
}

/// A line that sends.
#[derive(Debug)]
pub(super) struct Server {
    /// Content bytes a second.
    rate: f64,
    streams: BTreeMap<u64, Stream>,
    turns: VecDeque<u64>,
    /// The most chunks of one stream that are on their way.
    most_in_flight: usize,
    /// Until when it sends what it has begun.
    pub(super) busy_until: Time,
    /// Whether it will be told when it is free.
    pub(super) is_busy: bool,
}

impl Server {
    pub(super) fn new(rate: f64, most_in_flight: usize) -> Self {
        let (streams, turns) = (BTreeMap::new(), VecDeque::new());
        Self { rate, streams, turns, most_in_flight, busy_until: Time::ZERO, is_busy: false }
    }

    /// Takes a question.
    pub(super) fn ask(&mut self, stream: u64, ask: Ask) {
        self.streams.entry(stream).or_default().asks.push_back(ask);
        self.stand(stream);
    }

    /// Forgets a question.
    pub(super) fn withdraw(&mut self, stream: u64, read: ReadId) {
        if let Some(found) = self.streams.get_mut(&stream) {
            found.asks.retain(|ask| ask.read != read);
            self.tidy(stream);
        }
    }

    /// Forgets all questions of a stream.
    pub(super) fn hang_up(&mut self, stream: u64) {
        if let Some(found) = self.streams.get_mut(&stream) {
            found.asks.clear();
            self.tidy(stream);
        }
    }

    /// Ends all streams, and gives the questions that were not answered.
    pub(super) fn hang_up_on_all(&mut self) -> Vec<Ask> {
        self.turns.clear();
        std::mem::take(&mut self.streams).into_values().flat_map(|stream| stream.asks).collect()
    }

    /// The stream whose turn it is, and its first question.
    pub(super) fn front(&mut self) -> Option<(u64, Ask)> {
        while let Some(number) = self.turns.front().copied() {
            let ready = self.streams.get(&number).filter(|stream| stream.in_flight < self.most_in_flight);
            if let Some(ask) = ready.and_then(|stream| stream.asks.front()) {
                return Some((number, ask.clone()));
            }
            self.turns.pop_front();
            if let Some(stream) = self.streams.get_mut(&number) {
                stream.stands = false;
            }
            self.tidy(number);
        }
        None
    }

    /// The question whose turn it is has no answer, or none any more; gives when that may be heard at the earliest.
    pub(super) fn drop_front(&mut self, stream: u64) -> Time {
        let Some(found) = self.streams.get_mut(&stream) else { return Time::ZERO };
        found.asks.pop_front();
        found.last_arrival
    }

    /// The next chunk of the stream whose turn it is is sent, and is there at `arrival`.
    pub(super) fn send(&mut self, stream: u64, arrival: Time) {
        self.turns.pop_front();
        let Some(found) = self.streams.get_mut(&stream) else { return };
        (found.stands, found.last_arrival) = (false, arrival);
        found.in_flight += 1;
        if let Some(ask) = found.asks.front_mut() {
            ask.next += 1;
            if ask.next >= ask.end {
                found.asks.pop_front();
            }
        }
        self.stand(stream);
    }

    /// A chunk has arrived.
    pub(super) fn landed(&mut self, stream: u64) {
        if let Some(found) = self.streams.get_mut(&stream) {
            found.in_flight = found.in_flight.saturating_sub(1);
            self.stand(stream);
            self.tidy(stream);
        }
    }

    /// How long it takes to send so much.
    pub(super) fn time_for(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.rate)
    }

    /// Something else takes the line meanwhile.
    pub(super) fn is_taken_for(&mut self, bytes: u64, now: Time) {
        self.busy_until = self.busy_until.max(now) + self.time_for(bytes);
    }

    fn stand(&mut self, stream: u64) {
        let Some(found) = self.streams.get_mut(&stream) else { return };
        if !found.stands && !found.asks.is_empty() && found.in_flight < self.most_in_flight {
            found.stands = true;
            self.turns.push_back(stream);
        }
    }

    fn tidy(&mut self, stream: u64) {
        if self.streams.get(&stream).is_some_and(|found| found.asks.is_empty() && found.in_flight == 0 && !found.stands) {
            self.streams.remove(&stream);
        }
    }
}

/// A line that receives: from many at once, so that one who sends slowly holds up nobody.
#[derive(Debug)]
pub(super) struct Downlink {
    rate: f64,
    /// When all that has begun to come would be through if the line alone decided.
    free_at: Time,
}

impl Downlink {
    pub(super) fn new(rate: f64) -> Self {
        Self { rate, free_at: Time::ZERO }
    }

    /// When bytes are there that begin to come at `first` and whose last comes at `last` at the earliest.
    pub(super) fn take(&mut self, bytes: u64, first: Time, last: Time) -> Time {
        self.free_at = self.free_at.max(first) + Duration::from_secs_f64(bytes as f64 / self.rate);
        self.free_at.max(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_sender_holds_up_nobody_and_fast_ones_share_the_line() {
        let (at, chunk) = (Duration::from_secs, 1_000_000);
        let mut line = Downlink::new(1e6);
        assert_eq!(line.take(chunk, at(0), at(10)), at(10));
        assert_eq!(line.take(chunk, at(0), at(1)), at(2));
        assert_eq!(line.take(chunk, at(0), at(1)), at(3));
        assert_eq!(line.take(chunk, at(20), at(21)), at(21));
    }
}
