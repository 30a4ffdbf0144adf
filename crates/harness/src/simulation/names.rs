//! Names of nodes, files and contents: random, but for a number at their end.

use larder_content::{ContentId, FileKey, NodeId};

/// A name with a number in it.
fn name(kind: u64, number: u32, seed: u64) -> [u8; 32] {
    let mut random = fastrand::Rng::with_seed(seed ^ kind.rotate_left(48) ^ u64::from(number).rotate_left(8));
    let mut name = [0; 32];
    random.fill(&mut name[..28]);
    name[28..].copy_from_slice(&number.to_be_bytes());
    name
}

fn number(name: &[u8; 32]) -> u32 {
    u32::from_be_bytes([name[28], name[29], name[30], name[31]])
}

pub(super) fn node(number: u32, seed: u64) -> NodeId {
    NodeId(name(1, number, seed))
}

pub(super) fn number_of_node(node: NodeId) -> u32 {
    number(&node.0)
}

pub(super) fn file(number: u32, seed: u64) -> FileKey {
    FileKey(name(2, number, seed))
}

pub(super) fn number_of_file(file: FileKey) -> u32 {
    number(&file.0)
}

pub(super) fn content(number: u32, seed: u64) -> ContentId {
    ContentId(name(3, number, seed))
}
