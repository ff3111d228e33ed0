//! How a consumer's thread is woken: by commands of its owner and by librdkafka's "not empty" callback.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// Locks, whatever a panicking holder left behind: our critical sections leave no half-done state.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Commands to a thread, and its alarm clock.
#[derive(Debug)]
pub(crate) struct Mailbox<C> {
    state: Mutex<State<C>>,
    ready: Condvar,
}

#[derive(Debug)]
struct State<C> {
    commands: VecDeque<C>,
    woken: bool,
}

impl<C> Mailbox<C> {
    pub(crate) fn new() -> Arc<Self> {
        let state = State { commands: VecDeque::new(), woken: false };
        Arc::new(Self { state: Mutex::new(state), ready: Condvar::new() })
    }

    pub(crate) fn post(&self, command: C) {
        lock(&self.state).commands.push_back(command);
        self.ready.notify_one();
    }

    pub(crate) fn wake(&self) {
        lock(&self.state).woken = true;
        self.ready.notify_one();
    }

    /// Waits for a command or a wake-up, at most `timeout`; gives the commands there are.
    pub(crate) fn take(&self, timeout: Duration) -> VecDeque<C> {
        let state = lock(&self.state);
        let idle = |state: &mut State<C>| state.commands.is_empty() && !state.woken;
        let (mut state, _) =
            self.ready.wait_timeout_while(state, timeout, idle).unwrap_or_else(PoisonError::into_inner);
        state.woken = false;
        std::mem::take(&mut state.commands)
    }
}

/// Whether events get through to their receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// All handed over.
    Open,
    /// The channel is full; some wait.
    Full,
    /// The receiver is gone.
    Gone,
}

/// The sending end of a bounded channel, for a thread that must not block: what does not fit waits here, and
/// the thread produces nothing more until it is gone.
pub(crate) struct Outbox<E> {
    waiting: VecDeque<E>,
    sender: mpsc::Sender<E>,
    wants_room: Arc<AtomicBool>,
    full_since: Option<Instant>,
}

/// The receiving end: tells the thread when there is room again.
pub(crate) struct Inbox<E> {
    receiver: mpsc::Receiver<E>,
    wants_room: Arc<AtomicBool>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

pub(crate) fn channel<E>(capacity: usize, wake: Arc<dyn Fn() + Send + Sync>) -> (Outbox<E>, Inbox<E>) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let wants_room = Arc::new(AtomicBool::new(false));
    let outbox =
        Outbox { waiting: VecDeque::new(), sender, wants_room: Arc::clone(&wants_room), full_since: None };
    (outbox, Inbox { receiver, wants_room, wake })
}

impl<E> Outbox<E> {
    pub(crate) fn push(&mut self, event: E) {
        self.waiting.push_back(event);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How long the receiver has been leaving us no room.
    pub(crate) fn full_for(&self, now: Instant) -> Option<Duration> {
        self.full_since.map(|since| now.duration_since(since))
    }

    /// Whether at least half of the channel is free.
    pub(crate) fn is_relaxed(&self) -> bool {
        self.waiting.is_empty() && self.sender.capacity() * 2 >= self.sender.max_capacity()
    }

    /// Hands over what fits.
    pub(crate) fn flush(&mut self) -> Flow {
        while let Some(event) = self.waiting.pop_front() {
            match self.sender.try_send(event) {
                Ok(()) => self.full_since = None,
                Err(mpsc::error::TrySendError::Closed(_)) => return Flow::Gone,
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    self.full_since.get_or_insert_with(Instant::now);
                    // Asked first and looked at again after, so that room made in between is not missed.
                    if self.wants_room.swap(true, Ordering::SeqCst) || self.sender.capacity() == 0 {
                        return Flow::Full;
                    }
                }
            }
        }
        self.full_since = None;
        if self.sender.is_closed() { Flow::Gone } else { Flow::Open }
    }
}

impl<E> Inbox<E> {
    pub(crate) async fn recv(&mut self) -> Option<E> {
        let event = self.receiver.recv().await;
        if self.wants_room.swap(false, Ordering::SeqCst) {
            (self.wake)();
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_channel_keeps_the_rest_in_order_until_there_is_room() {
        let woken = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&woken);
        let (mut outbox, mut inbox) = channel(2, Arc::new(move || flag.store(true, Ordering::SeqCst)));
        for n in 0..5 {
            outbox.push(n);
        }
        assert_eq!(outbox.flush(), Flow::Full);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(inbox.recv()), Some(0));
        assert!(woken.load(Ordering::SeqCst), "the thread is told of the room");
        assert_eq!(outbox.flush(), Flow::Full);
        for n in 1..5 {
            assert_eq!(runtime.block_on(inbox.recv()), Some(n));
            outbox.flush();
        }
        assert_eq!(outbox.flush(), Flow::Open);
        drop(inbox);
        outbox.push(9);
        assert_eq!(outbox.flush(), Flow::Gone);
    }
}
