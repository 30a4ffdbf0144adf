//! Test origins that count, and fail when told to.
