//! Compares types by the name that the compiler gives them.
//!
//! `TypeId` needs `'static`, which the types that serde passes around are not. The text of the compiler's names is not
//! specified, but it contains the whole path of a type. serde's names are not enough: any enum may be named `Result`.
//! The tests of this file fail if a compiler differs.

use std::any::type_name;

/// Whether `T` is `U`, ignoring lifetimes.
pub(super) fn is<T: ?Sized, U: ?Sized>() -> bool {
    type_name::<T>() == type_name::<U>()
}

/// Whether `T` is the standard `Result`, under any alias.
pub(super) fn is_result<T: ?Sized>() -> bool {
    let result = type_name::<Result<(), ()>>();
    // The text is constant, and so is what is cut off: nothing of this is left at run time. A search would be, at each call.
    let path = result.strip_suffix("(), ()>").unwrap_or(result);
    type_name::<T>().starts_with(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    mod mine {
        pub(super) enum Result<T> {
            #[allow(dead_code, reason = "only its type matters")]
            Ok(T),
        }
        pub(super) struct Name<'n>(#[allow(dead_code, reason = "only its type matters")] &'n str);
    }

    mod others {
        pub(super) struct Name;
    }

    type Alias<T> = Result<T, String>;

    #[test]
    fn a_result_is_the_standard_one() {
        assert!(is_result::<Result<u8, Vec<mine::Result<u8>>>>());
        assert!(is_result::<Alias<u8>>());
        assert!(is_result::<std::io::Result<()>>());
        assert!(!is_result::<mine::Result<u8>>());
        assert!(!is_result::<mine::Result<Result<u8, ()>>>());
        assert!(!is_result::<Box<Result<u8, ()>>>());
        assert!(!is_result::<&Result<u8, ()>>());
        assert!(!is_result::<(Result<u8, ()>,)>());
        assert!(!is_result::<str>());
    }

    #[test]
    fn a_type_is_itself_with_any_lifetime() {
        fn is_name<'n>(_: &'n str) -> bool {
            is::<mine::Name<'n>, mine::Name<'static>>()
        }
        assert!(is_name(&String::from("x")));
        assert!(!is::<mine::Name<'_>, others::Name>());
        assert!(!is::<Vec<u8>, Vec<i8>>());
        assert!(is::<str, str>());
    }
}
