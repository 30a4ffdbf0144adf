//! The libp2p swarm of a market, and the loop that alone owns it.
//!
//! | file | |
//! |---|---|
//! | `streams` | our own behaviour: opens and takes the two kinds of stream, and keeps out who may not come in |
//! | `setup` | transports, behaviours and their limits |
//! | `run` | the loop |
//! | `care` | what the loop does from time to time |
//! | `connections` | which connections there are, and which one of a peer is used |
//! | `dialling` | whom to dial, when, and where |
//! | `gossip` | what is gossiped of holdings |
//! | `listening` | begins to listen |
//! | `muxer` | the streams of a TCP connection, and how much of them may wait unread |
//! | `security` | TLS of a TCP connection, and who the peer is |
//! | `strangers` | why a peer is turned away |
//! | `wire` | a TCP connection as it is read and written |
//!
//! The loop waits for nothing but its events, so that nobody can hold it up. Bytes of chunks do not pass it.

mod care;
mod connections;
mod dialling;
mod gossip;
mod listening;
mod muxer;
mod run;
mod security;
mod setup;
mod strangers;
mod streams;
mod wire;

pub(crate) use dialling::Dialling;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use gossip::check as check_gossip;
#[cfg(test)]
pub(crate) use gossip::of as gossip_of;
pub(crate) use run::EventLoop;
