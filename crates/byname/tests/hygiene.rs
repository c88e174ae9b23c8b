//! `#[rpc]` where names mean something else: without the prelude, and with the library at another path.

use byname::{Client, Server};

/// What a framework hands on, with the library inside.
mod framework {
    pub(crate) mod inner {
        pub(crate) use ::byname as remote;
    }

    /// Exports a function for its users, who don't depend on the library.
    macro_rules! exported {
        ($(#[$attribute:meta])* $vis:vis $name:ident($($argument:ident: $ty:ty),*) -> $returns:ty $body:block) => {
            #[$crate::framework::inner::remote::rpc(crate = $crate::framework::inner::remote)]
            $(#[$attribute])*
            $vis async fn $name($($argument: $ty),*) -> $returns $body
        };
    }
    pub(crate) use exported;
}

mod elsewhere {
    use super::framework::exported;
    use super::framework::inner::remote::{Error, Streaming, rpc};
    use futures_util::{Stream, stream};

    /// Nothing here is the library.
    #[allow(dead_code)]
    mod byname {}

    #[rpc(readonly, crate = super::framework::inner::remote)]
    pub(super) async fn add(a: i64, #[rpc(default = 1)] b: i64) -> i64 {
        a + b
    }

    #[rpc(crate = crate::framework::inner::remote, stub = declared, name = "add")]
    pub(super) async fn add_elsewhere(a: i64, #[super::framework::inner::remote::rpc(default = 2)] b: i64) -> i64;

    #[rpc(blocking, crate = super::framework::inner::remote)]
    pub(super) fn half(a: &str) -> Result<String, u8> {
        if a.is_empty() { Err(1) } else { Ok(a[..a.len() / 2].to_owned()) }
    }

    #[rpc(crate = super::framework::inner::remote)]
    pub(super) fn echo(mut numbers: Streaming<u8>) -> impl Stream<Item = Result<u8, Error>> {
        stream::poll_fn(move |cx| std::pin::Pin::new(&mut numbers).poll_next(cx))
    }

    pub(super) struct Counter;

    #[rpc(crate = super::framework::inner::remote, prefix = "counter")]
    impl Counter {
        #[super::framework::inner::remote::rpc(readonly, name = "total")]
        pub(super) fn get(&self, #[rpc(default = 3)] a: u8) -> u8 {
            a
        }
    }

    #[rpc(crate = super::framework::inner::remote)]
    pub(super) trait Users {
        async fn user(&self, id: u64) -> Result<String, Error>;
        fn users(&self) -> impl Stream<Item = Result<String, Error>>;
    }

    pub(super) struct Db;

    #[rpc(crate = super::framework::inner::remote)]
    impl Users for Db {
        async fn user(&self, id: u64) -> Result<String, Error> {
            Ok(id.to_string())
        }

        fn users(&self) -> impl Stream<Item = Result<String, Error>> {
            stream::iter([Ok("a".to_owned())])
        }
    }

    exported!(#[doc = "Exported."] pub(super) exported_here(a: u8, b: &str) -> String { format!("{a}{b}") });
}

#[tokio::test]
async fn the_library_may_be_at_another_path() {
    use elsewhere::*;
    let server = Server::new()
        .method::<add>()
        .method::<half>()
        .method::<echo>()
        .method::<exported_here>()
        .inject(Counter)
        .inject(Db);
    let client = Client::local(&server).unwrap().encoded(true);
    assert_eq!(add::on(&client, 1, 2).await, Ok(3));
    assert_eq!(client.call::<i64>("add", (1,)).await.unwrap(), 2);
    assert_eq!(declared::on(&client, 1, 2).await, Ok(3));
    assert_eq!(half::on(&client, "abcd").await, Ok("ab".into()));
    assert_eq!(echo::on(&client, byname::Streaming::from(vec![5])).next().await, Some(Ok(5)));
    assert_eq!(exported_here::on(&client, 1, "b").await, Ok("1b".into()));
    assert_eq!(client.call::<u8>("counter.total", ()).await.unwrap(), 3);
    let users = UsersClient::on(&client);
    assert_eq!(users.user(7).await, Ok("7".into()));
    assert_eq!(users.users().next().await, Some(Ok("a".into())));
    assert_eq!(Db.user(8).await, Ok("8".into()));
}

/// Everything is said by its whole path, as code that macros write is.
#[no_implicit_prelude]
mod bare {
    #[::byname::rpc(readonly)]
    pub(super) async fn sum(a: i64, #[rpc(default = 1)] b: i64, c: ::core::option::Option<i64>) -> i64 {
        a + b + ::core::option::Option::unwrap_or_default(c)
    }

    #[::byname::rpc(stub = declared, name = "sum")]
    pub(super) async fn sum_elsewhere(a: i64, b: i64) -> i64;

    #[::byname::rpc(blocking)]
    pub(super) fn middle(a: &[u8]) -> ::core::result::Result<usize, ::std::string::String> {
        ::core::result::Result::Ok(a.len() / 2)
    }

    #[::byname::rpc]
    pub(super) fn repeat(numbers: ::byname::Streaming<u8>) -> impl ::futures_core::Stream<Item = u8> {
        ::futures_util::StreamExt::map(numbers, |number| ::core::result::Result::unwrap(number))
    }

    pub(super) struct Counter;

    #[::byname::rpc]
    impl Counter {
        #[rpc(readonly)]
        #[deprecated]
        pub(super) async fn total(&self, a: &str) -> ::core::result::Result<u8, ::std::string::String> {
            ::core::result::Result::Err(::std::borrow::ToOwned::to_owned(a))
        }

        pub(super) fn get(&self) -> u8 {
            1
        }

        pub(super) fn numbers(&self) -> impl ::futures_core::Stream<Item = ::core::result::Result<u8, u8>> {
            ::futures_util::stream::iter([::core::result::Result::Ok(1)])
        }
    }

    #[::byname::rpc(prefix = "users")]
    pub(super) trait Users {
        #[::byname::rpc(readonly, timeout = "1s")]
        async fn user(
            &self,
            id: u64,
            name: ::core::option::Option<&str>,
        ) -> ::core::result::Result<u64, ::byname::Error>;
        fn users(&self) -> impl ::futures_core::Stream<Item = ::core::result::Result<u64, ::byname::Error>>;
    }

    pub(super) struct Db;

    #[::byname::rpc]
    impl Users for Db {
        async fn user(
            &self,
            id: u64,
            name: ::core::option::Option<&str>,
        ) -> ::core::result::Result<u64, ::byname::Error> {
            ::core::result::Result::Ok(id + ::core::option::Option::map_or(name, 0, |name| name.len() as u64))
        }

        fn users(&self) -> impl ::futures_core::Stream<Item = ::core::result::Result<u64, ::byname::Error>> {
            ::futures_util::stream::iter([::core::result::Result::Ok(1)])
        }
    }

    pub(super) fn everything() -> ::byname::Server {
        ::byname::server!().inject(Counter).contract::<UsersContract, _>(Db)
    }

    pub(super) fn of_a_crate() -> ::byname::Server {
        ::byname::server!(byname)
    }
}

#[tokio::test]
async fn no_prelude_is_needed() {
    use bare::Users;
    let client = Client::local(&bare::everything()).unwrap().encoded(true);
    assert_eq!(bare::sum::on(&client, 1, 2, None).await, Ok(3));
    assert_eq!(client.call::<i64>("sum", (1,)).await.unwrap(), 2);
    assert_eq!(bare::middle::on(&client, &[1, 2]).await, Ok(1));
    assert_eq!(bare::repeat::on(&client, byname::Streaming::from(vec![5])).next().await, Some(Ok(5)));
    assert_eq!(bare::CounterClient::on(&client).get().await, Ok(1));
    assert_eq!(bare::UsersClient::on(&client).user(7, Some("a")).await, Ok(8));
    assert_eq!(bare::Db.user(7, None).await, Ok(7));
    // It links the library's crate, which has no functions to serve.
    let none = Client::local(&bare::of_a_crate()).unwrap_err();
    assert!(none.message().contains("crate `byname`"), "{none}");
}
