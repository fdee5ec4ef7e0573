//! Time and tasks: what happens next, in an order that only the seed decides.
//!
//! Events wait in a heap by time and number. Between two events every task that was woken goes on, in the order in which
//! they were woken. A task belongs to a *scope*, the run of a process, and ends with it wherever it stands: so a crash
//! may come between any two steps of anything.

use crate::dice::Dice;
use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, Ordering as Atomic};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The scope of what no crash ends: clients, faults.
pub(crate) const WORLD: u64 = 0;

type Job = Pin<Box<dyn Future<Output = ()>>>;

/// What happens at a time.
enum Happening {
    /// Wakes who still waits for it.
    Wake(Waker, Weak<()>),
    Do(Box<dyn FnOnce()>),
}

struct Event {
    at: u64,
    number: u64,
    what: Happening,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    /// The heap gives the greatest first: that is to be the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// The tasks that go on next. Wakers must be free to go to other threads, though none of ours ever does.
#[derive(Default)]
struct Ready(Mutex<VecDeque<u64>>);

struct Notice {
    task: u64,
    is_listed: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Notice {
    fn wake(self: Arc<Self>) {
        if !self.is_listed.swap(true, Atomic::Relaxed) {
            self.ready.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.task);
        }
    }
}

struct Task {
    scope: u64,
    /// Not there while it is polled.
    job: Option<Job>,
    notice: Arc<Notice>,
}

/// The clock, the events, the tasks and the dice of one world.
pub(crate) struct Agenda {
    now: Cell<u64>,
    number: Cell<u64>,
    events: RefCell<BinaryHeap<Event>>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    ready: Arc<Ready>,
    dice: RefCell<Dice>,
    steps: Cell<u64>,
}

impl Agenda {
    pub(crate) fn new(seed: u64) -> Rc<Self> {
        Rc::new(Self {
            now: Cell::new(0),
            number: Cell::new(0),
            events: RefCell::default(),
            tasks: RefCell::default(),
            ready: Arc::default(),
            dice: RefCell::new(Dice::new(seed)),
            steps: Cell::new(0),
        })
    }

    /// Milliseconds since the world began.
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// How many events and turns of tasks there were.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.get()
    }

    pub(crate) fn any(&self) -> u64 {
        self.dice.borrow_mut().any()
    }

    pub(crate) fn between(&self, low: u64, high: u64) -> u64 {
        self.dice.borrow_mut().between(low, high)
    }

    pub(crate) fn chance(&self, per_mille: u64) -> bool {
        self.dice.borrow_mut().chance(per_mille)
    }

    pub(crate) fn place(&self, length: usize) -> usize {
        self.dice.borrow_mut().place(length)
    }

    fn next_number(&self) -> u64 {
        self.number.set(self.number.get() + 1);
        self.number.get()
    }

    fn plan(&self, at: u64, what: Happening) {
        let number = self.next_number();
        self.events.borrow_mut().push(Event { at, number, what });
    }

    /// Does `what` in `delay` milliseconds.
    pub(crate) fn after(&self, delay: u64, what: impl FnOnce() + 'static) {
        self.plan(self.now() + delay, Happening::Do(Box::new(what)));
    }

    /// Returns in `delay` milliseconds.
    pub(crate) async fn sleep(&self, delay: u64) {
        let (end, waits) = (self.now() + delay, Rc::new(()));
        let mut is_planned = false;
        poll_fn(|context| {
            if self.now() >= end {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut is_planned, true) {
                self.plan(end, Happening::Wake(context.waker().clone(), Rc::downgrade(&waits)));
            }
            Poll::Pending
        })
        .await;
    }

    /// What comes of `future`, if that takes no longer than `patience`.
    pub(crate) async fn timeout<T>(&self, patience: u64, future: impl Future<Output = T>) -> Option<T> {
        let (mut future, mut end) = (Box::pin(future), Box::pin(self.sleep(patience)));
        poll_fn(|context| {
            if let Poll::Ready(done) = future.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            end.as_mut().poll(context).map(|()| None)
        })
        .await
    }

    /// Begins a task, which ends with its scope at the latest.
    pub(crate) fn spawn(&self, scope: u64, job: impl Future<Output = ()> + 'static) {
        let task = self.next_number();
        let notice = Arc::new(Notice { task, is_listed: AtomicBool::new(false), ready: Arc::clone(&self.ready) });
        self.tasks.borrow_mut().insert(task, Task { scope, job: Some(Box::pin(job)), notice: Arc::clone(&notice) });
        notice.wake();
    }

    /// Ends every task of a scope where it stands.
    pub(crate) fn end(&self, scope: u64) {
        let ended: Vec<Task> =
            self.tasks.borrow_mut().extract_if(.., |_, task| task.scope == scope).map(|(_, task)| task).collect();
        // Dropped with nothing borrowed: guards that they hold give back what they hold.
        drop(ended);
    }

    /// Ends everything, so that nothing holds the world any more.
    pub(crate) fn clear(&self) {
        let (tasks, events) =
            (std::mem::take(&mut *self.tasks.borrow_mut()), std::mem::take(&mut *self.events.borrow_mut()));
        drop((tasks, events));
    }

    /// Lets happen what happens up to `end`.
    pub(crate) fn run(&self, end: u64) {
        loop {
            while let Some(task) = self.next_ready() {
                self.turn(task);
            }
            let event = {
                let mut events = self.events.borrow_mut();
                if events.peek().is_none_or(|event| event.at > end) {
                    break;
                }
                events.pop()
            };
            let Some(event) = event else { break };
            self.steps.set(self.steps.get() + 1);
            self.now.set(event.at);
            match event.what {
                Happening::Wake(waker, waits) if waits.strong_count() > 0 => waker.wake(),
                Happening::Wake(..) => {}
                Happening::Do(what) => what(),
            }
        }
        self.now.set(end);
    }

    fn next_ready(&self) -> Option<u64> {
        self.ready.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn turn(&self, task: u64) {
        let taken = {
            let mut tasks = self.tasks.borrow_mut();
            tasks.get_mut(&task).and_then(|task| Some((task.job.take()?, Arc::clone(&task.notice))))
        };
        let Some((mut job, notice)) = taken else { return };
        self.steps.set(self.steps.get() + 1);
        notice.is_listed.store(false, Atomic::Relaxed);
        let waker = Waker::from(notice);
        if job.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.tasks.borrow_mut().remove(&task);
        } else if let Some(task) = self.tasks.borrow_mut().get_mut(&task) {
            task.job = Some(job);
        }
    }
}

/// Tells those who wait that something may be as they wish.
#[derive(Default)]
pub(crate) struct Signal {
    waiting: RefCell<Vec<Waker>>,
    /// How often it was told.
    count: Cell<u64>,
}

impl Signal {
    pub(crate) fn notify(&self) {
        self.count.set(self.count.get() + 1);
        std::mem::take(&mut *self.waiting.borrow_mut()).into_iter().for_each(Waker::wake);
    }

    fn wait(&self, context: &Context<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
    }

    /// Returns when somebody notifies the next time.
    pub(crate) async fn next(&self) {
        let count = self.count.get();
        self.until(|| self.count.get() > count).await;
    }

    /// Returns when `wished` is so; it is looked at again whenever somebody notifies.
    pub(crate) async fn until(&self, mut wished: impl FnMut() -> bool) {
        poll_fn(|context| {
            if wished() {
                return Poll::Ready(());
            }
            self.wait(context);
            Poll::Pending
        })
        .await;
    }
}

/// A place for one answer.
pub(crate) struct Slot<T> {
    value: RefCell<Option<T>>,
    signal: Signal,
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self { value: RefCell::new(None), signal: Signal::default() })
    }

    /// The first answer counts.
    pub(crate) fn put(&self, value: T) {
        self.value.borrow_mut().get_or_insert(value);
        self.signal.notify();
    }

    pub(crate) async fn take(&self) -> T {
        poll_fn(|context| match self.value.borrow_mut().take() {
            Some(value) => Poll::Ready(value),
            None => {
                self.signal.wait(context);
                Poll::Pending
            }
        })
        .await
    }
}
