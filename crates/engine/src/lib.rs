//! Decides which chunk to take from where.
