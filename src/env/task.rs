//! Threads and tasks.

use nightjar_base::Tick;
use std::future::Future;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

pub use tokio::task::JoinHandle as Task;
pub use tokio::time::{Interval, Sleep, error::Elapsed};

/// How many cores this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Starts a thread under a name that debuggers and panics show.
pub fn thread<T, F>(name: &str, work: F) -> io::Result<JoinHandle<T>>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Starts a task on the runtime of this thread.
pub fn spawn<F>(work: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(work)
}

/// A task that ends with whoever holds it.
#[derive(Debug)]
pub struct Held(Task<()>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// As [`spawn`], for a task that ends with whoever holds what is returned.
pub fn hold<F>(work: F) -> Held
where
    F: Future<Output = ()> + Send + 'static,
{
    Held(spawn(work))
}

/// Sleeps until the clock that reads `now` will read `deadline`; not at all if it is past.
pub async fn sleep_until(now: Tick, deadline: Tick) {
    tokio::time::sleep(Duration::from_millis(deadline.since(now))).await;
}

/// Lets the other tasks of this thread have their turn.
pub async fn pause() {
    tokio::task::yield_now().await;
}

/// Sleeps.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// A sleep that has begun when this returns, whenever it is waited for.
pub fn timer(duration: Duration) -> Sleep {
    tokio::time::sleep(duration)
}

/// Wakes every `period`, first after one period. A wake-up that was missed is left out, not made up for.
#[must_use]
pub fn interval(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    interval
}

/// Gives `work` this much time.
pub async fn timeout<F: Future>(duration: Duration, work: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout(duration, work).await
}

/// Does `work`, which may block, on a thread of its own.
///
/// # Errors
/// When the system gives no thread, or `work` panicked.
pub async fn blocking<T, F>(name: &str, work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let (sender, receiver) = tokio::sync::oneshot::channel();
    thread(name, move || {
        let _ = sender.send(work());
    })?;
    receiver.await.map_err(|_| io::Error::other("the thread panicked"))
}
