//! System call policies.
//!
//! A [`Policy`] is the document that a person reads. Resolved to numbers, per audit arch, it
//! becomes [`Rules`], a total function from what a filter sees to an action: what the compiler
//! takes and what every comparison is about. A [`Recording`] is what was observed of a workload,
//! and what policies are generated from.
//!
//! The crate does no I/O.
#![forbid(unsafe_code)]

mod action;
pub mod baseline;
pub mod call;
pub mod check;
mod closing;
pub mod diff;
mod document;
mod errno;
pub mod explain;
pub mod format;
mod generate;
pub mod log;
mod lower;
mod meaning;
mod merge;
mod narrow;
pub mod network;
pub mod policy;
mod principle;
mod print;
mod query;
mod raise;
pub mod recording;
mod replay;
pub mod rules;
mod satisfy;
mod schema;
pub mod score;
pub mod sets;
mod signature;
mod stack;
mod steps;
mod summary;
mod text;
mod when;

pub use action::action_text;
pub use errno::{errno_name, errno_number};
pub use generate::{GenerateError, GenerateOptions, generate};
pub use lower::{Because, LowerError};
pub use merge::MergeError;
pub use narrow::Narrowing;
pub use policy::Policy;
pub use query::Query;
pub use recording::Recording;
pub use replay::{Arguments, Attempt, Denial, Fallback, replay};
pub use rules::Rules;
pub use schema::schema;
pub use steps::StepError;
pub use summary::Summary;
pub use text::{MAX_BYTES, MAX_DEPTH, MAX_VALUES, ParseError, Place, Problem};
pub use when::{When, WhenError};
