//! The Larder command.
fn main() {}
