//! What a stranger writes on the streams of a node of the market `market`.

/// The name of the control streams.
pub(crate) const CONTROL: &str = "/larder/market/control/1";
/// The name of the bulk streams.
pub(crate) const BULK: &str = "/larder/market/bulk/1";

/// A frame of these bytes.
pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], body].concat()
}

/// Version, kind, no addresses, no bootstrap, run 5, seen nowhere.
pub(crate) fn hello() -> Vec<u8> {
    frame(&[1, 0, 0, 0, 5, 0])
}

/// 900 holdings for an hour, numbered from `first`.
pub(crate) fn news(first: u32) -> Vec<u8> {
    let mut body = vec![1, 6, 251, 0x84, 0x03];
    for number in first..first + 900 {
        body.extend(blake3::hash(&number.to_le_bytes()).as_bytes());
        body.extend([0, 251, 0x10, 0x0e]);
    }
    frame(&body)
}
