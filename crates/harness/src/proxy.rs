//! A counting proxy before a real server.
