//! What the broker tells of itself and lets an operator do: the admin door's side of [`Handle`](super::Handle).
//!
//! Everything is plain values, gathered without holding a lock for long: lists come a page at a time, sorted by client
//! identifier or topic, and a page begins behind the last item of the one before. What changes in between is seen or
//! not; nothing that stays is left out or given twice.
//!
//! | file | its story |
//! | --- | --- |
//! | `status` | figures of the whole broker |
//! | `clients`, `sessions`, `subscriptions` | who is here, who was, and what they want |
//! | `retained` | what is kept for topics |
//! | `explain` | what stands between a message and a client |
//! | `page`, `time` | parts of lists, and when |

mod clients;
mod explain;
mod page;
mod retained;
mod sessions;
mod status;
mod subscriptions;
mod time;

pub use clients::{ClientDetail, ClientLimits, ClientSummary, DroppedRun, SessionOfClient, Who};
pub use explain::{Explanation, Step};
pub use page::Page;
pub use retained::{RetainedDetail, RetainedSummary, UserProperty};
pub use sessions::{SessionDetail, SessionSummary, WillSummary};
pub use status::{Clients, Journal, Memory, Queued, Retained, Snapshot};
pub use subscriptions::{SubscriptionOfClient, SubscriptionSummary};
pub use time::Time;
