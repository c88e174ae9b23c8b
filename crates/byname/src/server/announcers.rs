//! The tasks that announce a server to where its clients look for it: [`Announcers`].

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::announcement::Announcement;
use crate::runtime;
use crate::wire::instance_and_load::InstanceId;

/// One task for each place. If this is dropped, the tasks end as if the process had: nothing is taken out.
pub(super) struct Announcers(Vec<AnnouncerTask>);

struct AnnouncerTask {
    leave: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Announcers {
    pub(super) fn start(announcements: Vec<Announcement>, instance: InstanceId) -> Self {
        let start = |announcement: Announcement| {
            let (leave, told) = oneshot::channel();
            let task = runtime::spawn(&runtime::current(), announcement.keep(instance, told));
            AnnouncerTask { leave: Some(leave), task }
        };
        Self(announcements.into_iter().map(start).collect())
    }

    /// Takes the server out everywhere. It is a matter of seconds, also if nothing answers.
    pub(super) async fn withdraw(mut self) {
        for announcer in &mut self.0 {
            // The receiver is gone only if the task has panicked.
            let _ = announcer.leave.take().map(|leave| leave.send(()));
        }
        for announcer in &mut self.0 {
            let _ = (&mut announcer.task).await;
        }
    }
}

impl Drop for AnnouncerTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}
