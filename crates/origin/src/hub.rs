//! A HuggingFace hub.
