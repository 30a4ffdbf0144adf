//! How fast one node takes chunks from another, beside a bare libp2p stream: run it with `--release`.
//!
//! ```text
//! throughput [LISTEN]                      both, within this process; over loopback TCP unless said otherwise
//! throughput give KIND LISTEN…             prints the addresses it gives at, and gives until its input ends
//! throughput take KIND MIB ADDRESS…        takes so much by a connection to each address, and prints how fast, as JSON
//! throughput hold KIND COUNT ADDRESS       prints a line once it has COUNT connections; for each line N that it is told,
//!                                          takes N MiB by each of them at once, and prints a line when it has
//! ```
//! A kind is `ours` or `bare`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for a person")]

mod bare;
mod ours;

use std::time::Instant;

use tokio::sync::mpsc;

const MIB: u64 = 1 << 20;
/// What is taken when nothing else is said.
const TAKEN_MIB: u64 = 2048;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["give", kind, listen @ ..] => {
            let (addresses, _markets) = give(kind, listen).await;
            println!("{}", addresses.join(" "));
            let mut input = lines();
            while input.recv().await.is_some() {}
        }
        ["take", kind, mib, addresses @ ..] => {
            let (rate, round_trip_ms) = take(kind, mib.parse().unwrap(), addresses).await;
            println!("{{\"mib_per_second\": {rate:.1}, \"round_trip_ms\": {round_trip_ms:.2}}}");
        }
        ["hold", kind, count, address] => hold(kind, count.parse().unwrap(), address).await,
        [] => both("/ip4/127.0.0.1/tcp/0").await,
        [listen] => both(listen).await,
        [..] => panic!("it is called in one of the ways that its first lines name"),
    }
}

/// The lines of standard input.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| sender.blocking_send(line)));
    lines
}

async fn both(listen: &str) {
    let mut rates = Vec::new();
    for kind in ["ours", "bare"] {
        let (addresses, _markets) = give(kind, &[listen]).await;
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        rates.push(take(kind, TAKEN_MIB, &addresses).await.0);
    }
    let [ours, bare] = rates[..] else { unreachable!() };
    println!("ours {ours:.0} MiB/s over {listen}, a bare stream {bare:.0} MiB/s, ratio {:.2}", ours / bare);
}

/// Starts a giver for each address. Those of our kind give as long as their markets live.
async fn give(kind: &str, listen: &[&str]) -> (Vec<String>, Vec<larder_peers::Market>) {
    let (mut addresses, mut markets) = (Vec::new(), Vec::new());
    for listen in listen {
        if kind == "bare" {
            addresses.push(bare::give(listen).await);
        } else {
            let market = ours::give(listen).await;
            addresses.extend(market.listening());
            markets.push(market);
        }
    }
    (addresses, markets)
}

/// MiB a second, and the round trip in ms, which is measured by a bare stream only.
async fn take(kind: &str, mib: u64, addresses: &[&str]) -> (f64, f64) {
    let (began, round_trip_ms) = if kind == "bare" {
        let mut connections = Vec::new();
        for address in addresses {
            connections.push(bare::Connection::dial(address).await);
        }
        let round_trip = connections[0].round_trip().await;
        let began = Instant::now();
        bare::take(&connections, mib * MIB).await;
        (began, round_trip * 1e3)
    } else {
        let taker = ours::Taker::connect(addresses).await;
        let began = Instant::now();
        taker.take(mib * MIB).await;
        (began, 0.0)
    };
    (mib as f64 / began.elapsed().as_secs_f64(), round_trip_ms)
}

async fn hold(kind: &str, count: usize, address: &str) {
    let (mut connections, mut takers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        if kind == "bare" {
            connections.push(bare::Connection::dial(address).await);
        } else {
            takers.push(ours::Taker::connect(&[address]).await);
        }
    }
    println!("connected");
    let mut input = lines();
    while let Some(line) = input.recv().await {
        let bytes = line.parse::<u64>().unwrap() * MIB;
        bare::take(&connections, bytes * connections.len() as u64).await;
        futures::future::join_all(takers.iter().map(|taker| taker.take(bytes))).await;
        println!("taken");
    }
}
