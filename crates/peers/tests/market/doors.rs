//! Who is let in, who is not, and that each is told why.

use std::time::{Duration, Instant};

use larder_content::{FileKey, FileMessage, FileWord, Holding, Subject};
use larder_peers::{Book, Config, Identity, KnownPeer, Market, MarketConfig, StartError};

use crate::node::{Start, pair, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn two_markets_stay_apart_and_say_so() {
    let one = Start::new().go().await;
    let mut start = Start::to(&[&one]);
    start.market.address = "another".into();
    let two = start.go().await;
    wait_for("the reason", || !two.market.status().refused.is_empty()).await;
    assert_eq!(two.market.status().refused, [format!("{}: is of market market, this node is of another", one.id())]);
    wait_for("the other reason", || !one.market.status().refused.is_empty()).await;
    assert!(one.heard.lock().unwrap().came_and_went.is_empty() && two.heard.lock().unwrap().came_and_went.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allow_list_lets_in_those_on_it_only() {
    let friend = Identity::generate();
    let mut start = Start::new();
    start.market.allow = vec![friend.id()];
    let one = start.go().await;
    let stranger = Start::to(&[&one]).go().await;
    let mut start = Start::to(&[&one]);
    start.identity = friend;
    let friend = start.go().await;
    friend.sees(&one).await;
    wait_for("the reason", || !one.market.status().refused.is_empty()).await;
    assert_eq!(one.market.status().refused, [format!("{}: it is not on the allow list", stranger.id())]);
    assert!(!stranger.market.is_connected(one.id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_peer_stays_out_until_its_time_is_over() {
    let (one, two) = pair().await;
    let (began, period) = (Instant::now(), Duration::from_secs(4));
    one.market.ban(two.id(), period);
    wait_for("a refused return", || !one.market.status().refused.is_empty()).await;
    let came_and_went = || one.heard.lock().unwrap().came_and_went.iter().map(|(_, came)| *came).collect::<Vec<_>>();
    wait_for("the return", || came_and_went().len() >= 3).await;
    assert!(began.elapsed() >= period, "it is let in too soon");
    // Where both dial at once, the connection changes once more.
    assert!(came_and_went().starts_with(&[true, false, true]));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_places_are_short_who_was_told_that_there_is_no_room_makes_room() {
    let mut start = Start::new();
    start.config.most_connections = 4;
    let one = start.go().await;
    let (two, three, four) = (Start::to(&[&one]).go().await, Start::to(&[&one]).go().await, Start::to(&[&one]).go().await);
    for other in [&two, &three, &four] {
        one.sees(other).await;
    }
    let word = |body| FileMessage { file: FileKey([1; 32]), body };
    assert!(one.market.tell(two.id(), word(FileWord::Follow)) && one.market.tell(three.id(), word(FileWord::Unfollow)));
    let gone = || one.heard.lock().unwrap().came_and_went.iter().filter(|(_, came)| !came).map(|(node, _)| *node).collect::<Vec<_>>();
    wait_for("the parting", || gone().contains(&three.id())).await;
    assert!(!gone().contains(&two.id()) && !gone().contains(&four.id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let one = Start::new().go().await;
    let address = one.address().split("/p2p/").next().unwrap().to_owned();
    let market = MarketConfig { address: "market".into(), listen: vec![address.clone()], ..MarketConfig::default() };
    let error = Market::start(&Identity::generate(), market, Config::default(), Book::default(), Vec::new()).await.unwrap_err();
    assert!(matches!(&error, StartError::Listen { .. }) && error.to_string().contains(&address), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_outlives_a_restart() {
    let (one, two) = pair().await;
    one.market.ban(two.id(), Duration::from_secs(600));
    wait_for("the parting", || !one.market.is_connected(two.id())).await;
    one.market.clone().stop().await;
    let mut start = Start::new();
    wait_for("the book", || !one.heard.lock().unwrap().books.is_empty()).await;
    start.known = one.heard.lock().unwrap().books.last().cloned().unwrap();
    assert_eq!(start.known.bans.iter().map(|ban| ban.node).collect::<Vec<_>>(), [two.id()]);
    // Its book leads to the other, too, whom it is not to dial.
    start.known.peers = vec![KnownPeer { node: two.id(), addresses: vec![two.address().split("/p2p/").next().unwrap().to_owned()] }];
    let one = start.go().await;
    let three = Start::to(&[&one, &two]).go().await;
    three.sees(&one).await;
    three.sees(&two).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!one.market.is_connected(two.id()) && !two.market.is_connected(one.id()), "it is let in again");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_that_dial_at_once_end_up_with_one_connection() {
    for _ in 0..5 {
        let (mut one, mut two) = (Start::new(), Start::new());
        let (free_one, free_two) = (free_address(), free_address());
        one.known.peers = vec![KnownPeer { node: two.identity.id(), addresses: vec![free_two.clone()] }];
        two.known.peers = vec![KnownPeer { node: one.identity.id(), addresses: vec![free_one.clone()] }];
        (one.market.listen, two.market.listen) = (vec![free_one], vec![free_two]);
        let (one, two) = tokio::join!(one.go(), two.go());
        one.sees(&two).await;
        two.sees(&one).await;
        // Whichever of the two connections is closed is closed by then.
        tokio::time::sleep(Duration::from_secs(3)).await;
        for (node, other) in [(&one, &two), (&two, &one)] {
            let came_and_went = node.heard.lock().unwrap().came_and_went.clone();
            let balance = came_and_went.iter().map(|(_, came)| if *came { 1 } else { -1 }).sum::<i32>();
            assert!(balance == 1 && node.market.is_connected(other.id()), "{came_and_went:?}");
            assert_eq!(node.market.status().peers.len(), 1);
        }
    }
}

/// An address that nobody listens on.
fn free_address() -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("/ip4/127.0.0.1/tcp/{port}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_died_is_started_again_and_everything_goes_on() {
    let (one, two) = pair().await;
    let before = one.address();
    one.market.announce(Subject::from(FileKey([1; 32])), Holding::Complete);
    one.market.crash().await;
    wait_for("the restart", || one.market.status().restarts == 1).await;
    wait_for("the parting", || two.heard.lock().unwrap().came_and_went.len() >= 2).await;
    two.sees(&one).await;
    one.sees(&two).await;
    assert_eq!(one.address(), before);
    wait_for("what was announced", || two.market.status().holdings == 1).await;
    assert_eq!(two.market.look(&[Subject::from(FileKey([1; 32]))]).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_market_that_is_dropped_or_stopped_leaves() {
    let (one, two) = pair().await;
    two.market.clone().stop().await;
    wait_for("the parting", || !one.market.is_connected(two.id())).await;
    assert!(two.market.status().peers.is_empty());
    wait_for("the book", || !two.heard.lock().unwrap().books.is_empty()).await;
    let books = two.heard.lock().unwrap().books.len();
    assert_eq!(books, 1, "the known peers are handed out at the end");
}
