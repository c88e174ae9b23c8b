//! `#[rpc]` on what a macro by example writes: every kind of fragment, in every place of every form of the attribute. A
//! captured fragment reaches the attribute in an invisible group, unless it is an `ident`, a `lifetime` or a `tt`.

use std::borrow::Cow;
use std::time::Duration;

use byname::__private::Declared;
use byname::{CallError, Client, Error, Server, Streaming, rpc};
use futures_util::{Stream, stream};

fn local(server: Server) -> Client {
    Client::local(&server).unwrap().encoded(true)
}

#[tokio::test]
async fn a_function_in_pieces() {
    macro_rules! function {
        ($vis:vis $name:ident, $argument:pat, $ty:ty, $returns:ty, $body:block) => {
            #[rpc]
            $vis async fn $name($argument: $ty) -> $returns $body
        };
    }
    mod inner {
        #![allow(unreachable_pub, reason = "a library would say it so")]
        use super::*;
        function!(pub owned, a, u8, u8, { a + 1 });
        function!(pub(crate) changed, mut a, Vec<u8>, usize, { a.push(1); a.len() });
        function!(pub(super) text, a, &str, String, { a.to_uppercase() });
        function!(pub slice, a, &[u8], (u8, usize), { (a[0], a.len()) });
        function!(pub lent, a, Option<&str>, usize, { a.map_or(0, str::len) });
        function!(pub maybe, a, Option<u8>, Option<u8>, { a });
        function!(pub fallible, a, u8, Result<u8, String>, { if a > 1 { Err("large".into()) } else { Ok(a) } });
        function!(pub streams, a, u8, impl Stream<Item = u8>, { stream::iter(0..a) });
        function!(pub streams_results, a, u8, impl Stream<Item = Result<u8, String>>, {
            stream::iter((0..a).map(Ok))
        });
        function!(pub takes, a, Streaming<u8>, u8, { let mut a = a; a.next().await.unwrap().unwrap() });
    }
    function!(private, a, [u8; 2], u8, { a[1] });
    use inner::*;
    let server = Server::new()
        .method::<owned>()
        .method::<changed>()
        .method::<text>()
        .method::<slice>()
        .method::<lent>()
        .method::<maybe>()
        .method::<fallible>()
        .method::<streams>()
        .method::<streams_results>()
        .method::<takes>()
        .method::<private>();
    let client = local(server);
    assert_eq!(owned::on(&client, 1).await, Ok(2));
    assert_eq!(owned(1).await, 2);
    assert_eq!(changed::on(&client, vec![1]).await, Ok(2));
    assert_eq!(text::on(&client, "a").await, Ok("A".into()));
    assert_eq!(slice::on(&client, &[1, 2]).await, Ok((1, 2)));
    assert_eq!(lent::on(&client, Some("ab")).await, Ok(2));
    assert_eq!(maybe::on(&client, None).await, Ok(None));
    assert_eq!(client.call::<Option<u8>>("maybe", ()).await.unwrap(), None);
    assert_eq!(fallible::on(&client, 1).await, Ok(1));
    assert_eq!(fallible::on(&client, 2).await, Err(CallError::Method("large".into())));
    assert_eq!(streams::on(&client, 1).next().await, Some(Ok(0)));
    assert_eq!(streams_results::on(&client, 1).next().await, Some(Ok(0)));
    assert_eq!(takes::on(&client, Streaming::from(vec![5])).await, Ok(5));
    assert_eq!(private::on(&client, [1, 2]).await, Ok(2));
    let signatures = [text::method(), fallible::method(), streams::method()].map(byname::Method::signature);
    assert_eq!(
        signatures,
        [
            "text(a: String) -> String",
            "fallible(a: u8) -> Result<u8, String>",
            "streams(a: u8) -> impl Stream<Item = u8>"
        ]
    );
}

#[tokio::test]
async fn a_type_in_pieces() {
    macro_rules! function {
        ($name:ident, $of:path, $lifetime:lifetime, $length:literal, $count:expr, $item:ty) => {
            #[rpc]
            #[allow(clippy::too_many_arguments, clippy::ptr_arg, reason = "each has a type of another kind")]
            async fn $name(
                a: $of,
                b: Cow<$lifetime, str>,
                c: [u8; $length],
                d: [u8; $count],
                e: Vec<$item>,
                f: &$of,
                g: &[$item],
                h: Option<$item>,
            ) -> Result<(usize, $item), $of> {
                Ok((a.len() + b.len() + c.len() + d.len() + e.len() + f.len() + g.len(), h.unwrap_or_default()))
            }
        };
    }
    function!(sizes, String, 'static, 2, 1 + 2, (u8, u16));
    let client = local(Server::new().method::<sizes>());
    let f = String::from("c");
    let called = sizes::on(&client, "a".into(), "b".into(), [0; 2], [0; 3], vec![], &f, &[(1, 2)], Some((3, 4)));
    assert_eq!(called.await, Ok((9, (3, 4))));
    assert_eq!(
        sizes::method().signature(),
        "sizes(a: String, b: Cow<'static, str>, c: [u8; 2], d: [u8; 1 + 2], e: Vec<(u8, u16)>, f: String, g: Vec<(u8, u16)>, \
         h: Option<(u8, u16)>) -> Result<(usize, (u8, u16)), String>"
    );
}

#[tokio::test]
async fn a_declaration_in_pieces() {
    #[rpc]
    async fn add(a: u8, b: u8) -> u8 {
        a + b
    }
    macro_rules! declaration {
        ($vis:vis $name:ident, $a:pat, $b:ident, $ty:ty, $default:expr, $returns:ty) => {
            mod declared {
                #[byname::rpc]
                $vis async fn $name($a: $ty, #[rpc(default = $default)] $b: $ty) -> $returns;
            }
        };
    }
    declaration!(pub(super) add, a, b, u8, 1 + 1, u8);
    let client = local(Server::new().method::<add>());
    assert_eq!(declared::add::on(&client, 1, 2).await, Ok(3));
}

#[tokio::test]
async fn options_in_pieces() {
    macro_rules! literals {
        ($name:literal, $alias:literal, $timeout:literal, $default:literal, $doc:literal) => {
            #[rpc(name = $name, alias = $alias, timeout = $timeout)]
            #[doc = $doc]
            async fn literals(#[rpc(default = $default)] a: u8) -> u8 {
                a
            }
        };
    }
    macro_rules! expressions {
        ($name:expr, $timeout:expr, $stub:expr, $default:expr, $doc:expr) => {
            #[rpc(name = $name, timeout = $timeout, stub = $stub)]
            #[doc = $doc]
            async fn expressions(#[rpc(default = $default)] a: Vec<u8>) -> Vec<u8> {
                a
            }
        };
    }
    macro_rules! tokens {
        ($name:tt, $stub:ident, $default:tt) => {
            #[rpc(name = $name, stub = $stub)]
            async fn tokens(#[rpc(default = $default)] a: u8) -> u8 {
                a
            }
        };
    }
    macro_rules! others {
        ($stub:path, $second:ty, $block:block, $default:path) => {
            #[rpc(stub = $stub)]
            async fn others(#[rpc(default = $block)] a: u8, #[rpc(default = $default)] b: i8) -> (u8, i8) {
                (a, b)
            }
            #[rpc(stub = $second)]
            async fn more() {}
        };
    }
    macro_rules! metas {
        ($first:meta, $second:meta, $key:ident = $value:tt, $argument:meta, $($rest:tt)*) => {
            #[rpc($first, $second, $key = $value, $($rest)*)]
            async fn metas(#[rpc($argument)] a: u8) -> u8 {
                a
            }
        };
    }
    macro_rules! attributes {
        ($(#[$attribute:meta])* $function:ident, #[$argument:meta]) => {
            $(#[$attribute])*
            async fn $function(#[$argument] a: u8) -> u8 {
                a
            }
        };
    }
    literals!("a.literal", "b.literal", "50ms", 3, "Of literals.");
    expressions!("a.expression", "2s", by_expression, vec![1], "Of expressions.");
    tokens!("a.token", by_token, 4);
    others!(by_path, ByType, { 1 + 1 }, i8::MAX);
    metas!(readonly, name = "a.meta", alias = "b.meta", default = 5, timeout = "1m", idempotent);
    attributes!(#[rpc(name = "a.attribute")] #[doc = "Of attributes."] #[cfg(all())] attributes, #[rpc(default = 6)]);

    let server = Server::new()
        .method::<literals>()
        .method::<by_expression>()
        .method::<by_token>()
        .method::<by_path>()
        .method::<ByType>()
        .method::<metas>()
        .method::<attributes>();
    let client = local(server);
    for (name, default) in
        [("a.literal", 3), ("b.literal", 3), ("a.token", 4), ("a.meta", 5), ("b.meta", 5), ("a.attribute", 6)]
    {
        assert_eq!(client.call::<u8>(name, ()).await.unwrap(), default, "{name}");
    }
    assert_eq!(client.call::<Vec<u8>>("a.expression", ()).await.unwrap(), [1]);
    assert_eq!(client.call::<(u8, i8)>("others", ()).await.unwrap(), (2, i8::MAX));
    assert_eq!(ByType::on(&client).await, Ok(()));
    assert_eq!(literals::method().timeout, Some(Duration::from_millis(50)));
    assert_eq!(by_expression::method().timeout, Some(Duration::from_secs(2)));
    assert_eq!(metas::method().timeout, Some(Duration::from_secs(60)));
    assert!(metas::method().readonly);
    let docs = [literals::method(), by_expression::method(), attributes::method()].map(|method| method.doc.clone());
    assert_eq!(docs, ["Of literals.", "Of expressions.", "Of attributes."]);
}

#[tokio::test]
async fn whole_items() {
    macro_rules! exported {
        ($($item:item)*) => {
            $(#[rpc] $item)*
        };
    }
    pub(crate) struct Shelf(u8);
    pub(crate) struct Other(u8);
    exported! {
        /// Adds one.
        pub(crate) async fn more(#[rpc(default = 1)] a: u8) -> u8 {
            a + 1
        }
        impl Shelf {
            /// What is on it.
            #[rpc(name = "shelf.top")]
            pub(crate) fn top(&self) -> u8 {
                self.0
            }
        }
        pub(crate) trait Bottom {
            #[rpc(name = "other.bottom")]
            async fn bottom(&self, #[rpc(default = 1)] a: u8) -> Result<u8, Error>;
        }
        impl Bottom for Other {
            async fn bottom(&self, a: u8) -> Result<u8, Error> {
                Ok(self.0 + a)
            }
        }
    }
    let client = local(Server::new().method::<more>().inject(Shelf(7)).inject(Other(1)));
    assert_eq!(client.call::<u8>("more", ()).await.unwrap(), 2);
    assert_eq!(Shelf::on(&client).top().await, Ok(7));
    assert_eq!(client.call::<u8>("other.bottom", ()).await.unwrap(), 2);
    assert_eq!(BottomClient::on(&client).bottom(4).await, Ok(5));
    assert_eq!(more::method().doc, "Adds one.");
}

#[tokio::test]
async fn fragments_pass_through_several_macros() {
    macro_rules! function {
        ($name:ident, $ty:ty, $default:expr, $option:literal, $body:block) => {
            #[rpc(name = $option)]
            async fn $name(#[rpc(default = $default)] _a: $ty) -> $ty $body
        };
    }
    macro_rules! twice {
        ($name:ident, $ty:ty, $default:expr, $option:literal, $body:block) => {
            function!($name, $ty, $default, $option, $body);
        };
    }
    macro_rules! items {
        ($($item:item)*) => {
            again!($($item)*);
        };
    }
    macro_rules! again {
        ($($item:item)*) => {
            $(#[rpc] $item)*
        };
    }
    twice!(same, u8, 1 + 1, "a.same", { 2 });
    struct Held;
    items! {
        async fn other(a: u8) -> u8 { a }
        impl Held {
            fn get(&self) -> u8 { 9 }
        }
    }
    let client = local(Server::new().method::<same>().method::<other>().inject(Held));
    assert_eq!(client.call::<u8>("a.same", ()).await.unwrap(), 2);
    assert_eq!(other::on(&client, 3).await, Ok(3));
    assert_eq!(Held::on(&client).get().await, Ok(9));
}

#[tokio::test]
async fn methods_and_statements() {
    macro_rules! block {
        ($ty:ident { $($method:item)* }) => {
            #[rpc]
            impl $ty { $($method)* }
        };
    }
    macro_rules! statement {
        ($statement:stmt) => {
            #[rpc]
            $statement
        };
    }
    struct Held;
    block!(Held { async fn get(&self, #[rpc(default = 1)] a: u8) -> u8 { a } });
    statement!(
        async fn single(a: u8) -> u8 {
            a
        }
    );
    let client = local(Server::new().method::<single>().inject(Held));
    assert_eq!(client.call::<u8>("get", ()).await.unwrap(), 1);
    assert_eq!(single::on(&client, 3).await, Ok(3));
}

#[tokio::test]
async fn a_block_in_pieces() {
    struct Db(u8);
    macro_rules! block {
        ($ty:ty, $prefix:literal, $stub:ident, $this:ident, $vis:vis $method:ident, $a:pat, $of:ty, $returns:ty, $body:block,
         $default:expr, $options:meta) => {
            #[rpc(prefix = $prefix, stub = $stub)]
            impl $ty {
                #[rpc($options)]
                $vis async fn $method(&$this, #[rpc(default = $default)] $a: $of) -> $returns $body
            }
        };
    }
    macro_rules! block_of {
        ($ty:path, $prefix:expr, { $($body:tt)* }) => {
            #[rpc(prefix = $prefix)]
            impl $ty { $($body)* }
        };
    }
    block!(Db, "db", DbCaller, self, pub(crate) get, a, u8, Result<u8, String>, { Ok(self.0 + a) }, 2, readonly);
    struct Second;
    block_of!(inner::Third, "third", {
        fn get(&self) -> u8 {
            3
        }
    });
    mod inner {
        pub(super) struct Third;
    }
    block_of!(Second, "second", {
        fn get(&self, a: &str) -> String {
            a.into()
        }
    });
    let client = local(Server::new().inject(Db(1)).inject(Second).inject(inner::Third));
    assert_eq!(DbCaller::on(&client).get(1).await, Ok(2));
    assert_eq!(Db::on(&client).get(1).await, Ok(2));
    assert_eq!(client.call::<u8>("db.get", ()).await.unwrap(), 3);
    assert_eq!(Second::on(&client).get("a").await, Ok("a".into()));
    assert_eq!(ThirdClient::on(&client).get().await, Ok(3));
}

#[tokio::test]
async fn a_contract_in_pieces() {
    macro_rules! contract {
        ($vis:vis $name:ident, $prefix:expr, $this:ident, $method:ident, $a:pat, $of:ty, $returns:ty, $default:literal,
         $streams:ident, $stream:ty, $options:meta) => {
            #[rpc(prefix = $prefix)]
            $vis trait $name {
                #[rpc($options)]
                async fn $method(&$this, #[rpc(default = $default)] $a: $of) -> $returns;
                fn $streams(&$this, $a: $of) -> $stream;
            }
        };
    }
    macro_rules! implementation {
        ($contract:path, $ty:ty, $this:ident, $method:ident, $a:pat, $of:ty, $returns:ty, $body:block,
         $streams:ident, $stream:ty, $made:block) => {
            #[rpc]
            impl $contract for $ty {
                async fn $method(&$this, $a: $of) -> $returns $body
                fn $streams(&$this, $a: $of) -> $stream $made
            }
        };
    }
    struct Stock(u8);
    contract!(
        pub(crate) Shop, "shop", self, price, a, &str, Result<u8, Error>, "x", all,
        impl Stream<Item = Result<u8, Error>>, readonly
    );
    implementation!(
        Shop, Stock, self, price, a, &str, Result<u8, Error>, { Ok(self.0 + a.len() as u8) }, all,
        impl Stream<Item = Result<u8, Error>> + Send, { let (from, to) = (self.0, a.len() as u8); stream::iter((from..to).map(Ok)) }
    );
    async fn price(shop: &impl Shop) -> u8 {
        shop.price("ab").await.unwrap()
    }
    let client = local(Server::new().inject(Stock(1)));
    let shop = ShopClient::on(&client);
    assert_eq!(price(&shop).await, 3);
    assert_eq!(price(&Stock(1)).await, 3);
    assert_eq!(client.call::<u8>("shop.price", ()).await.unwrap(), 2);
    assert_eq!(shop.all("abc").next().await, Some(Ok(1)));
}
