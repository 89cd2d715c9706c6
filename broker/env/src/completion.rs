//! The answer of an operation: ready at once, or later.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// The outcome of an operation on the outside. Dropping it never undoes the operation.
#[must_use = "an operation's outcome is to be awaited, or dropped on purpose"]
#[derive(Debug)]
pub struct Completion<T>(State<T>);

#[derive(Debug)]
enum State<T> {
    Ready(Option<io::Result<T>>),
    Waiting(oneshot::Receiver<io::Result<T>>),
}

/// The other end of a waiting [`Completion`].
#[derive(Debug)]
pub struct Completer<T>(oneshot::Sender<io::Result<T>>);

impl<T> Completion<T> {
    /// Already done.
    pub fn ready(outcome: io::Result<T>) -> Self {
        Completion(State::Ready(Some(outcome)))
    }

    /// Done when the completer says so. If the completer is dropped unanswered, the outcome is `BrokenPipe`.
    pub fn pending() -> (Completer<T>, Self) {
        let (tx, rx) = oneshot::channel();
        (Completer(tx), Completion(State::Waiting(rx)))
    }

    /// The outcome if it is there without waiting; the completion itself otherwise.
    ///
    /// # Errors
    /// The completion, still pending.
    pub fn now(mut self) -> Result<io::Result<T>, Self> {
        match &mut self.0 {
            State::Ready(outcome) => Ok(outcome.take().expect("a completion answers once")),
            State::Waiting(rx) => match rx.try_recv() {
                Ok(outcome) => Ok(outcome),
                Err(oneshot::error::TryRecvError::Empty) => Err(self),
                Err(oneshot::error::TryRecvError::Closed) => Ok(Err(io::ErrorKind::BrokenPipe.into())),
            },
        }
    }
}

impl<T> Completer<T> {
    /// Tells the outcome. Nobody may be listening any more; that is fine.
    pub fn complete(self, outcome: io::Result<T>) {
        let _ = self.0.send(outcome);
    }
}

impl<T: Unpin> Future for Completion<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match &mut self.0 {
            State::Ready(outcome) => Poll::Ready(outcome.take().expect("a completion answers once")),
            State::Waiting(rx) => {
                Pin::new(rx).poll(cx).map(|answer| answer.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into())))
            }
        }
    }
}
