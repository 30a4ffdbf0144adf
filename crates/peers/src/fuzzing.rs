//! The readers of what nodes of a market say, for a fuzzer.

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use futures::FutureExt;
use larder_content::PieceRow;
use larder_content::fuzzing::Target;
use libp2p::Multiaddr;
use tokio::runtime::{Builder, Runtime};

use crate::address::{at_address_of, network_of, reach_of, told_by};
use crate::book::{Book, KnownBan, KnownPeer, MOST_ADDRESSES, MOST_KNOWN, decode_book, encode_book};
use crate::control::{ControlRecord, FileMessageRecord, RowRecord};
use crate::event::Sighting;
use crate::exchange::{MOST_ASKS, MOST_CHUNKS, MOST_HASHES, MOST_ROWS, PIECE_BYTES, Part, Wanted, read_answers, read_asks};
use crate::frame;
use crate::identity::Identity;
use crate::shared::Shared;

/// This crate's readers. Those of streams also hold a whole frame, or piece, from when its length came.
pub const TARGETS: &[Target] = &[
    Target::new("control", control).of_records(2),
    Target::new("asks", asks).of_records(0),
    Target::new("answers", answers).holding(2 * PIECE_BYTES, 256),
    Target::new("gossip", crate::swarm::check_gossip).of_records(2),
    Target::new("book", book).of_records(2),
    Target::new("addresses", addresses),
    Target::new("key", key),
];

/// How long a row of holdings is good at most.
const LONGEST: Duration = Duration::from_secs(3600);

/// What a peer says over its control stream: each frame is written as it was read.
fn control(mut sent: &[u8]) {
    while let Some(Ok((record, length))) = frame::read::<ControlRecord>(&mut sent).now_or_never() {
        let bytes = frame::encode(&record).unwrap_or_default();
        assert!((4..=length).contains(&bytes.len()), "{length} bytes became {}", bytes.len());
        let again = frame::read::<ControlRecord>(&mut &bytes[..]).now_or_never().and_then(Result::ok);
        assert_eq!(again.and_then(|(record, _)| frame::encode(&record).ok()), Some(bytes));
        said(record);
    }
}

fn said(record: ControlRecord) {
    let rows = |rows: Vec<RowRecord>| assert!(rows.into_iter().all(|row| row.into_row(LONGEST).expires_in <= LONGEST));
    match record {
        ControlRecord::Told(record) => {
            let Some(message) = record.into_message() else { return };
            let records = FileMessageRecord::of(message.clone()).unwrap_or_default();
            let again: Vec<_> = records.into_iter().filter_map(FileMessageRecord::into_message).collect();
            assert!(again == [message.clone()] || message.body == larder_content::FileWord::Have(Vec::new()));
        }
        ControlRecord::Holders { rows, .. } => drop(rows.into_iter().map(Sighting::from).collect::<Vec<_>>()),
        ControlRecord::Peers(peers) => assert!(peers.into_iter().all(|peer| KnownPeer::from(peer).addresses.len() <= MOST_ADDRESSES)),
        ControlRecord::News(news) => rows(news),
        ControlRecord::All { rows: all, .. } => rows(all),
        ControlRecord::Hello(hello) => lines(&hello.seen_at, &hello.addresses),
        ControlRecord::WhoHas { .. } | ControlRecord::WhoIsThere | ControlRecord::Digest { .. } | ControlRecord::TellAll => {}
        ControlRecord::Bye => {}
    }
}

/// Questions for chunks and hashes: as many as may be open, each for as much as one may be for.
fn asks(sent: &[u8]) {
    let (asks, _) = read_asks(sent).now_or_never().unwrap_or_else(|| panic!("it waits for nothing"));
    let count = |wanted: &Wanted| match wanted {
        Wanted::Chunks(chunks) => (chunks.end - chunks.start, MOST_CHUNKS),
        Wanted::Hashes(chunks) => (chunks.end - chunks.start, MOST_HASHES),
        Wanted::Pieces(rows) => (rows.end - rows.start, MOST_ROWS),
    };
    assert!(asks.len() <= MOST_ASKS && asks.iter().map(count).all(|(count, most)| (1..=most).contains(&count)));
}

/// Answers with their bytes: what is taken was asked for, and came.
fn answers(sent: &[u8]) {
    static SHARED: LazyLock<Option<(Shared, Runtime)>> =
        LazyLock::new(|| Some((Shared::for_test().0, Builder::new_current_thread().enable_time().build().ok()?)));
    let Some((shared, runtime)) = &*SHARED else { return };
    let wanted = [Wanted::Chunks(0..4), Wanted::Hashes(0..4), Wanted::Pieces(0..3), Wanted::Chunks(9..12)];
    let (answers, _) = runtime.block_on(read_answers(shared, &wanted, sent));
    let mut bytes = 0;
    for (answer, wanted) in answers.into_iter().zip(wanted) {
        for part in answer.into_iter().flatten() {
            match (part, &wanted) {
                (Part::Piece { piece, .. }, Wanted::Chunks(chunks)) => {
                    assert!(piece.fits(chunks), "{piece:?} where {chunks:?} were asked for");
                    bytes += piece.bytes.len();
                }
                (Part::Hashes(hashes), Wanted::Hashes(chunks)) => {
                    assert_eq!(hashes.len() as u64, chunks.end - chunks.start);
                    bytes += 32 * hashes.len();
                }
                (Part::Pieces(rows), Wanted::Pieces(wanted)) => {
                    assert!(rows.len() as u64 <= wanted.end - wanted.start);
                    bytes += PieceRow::BYTES * rows.len();
                }
                (Part::End, _) => {}
                (part, wanted) => panic!("{part:?} where {wanted:?} were asked for"),
            }
        }
    }
    assert!(bytes <= sent.len());
    shared.queue.buffers.clear();
}

/// The book of known peers: what is kept of it is kept again as it is.
fn book(bytes: &[u8]) {
    let now = UNIX_EPOCH + Duration::from_secs(1 << 31);
    let Ok(book) = decode_book(bytes, now) else { return };
    assert!(book.peers.len() <= MOST_KNOWN && book.peers.iter().all(|peer| peer.addresses.len() <= MOST_ADDRESSES));
    assert_eq!(decode_book(&encode_book(&book, now), now), Ok(book));
}

/// Addresses, one a line, that a peer tells which is at the first.
fn addresses(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut told = text.lines().map(str::to_owned);
    lines(&told.next().unwrap_or_default(), &told.collect::<Vec<_>>());
}

fn lines(teller: &str, told: &[String]) {
    let Ok(teller) = teller.parse::<Multiaddr>() else { return };
    for address in told_by(&teller, told) {
        assert!(reach_of(&address) >= reach_of(&teller) && network_of(&address).is_none_or(|network| !network.to_string().is_empty()));
        assert_eq!(address.to_string().parse().ok(), Some(address.clone()));
        if let Some(seen) = at_address_of(&address, &teller) {
            assert!(seen.iter().count() <= 3 && reach_of(&seen) == reach_of(&teller));
        }
    }
}

/// A Solana key file: what is taken is a key.
fn key(bytes: &[u8]) {
    if let Ok(identity) = Identity::from_solana(&String::from_utf8_lossy(bytes)) {
        assert_eq!(Identity::from_seed(identity.seed()).id(), identity.id());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{HelloRecord, HolderRecord};
    use crate::exchange::{AnswerRecord, AskRecord};
    use crate::holdings::Row;
    use larder_content::codec::Record;
    use larder_content::{ChunkHash, Claim, ContentId, FileKey, FileMessage, FileWord, Holding, NodeId, Subject};

    const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

    #[test]
    fn every_seed_of_the_corpus_is_read() {
        larder_content::fuzzing::replay(TARGETS, CORPUS);
    }

    fn keep(place: &str, frames: Vec<Vec<u8>>) {
        let path = std::path::Path::new(CORPUS).join(place);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, frames.concat()).unwrap();
    }

    fn framed<R: Record>(record: R) -> Vec<u8> {
        frame::encode(&record).unwrap()
    }

    #[test]
    fn answers_as_they_should_be_are_taken_whole() {
        let sent = std::fs::read(std::path::Path::new(CORPUS).join("answers/all")).unwrap();
        let wanted = [Wanted::Chunks(0..4), Wanted::Hashes(0..4), Wanted::Pieces(0..3), Wanted::Chunks(9..12)];
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let (answers, _) = runtime.block_on(read_answers(&Shared::for_test().0, &wanted, &sent));
        assert!(matches!(&answers[0][..], [Ok(Part::Piece { piece, .. }), Ok(Part::End)] if piece.claim.is_some()), "{answers:?}");
        assert!(matches!(&answers[1][..], [Ok(Part::Hashes(hashes)), Ok(Part::End)] if hashes.len() == 4), "{answers:?}");
        assert!(matches!(&answers[2][..], [Ok(Part::Pieces(rows)), Ok(Part::End)] if rows.len() == 2), "{answers:?}");
        assert!(matches!(&answers[3][..], [Ok(Part::Piece { .. }), Err(_)]), "{answers:?}");
    }

    #[test]
    #[ignore = "writes the binary seeds anew, for another version of what is sent"]
    fn the_seeds_of_the_control_stream_are_written() {
        let (node, file) = (NodeId([3; 32]), FileKey([7; 32]));
        let rows: Vec<RowRecord> = [Holding::Complete, Holding::Fetching, Holding::Gone]
            .map(|holding| RowRecord::from(&Row { subject: Subject([5; 32]), holding, expires_in: LONGEST }))
            .to_vec();
        let addresses = vec!["/ip4/198.18.0.1/tcp/4001".to_owned(), "/ip6/2001:db8::1/udp/4001/quic-v1".to_owned()];
        let peer = KnownPeer { node, addresses: addresses.clone() };
        let seen_at = "/ip4/198.18.0.9/tcp/9".to_owned();
        let hello = HelloRecord { addresses, is_bootstrap: false, run: 1 << 40, seen_at };
        let holder = HolderRecord::from(&Sighting { subject: Subject([5; 32]), node, holding: Holding::Complete });
        keep(
            "control/talk",
            vec![
                framed(ControlRecord::Hello(hello)),
                framed(ControlRecord::Digest { rows: 3, sum: u64::MAX }),
                framed(ControlRecord::WhoHas { question: 1, subjects: vec![[5; 32]; 2] }),
                framed(ControlRecord::Holders { question: 1, is_last: true, rows: vec![holder; 2] }),
                framed(ControlRecord::WhoIsThere),
                framed(ControlRecord::Peers(vec![(&peer).into()])),
                framed(ControlRecord::Bye),
            ],
        );
        keep(
            "control/holdings",
            vec![
                framed(ControlRecord::News(rows.clone())),
                framed(ControlRecord::TellAll),
                framed(ControlRecord::All { is_first: true, is_last: true, rows: rows.clone() }),
            ],
        );
        let words = [
            FileWord::Follow,
            FileWord::Have(vec![0..3, 7..u64::MAX]),
            FileWord::Reading(vec![4..300]),
            FileWord::Knows(ContentId([9; 32])),
            FileWord::Complete(ContentId([9; 32])),
            FileWord::Nothing,
            FileWord::Unfollow,
        ];
        let told = words.map(|body| framed(ControlRecord::Told(FileMessageRecord::of(FileMessage { file, body }).unwrap().remove(0))));
        keep("control/words", told.to_vec());
        let bans = vec![KnownBan { node, left: Duration::from_secs(60), offences: 1 }];
        let book = Book { peers: vec![peer.clone(), KnownPeer { addresses: Vec::new(), ..peer }], bans };
        keep("book/two", vec![encode_book(&book, UNIX_EPOCH + Duration::from_secs(1 << 31))]);
        keep("gossip/rows", vec![crate::swarm::gossip_of(rows)]);
    }

    #[test]
    #[ignore = "writes the binary seeds anew, for another version of what is sent"]
    fn the_seeds_of_the_bulk_stream_are_written() {
        let file = FileKey([7; 32]);
        keep(
            "asks/both",
            vec![
                framed(AskRecord::Chunks { file: file.0, content: None, first: 5, count: 64 }),
                framed(AskRecord::Cancel { ask: 0 }),
                framed(AskRecord::Hashes { file: file.0, content: Some([9; 32]), first: 0, count: 16_384 }),
                framed(AskRecord::Pieces { file: file.0, first: 16_384, count: 9 }),
            ],
        );
        let (identity, hashes) = (Identity::from_seed([1; 32]), vec![ChunkHash([2; 32]); 4]);
        let signature = identity.sign(&Claim::digest("market", file, 0, &hashes));
        let claim = Claim { file, first: 0, hashes, signer: identity.id(), signature };
        let piece = |first, claim| framed(AnswerRecord::Piece { first, bytes: 10, claim, content: Some([9; 32]) });
        keep(
            "answers/all",
            vec![
                piece(0, Some((&claim).into())),
                vec![b'x'; 10],
                framed(AnswerRecord::End),
                framed(AnswerRecord::Hashes { count: 4 }),
                vec![6; 4 * 32],
                framed(AnswerRecord::End),
                framed(AnswerRecord::Pieces { count: 2 }),
                PieceRow::encode(&[PieceRow { bytes: 9, hash: [7; 32] }; 2]),
                framed(AnswerRecord::End),
                piece(9, None),
                vec![b'y'; 10],
                framed(AnswerRecord::Refused),
            ],
        );
        keep("answers/none", vec![framed(AnswerRecord::Refused), framed(AnswerRecord::End)]);
        let numbers: Vec<String> = identity.seed().iter().chain(&identity.id().0).map(u8::to_string).collect();
        keep("key/pair", vec![format!("[{}]", numbers.join(", ")).into_bytes()]);
    }
}
