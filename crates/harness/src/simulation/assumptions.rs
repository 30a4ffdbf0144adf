//! What the simulation takes for granted of lines, ways and the room of the peers, which it does not run.
//!
//! Limits and times of `larder-peers` stand here as they stand there; the rest is said where it comes from.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The part of a line's rate that one TCP connection carries as content, as seen on shaped links between real nodes.
pub(super) const CONTENT_PART: f64 = 0.963;
/// Bytes a second of a node without limits to its lines, and of such an origin: a core or two of this kind of machine.
pub(super) const NODE_WITHOUT_LIMIT: f64 = 5e8;
pub(super) const ORIGIN_WITHOUT_LIMIT: f64 = 1e11;
/// What is on its way between two nodes at most: windows and buffers of a connection.
pub(super) const IN_FLIGHT_BYTES: u64 = 4 << 20;

/// Round trips of pairs of nodes with lines, and of nodes on one machine, in microseconds.
pub(super) const ROUND_TRIP_US: RangeInclusive<u64> = 10_000..=80_000;
pub(super) const LOOPBACK_US: RangeInclusive<u64> = 100..=200;
/// Round trips until a new connection to a peer is of use, and until the first byte of a read comes from the origin.
pub(super) const SET_UP: f64 = 1.5;
pub(super) const ORIGIN_SET_UP: f64 = 2.0;
/// Round trips for listing a resource, and what a command takes for itself before and after.
pub(super) const LISTING: f64 = 4.0;
pub(super) const COMMAND: Duration = Duration::from_millis(100);
/// How long the rest of the proof takes after the last chunk.
pub(super) const PROOF: Duration = Duration::from_millis(20);
/// How long a dial takes to fail where nobody answers.
pub(super) const NO_ANSWER: Duration = Duration::from_secs(10);
/// After how long a peer that does nothing any more is found out by pings.
pub(super) const PING_FINDS_OUT: Duration = Duration::from_secs(75);

/// Chunks in one piece of an answer, and those that are written at once of a read from the origin.
pub(super) const PIECE_CHUNKS: u64 = 4;
/// Chunks of an origin that take longer than this, each, are written one by one, as is the first.
pub(super) const SLOW_CHUNK: Duration = Duration::from_millis(100);
/// Files up to this size move whole.
pub(super) const SMALL_BYTES: u64 = 1 << 20;
/// Files from this size on are spoken of one by one.
pub(super) const SPOKEN_OF_BYTES: u64 = 8 << 20;
/// Files of one resource that are wanted at once.
pub(super) const FILES_AT_ONCE: usize = 128;
/// How often it is looked whether bytes of an answer come.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// Connections that a node keeps up, has at most, and takes from others at most.
pub(super) const CONNECTIONS: usize = 16;
pub(super) const MOST_CONNECTIONS: usize = 128;
pub(super) const MOST_INBOUND: usize = MOST_CONNECTIONS - MOST_CONNECTIONS / 4;
/// How long a connection is of use after content moved, when places are short.
pub(super) const OF_USE: Duration = Duration::from_secs(300);
/// Dials at once, and nodes that wait for one.
pub(super) const MOST_DIALS: usize = 16;
pub(super) const MOST_WANTED: usize = 256;
/// The wait after a dial that failed; it doubles up to the longest.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_secs(1);
pub(super) const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// How long a look around takes at most, how many peers are asked, and how many holders each names.
pub(super) const LOOK_FOR: Duration = Duration::from_millis(500);
pub(super) const MOST_ASKED: usize = 48;
pub(super) const HOLDERS_TOLD: usize = 32;
/// How long announcements are gathered: those that cannot wait, and the others.
pub(super) const GATHERED: Duration = Duration::from_millis(20);
pub(super) const ANNOUNCE_EVERY: Duration = Duration::from_secs(5);
/// The most of those at work whom one announcement reaches: what a node dials of a crowd in the time that matters.
pub(super) const HEARERS: usize = MOST_WANTED;
/// Words that a peer may say in a second, and at once; and those that all peers of a node may say beyond that.
pub(super) const WORDS_A_SECOND: f32 = 200.0;
pub(super) const WORDS_AT_ONCE: f32 = 2000.0;
pub(super) const SPARE_WORDS_A_SECOND: f32 = 2000.0;
pub(super) const SPARE_WORDS_AT_ONCE: f32 = 4000.0;

/// Bytes on the line around one frame: its length, TLS, yamux, TCP and IP.
pub(super) const FRAME_BYTES: u64 = 4 + 22 + 12 + 40;
/// A question for chunks, and what comes before each piece of the answer, with a claim in a cold swarm.
pub(super) const ASK_BYTES: u64 = 90;
pub(super) const PIECE_HEAD_BYTES: u64 = 50;
pub(super) const CLAIM_BYTES: u64 = 130;
pub(super) const HASH_BYTES: u64 = 32;
/// One row of an announcement, and what is around the rows of a gossip message: author, number, topic, signature, addresses.
pub(super) const ROW_BYTES: u64 = 38;
pub(super) const GOSSIP_BYTES: u64 = 300;
/// The peers to which a node passes gossip on; each message comes from all but one of them.
pub(super) const MESH: u64 = 4;
/// What one idle connection takes in a second, each way, pings, comparisons and heartbeats of gossip included: of a node at rest in a
/// market of 50 that sent 409 bytes a second, with all headers.
pub(super) const IDLE_BYTES_A_SECOND: f64 = 25.0;
/// How often what is held is announced anew, and the rows in one such message.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(11 * 3600);
pub(super) const ROWS_A_MESSAGE: u64 = 320;
