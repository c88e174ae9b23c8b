//! What runs on a simulated machine: [`Program`].

use std::error::Error;

use crate::runtime::BoxFuture;
use crate::server::{Serve, Server};

/// What runs on a machine, from its start to its end: a [`Server`], which listens at port 80; a [`Serve`], which listens
/// where it says; or a future, for everything else.
///
/// ```
/// use byname::Server;
/// use byname::simulation;
///
/// simulation::check(0..3, |sim| async move {
///     sim.machine("one", || Server::new().function("ping", || async { "pong" }));
///     sim.machine("two", || Server::new().function("ping", || async { "pong" }).serve("0.0.0.0:8080"));
///     sim.machine("three", || async {
///         println!("this runs first");
///         Server::new().function("ping", || async { "pong" }).serve("three:8080").await
///     });
///     Ok(())
/// });
/// ```
pub trait Program {
    #[doc(hidden)]
    fn run(self) -> BoxFuture<Result<(), Box<dyn Error + Send + Sync>>>;
}

impl Program for Server {
    fn run(self) -> BoxFuture<Result<(), Box<dyn Error + Send + Sync>>> {
        self.serve("0.0.0.0:80").run()
    }
}

impl Program for Serve {
    fn run(self) -> BoxFuture<Result<(), Box<dyn Error + Send + Sync>>> {
        Box::pin(async { Ok(self.await?) })
    }
}

impl<F, E> Program for F
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    fn run(self) -> BoxFuture<Result<(), Box<dyn Error + Send + Sync>>> {
        Box::pin(async { self.await.map_err(Into::into) })
    }
}
