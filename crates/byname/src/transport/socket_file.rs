//! The file of a unix socket that a server listens at: [`SocketFile`].

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net as blocking;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

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
        if path.as_os_str().is_empty() {
            return Err("its path is empty; expected the path of the socket, such as `/run/orders.sock`".into());
        }
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
        let socket = bind(&bound_as, mode).map_err(|why| match why.kind() {
            io::ErrorKind::AddrInUse => in_the_way(&bound_as),
            _ => explained(path, &why),
        })?;
        // A client can connect only after `listen`, when the mode is set. The old file stays until the rename.
        let listening = || {
            set_mode(&bound_as, mode)?;
            socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
            let listener = UnixListener::from_std(blocking::UnixListener::from(socket))?;
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

/// A socket that is bound to `path` and does not listen yet. On Linux its file is made with `mode`, less what the umask
/// takes away, so it never allows more than that. Other systems refuse to set the mode of a socket without a file.
fn bind(path: &Path, mode: u32) -> io::Result<Socket> {
    let socket = File::from(OwnedFd::from(Socket::new(Domain::UNIX, Type::STREAM, None)?));
    let has_mode = socket.set_permissions(Permissions::from_mode(mode));
    if FOLLOWS_NO_LINK {
        has_mode?;
    }
    let socket = Socket::from(OwnedFd::from(socket));
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// Whether this system can open a file of any kind, to change its mode without its name.
const FOLLOWS_NO_LINK: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Gives the file of a bound socket the permissions that the umask took away. Another user who may write to the directory
/// can put a link there at any time. It is not followed.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let there = file.metadata()?;
    if !there.file_type().is_socket() {
        let why =
            format!("{} was replaced meanwhile; choose a directory that only this user may write to", shown(path));
        return Err(io::Error::other(why));
    }
    if there.mode() & 0o7777 == mode {
        return Ok(());
    }
    let by_number = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::set_permissions(by_number, Permissions::from_mode(mode)).map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => io::Error::other(format!(
            "the umask takes permissions from 0o{mode:o}, and without /proc they can't be given back; mount /proc, or \
             start with another umask"
        )),
        _ => why,
    })
}

/// As on Linux, but a link that another user puts there at this moment is followed.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
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
            let mut open = OpenOptions::new();
            open.read(true).write(true).create(true).truncate(false).mode(0o600);
            // A link is not followed, and a FIFO or a device does not block.
            open.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
            let mut file = open.open(&path).map_err(|why| match fs::symlink_metadata(&path) {
                Ok(there) if !there.is_file() => no_lock(&path, &there),
                Ok(_) if why.kind() == io::ErrorKind::PermissionDenied => {
                    format!("{} belongs to another user; remove it if no server uses it", shown(&path))
                }
                _ => explained(socket, &why),
            })?;
            let opened = file.metadata().map_err(|why| explained(socket, &why))?;
            // Its content is replaced below, so it must be a file that a server has made for this.
            if !opened.is_file() || opened.nlink() > 1 {
                return Err(no_lock(&path, &opened));
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(in_use(holder(&mut file))),
                Err(TryLockError::Error(why)) => return Err(format!("{} can't be locked: {why}", shown(&path))),
            }
            let found = fs::symlink_metadata(&path);
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

/// What is at the path of a lock and is none.
fn no_lock(path: &Path, there: &fs::Metadata) -> String {
    let what = match there.file_type() {
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_file() => "a file that has other names too",
        _ => "not a regular file",
    };
    format!(
        "{} must be a file that a server has made, and it is {what}; remove it, or choose another path",
        shown(path)
    )
}

/// Something is where a socket is bound before it is renamed.
fn in_the_way(bound_as: &Path) -> String {
    format!(
        "{} exists, and the socket gets this name while the server starts; remove it, or choose another path",
        shown(bound_as)
    )
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

    /// Run again with each umask, because a umask is that of the whole process.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_never_allows_more_than_its_mode() {
        const DIRECTORY: &str = "BYNAME_TEST_SOCKET_MODE";
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
        if let Some(directory) = std::env::var_os(DIRECTORY) {
            for expected in [0o600, 0o660, 0o666] {
                let path = Path::new(&directory).join(format!("{expected:o}.sock"));
                let _socket = bind(&path, expected).unwrap();
                assert_eq!(mode(&path) & !expected, 0, "0o{:o} for 0o{expected:o}", mode(&path));
                set_mode(&path, expected).unwrap();
                assert_eq!(mode(&path), expected);
            }
            return;
        }
        for umask in ["000", "022", "077", "777"] {
            let directory = std::env::temp_dir().join(format!("byname-umask-{umask}-{}", std::process::id()));
            fs::create_dir_all(&directory).unwrap();
            let mut again = std::process::Command::new("sh");
            again.arg("-c").arg(format!("umask {umask} && exec \"$0\" --exact \"$1\""));
            again.arg(std::env::current_exe().unwrap());
            again.arg("transport::socket_file::tests::a_socket_never_allows_more_than_its_mode");
            let output = again.env(DIRECTORY, &directory).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "umask {umask}: {said}");
            assert_eq!(fs::read_dir(&directory).unwrap().count(), 3);
            fs::remove_dir_all(&directory).unwrap();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_link_in_place_of_the_socket_is_not_followed() {
        let directory = std::env::temp_dir().join(format!("byname-swapped-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (letters, path) = (directory.join("letters"), directory.join("orders.sock~"));
        fs::write(&letters, "letters").unwrap();
        fs::set_permissions(&letters, Permissions::from_mode(0o640)).unwrap();
        let _socket = bind(&path, 0o666).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&letters, &path).unwrap();
        let why = set_mode(&path, 0o666).unwrap_err().to_string();
        let expected = "was replaced meanwhile; choose a directory that only this user may write to";
        assert_eq!(why, format!("{} {expected}", shown(&path)));
        assert_eq!(fs::metadata(&letters).unwrap().mode() & 0o7777, 0o640);
        fs::remove_dir_all(&directory).unwrap();
    }
}
