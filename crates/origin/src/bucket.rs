//! S3 buckets and plain https folders.
