//! Threads for what takes long, with a bounded queue: when that is full, the answer is no at once.

use crate::env::task;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// The threads; they end with the last handle of the pool.
pub(super) struct Pool {
    jobs: SyncSender<Job>,
    pub(super) threads: usize,
    pub(super) queue: usize,
}

/// Every place in the queue was taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Pool {
    pub(super) fn new(name: &str, threads: usize, queue: usize) -> io::Result<Self> {
        let (jobs, receiver) = sync_channel::<Job>(queue);
        let receiver = Arc::new(parking_lot::Mutex::new(receiver));
        for number in 0..threads {
            let receiver = Arc::clone(&receiver);
            task::thread(&format!("{name}-{number}"), move || work(&receiver))?;
        }
        Ok(Self { jobs, threads, queue })
    }

    /// Does `job` on a thread of the pool. If the caller goes away meanwhile, the job is done in vain.
    pub(super) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Full> {
        let (sender, receiver) = oneshot::channel();
        let job = Box::new(move || {
            if !sender.is_closed() {
                // The caller may have gone.
                let _ = sender.send(job());
            }
        });
        self.jobs.try_send(job).map_err(|_| Full)?;
        // A job that panics answers nothing: as good as no place.
        receiver.await.map_err(|_| Full)
    }
}

fn work(jobs: &parking_lot::Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().recv();
        let Ok(job) = job else { return };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
            tracing::error!("a thread that checks credentials failed at one of them");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_full_queue_says_no_and_a_panic_harms_nobody() {
        let pool = Arc::new(Pool::new("test", 1, 1).unwrap());
        let (hold, held) = sync_channel::<()>(1);
        let first = {
            let pool = Arc::clone(&pool);
            task::spawn(async move { pool.run(move || held.recv().is_ok()).await })
        };
        // The thread takes the first job at some time; then there is one place.
        let mut waiting = Vec::new();
        loop {
            tokio::task::yield_now().await;
            let pool = Arc::clone(&pool);
            let next = task::spawn(async move { pool.run(|| 2).await });
            tokio::task::yield_now().await;
            if next.is_finished() {
                assert_eq!(next.await.unwrap(), Err(Full));
                break;
            }
            waiting.push(next);
        }
        hold.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(true));
        for next in waiting {
            assert_eq!(next.await.unwrap(), Ok(2));
        }
        let failed = pool.run(|| panic!("as tests do")).await;
        assert_eq!(failed, Err::<(), _>(Full));
        assert_eq!(pool.run(|| 3).await, Ok(3));
    }
}
