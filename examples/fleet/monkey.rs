//! The monkey: what it does to a replica, and how that ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinHandle;

use crate::Failure;
use crate::replica::Replica;

/// How long each deed lasts, until it is mended and the next one begins.
pub const PAUSE: Duration = Duration::from_secs(2);

pub struct Monkey {
    replicas: Vec<Arc<Replica>>,
    chance: Rng,
    /// What is to be mended.
    did: Option<(Deed, usize)>,
    /// A restart that goes on.
    restart: Option<JoinHandle<Result<(), Failure>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// SIGKILL, and a new process two seconds later.
    Kill,
    /// SIGSTOP, and SIGCONT two seconds later.
    Stop,
    /// The network swallows everything for two seconds.
    Swallow,
    /// A restart as a deployment does it: it answers what it has begun, and another process takes its place.
    Restart,
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "killed",
            Self::Stop => "stopped",
            Self::Swallow => "behind a black hole",
            Self::Restart => "restarted",
        })
    }
}

impl Monkey {
    pub fn new(replicas: Vec<Arc<Replica>>, seed: u64) -> Self {
        Self { replicas, chance: Rng::with_seed(seed), did: None, restart: None }
    }

    /// Does something to one replica. Returns what, and to which.
    pub fn act(&mut self) -> Result<(Deed, usize), Failure> {
        let number = self.chance.usize(..self.replicas.len());
        let deed = [Deed::Kill, Deed::Stop, Deed::Swallow, Deed::Restart][self.chance.usize(..4)];
        let replica = &self.replicas[number];
        match deed {
            Deed::Kill => replica.signal("KILL")?,
            Deed::Stop => replica.signal("STOP")?,
            Deed::Swallow => replica.path().swallow(),
            Deed::Restart => {
                let replica = Arc::clone(replica);
                self.restart = Some(tokio::spawn(async move {
                    replica.end().await?;
                    replica.start_again().await
                }));
            }
        }
        self.did = Some((deed, number));
        Ok((deed, number))
    }

    /// Mends what it did last.
    pub async fn mend(&mut self) -> Result<(), Failure> {
        let Some((deed, number)) = self.did.take() else { return Ok(()) };
        let replica = &self.replicas[number];
        match deed {
            Deed::Kill => {
                replica.ended().await?;
                replica.start_again().await
            }
            Deed::Stop => replica.signal("CONT"),
            Deed::Swallow => {
                replica.path().pass();
                Ok(())
            }
            Deed::Restart => match self.restart.take() {
                Some(restart) => restart.await?,
                None => Ok(()),
            },
        }
    }
}
