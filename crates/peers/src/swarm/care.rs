//! What the loop does from time to time: tells what is new, compares, asks for peers, forgets, and says goodbye at the end.

use std::time::Duration;

use futures::StreamExt;
use libp2p::swarm::SwarmEvent;
use tokio::time::{Instant, timeout};

use super::run::EventLoop;
use super::setup;
use crate::book::Book;
use crate::control::ControlRecord;
use crate::event::Event;
use crate::shared::lock;

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(300);
/// How often the known peers are handed out to be kept, when they have changed.
pub(super) const BOOK_EVERY: Duration = Duration::from_secs(60);
/// How often what has run out is forgotten.
pub(super) const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// How often a node with too few peers asks for more.
const ASK_EVERY: Duration = Duration::from_secs(30);

impl EventLoop {
    pub(super) fn tell(&mut self) {
        self.tell_at = Instant::now() + self.shared.config.announce_every;
        for message in self.gossip.make(&self.shared) {
            let topic = setup::topic(&self.shared);
            // With nobody to hear it, the comparing of digests brings it to those who come.
            if let Err(error) = self.swarm.behaviour_mut().gossip.publish(topic, message) {
                tracing::debug!(%error, "gossip was not published");
            }
        }
    }

    pub(super) fn look_after(&mut self) {
        let now = Instant::now();
        for connection in self.connections.look_through(setup::most_connections(&self.shared)) {
            self.swarm.close_connection(connection);
        }
        self.dial();
        if now >= self.expire_at {
            self.expire_at = now + EXPIRE_EVERY;
            lock(&self.shared.own).expire(self.shared.now());
            lock(&self.shared.table).expire(self.shared.now());
            self.shared.queue.buffers.clear();
        }
        if now >= self.compare_at {
            self.compare_at = now + self.shared.config.compare_every.mul_f64(0.8 + 0.4 * fastrand::f64());
            let (rows, sum) = lock(&self.shared.own).digest();
            for link in self.shared.links() {
                link.send(&ControlRecord::Digest { rows, sum });
            }
        }
        if now >= self.ask_at {
            self.ask_at = now + ASK_EVERY.mul_f64(0.8 + 0.4 * fastrand::f64());
            let links = self.shared.links();
            if links.len() < self.shared.config.connections
                && let Some(link) = fastrand::choice(&links)
            {
                link.send(&ControlRecord::WhoIsThere);
            }
        }
        if now >= self.book_at {
            self.book_at = now + BOOK_EVERY;
            self.hand_out_book();
        }
    }

    fn hand_out_book(&self) {
        let changed = [lock(&self.shared.dialling).takes_change(), lock(&self.shared.gate).takes_change()];
        if changed.contains(&true) {
            let (peers, bans) = (lock(&self.shared.dialling).reached(), lock(&self.shared.gate).kept());
            self.shared.try_emit(Event::Book(Book { peers, bans }));
        }
    }

    pub(super) async fn say_goodbye(mut self) {
        self.hand_out_book();
        for link in self.shared.links() {
            link.send(&ControlRecord::Bye);
        }
        // Peers close the connections when they hear it.
        let all_gone = async {
            while self.swarm.network_info().num_peers() > 0 {
                if let SwarmEvent::ConnectionClosed { connection_id, .. } = self.swarm.select_next_some().await {
                    self.connections.closed(connection_id);
                }
            }
        };
        let _ = timeout(GOODBYE, all_gone).await;
    }
}
