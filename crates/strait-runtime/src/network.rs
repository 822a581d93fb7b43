//! Network by decision: calls that lead to an address, decided by a policy's `network` and made in the
//! caller's place.
//!
//! ```text
//! task        connect(fd, ADDRESS)  ─ notified ─> supervisor
//! supervisor  its own descriptor of the socket (pidfd_getfd), its own copy of the address
//!             is the call still waiting?  is the address on the list?
//!             connect(copy of fd, copy of address) ─ result ─> task
//! ```
//!
//! The address is read once. What was decided on is what the call is made with, so there is nothing that
//! could change in between; no call is ever let go on with the caller's own memory. Rules for calls
//! without an address, and the families and protocols that are refused, are the filter's
//! (`strait-policy`'s `closing.rs`). docs/design/074 has the reasons.

mod address;
mod authority;
mod call;
mod control;
mod hand;
mod service;
mod unix;

pub use hand::Reach;
pub use service::Service;
