//! One service that knows who calls it, by a token, by a certificate or by a unix socket. Rules in one place say who may
//! call what, and what no rule allows is denied.
//!
//! By a token (JWT): an issuer signs it, and the service checks it against the issuer's public key.
//!
//! ```console
//! $ openssl genpkey -algorithm ed25519 -out issuer.key
//! $ openssl pkey -in issuer.key -pubout -out issuer.pem
//! $ auth serve 127.0.0.1:8080 issuer.pem
//! $ auth token issuer.key ada > ada.jwt
//! $ auth token issuer.key root admin > root.jwt
//! $ curl localhost:8080/rpc/version
//! "1.0"
//! $ curl localhost:8080/rpc/orders.mine
//! {…"status":401,…"code":"unauthenticated","message":…"executed":"no"…}
//! $ curl -H "authorization: Bearer $(cat ada.jwt)" localhost:8080/rpc/orders.mine
//! ["a book for ada"]
//! $ curl -H "authorization: Bearer $(cat ada.jwt)" -d '["ada"]' localhost:8080/rpc/admin.erase
//! {…"status":403,"detail":"there is no function `admin.erase`, or this caller may not call it;…"code":"permission_denied",…}
//! $ curl -H "authorization: Bearer $(cat ada.jwt)" -d '["ada"]' localhost:8080/rpc/admin.nothing
//! {…"status":403,"detail":"there is no function `admin.nothing`, or this caller may not call it;…"code":"permission_denied",…}
//! $ curl -H "authorization: Bearer $(cat root.jwt)" -d '["ada"]' localhost:8080/rpc/admin.erase
//! "root erased the orders of ada"
//! $ openssl genpkey -algorithm ed25519 -out other.key
//! $ curl -H "authorization: Bearer $(auth token other.key root admin)" localhost:8080/rpc/orders.mine
//! {…"status":401,"detail":"the token was rejected: InvalidSignature;…"code":"unauthenticated",…}
//! $ curl -o /dev/null -w '%header{www-authenticate}\n' -H 'authorization: Bearer x' localhost:8080/rpc/orders.mine
//! Bearer error="invalid_token"
//! $ auth call 127.0.0.1:8080 issuer.key ada
//! ["a book for ada"]
//! ```
//!
//! The same service at a unix socket. There the kernel says who calls, and nobody needs a token:
//!
//! ```console
//! $ auth serve unix:./auth.sock issuer.pem
//! $ curl --unix-socket auth.sock http://localhost/rpc/orders.mine
//! ["a book for uid …"]
//! $ curl --unix-socket auth.sock -d '["ada"]' http://localhost/rpc/admin.erase
//! {…"status":403,…"code":"permission_denied",…}
//! ```
//!
//! The same service over mutual TLS. The certificate of the client says who calls. A client without one may still show a
//! token, or call what everybody may call:
//!
//! ```console,tls
//! $ auth certificates
//! ca.pem server.pem server.key billing.pem billing.key guest.pem guest.key
//! $ auth serve 127.0.0.1:8443 issuer.pem server.pem server.key ca.pem
//! $ curl --cacert ca.pem --cert billing.pem --key billing.key https://localhost:8443/rpc/orders.mine
//! ["a book for spiffe://prod/billing"]
//! $ curl --cacert ca.pem --cert billing.pem --key billing.key -d '["ada"]' https://localhost:8443/rpc/admin.erase
//! {…"status":403,…"code":"permission_denied",…}
//! $ curl --cacert ca.pem --cert guest.pem --key guest.key https://localhost:8443/rpc/orders.mine
//! {…"status":403,…"code":"permission_denied",…}
//! $ curl --cacert ca.pem https://localhost:8443/rpc/orders.mine
//! {…"status":401,…"code":"unauthenticated",…}
//! $ curl --cacert ca.pem https://localhost:8443/rpc/version
//! "1.0"
//! $ curl --cacert ca.pem -H "authorization: Bearer $(cat ada.jwt)" https://localhost:8443/rpc/orders.mine
//! ["a book for ada"]
//! ```
//!
//! `auth call` is a client that signs its tokens itself, in place of an issuer, and renews them before their end. From
//! the repository it is started by `cargo run --example auth -- serve 127.0.0.1:8080 issuer.pem`, and with
//! `--features tls` for TLS.

#[cfg(feature = "tls")]
mod certificates;
mod issuer;
mod user;

use std::path::Path;

use byname::{Client, Error, Request, Server, rpc};

use self::issuer::{PublicKey, SigningKey};
use self::user::User;

#[rpc(readonly)]
async fn version() -> String {
    "1.0".to_owned()
}

/// The caller's orders.
#[rpc(name = "orders.mine", readonly)]
async fn mine() -> Result<Vec<String>, Error> {
    let user = User::current()?;
    Ok(vec![format!("a book for {}", user.name)])
}

#[rpc(name = "admin.erase")]
async fn erase(owner: String) -> Result<String, Error> {
    let user = User::current()?;
    Ok(format!("{} erased the orders of {owner}", user.name))
}

fn server(key: PublicKey) -> Server {
    let user = |request: &Request| request.extensions().get::<User>().cloned();
    Server::new()
        .method::<version>()
        .method::<mine>()
        .method::<erase>()
        .intercept(user::identify(key))
        .allow_anyone("version")
        .allow("admin.*", move |request| user(request).is_some_and(|user| user.is_admin))
        .allow("orders.*", move |request| user(request).is_some())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["serve", address, issuer] => {
            let bound = server(PublicKey::read(Path::new(issuer))?).serve(*address).bind().await?;
            println!("{}", bound.local_addr());
            bound.await?;
        }
        #[cfg(feature = "tls")]
        ["serve", address, issuer, certificate, key, authority] => {
            let tls = byname::ServerTls::files(*certificate, *key)?.accept_clients(*authority)?;
            let bound = server(PublicKey::read(Path::new(issuer))?).tls(tls).serve(*address).bind().await?;
            println!("{}", bound.local_addr());
            bound.await?;
        }
        #[cfg(feature = "tls")]
        ["certificates"] => println!("{}", certificates::write(Path::new("."))?.join(" ")),
        ["token", key, name, roles @ ..] => {
            let issued = SigningKey::read(Path::new(key))?.sign(name, roles.contains(&"admin"))?;
            println!("{}", issued.token);
        }
        ["call", address, key, name] => {
            let (key, name) = (SigningKey::read(Path::new(key))?, (*name).to_owned());
            let client = Client::new(address)?.bearer_from(move || {
                let signed = key.sign(&name, false);
                async move { signed.map(|signed| byname::IssuedToken::new(signed.token, signed.expires_in)) }
            });
            let orders = mine::on(&client).await?;
            println!("{}", serde_json::to_string(&orders)?);
        }
        _ => {
            return Err(
                "usage: auth serve ADDRESS ISSUER.PEM | auth token ISSUER.KEY NAME [admin] | auth call ADDRESS \
                 ISSUER.KEY NAME; with the feature `tls` also auth certificates | auth serve ADDRESS ISSUER.PEM \
                 SERVER.PEM SERVER.KEY CA.PEM"
                    .into(),
            );
        }
    }
    Ok(())
}
