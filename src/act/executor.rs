//! Programs of steps in a process of their own: `watchkeeper executor`, and the daemon's way to it.
//!
//! ```text
//!   daemon ──Unix socket──► executor ──lifeline──► keeper ──► the program
//! ```
//!
//! Each program has a connection of its own, which is its lifeline: when the daemon is done with it,
//! or is gone, the executor ends the program with all that it started, just as the daemon would
//! have. What the daemon asks for is all that the executor knows; it sends back what is printed, as
//! it comes and unmasked, and how it ended.

mod client;
mod frame;
mod permit;
mod server;
mod socket;

pub(crate) use client::jitter;
pub use client::{Executor, Lost};
pub use frame::read_frames;
pub use permit::Permit;
pub use server::{Bounded, serve};
pub use socket::{Place, Socket, group_number, user_number};
