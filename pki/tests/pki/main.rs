//! The promises of the private trust, from the outside.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod authority;
mod files;
mod handshake;
mod issue;
mod rollover;
mod support;
mod ten_years;
