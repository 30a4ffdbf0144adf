//! Keeps verified chunks and lays files into targets.
