//! When the origin helps a job that peers serve.

use larder_content::CHUNK_BYTES;

use super::*;

/// A warm market of one peer, which sends all that it is asked for at 15 MB/s once `silent` is over: how many reads of the origin
/// there are for `files` files of 32 MiB that a job with the default patience wants together, on a node that is stopped for a while after
/// half a second.
fn read_from_origin(files: u64, silent: Duration, stopped: Duration) -> usize {
    const BYTES_PER_MILLISECOND: u64 = 15_000;
    let peer = peer(1);
    let mut engine = Engine::new(Config::default(), 1);
    for number in 0..files {
        let sharing = Sharing { patience: Some(1.5), ..sharing(vec![(peer.node, Holding::Complete)]) };
        want_shared(&mut engine, number, 128 * CHUNK_BYTES, 1, sharing);
    }
    let (mut asked, mut complete, mut from_origin, mut sent) = (VecDeque::new(), 0, 0, 0);
    let mut now = Time::ZERO;
    while complete < files {
        assert!(now < 60 * SECOND, "{complete} of {files} files after a minute");
        while let Some(action) = engine.next_action(now) {
            match action {
                Action::Read { from: From::Origin, .. } => from_origin += 1,
                Action::Read { read, chunks, .. } => asked.push_back((read, chunks.end - chunks.start)),
                Action::Cancel { read } => asked.retain(|(asked, _)| *asked != read),
                Action::Tell { message: FileMessage { file, body: FileWord::Follow }, .. } => {
                    engine.handle(Event::Told { peer, message: FileMessage { file, body: FileWord::Complete(CONTENT) } }, now);
                }
                Action::FetchHashes { file, content, .. } => {
                    let compared = Compared::Known { fits: vec![], dropped: vec![], contradicted: vec![] };
                    engine.handle(Event::Hashes { file, peer, content, compared }, now);
                }
                Action::Complete { file } => {
                    complete += 1;
                    engine.handle(Event::Proven { file, content: CONTENT, liars: vec![] }, now);
                }
                Action::Tell { .. } | Action::Ban { .. } | Action::GiveUp { .. } => {}
            }
        }
        now += Duration::from_millis(1);
        if now == SECOND / 2 {
            now += stopped;
        }
        if now >= silent && !asked.is_empty() {
            sent += BYTES_PER_MILLISECOND;
        }
        while let Some((read, chunks)) = asked.front_mut().filter(|_| sent >= CHUNK_BYTES) {
            sent -= CHUNK_BYTES;
            let read = *read;
            *chunks -= 1;
            let last = *chunks == 0;
            engine.handle(Event::Arrived { read, chunks: 1 }, now);
            if last {
                asked.pop_front();
                engine.handle(Event::Ended { read, outcome: Outcome::Complete }, now);
            }
        }
    }
    from_origin
}

#[test]
fn files_that_share_a_line_are_in_time_together() {
    assert_eq!(read_from_origin(8, Duration::ZERO, Duration::ZERO), 0);
}

#[test]
fn a_peer_that_takes_a_moment_to_begin_is_waited_for() {
    assert_eq!(read_from_origin(1, Duration::from_millis(1900), Duration::ZERO), 0);
}

#[test]
fn a_node_that_was_stopped_blames_no_peer() {
    assert_eq!(read_from_origin(1, Duration::ZERO, 3 * SECOND), 0);
}
