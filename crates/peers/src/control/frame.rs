//! What is on a control stream: frames of at most 64 KiB.

use larder_content::codec::Record;
use larder_content::{ContentId, FileKey, FileMessage, FileWord, Holding, NodeId, Subject};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::time::Duration;

use crate::book::KnownPeerRecord;
use crate::event::Sighting;
use crate::holdings::Row;

/// The most subjects in one question.
pub(crate) const SUBJECTS_A_FRAME: usize = 1024;
/// The most rows of holdings in one frame: 38 bytes each at most, or 65 with whose they are.
pub(crate) const ROWS_A_FRAME: usize = 900;
/// The most ranges in one message about a file.
const RANGES_A_FRAME: usize = 3000;

/// Everything that is said on a control stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ControlRecord {
    /// The first frame, and only that.
    Hello(HelloRecord),
    /// Something of a file, for the node behind.
    Told(FileMessageRecord),
    /// Who holds or fetches these?
    WhoHas { question: u32, subjects: Vec<[u8; 32]> },
    /// The answer, in several frames if it is long; question 0 is news of what was asked for earlier.
    Holders { question: u32, is_last: bool, rows: Vec<HolderRecord> },
    /// Whom do you know?
    WhoIsThere,
    /// Peers that the sender is connected to.
    Peers(Vec<KnownPeerRecord>),
    /// What has changed of the sender's own holdings.
    News(Vec<RowRecord>),
    /// What the sender's own holdings come to.
    Digest { rows: u32, sum: u64 },
    /// They come to something else here: tell them all.
    TellAll,
    /// All of the sender's own holdings, in several frames.
    All { is_first: bool, is_last: bool, rows: Vec<RowRecord> },
    /// The sender is about to leave.
    Bye,
}

impl Record for ControlRecord {
    const VERSION: u8 = 1;
    const LIMIT_BYTES: usize = 64 * 1024;
}

/// Who speaks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HelloRecord {
    /// Where it listens, as it sees itself.
    pub(crate) addresses: Vec<String>,
    /// Whether it is a bootstrap.
    pub(crate) is_bootstrap: bool,
    /// The number of this run of the sender, under which it counts its gossip: greater than those of its runs before, unless its
    /// clock was set back.
    pub(crate) run: u64,
    /// Where the sender sees the one it speaks to.
    pub(crate) seen_at: String,
}

/// One row of the sender's own holdings, and for how many seconds more it is good.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct RowRecord {
    pub(crate) subject: [u8; 32],
    pub(crate) holding: HoldingRecord,
    pub(crate) seconds: u32,
}

impl RowRecord {
    /// The row, good for `longest` at most.
    pub(crate) fn into_row(self, longest: Duration) -> Row {
        let expires_in = Duration::from_secs(self.seconds.into()).min(longest);
        Row { subject: Subject(self.subject), holding: self.holding.into(), expires_in }
    }
}

impl From<&Row> for RowRecord {
    fn from(row: &Row) -> Self {
        let seconds = u32::try_from(row.expires_in.as_secs()).unwrap_or(u32::MAX);
        Self { subject: row.subject.0, holding: row.holding.into(), seconds }
    }
}

/// A [`Holding`] as it is sent.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum HoldingRecord {
    Complete,
    Fetching,
    Gone,
}

impl From<Holding> for HoldingRecord {
    fn from(holding: Holding) -> Self {
        match holding {
            Holding::Complete => Self::Complete,
            Holding::Fetching => Self::Fetching,
            Holding::Gone => Self::Gone,
        }
    }
}

impl From<HoldingRecord> for Holding {
    fn from(record: HoldingRecord) -> Self {
        match record {
            HoldingRecord::Complete => Self::Complete,
            HoldingRecord::Fetching => Self::Fetching,
            HoldingRecord::Gone => Self::Gone,
        }
    }
}

/// A [`Sighting`] as it is sent.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct HolderRecord {
    subject: [u8; 32],
    node: [u8; 32],
    holding: HoldingRecord,
}

impl From<&Sighting> for HolderRecord {
    fn from(sighting: &Sighting) -> Self {
        Self { subject: sighting.subject.0, node: sighting.node.0, holding: sighting.holding.into() }
    }
}

impl From<HolderRecord> for Sighting {
    fn from(record: HolderRecord) -> Self {
        Self { subject: Subject(record.subject), node: NodeId(record.node), holding: record.holding.into() }
    }
}

/// A [`FileMessage`] as it is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FileMessageRecord {
    file: [u8; 32],
    word: FileWordRecord,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum FileWordRecord {
    Follow,
    Unfollow,
    Complete([u8; 32]),
    Knows([u8; 32]),
    Have(Vec<(u64, u64)>),
    Reading(Vec<(u64, u64)>),
    Nothing,
}

impl FileMessageRecord {
    /// The frames for one message: a long list of chunks takes several. None if it cannot be said.
    pub(crate) fn of(message: FileMessage) -> Option<Vec<Self>> {
        let file = message.file.0;
        let one = |word| Some(vec![Self { file, word }]);
        match message.body {
            FileWord::Follow => one(FileWordRecord::Follow),
            FileWord::Unfollow => one(FileWordRecord::Unfollow),
            FileWord::Complete(content) => one(FileWordRecord::Complete(content.0)),
            FileWord::Knows(content) => one(FileWordRecord::Knows(content.0)),
            FileWord::Have(ranges) => {
                let word = |ranges: &[Range<u64>]| FileWordRecord::Have(ranges.iter().map(|range| (range.start, range.end)).collect());
                Some(ranges.chunks(RANGES_A_FRAME).map(|ranges| Self { file, word: word(ranges) }).collect())
            }
            FileWord::Reading(ranges) if ranges.len() > RANGES_A_FRAME => None,
            FileWord::Reading(ranges) => one(FileWordRecord::Reading(ranges.iter().map(|range| (range.start, range.end)).collect())),
            FileWord::Nothing => one(FileWordRecord::Nothing),
        }
    }

    /// The message, if its ranges are ranges.
    pub(crate) fn into_message(self) -> Option<FileMessage> {
        let body = match self.word {
            FileWordRecord::Follow => FileWord::Follow,
            FileWordRecord::Unfollow => FileWord::Unfollow,
            FileWordRecord::Complete(content) => FileWord::Complete(ContentId(content)),
            FileWordRecord::Knows(content) => FileWord::Knows(ContentId(content)),
            FileWordRecord::Have(ranges) => FileWord::Have(ranges_of(ranges)?),
            FileWordRecord::Reading(ranges) => FileWord::Reading(ranges_of(ranges)?),
            FileWordRecord::Nothing => FileWord::Nothing,
        };
        Some(FileMessage { file: FileKey(self.file), body })
    }
}

fn ranges_of(ranges: Vec<(u64, u64)>) -> Option<Vec<Range<u64>>> {
    let fits = ranges.len() <= RANGES_A_FRAME && ranges.iter().all(|(start, end)| start < end);
    fits.then(|| ranges.into_iter().map(|(start, end)| start..end).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_content::codec;

    fn sent(record: ControlRecord) -> ControlRecord {
        codec::decode(&codec::encode(&record).unwrap()).unwrap()
    }

    #[test]
    fn a_long_list_of_chunks_takes_several_frames_that_fit() {
        let ranges: Vec<Range<u64>> = (0..10_000).map(|at| u64::MAX - 3 * at - 1..u64::MAX - 3 * at).collect();
        let message = FileMessage { file: FileKey([1; 32]), body: FileWord::Have(ranges.clone()) };
        let mut found = Vec::new();
        for record in FileMessageRecord::of(message).unwrap() {
            let ControlRecord::Told(record) = sent(ControlRecord::Told(record)) else { panic!("another frame") };
            let FileWord::Have(some) = record.into_message().unwrap().body else { panic!("another word") };
            found.extend(some);
        }
        assert_eq!(found, ranges);
    }

    #[test]
    fn full_frames_are_within_the_limit() {
        let row = RowRecord { subject: [255; 32], holding: HoldingRecord::Gone, seconds: u32::MAX };
        let holder = HolderRecord { subject: [255; 32], node: [255; 32], holding: HoldingRecord::Gone };
        sent(ControlRecord::WhoHas { question: u32::MAX, subjects: vec![[255; 32]; SUBJECTS_A_FRAME] });
        sent(ControlRecord::News(vec![row; ROWS_A_FRAME]));
        sent(ControlRecord::Holders { question: u32::MAX, is_last: true, rows: vec![holder; ROWS_A_FRAME] });
    }

    #[test]
    fn ranges_that_are_none_are_refused() {
        let word = FileWordRecord::Have(vec![(3, 3)]);
        assert!(FileMessageRecord { file: [1; 32], word }.into_message().is_none());
    }
}
