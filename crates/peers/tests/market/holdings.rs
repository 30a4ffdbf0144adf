//! Who holds what becomes known: by asking, by gossip, and by comparing.

use std::time::Duration;

use larder_content::{FileKey, Holding, NodeId, Subject};
use larder_peers::{Config, Identity};

use crate::node::{Node, Start, pair, wait_for};

fn subject(number: u8) -> Subject {
    Subject::from(FileKey([number; 32]))
}

fn knows(node: &Node, number: u8, holder: NodeId, holding: Holding) -> bool {
    node.market.holders(subject(number)).contains(&(holder, holding))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_finds_a_holder_through_a_bootstrap_and_connects_to_it() {
    let bootstrap = Start::new().go().await;
    let mut start = Start::to(&[&bootstrap]);
    // Nobody dials but for interest, so that only the look can bring the two together.
    start.config.connections = 0;
    let holder = start.go().await;
    holder.market.announce(subject(1), Holding::Complete);
    wait_for("the bootstrap to hear", || knows(&bootstrap, 1, holder.id(), Holding::Complete)).await;

    let mut start = Start::to(&[&bootstrap]);
    start.config.connections = 0;
    let seeker = start.go().await;
    // Just started: the look waits for the bootstrap.
    let found = seeker.market.look(&[subject(1), subject(2)]).await;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].node, found[0].subject, found[0].holding), (holder.id(), subject(1), Holding::Complete));
    wait_for("a connection to the holder", || seeker.market.is_connected(holder.id())).await;
    wait_for("a connection to the seeker", || holder.market.is_connected(seeker.id())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looked_hears_of_those_who_begin_later() {
    let bootstrap = Start::new().go().await;
    let one = Start::to(&[&bootstrap]).go().await;
    one.sees(&bootstrap).await;
    one.market.look(&[subject(7)]).await;
    let two = Start::to(&[&bootstrap]).go().await;
    two.market.announce(subject(7), Holding::Fetching);
    wait_for("the news", || knows(&one, 7, two.id(), Holding::Fetching)).await;
    one.sees(&two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_with_nobody_there_ends_at_once_and_empty() {
    let alone = Start::new().go().await;
    let mut start = Start::new();
    start.config.look_for = Duration::from_secs(3600);
    start.market.bootstrap = vec![format!("/ip4/127.0.0.1/tcp/1/p2p/{}", Identity::generate().id())];
    let lost = start.go().await;
    assert!(alone.market.look(&[subject(1)]).await.is_empty());
    // Would take an hour, if it waited for a bootstrap that is down.
    assert!(lost.market.look(&[subject(1)]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn gossip_tells_a_third_that_is_not_connected() {
    let middle = Start::new().go().await;
    let lone = || {
        let mut start = Start::to(&[&middle]);
        start.config.connections = 0;
        start
    };
    let (one, two) = (lone().go().await, lone().go().await);
    one.sees(&middle).await;
    two.sees(&middle).await;
    // Gossip is lost on those who have not subscribed yet, so it is said until it is heard.
    for round in 0..200 {
        let holding = if round % 2 == 0 { Holding::Complete } else { Holding::Fetching };
        one.market.announce(subject(9), holding);
        tokio::time::sleep(Duration::from_millis(50)).await;
        if !two.market.holders(subject(9)).is_empty() {
            break;
        }
    }
    assert_eq!(two.market.holders(subject(9))[0].0, one.id());
    assert!(!two.market.is_connected(one.id()));
    assert!(!two.heard.lock().unwrap().sighted.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_announced_before_a_peer_came_is_made_up_for() {
    let one = Start::new().go().await;
    for number in 0..200 {
        one.market.announce(subject(number), Holding::Complete);
    }
    one.market.announce(subject(3), Holding::Gone);
    let two = Start::to(&[&one]).go().await;
    wait_for("all rows", || two.market.status().holdings == 199).await;
    assert!(two.market.holders(subject(3)).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_starts_again_has_never_been_without_what_it_holds() {
    let identity = Identity::generate();
    let friend = Start::new().go().await;
    let restart = || {
        let mut start = Start::to(&[&friend]);
        // All that is told is told at the hello.
        start.config.announce_every = Duration::from_secs(3600);
        (start.identity, start.held) = (identity.clone(), vec![subject(1), subject(2)]);
        start
    };
    let is_known = |node: &Node| [1, 2].into_iter().all(|number| knows(node, number, identity.id(), Holding::Complete));
    let before = restart().go().await;
    wait_for("what it holds", || is_known(&friend)).await;
    before.market.stop().await;
    wait_for("the parting", || !friend.market.is_connected(identity.id())).await;

    let again = restart().go().await;
    friend.sees(&again).await;
    // Who has not known it hears of it at once too; by then the friend has compared.
    let newcomer = Start::to(&[&again]).go().await;
    wait_for("what it holds", || is_known(&newcomer)).await;
    assert!(is_known(&friend));
    let sighted = |node: &Node| node.heard.lock().unwrap().sighted.clone();
    assert!([&friend, &newcomer].into_iter().flat_map(sighted).all(|sighting| sighting.holding == Holding::Complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_repaired_by_comparing() {
    let compare = || {
        let mut start = Start::new();
        // What changes is only told by comparing.
        start.config = Config { announce_every: Duration::from_secs(3600), compare_every: Duration::from_secs(1), ..Config::default() };
        start
    };
    let one = compare().go().await;
    let mut start = compare();
    start.market.bootstrap = vec![one.address()];
    let two = start.go().await;
    two.sees(&one).await;
    one.market.announce(subject(1), Holding::Complete);
    one.market.announce(subject(2), Holding::Complete);
    wait_for("the repair", || two.market.status().holdings == 2).await;
    one.market.announce(subject(1), Holding::Gone);
    wait_for("the repair of what is gone", || two.market.status().holdings == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_runs_out() {
    let mut start = Start::new();
    start.config.expiry = Duration::from_secs(2);
    let one = start.go().await;
    let two = Start::to(&[&one]).go().await;
    one.market.announce(subject(4), Holding::Fetching);
    wait_for("the news", || knows(&two, 4, one.id(), Holding::Fetching)).await;
    wait_for("the end of it", || two.market.holders(subject(4)).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_subjects_are_asked_for_in_one_look() {
    let (one, two) = pair().await;
    let subjects: Vec<Subject> = (0..3000_u32).map(|number| Subject(*blake3::hash(&number.to_le_bytes()).as_bytes())).collect();
    for subject in &subjects {
        one.market.announce(*subject, Holding::Complete);
    }
    let found = two.market.look(&subjects).await;
    assert_eq!(found.len(), subjects.len());
}
