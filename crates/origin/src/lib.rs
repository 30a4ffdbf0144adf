//! Lists files with digests and reads ranges.
