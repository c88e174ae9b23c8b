//! A server that announces itself in etcd: [`Announcement`].

mod lease_state;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};

use self::lease_state::{LeaseState, LeaseStep, TTL};
use crate::deadline::{before, later, until};
use crate::error::{Code, Error};
use crate::etcd::{EtcdCluster, EtcdConnection, LeaseId};
use crate::etcd_url::EtcdUrl;
use crate::replica_line::{ReplicaPlace, replica_line};
use crate::untrusted_text::quoted;
use crate::wire::instance_and_load::InstanceId;

/// The time to take the key out at the end.
const WITHDRAW: Duration = Duration::from_secs(2);

/// Where to announce which address.
#[derive(Debug)]
pub(super) struct Announcement {
    cluster: EtcdCluster,
    address: String,
}

impl Announcement {
    pub(super) fn new(url: &str, address: &str) -> Result<Self, Error> {
        let invalid = |why: String| Error::refused(Code::InvalidArgument, format!("`Serve::announce`: {why}"));
        let after_scheme = url.split_once("://").filter(|(scheme, _)| scheme.eq_ignore_ascii_case("etcd"));
        let (_, after_scheme) =
            after_scheme.ok_or_else(|| invalid(EtcdUrl::refusal(url, "it does not begin with `etcd://`")))?;
        let url = EtcdUrl::parse(after_scheme).map_err(|why| invalid(EtcdUrl::refusal(url, &why)))?;
        check(address).map_err(|why| {
            let address = quoted(address);
            let why = format!(
                "{address} is not an address that clients can connect to: {why}; expected host:port, such as 10.0.0.7:8080, \
                 and options such as `?tls=orders.internal`"
            );
            invalid(why)
        })?;
        Ok(Self { cluster: EtcdCluster::new(url), address: address.to_owned() })
    }

    /// Keeps the key there until it is told to leave. Then takes it out.
    pub(super) async fn keep(self, instance: InstanceId, leave: oneshot::Receiver<()>) {
        let key = format!("{}/{instance}", self.cluster.url().prefix);
        let mut announcer = Announcer {
            value: json!({ "address": self.address }).to_string(),
            key,
            state: LeaseState::new(Instant::now()),
            connection: None,
            announcement: self,
        };
        announcer.run_until(leave).await;
        announcer.withdraw().await;
    }
}

/// An address that others can use, or what is wrong with it.
fn check(address: &str) -> Result<(), String> {
    let (place, _) = replica_line(address)?;
    if let ReplicaPlace::Host(host) = place
        && host.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    {
        return Err("it stands for all addresses of a machine, and for none to others".into());
    }
    Ok(())
}

struct Announcer {
    announcement: Announcement,
    key: String,
    value: String,
    state: LeaseState,
    connection: Option<EtcdConnection>,
}

impl Announcer {
    async fn run_until(&mut self, leave: oneshot::Receiver<()>) {
        let (mut leave, mut running) = (pin!(leave), pin!(self.run()));
        poll_fn(|cx| match leave.as_mut().poll(cx) {
            // If the sender is dropped, so is this task.
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => running.as_mut().poll(cx).map(|never| match never {}),
        })
        .await;
    }

    async fn run(&mut self) -> Infallible {
        loop {
            let result = match self.state.step(Instant::now()) {
                LeaseStep::Wait(due) => {
                    until(due).await;
                    continue;
                }
                LeaseStep::Announce { revoke } => self.announce(revoke).await,
                LeaseStep::KeepAlive(lease) => self.keep_alive(lease).await,
            };
            match result {
                Ok(()) => self.announcement.cluster.answered(),
                Err(why) => self.failed(&why),
            }
        }
    }

    async fn announce(&mut self, revoke: Option<LeaseId>) -> io::Result<()> {
        let seconds = TTL.as_secs();
        // A write with the old lease that comes late would take over the key, and end it with that lease.
        if let Some(old) = revoke {
            self.connected().await?.revoke(old).await?;
            self.state.revoked();
        }
        // Before the key is written, so that the end of the lease is the end of the key whatever comes of the write.
        let lease = self.connected().await?.grant(seconds).await?;
        self.state.granted(lease);
        let (key, value) = (self.key.clone(), self.value.clone());
        self.connected().await?.put(&key, &value, lease).await?;
        self.state.announced(Instant::now());
        let (Announcement { cluster, address }, key) = (&self.announcement, quoted(&self.key));
        info!("announced {address} at {}, under {key}", cluster.url());
        Ok(())
    }

    /// Keeps the lease alive, and looks for the key: it may have been deleted, or etcd may have been restored without it.
    async fn keep_alive(&mut self, lease: LeaseId) -> io::Result<()> {
        let is_alive = self.connected().await?.keep_alive(lease).await?;
        let key = self.key.clone();
        let has_key = is_alive && self.connected().await?.has(&key, lease).await?;
        let Announcement { cluster, address } = &self.announcement;
        if !is_alive {
            self.state.lost(Instant::now());
            warn!("{} has dropped {address}, because it heard nothing for {TTL:?}; announcing it again", cluster.url());
        } else if !has_key {
            self.state.key_lost(Instant::now());
            warn!(
                "{} has no key of {address} any more, although its lease is alive; announcing it again",
                cluster.url()
            );
        } else if self.state.kept(Instant::now()) {
            info!("{} answers again, and has kept {address}", cluster.url());
        }
        Ok(())
    }

    fn failed(&mut self, why: &io::Error) {
        let Announcement { cluster, address } = &self.announcement;
        self.connection = None;
        cluster.failed();
        let is_first = self.state.failed(Instant::now() + cluster.pause());
        if is_first {
            warn!(
                "can't announce {address} at {}, so clients that look there don't find this server, or not for long; trying \
                 again: {why}",
                cluster.url()
            );
        }
    }

    /// Takes the key out, so that clients find this server no more. Then ends the lease.
    async fn withdraw(&mut self) {
        let withdrawn = before(later(Instant::now(), WITHDRAW), self.delete()).await;
        let result = withdrawn
            .unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {WITHDRAW:?}"))));
        let Announcement { cluster, address } = &self.announcement;
        match result {
            Ok(()) => info!("{address} is taken out of {}", cluster.url()),
            Err(why) => {
                warn!("can't take {address} out of {}, which keeps it for up to {TTL:?}: {why}", cluster.url());
            }
        }
    }

    /// Asks one member, and another beside it when it fails or has used its share of the time.
    async fn delete(&mut self) -> io::Result<()> {
        // A step that was interrupted has left its connection in an unknown state.
        self.connection = None;
        let (cluster, key, lease) = (&self.announcement.cluster, self.key.as_str(), self.state.lease());
        let members = cluster.members();
        let share = WITHDRAW / u32::try_from(members).unwrap_or(u32::MAX).max(1);
        let (mut asked, mut asking, mut result) = (0, Vec::new(), Ok(()));
        let mut next_at = Instant::now();
        loop {
            let now = Instant::now();
            if asked < members && now >= next_at {
                asking.push(Box::pin(delete_at(cluster, asked, key, lease)));
                (asked, next_at) = (asked + 1, later(now, share));
            }
            if asking.is_empty() {
                return result;
            }
            let limit = if asked < members { next_at } else { later(now, WITHDRAW) };
            match before(limit, first_end(&mut asking)).await {
                Some(Ok(())) => return Ok(()),
                Some(Err(why)) => (result, next_at) = (Err(why), Instant::now()),
                None => {}
            }
        }
    }

    async fn connected(&mut self) -> io::Result<&mut EtcdConnection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.announcement.cluster.connect().await?,
        };
        Ok(self.connection.insert(connection))
    }
}

/// Takes the key out at the member that is asked after this number of failures.
async fn delete_at(cluster: &EtcdCluster, failures: usize, key: &str, lease: Option<LeaseId>) -> io::Result<()> {
    let mut connection = cluster.connect_beyond(failures).await?;
    connection.delete(key).await?;
    match lease {
        // A write that was interrupted may come after the deletion. It fails without the lease.
        Some(lease) => connection.revoke(lease).await,
        None => Ok(()),
    }
}

/// What the first of these futures to end has ended with. It is removed.
async fn first_end<F: Future>(running: &mut Vec<Pin<Box<F>>>) -> F::Output {
    poll_fn(|cx| {
        for at in 0..running.len() {
            if let Poll::Ready(output) = running[at].as_mut().poll(cx) {
                drop(running.swap_remove(at));
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn what_is_announced_is_checked_at_the_start() {
        for address in ["10.0.0.7:8080", "orders-1.internal:8080?endpoint=/x&tls=orders.internal", "unix:/run/a.sock"] {
            Announcement::new("ETCD://h1:2379,h2/orders", address).unwrap();
        }
        for (url, address, why) in [
            (
                "h1:2379/orders",
                "10.0.0.7:8080",
                "`h1:2379/orders` is not a place in etcd: it does not begin with `etcd://`",
            ),
            ("etcd://h1:2379", "10.0.0.7:8080", "it has no prefix; expected etcd://host:port/prefix"),
            (
                "etcd://h1/orders",
                "10.0.0.7",
                "`10.0.0.7` is not an address that clients can connect to: it has no port",
            ),
            ("etcd://h1/orders", "10.0.0.7:0", "nothing listens at port 0"),
            ("etcd://h1/orders", "0.0.0.0:8080", "it stands for all addresses"),
            ("etcd://h1/orders", "[::]:8080", "it stands for all addresses"),
            ("etcd://h1/orders", "http://10.0.0.7:8080", "it has a scheme"),
            (
                "etcd://ada:1815@h1/orders",
                "10.0.0.7:8080",
                "`etcd://…@h1/orders` is not a place in etcd: it has a user name",
            ),
        ] {
            let error = Announcement::new(url, address).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            let message = error.message();
            assert!(message.starts_with("`Serve::announce`: ") && message.contains(why), "{message}");
        }
    }

    async fn listener() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    /// A member that does what it is asked for, and keeps the paths.
    async fn member() -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let (listener, address) = listener().await;
        let (paths, asked) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                while let Ok(length @ 1..) = socket.read(&mut request).await {
                    let text = String::from_utf8_lossy(&request[..length]).into_owned();
                    let _ = paths.send(text.split(' ').nth(1).unwrap_or_default().to_owned());
                    socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                }
            }
        });
        (address, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn silent_members_do_not_use_up_the_time_of_a_withdrawal() {
        // They accept connections, and answer nothing.
        let ((_one, one), (_two, two)) = (listener().await, listener().await);
        let (live, mut asked) = member().await;
        let announcement = Announcement::new(&format!("etcd://{one},{two},{live}/orders"), "10.0.0.7:8080").unwrap();
        let (key, value) = ("orders/1".to_owned(), String::new());
        let state = LeaseState::new(Instant::now());
        let mut announcer = Announcer { announcement, key, value, state, connection: None };
        // Whichever is asked first.
        for _ in 0..3 {
            let withdrawn = before(later(Instant::now(), WITHDRAW), announcer.delete()).await;
            withdrawn.expect("one of three members answers").unwrap();
            assert_eq!(asked.try_recv().as_deref(), Ok("/v3/kv/deleterange"));
            announcer.announcement.cluster.failed();
        }
    }
}
