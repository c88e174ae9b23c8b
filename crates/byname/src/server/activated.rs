//! Sockets that a supervisor such as systemd has opened for this process: [`Listen::activated`].

#[cfg(feature = "activation")]
use super::handed_over;
#[cfg(not(feature = "activation"))]
use super::not_handed_over as handed_over;

use std::env;

use super::bind::{HandedOver, ListenAddress};
use super::listen::Listen;
use crate::error::{Code, Error};
use crate::untrusted_text::quoted;

impl Listen {
    /// The sockets that systemd, or a supervisor like it, has opened for this process (`LISTEN_FDS`): all of them, TCP and
    /// unix. It needs the feature `activation`.
    ///
    /// The supervisor keeps the sockets open while the service restarts. So no connection is refused: a client that
    /// connects waits for the next process. The next process also accepts connections that this one has not accepted.
    ///
    /// Call it once, and early: it takes the sockets, and removes the variables that name them from the environment. Where
    /// there are none, [`Server::serve`](crate::Server::serve) fails and says what it expected. A program that is also
    /// started by hand looks for the variable first:
    ///
    /// ```
    /// use byname::Listen;
    ///
    /// let at = match std::env::var_os("LISTEN_FDS") {
    ///     Some(_) => Listen::activated(),
    ///     None => "127.0.0.1:8080".into(),
    /// };
    /// # let _ = at;
    /// ```
    pub fn activated() -> Self {
        Self::at(ListenAddress::HandedOver(take()))
    }
}

fn take() -> Result<HandedOver, Error> {
    let refuse = |why: String| {
        let why = format!(
            "no socket was handed over to this process: {why}; expected a start by a socket unit of systemd, or by \
             `systemd-socket-activate -l 127.0.0.1:8080 PROGRAM`"
        );
        Err(Error::refused(Code::FailedPrecondition, why))
    };
    let Ok(count) = env::var("LISTEN_FDS") else {
        return refuse("`LISTEN_FDS` is not set, or its sockets were taken before".into());
    };
    let this = std::process::id().to_string();
    if let Ok(meant) = env::var("LISTEN_PID")
        && !meant.is_empty()
        && meant != this
    {
        let meant = quoted(&meant);
        return refuse(format!(
            "`LISTEN_PID` is {meant}, and this process is {this}; a script that starts it does so by `exec`"
        ));
    }
    match count.parse::<u16>() {
        Ok(count) if count > 0 => handed_over::take(count.into()).map_err(|why| {
            Error::refused(
                Code::FailedPrecondition,
                format!("can't listen at the sockets that were handed over: {why}"),
            )
        }),
        _ => refuse(format!("`LISTEN_FDS` is {}", quoted(&count))),
    }
}
