//! The file of a unix socket that a server listens at: [`SocketFile`].

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net as blocking;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::unix_credentials::credentials;
use crate::address::LONGEST_PATH;
use crate::untrusted_text::quoted;

/// The file of a listening socket. Dropping this removes the file.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    file: FileId,
    /// Removed after the socket.
    _lock: SocketLock,
}

impl SocketFile {
    /// Listens at `path`, or says why not and what to do. The file of a server that has ended is replaced.
    pub(super) fn listen(path: &Path, mode: u32, backlog: u32) -> Result<(UnixListener, Self), String> {
        if mode & !0o777 != 0 {
            return Err(format!("its mode 0o{mode:o} has more than permissions; expected 0o600 to 0o777"));
        }
        if mode & 0o222 == 0 {
            return Err(format!(
                "nobody may connect by its mode 0o{mode:03o}, because that takes the permission to write; expected 0o600 to 0o777"
            ));
        }
        let bound_as = beside(path, "~");
        let (length, longest) = (path.as_os_str().len(), LONGEST_PATH - 1);
        if length > longest {
            return Err(format!(
                "its path has {length} bytes, and a server's may have {longest} on this system; choose a shorter one"
            ));
        }
        let lock = SocketLock::take(path)?;
        check_replaceable(path)?;
        // Left by a server that was killed while it started.
        if is_socket(&bound_as) {
            let _ = fs::remove_file(&bound_as);
        }
        // A client can connect only after `listen`, when the mode is set. The old file stays until the rename.
        let listening = || {
            let socket = UnixSocket::new_stream()?;
            socket.bind(&bound_as)?;
            fs::set_permissions(&bound_as, Permissions::from_mode(mode))?;
            let listener = socket.listen(backlog)?;
            let file = FileId::of(&fs::symlink_metadata(&bound_as)?);
            fs::rename(&bound_as, path)?;
            Ok((listener, file))
        };
        match listening() {
            Ok((listener, file)) => Ok((listener, Self { path: path.into(), file, _lock: lock })),
            Err(why) => {
                if is_socket(&bound_as) {
                    let _ = fs::remove_file(&bound_as);
                }
                Err(explained(path, &why))
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it, and another program may have one there by now.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| FileId::of(&found) == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The lock beside a socket. The server that holds it lives.
#[derive(Debug)]
struct SocketLock {
    path: PathBuf,
    /// Unlocked when it is closed, also by the end of the process.
    _file: File,
}

impl SocketLock {
    fn take(socket: &Path) -> Result<Self, String> {
        let path = beside(socket, ".lock");
        loop {
            let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
            let mut file = open.map_err(|why| match why.kind() {
                io::ErrorKind::PermissionDenied if fs::symlink_metadata(&path).is_ok() => {
                    format!("{} belongs to another user; remove it if no server uses it", shown(&path))
                }
                _ => explained(socket, &why),
            })?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(in_use(holder(&mut file))),
                Err(TryLockError::Error(why)) => return Err(format!("{} can't be locked: {why}", shown(&path))),
            }
            let opened = file.metadata().map_err(|why| explained(socket, &why))?;
            let found = fs::metadata(&path);
            // The server that held it has ended meanwhile and has removed it: it locks nothing any more.
            if found.is_ok_and(|found| FileId::of(&found) == FileId::of(&opened)) {
                let pid = std::process::id();
                // It is there to be read by people. What can't be written is not worth a failed start.
                let _ = file.set_len(0).and_then(|()| writeln!(file, "{pid}"));
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for SocketLock {
    fn drop(&mut self) {
        // It is still locked here, so no other server can have a lock file at this path.
        let _ = fs::remove_file(&self.path);
    }
}

/// Which file it is, whatever its name.
#[derive(Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// The process that a lock is held by, as it has written itself.
fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn in_use(pid: Option<u32>) -> String {
    let who = match pid {
        Some(pid) if pid == std::process::id() => "a server of this process".to_owned(),
        Some(pid) => format!("the process {pid}"),
        None => "another process".to_owned(),
    };
    format!("{who} listens there; stop it, or choose another path")
}

/// Whether there is nothing at `path`, or what a server has left that has ended. Servers of other makers have no lock: they
/// are asked.
fn check_replaceable(path: &Path) -> Result<(), String> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(explained(path, &why)),
    };
    let kind = there.file_type();
    if kind.is_dir() {
        return Err(format!(
            "it is a directory; expected the path of the socket, such as {}",
            shown(&path.join("a.sock"))
        ));
    }
    if kind.is_symlink() {
        return Err(
            "it is a symbolic link, which a server doesn't follow; write the path that it stands for, or remove it"
                .into(),
        );
    }
    if !kind.is_socket() {
        return Err("the file exists and is not a socket; remove it, or choose another path".into());
    }
    let connected = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)?;
        UnixStream::from_std(blocking::UnixStream::from(socket))
    };
    match connected() {
        Ok(stream) => Err(in_use(credentials(&stream).and_then(|listener| listener.pid))),
        // Its queue is full.
        Err(why) if why.kind() == io::ErrorKind::WouldBlock => Err(in_use(None)),
        Err(why) if matches!(why.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        Err(why) => {
            Err(format!("the socket exists, and it is unknown whether a server uses it: {why}; remove it if none does"))
        }
    }
}

/// What a failed file operation means to a person.
fn explained(path: &Path, why: &io::Error) -> String {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = shown(directory);
    let hint = match why.kind() {
        io::ErrorKind::NotFound => {
            format!("; create the directory {directory}, or let systemd do it by `RuntimeDirectory`")
        }
        io::ErrorKind::NotADirectory => format!("; {directory} is not a directory, choose another path"),
        io::ErrorKind::PermissionDenied => {
            format!("; this user may not write to the directory {directory}, choose one that it owns")
        }
        io::ErrorKind::ReadOnlyFilesystem => format!("; {directory} can't be written to, choose another"),
        _ => String::new(),
    };
    format!("{why}{hint}")
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket())
}

/// A path in the same directory, with `more` behind its name.
fn beside(path: &Path, more: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(more);
    beside.into()
}

fn shown(path: &Path) -> String {
    quoted(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests may run as the superuser, whom no permission stops.
    #[test]
    fn what_is_not_permitted_says_what_to_do() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let why = explained(Path::new("/run/orders/orders.sock"), &denied);
        assert!(
            why.ends_with("; this user may not write to the directory `/run/orders`, choose one that it owns"),
            "{why}"
        );
        assert!(explained(Path::new("orders.sock"), &denied).contains("the directory `.`"));
        let read_only = explained(Path::new("/usr/orders.sock"), &io::ErrorKind::ReadOnlyFilesystem.into());
        assert!(read_only.ends_with("; `/usr` can't be written to, choose another"), "{read_only}");
    }

    #[test]
    fn a_lock_that_was_removed_while_it_was_waited_for_is_not_taken() {
        let directory = std::env::temp_dir().join(format!("byname-lock-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let socket = directory.join("orders.sock");
        let first = SocketLock::take(&socket).unwrap();
        assert!(SocketLock::take(&socket).unwrap_err().contains("a server of this process listens there"));
        // Opened while the first one lives, locked when it has gone: the file has no name any more.
        let late = File::open(&first.path).unwrap();
        drop(first);
        late.try_lock().unwrap();
        let next = SocketLock::take(&socket).unwrap();
        assert_ne!(FileId::of(&late.metadata().unwrap()), FileId::of(&fs::metadata(&next.path).unwrap()));
        drop(next);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::remove_dir(&directory).unwrap();
    }
}
