//! The test that holds a server to its lock file: [`assert_compatible!`](crate::assert_compatible).

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

use byname_schema::{AcceptedBreaks, ServiceSchema, differences};

/// The variable that accepts what has changed.
const VARIABLE: &str = "BYNAME_LOCK";

/// Panics if a server breaks the clients that its lock file knows, or if the lock file is out of date.
///
/// The lock file is the contract of the service, to be committed and reviewed: functions, arguments, and the schemas of their types. A test
/// compares the server with it:
///
/// ```no_run
/// # use byname::{Server, rpc};
/// # #[rpc] async fn add(a: i64, b: i64) -> i64 { a + b }
/// # fn server() -> Server { Server::new().method::<add>() }
/// # #[allow(unused)]
/// #[test]
/// fn the_contract_is_kept() {
///     byname::assert_compatible!(server(), "byname.lock");
/// }
/// ```
///
/// - `BYNAME_LOCK=update cargo test` writes the file: the first time, and to accept a change. Review its difference.
/// - A break is a difference that fails calls of clients that were built by the old contract. Its message has a value as a witness.
/// - A compatible change fails the test too, because the file must say what the service does.
/// - Breaks that are accepted stand beside it in `byname.accepted`, each with a reason: `RULE FUNCTION PLACE: reason`.
///
/// The path is relative to the package. The feature `schema` is needed.
///
/// # Panics
///
/// As above, and if the file can't be read or written.
#[macro_export]
macro_rules! assert_compatible {
    ($server:expr, $path:expr $(,)?) => {
        $crate::__private::assert_compatible(
            &$crate::Server::schema(&$server),
            ::core::env!("CARGO_MANIFEST_DIR"),
            ::core::convert::AsRef::as_ref($path),
        )
    };
}

/// The stubs that [`Client::check`](crate::Client::check) compares with a service: `byname::stubs![add, UsersClient]`.
#[macro_export]
macro_rules! stubs {
    ($($stub:ty),* $(,)?) => {
        &[$(<$stub as $crate::__private::Stubs>::methods as $crate::__private::StubMethods),*]
    };
}

/// What [`assert_compatible!`](crate::assert_compatible) expands to.
#[track_caller]
pub fn assert_compatible(schema: &ServiceSchema, package: &str, path: &Path) {
    let path = Path::new(package).join(path);
    if let Err(why) = is_update(env::var_os(VARIABLE).as_deref()).and_then(|is| checked(schema, &path, is)) {
        panic!("{why}");
    }
}

/// Whether the file is to be written, by the value of the variable.
fn is_update(value: Option<&OsStr>) -> Result<bool, String> {
    match value {
        None => Ok(false),
        Some(value) if value.is_empty() => Ok(false),
        Some(value) if value == "update" => Ok(true),
        Some(other) => Err(format!(
            "{VARIABLE} is `{}`; expected `update`, which writes the lock file; or unset it, to compare with the file",
            other.display()
        )),
    }
}

/// Compares, and writes the file if it is to be updated.
fn checked(schema: &ServiceSchema, path: &Path, is_update: bool) -> Result<(), String> {
    let shown = path.display();
    let lock = schema.to_lock();
    if is_update {
        return fs::write(path, lock).map_err(|why| format!("can't write {shown}: {why}"));
    }
    let known = match fs::read_to_string(path) {
        Ok(known) => known,
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            return Err(format!("{shown} does not exist; make it with `{VARIABLE}=update cargo test`, and commit it"));
        }
        Err(why) => return Err(format!("can't read {shown}: {why}")),
    };
    let known_schema = ServiceSchema::from_text(&known).map_err(|why| format!("{shown} is not a lock file: {why}"))?;
    let accepted = accepted_beside(path)?;
    let found = differences(&known_schema, schema);
    let unused = accepted.unused(&found).into_iter().map(|line| format!("\n  {line}")).collect::<String>();
    let unused = match unused.is_empty() {
        true => unused,
        false => format!("\n{} accepts what is not there:{unused}", path.with_extension("accepted").display()),
    };
    let mut broken = String::new();
    for difference in &found {
        if let Some(of) = difference.breaks_old_clients().filter(|of| !accepted.accept(difference, of)) {
            let place = if difference.place.is_empty() { "" } else { " " };
            let _ = write!(broken, "\n  {}{place}{}: {of}", difference.function, difference.place);
        }
    }
    if !broken.is_empty() {
        return Err(format!(
            "the server breaks clients of {shown}:{broken}\nmake the change compatible; or accept it: write its rule, function and place with \
             a reason into {}, or change the contract with `{VARIABLE}=update cargo test`{unused}",
            path.with_extension("accepted").display()
        ));
    }
    // An editor may have put a byte order mark before it, and git may have changed the ends of its lines.
    if !known.trim_start_matches('\u{feff}').lines().eq(lock.lines()) {
        let is_accepted = found.iter().any(|difference| difference.breaks_old_clients().is_some());
        let breaks = if is_accepted { "what breaks clients is accepted" } else { "no client breaks" };
        return Err(format!(
            "{shown} is out of date, and {breaks}; run `{VARIABLE}=update cargo test`, and commit the file{unused}"
        ));
    }
    // The test does not fail: a comparison with an earlier revision may still need them.
    if !unused.is_empty() {
        eprintln!("{}", unused.trim_start());
    }
    Ok(())
}

fn accepted_beside(path: &Path) -> Result<AcceptedBreaks, String> {
    let path = path.with_extension("accepted");
    match fs::read_to_string(&path) {
        Ok(text) => AcceptedBreaks::parse(&text).map_err(|why| format!("{}: {why}", path.display())),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(AcceptedBreaks::default()),
        Err(why) => Err(format!("can't read {}: {why}", path.display())),
    }
}

#[cfg(all(test, feature = "schema"))]
mod tests {
    use super::*;
    use crate::Server;

    fn schema(of: Server) -> ServiceSchema {
        of.schema()
    }

    #[test]
    fn the_variable_has_one_value() {
        let read = |value: &str| is_update(Some(OsStr::new(value)));
        assert_eq!((is_update(None), read(""), read("update")), (Ok(false), Ok(false), Ok(true)));
        for wrong in ["wibble", "Update", "1"] {
            assert!(read(wrong).unwrap_err().contains("expected `update`"), "{wrong}");
        }
    }

    #[test]
    fn a_break_fails_until_it_is_accepted_and_a_compatible_change_asks_for_an_update() {
        let directory = env::temp_dir().join(format!("byname-contract-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("byname.lock");
        let old = schema(Server::new().function(("f", ["a"]), |a: u16| async move { a }));
        let narrower = schema(Server::new().function(("f", ["a"]), |a: u8| async move { a }));
        let wider = schema(Server::new().function(("f", ["a"]), |a: u32| async move { a }));
        let why = checked(&old, &path, false).unwrap_err();
        assert!(why.contains("BYNAME_LOCK=update cargo test"), "{why}");
        checked(&old, &path, true).unwrap();
        checked(&old, &path, false).unwrap();
        let written = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("\u{feff}{}", written.replace('\n', "\r\n"))).unwrap();
        checked(&old, &path, false).unwrap();
        let why = checked(&narrower, &path, false).unwrap_err();
        assert!(
            why.contains("f arguments.a: numbers above 255 are refused [range-narrower], for example {\"a\":65535}"),
            "{why}"
        );
        let why = checked(&wider, &path, false).unwrap_err();
        assert!(why.contains("out of date, and no client breaks"), "{why}");
        fs::write(path.with_extension("accepted"), "range-narrower f arguments.a: it was always a byte\n").unwrap();
        let why = checked(&narrower, &path, false).unwrap_err();
        assert!(why.contains("out of date, and what breaks clients is accepted"), "{why}");
        fs::write(path.with_extension("accepted"), "function-missing g: it is gone\n").unwrap();
        for changed in [&narrower, &wider] {
            let why = checked(changed, &path, false).unwrap_err();
            assert!(why.ends_with("accepts what is not there:\n  function-missing g: it is gone"), "{why}");
        }
        fs::write(path.with_extension("accepted"), "range-narrower\n").unwrap();
        assert!(checked(&old, &path, false).unwrap_err().contains("line 1"));
        fs::write(&path, "{}").unwrap();
        assert!(checked(&old, &path, false).unwrap_err().contains("is not a lock file"));
        fs::remove_dir_all(directory).unwrap();
    }
}
