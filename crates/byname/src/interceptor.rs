//! Interceptors: code of the user between a call and its function, on the server and on the client. [`Next`].

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;

use tokio::time::Instant;

use crate::catch_panic::{Panicked, caught};
use crate::deadline::DeadlineTimer;
use crate::error::{Code, Error, Executed};
use crate::outcome::Failure;
use crate::request::{Reply, Request};
use crate::runtime::BoxFuture;

/// The rest of a call behind an interceptor: the next interceptor, and at the end the function.
///
/// See [`Server::intercept`](crate::Server::intercept).
pub struct Next {
    chain: InterceptorChain,
    at: usize,
    last: InnermostCall,
    progress: Arc<CallProgress>,
}

impl Next {
    /// Runs the rest of the call. If an interceptor does not call this, the function does not run.
    pub async fn run(mut self, request: Request) -> Reply {
        let interceptor = self.chain.0.get(self.at).map(Arc::clone);
        if let Some(interceptor) = interceptor {
            self.at += 1;
            return interceptor(request, self).await;
        }
        self.progress.reached();
        let reply = (self.last)(request).await;
        self.progress.ended(&reply);
        reply
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("interceptors", &(self.chain.0.len() - self.at)).finish_non_exhaustive()
    }
}

type Interceptor = Arc<dyn Fn(Request, Next) -> BoxFuture<Reply> + Send + Sync>;
type InnermostCall = Box<dyn FnOnce(Request) -> BoxFuture<Reply> + Send>;

/// All interceptors of a server or a client. The first is the outermost.
#[derive(Clone, Default)]
pub(crate) struct InterceptorChain(Arc<Vec<Interceptor>>);

impl InterceptorChain {
    pub(crate) fn push<F, Fut>(&mut self, interceptor: F)
    where
        F: Fn(Request, Next) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Reply>> + Send + 'static,
    {
        let erased: Interceptor = Arc::new(move |request, next| {
            let intercepted = interceptor(request, next);
            Box::pin(async move { intercepted.await.into() })
        });
        Arc::make_mut(&mut self.0).push(erased);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs a call through all interceptors and then through `last`, until `deadline`.
    pub(crate) async fn run(&self, request: Request, deadline: Instant, last: InnermostCall) -> Reply {
        let (name, brings_items) = (request.name.clone(), request.items.is_some());
        let progress = Arc::<CallProgress>::default();
        let next = Next { chain: self.clone(), at: 0, last, progress: Arc::clone(&progress) };
        let mut running = Box::pin(next.run(request));
        let run = poll_fn(|cx| match caught(|| running.as_mut().poll(cx)) {
            Ok(polled) => polled.map(Ok),
            Err(panicked) => Poll::Ready(Err(panicked)),
        });
        let (mut run, mut timer) = (pin!(run), DeadlineTimer::default());
        let run = poll_fn(|cx| match run.as_mut().poll(cx) {
            Poll::Ready(ran) => Poll::Ready(Some(ran)),
            // Each item that the caller sends extends the deadline. The code behind the interceptors applies it.
            Poll::Pending if brings_items && progress.has_reached() => Poll::Pending,
            Poll::Pending => timer.poll_at(cx, deadline).map(|()| None),
        });
        match run.await {
            Some(Ok(reply)) => progress.say(reply),
            Some(Err(Panicked)) => {
                tracing::error!(rpc.method = %name, "an interceptor of `{name}` panicked; its caller sees `internal`");
                let why = format!("an interceptor of `{name}` panicked; the log of its side says where");
                progress.say(Error::new(Code::Internal, why).into())
            }
            None => {
                let why =
                    format!("`{name}` was still in an interceptor at its deadline; allow more time with `.timeout(…)`");
                progress.say(Error::new(Code::DeadlineExceeded, why).into())
            }
        }
    }
}

impl fmt::Debug for InterceptorChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chain").field(&self.0.len()).finish()
    }
}

/// How far a call came. An error that an interceptor makes does not say whether the function ran; this does.
#[derive(Default)]
struct CallProgress(AtomicU8);

impl CallProgress {
    const REACHED: u8 = 1;
    const RAN: u8 = 2;

    fn has_reached(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    fn reached(&self) {
        self.0.store(Self::REACHED, Ordering::Relaxed);
    }

    fn ended(&self, reply: &Reply) {
        let ran = match &reply.result {
            Ok(_) | Err(Failure::Method { .. }) => true,
            Err(Failure::Rpc(error)) => error.executed() == Executed::Yes,
        };
        if ran {
            self.0.store(Self::RAN, Ordering::Relaxed);
        }
    }

    /// Adds to an error whether the function ran, as far as it is known.
    fn say(&self, reply: Reply) -> Reply {
        let Reply { result, metadata } = reply;
        let result = result.map_err(|failure| match failure {
            Failure::Rpc(error) if error.executed() == Executed::Unknown => {
                Failure::Rpc(match self.0.load(Ordering::Relaxed) {
                    Self::RAN => error.executed_is(Executed::Yes),
                    Self::REACHED => error,
                    _ => error.executed_is(Executed::No),
                })
            }
            other => other,
        });
        Reply { result, metadata }
    }
}
