//! Reads a job definition into resources and mounts.
