//! What strangers send to a node that runs: it says why it turns them away, stays small, and serves the honest as before.

use futures::{AsyncWrite, AsyncWriteExt};
use larder_harness::faults::{Fault, Rule};
use larder_harness::hub::{HubServer, Repo};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::files::{Files, MIB};
use crate::market::FAST;
use crate::member::Member;
use crate::node::until;

#[path = "../../crates/peers/tests/market/frames.rs"]
mod frames;
#[path = "../../crates/peers/tests/market/raw.rs"]
mod raw;

use frames::{BULK, CONTROL, frame, hello, news};
use raw::Raw;

/// The market of the strangers' frames.
const MARKET: &str = "market";
/// The most that strangers may add to the memory that the node has held before.
const MOST_ADDED_BYTES: u64 = 32 * MIB;
/// What a stranger sends on after a frame that is too long: more than may be added.
const FLOOD_BYTES: usize = 64 << 20;

/// A node that runs and holds all the files, and a runtime for strangers.
struct Target {
    files: Files,
    hub: HubServer,
    member: Member,
    runtime: Runtime,
    most_bytes: u64,
}

impl Target {
    fn new() -> Self {
        let files = Files::of_sizes([("model.safetensors", 9 * MIB + 77), ("config.json", 900)]);
        let hub = files.hub(FAST);
        let member = Member::start(&hub, MARKET, &[]);
        member.prepare(&files, "own");
        let runtime = Runtime::new().unwrap();
        let mut target = Self { files, hub, member, runtime, most_bytes: u64::MAX };
        // Its memory is as large as honest peers make it.
        target.goes_on();
        target.most_bytes = target.member.daemon.as_ref().unwrap().peak_bytes() + MOST_ADDED_BYTES;
        target
    }

    /// Lets a stranger connect that says it speaks `names`.
    fn meets(&self, names: &[&str]) -> Raw {
        self.runtime.block_on(Raw::connect(&self.member.address, names))
    }

    /// Waits until a stranger is thrown out, and for the reason.
    #[track_caller]
    fn turns_away(&self, mut stranger: Raw, reason: &str) {
        self.runtime.block_on(stranger.is_thrown_out());
        let id = format!("{}: ", stranger.id);
        let is_said = |said: &serde_json::Value| said.as_str().is_some_and(|said| said.starts_with(&id) && said.contains(reason));
        until("the status says why", || self.member.status()["markets"][0]["refused"].as_array().unwrap().iter().any(is_said));
        assert!(self.member.log().contains(&format!("turned away {id}")), "{}", self.member.log());
    }

    /// A stranger is turned away that sends these bytes on one stream, and then more until nobody takes them.
    #[track_caller]
    fn turns_away_who_sends(&self, name: &str, bytes: &[u8], more: usize, reason: &str) {
        let mut stranger = self.meets(&[CONTROL, BULK]);
        // Held until the end: a stream that is dropped is closed.
        let _streams = self.runtime.block_on(async {
            let mut control = stranger.open(CONTROL).await;
            if name == CONTROL {
                send(&mut control, bytes, more).await;
                return (control, None);
            }
            send(&mut control, &hello(), 0).await;
            let mut bulk = stranger.open(name).await;
            send(&mut bulk, bytes, more).await;
            (control, Some(bulk))
        });
        self.turns_away(stranger, reason);
    }

    /// The node is as small as before, answers, and gives an honest node all that it holds.
    #[track_caller]
    fn goes_on(&mut self) {
        let daemon = self.member.daemon.as_mut().unwrap();
        assert!(daemon.is_running(), "{}", daemon.stderr());
        let peak_bytes = daemon.peak_bytes();
        assert!(peak_bytes <= self.most_bytes, "it has held {} MiB, {} are allowed", peak_bytes / MIB, self.most_bytes / MIB);
        assert_eq!(
            (&self.member.status()["markets"][0]["market"], &self.member.status()["markets"][0]["restarts"]),
            (&json!(MARKET), &json!(0))
        );
        self.hub.counts().reset();
        let honest = Member::start(&self.hub, MARKET, &[&self.member.address]);
        honest.knows(1);
        let from = honest.prepare(&self.files, "honest");
        assert_eq!((&from["peers"], &from["origin"]), (&self.files.bytes().into(), &0.into()), "{from}");
        assert_eq!(self.hub.counts().content().body_bytes, 0);
    }
}

/// Sends bytes, and then so many more until they are not taken.
async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8], more: usize) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    let noise = vec![0xa5; 1 << 20];
    for _ in 0..more / noise.len() {
        if stream.write_all(&noise).await.is_err() {
            return;
        }
    }
}

#[test]
fn garbage_frames_get_their_sender_thrown_out_and_no_more() {
    let mut target = Target::new();
    let noise: Vec<u8> = Files::of_sizes([("noise", 60_000)]).0.remove("noise").unwrap();
    target.turns_away_who_sends(CONTROL, &frame(&noise), 0, "malformed");
    target.turns_away_who_sends(CONTROL, &[hello(), frame(b"GET / HTTP/1.1")].concat(), FLOOD_BYTES, "malformed");
    target.turns_away_who_sends(CONTROL, &[hello(), hello()].concat(), 0, "broke the protocol");
    target.turns_away_who_sends(BULK, &frame(&[0xee; 40]), 0, "broke the protocol");
    target.goes_on();
}

#[test]
fn oversized_frames_are_not_waited_for() {
    let mut target = Target::new();
    for claimed in [64 * 1024 + 1, 1 << 30, u32::MAX] {
        let length = claimed.to_le_bytes();
        target.turns_away_who_sends(CONTROL, &[&hello()[..], &length[..]].concat(), FLOOD_BYTES, &format!("{claimed} bytes"));
        target.turns_away_who_sends(BULK, &length, FLOOD_BYTES, &format!("{claimed} bytes"));
    }
    target.goes_on();
}

#[test]
fn a_million_announcements_take_no_room_from_others() {
    const ROWS: u32 = 1_000_000;
    let mut target = Target::new();
    let mut stranger = target.meets(&[CONTROL, BULK]);
    let _control = target.runtime.block_on(async {
        let mut control = stranger.open(CONTROL).await;
        control.write_all(&hello()).await.unwrap();
        for first in (0..ROWS).step_by(900) {
            control.write_all(&news(first)).await.unwrap();
        }
        control.flush().await.unwrap();
        control
    });
    let bytes = u64::from(ROWS) * 36;
    until("all are heard", || target.member.status()["markets"][0]["received_bytes"].as_u64().unwrap() > bytes);
    let heard_of = target.member.status()["markets"][0]["heard_of"].as_u64().unwrap();
    assert!((60_000..70_000).contains(&heard_of), "{heard_of} of a million are kept");
    assert!(target.member.log().contains("announces too much"), "{}", target.member.log());
    target.goes_on();
    // What the honest say is heard, and passed on: of whoever holds this the asker knows through the node alone.
    let other = Files::of_sizes([("other.bin", 9 * MIB)]);
    target.hub.publish(Repo::model("org/other").at("main", other.tree())).unwrap();
    let wanted = json!([{"type": "HF", "repo": "org/other", "target": "/data"}]);
    let [holder, asker] = [(); 2].map(|()| Member::start(&target.hub, MARKET, &[&target.member.address]));
    [&holder, &asker].into_iter().for_each(|member| member.knows(1));
    holder.node.prepare(wanted.clone(), "other").ready();
    target.hub.faults().set(Rule::new("*/resolve/*", Fault::Status { code: 503, retry_after: None }));
    assert_eq!(asker.node.prepare(wanted, "other").ready()["totals"]["from"]["peers"], other.bytes());
    asker.assert_laid(&other, "other");
}

#[test]
fn nodes_of_the_previous_and_of_the_next_version_are_told_which_this_one_speaks() {
    let mut target = Target::new();
    for version in [0, 2] {
        let names = ["control", "bulk"].map(|kind| format!("/larder/{MARKET}/{kind}/{version}"));
        let other = target.meets(&names.each_ref().map(String::as_str));
        let reason = format!("speaks larder {version}, this node speaks 1");
        target.turns_away(other, &reason);
        let market = target.member.node.run(&["market"]).ok().stdout;
        assert!(market.contains(&reason), "{market}");
        target.goes_on();
    }
    // One that speaks both is talked to.
    let mut both = target.meets(&[CONTROL, BULK, "/larder/market/control/2", "/larder/market/bulk/2"]);
    let _control = target.runtime.block_on(async {
        let mut control = both.open(CONTROL).await;
        send(&mut control, &hello(), 0).await;
        control
    });
    let peers = || target.member.node.run(&["peers", "--json"]).ok().json["peers"].clone();
    until("it is a peer", || peers().as_array().unwrap().iter().any(|peer| peer["id"] == both.id.to_string()));
    target.goes_on();
}
