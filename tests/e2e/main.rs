//! Checks that need the real servers.
