//! What stands for announcements where the feature `etcd` is off: there are none.

use tokio::sync::oneshot;

use crate::error::{Code, Error};
use crate::wire::instance_and_load::InstanceId;

#[derive(Debug)]
pub(super) enum Announcement {}

impl Announcement {
    pub(super) fn new(_: &str, _: &str) -> Result<Self, Error> {
        let why = "`Serve::announce` needs the feature `etcd` of byname, which is off by default: add `features = [\"etcd\"]` \
                   to byname in Cargo.toml";
        Err(Error::refused(Code::FailedPrecondition, why))
    }

    pub(super) async fn keep(self, _: InstanceId, _: oneshot::Receiver<()>) {
        match self {}
    }
}
