//! A long line: packets that come out of one TUN device go into another, later.
//!
//! Who starts it hands over the devices as standard input and output. Packets are moved as they are, in order.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use clap::Args;

use crate::parse_bytes;

/// The longest packet, with the header that says how it is to be cut.
const PACKET_BYTES: usize = 66 * 1024;
/// Packets on their way in one direction, beyond which more are lost.
const MOST_PACKETS: usize = 32 * 1024;

#[derive(Debug, Args)]
pub(crate) struct DelayArguments {
    /// Milliseconds from one end to the other.
    #[arg(long)]
    ms: f64,
    /// Bytes a second in each direction [default: no limit].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    rate: Option<u64>,
}

/// When a packet is to come out, and the packet.
type Moving = (Instant, Vec<u8>);

/// Moves packets until it is told to end, or a device is gone.
pub(crate) fn run(arguments: &DelayArguments) -> anyhow::Result<()> {
    let delay = Duration::try_from_secs_f64(arguments.ms / 1e3)?;
    let one = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let other = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    std::thread::scope(|scope| {
        for (from, to) in [(&one, &other), (&other, &one)] {
            let (sender, packets) = sync_channel(MOST_PACKETS);
            scope.spawn(move || ended("read", take_in(from, &sender, delay)));
            scope.spawn(move || ended("written", put_out(to, &packets, arguments.rate)));
        }
    });
    Ok(())
}

/// A line of which one direction has ended is none.
fn ended(what: &str, how: std::io::Result<()>) {
    if let Err(error) = how {
        let _ = writeln!(std::io::stderr(), "larder-harness: a device cannot be {what}: {error}");
        std::process::exit(1);
    }
}

fn take_in(mut from: &File, sender: &SyncSender<Moving>, delay: Duration) -> std::io::Result<()> {
    let mut buffer = vec![0; PACKET_BYTES];
    loop {
        let length = from.read(&mut buffer)?;
        let moving = (Instant::now() + delay, buffer[..length].to_vec());
        if let Err(TrySendError::Disconnected(_)) = sender.try_send(moving) {
            return Ok(());
        }
    }
}

fn put_out(mut to: &File, packets: &Receiver<Moving>, rate: Option<u64>) -> std::io::Result<()> {
    let mut free = Instant::now();
    for (due, packet) in packets {
        let takes = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(packet.len() as f64 / rate as f64));
        free = free.max(due) + takes;
        std::thread::sleep(free.saturating_duration_since(Instant::now()));
        to.write_all(&packet)?;
    }
    Ok(())
}
