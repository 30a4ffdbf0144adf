//! Nothing here: the promises are in the test binary.
