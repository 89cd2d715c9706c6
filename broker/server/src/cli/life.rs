//! What ends a node: a signal, or itself.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::process::exit;
use std::task::Poll;
use tokio::signal::unix::{SignalKind, signal};

/// SIGTERM and SIGINT. The first one asks for a controlled shutdown. Another SIGTERM changes nothing, as with Kafka;
/// another SIGINT is a person who will not wait, and ends the process where it is.
pub(super) struct Signals {
    first: tokio::sync::watch::Receiver<bool>,
}

impl Signals {
    /// Begins to listen; called on the runtime.
    pub(super) fn listen() -> std::io::Result<Signals> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (tell, first) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            either(terminate.recv(), interrupt.recv()).await;
            let _ = tell.send(true);
            interrupt.recv().await;
            exit(130);
        });
        Ok(Signals { first })
    }

    /// Waits for the first one.
    pub(super) async fn asked(&self) {
        let _ = self.first.clone().wait_for(|asked| *asked).await;
    }
}

/// Which of two came first.
pub(super) enum Either<A, B> {
    Left(A),
    Right(B),
}

/// Waits for the first of two; the left one when both are ready.
pub(super) async fn either<A, B>(left: impl Future<Output = A>, right: impl Future<Output = B>) -> Either<A, B> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(|cx| {
        if let Poll::Ready(value) = left.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(value));
        }
        right.as_mut().poll(cx).map(Either::Right)
    })
    .await
}

/// A broken belief of any task ends the process: a node that goes on without one of its machines lies to its peers.
pub(super) fn die_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        exit(1);
    }));
}
