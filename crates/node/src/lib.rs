//! Takes a job from definition to targets.
