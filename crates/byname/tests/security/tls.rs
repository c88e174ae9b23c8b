//! TLS: certificates good and bad, of servers and of clients; what is loaded again; what becomes of connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::tls::{
    Authority, ENCRYPTED_KEY, Folder, Signed, client_config, connect, identified, of_version_1, over_http, self_signed,
    server_config, server_tls, trusting,
};
use crate::harness::{Caller, Gate, Log, Process, Running, add, everything, get, post, within};
use byname::{
    Client, ClientTls, Code, Context, Error, Executed, Next, Peer, Pem, Request, Server, ServerTls, Transport, rpc,
};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, SanType, SerialNumber, date_time_ymd};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::{default_provider, sign};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, AlertDescription, ClientConfig, HandshakeKind, RootCertStore, version};

const SHORT: Duration = Duration::from_millis(20);
const HERE: &[&str] = &["127.0.0.1"];

async fn add_over(client: &Client) -> Result<i64, Error> {
    client.call("add", (1, 2)).await.map_err(|error| error.rpc().expect("not add's own").clone())
}

/// Why a client can't call a server with this certificate.
async fn refused_by_the_client(signed: &Signed, tls: ClientTls) -> Error {
    let running = Running::new(everything().tls(server_tls(signed))).await;
    add_over(&over_http(running.address, tls)).await.unwrap_err()
}

fn means(error: &Error, code: Code, words: &str) {
    assert_eq!((error.code(), error.executed()), (code, Executed::No), "{error}");
    assert!(error.message().contains(words), "{error}");
}

#[tokio::test]
async fn each_bad_certificate_of_a_server_is_named_with_what_is_wrong() {
    let authority = Authority::new("the authority");
    let wrong = |error: Error, words: &str| means(&error, Code::FailedPrecondition, words);

    let expired = authority.sign_with(HERE, |params| params.not_after = date_time_ymd(2026, 3, 1));
    let error = refused_by_the_client(&expired, trusting(&authority)).await;
    wrong(error, "the server's certificate, for `127.0.0.1`, expired on 2026-03-01; today is 2");

    let early = authority.sign_with(HERE, |params| params.not_before = date_time_ymd(2200, 3, 1));
    let error = refused_by_the_client(&early, trusting(&authority)).await;
    wrong(error, "the server's certificate, for `127.0.0.1`, is not valid before 2200-03-01");

    let others = authority.sign(&["a.example", "10.0.0.1"]);
    let error = refused_by_the_client(&others, trusting(&authority)).await;
    wrong(error, "the server's certificate is for `a.example` and `10.0.0.1`, not for `127.0.0.1`");
    let tls = trusting(&authority).server_name("b.example").unwrap();
    wrong(refused_by_the_client(&others, tls).await, "is for `a.example` and `10.0.0.1`, not for `b.example`");

    let nameless = authority.sign(&[]);
    let error = refused_by_the_client(&nameless, trusting(&authority)).await;
    wrong(error, "is for no name, expected `127.0.0.1`; it needs one with a subjectAltName");

    let good = authority.sign(HERE);
    let error = refused_by_the_client(&good, trusting(&Authority::new("another"))).await;
    wrong(error, "the server's certificate, for `127.0.0.1`, was signed by none of the roots in the given text");

    let folder = Folder::new("roots-in-a-file");
    folder.write("ca.pem", &Authority::new("another").pem());
    let error = refused_by_the_client(&good, ClientTls::new().roots(folder.path("ca.pem")).unwrap()).await;
    wrong(error, "/ca.pem`; give the root that signed it to `ClientTls::roots`");

    for may_sign in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let alone = self_signed(HERE, |params| params.is_ca = may_sign);
        let error = refused_by_the_client(&alone, trusting(&authority)).await;
        wrong(
            error,
            "is self-signed and not one of the roots in the given text; if you trust it, add it as a root with `ClientTls::roots`",
        );
    }

    let revoked = authority.sign_with(HERE, |params| params.serial_number = Some(SerialNumber::from(7)));
    let lists = Pem::text(authority.revoking(&[7]));
    let error = refused_by_the_client(&revoked, trusting(&authority).revocations(lists).unwrap()).await;
    wrong(error, "is revoked by the list in the given text");

    let of_a_client = authority.sign_with(HERE, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    wrong(refused_by_the_client(&of_a_client, trusting(&authority)).await, "is not for servers");
}

fn refused_files(certificate: &str, key: &str) -> [Error; 2] {
    let identity = ClientTls::new().identity(Pem::text(certificate), Pem::text(key));
    [ServerTls::pem(certificate, key).unwrap_err(), identity.unwrap_err()]
}

#[tokio::test]
async fn a_certificate_of_version_1_is_named_as_such() {
    let (certificate, key) = of_version_1();
    let expected = "is X.509 version 1, expected version 3; make it with a subjectAltName: `openssl x509 -req` takes it from \
                    the file of `-extfile`, and makes version 1 without one";
    for error in refused_files(&certificate, &key) {
        assert_eq!(error.message(), format!("the certificate in the given text {expected}"));
    }
    // Another server may show one.
    let authority = Authority::new("the authority");
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = sign::any_supported_type(&PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap();
    let shown = ServerTls::resolver(Arc::new(Shown(Arc::new(CertifiedKey::new(chain, key))))).unwrap();
    let running = Running::new(everything().tls(shown)).await;
    let error = add_over(&over_http(running.address, trusting(&authority))).await.unwrap_err();
    means(&error, Code::FailedPrecondition, &format!("the server's certificate {expected}"));
}

/// Shows one certificate to everybody, whatever it is.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[test]
fn files_that_are_no_pair_are_refused_with_what_to_do() {
    let authority = Authority::new("the authority");
    let (certificate, key) = authority.sign(HERE);
    let pkcs8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for encrypted in [ENCRYPTED_KEY, pkcs8] {
        for error in refused_files(&certificate, encrypted) {
            let expected =
                "the private key in the given text is encrypted; decrypt it with `openssl pkey -in … -out …`";
            assert_eq!(error.message(), expected);
        }
    }
    let turned = [authority.pem(), certificate.clone()].concat();
    for (error, side) in refused_files(&turned, &key).into_iter().zip(["server", "client"]) {
        let expected = format!(
            "the private key in the given text is the key of a later certificate in the given text; the {side}'s certificate \
             must come first, and the certificates that have signed it after it"
        );
        assert_eq!(error.message(), expected);
    }
    let other = [certificate.clone(), authority.pem()].concat();
    for error in refused_files(&other, &authority.sign(HERE).1) {
        let expected = "the private key in the given text is not the key of the certificate in the given text";
        assert_eq!(error.message(), expected);
    }
    for error in refused_files("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key) {
        assert_eq!(error.message(), "the certificate in the given text is invalid: BadEncoding");
    }
}

#[tokio::test]
async fn a_certificate_without_a_name_is_loaded_with_a_warning() {
    let authority = Authority::new("the authority");
    let mut log = Log::new();
    drop(server_tls(&authority.sign(HERE)));
    drop(server_tls(&authority.sign_for(&["spiffe://prod/orders"])));
    assert_eq!(log.lines(), Vec::<String>::new());
    let tls = server_tls(&authority.sign(&[])).require_clients(Pem::text(authority.pem())).unwrap();
    drop(tls.revocations(Pem::text(authority.revoking(&[7]))).unwrap());
    let lines = log.lines();
    let words = "WARN message=the certificate in the given text has no name, and clients will reject it";
    assert!(matches!(&*lines, [line] if line.starts_with(words)), "expected one line: {lines:#?}");
}

#[tokio::test]
async fn a_client_that_rejects_the_servers_name_has_the_reason_itself() {
    let authority = Authority::new("the authority");
    let running = Running::new(everything().tls(server_tls(&authority.sign(HERE)))).await;
    let mut log = Log::new();
    let tls = trusting(&authority).server_name("b.example").unwrap();
    add_over(&over_http(running.address, tls)).await.unwrap_err();
    let line = log.until("the client rejects this server's certificate").await;
    assert!(line.contains("(BadCertificate); the error of its call says why"), "{line}");
}

#[tokio::test]
async fn a_name_that_looks_right_is_named_with_what_is_wrong_with_it() {
    let authority = Authority::new("the authority");
    let dns_name = |name: &str| {
        let name = SanType::DnsName(name.try_into().unwrap());
        authority.sign_with(&[], |params| params.subject_alt_names.push(name))
    };
    let error = refused_by_the_client(&dns_name("127.0.0.1"), trusting(&authority)).await;
    let words = "the server's certificate is for the DNS name `127.0.0.1`, not for the IP address `127.0.0.1`; make a \
                 certificate whose subjectAltName has it as an IP address, such as `IP:10.0.0.1`";
    means(&error, Code::FailedPrecondition, words);

    for (certificate, called, why) in [
        (
            "*.internal",
            "orders.internal",
            " (a wildcard needs two labels or more after it, such as `*.orders.internal`)",
        ),
        ("*.orders.internal", "a.b.orders.internal", " (a wildcard stands for exactly one label)"),
        ("*.orders.internal", "orders.internal", " (a wildcard stands for exactly one label)"),
        ("*.orders.internal", "ORDERS.internal", " (a wildcard stands for exactly one label)"),
        ("*.orders.internal", "a.myorders.internal", ""),
        ("*.orders.internal", "data.example", ""),
        ("orders.internal", "a.orders.internal", ""),
    ] {
        let tls = trusting(&authority).server_name(called).unwrap();
        let error = refused_by_the_client(&dns_name(certificate), tls).await;
        let words = format!(
            "the server's certificate is for `{certificate}`, not for `{called}`{why}; call the server by a name in its"
        );
        means(&error, Code::FailedPrecondition, &words);
    }
    let one_label = trusting(&authority).server_name("a.orders.internal").unwrap();
    let running = Running::new(everything().tls(server_tls(&dns_name("*.orders.internal")))).await;
    assert_eq!(add_over(&over_http(running.address, one_label)).await.unwrap(), 3);
}

#[tokio::test]
async fn a_name_of_each_kind_is_named_once() {
    let authority = Authority::new("the authority");
    let signed = authority.sign_with(&["a.example"], |params| {
        let uri = SanType::URI("spiffe://prod/orders".try_into().unwrap());
        params.subject_alt_names.insert(0, uri);
        params.subject_alt_names.push(SanType::Rfc822Name("ops@a.example".try_into().unwrap()));
    });
    let error = refused_by_the_client(&signed, trusting(&authority)).await;
    let words = "the server's certificate is for `spiffe://prod/orders` and `a.example`, not for `127.0.0.1`";
    means(&error, Code::FailedPrecondition, words);
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_by_naming_it() {
    for may_sign in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let alone = self_signed(HERE, |params| params.is_ca = may_sign);
        let running = Running::new(everything().tls(server_tls(&alone))).await;
        let tls = || ClientTls::new().roots(Pem::text(&alone.0)).unwrap();
        assert_eq!(add_over(&over_http(running.address, tls())).await.unwrap(), 3, "{may_sign:?}");
        // Its name and its dates are checked all the same.
        let error = add_over(&over_http(running.address, tls().server_name("b.example").unwrap())).await.unwrap_err();
        means(&error, Code::FailedPrecondition, "is for `127.0.0.1`, not for `b.example`");
        let expired = self_signed(HERE, |params| {
            (params.is_ca, params.not_after) = (may_sign, date_time_ymd(2026, 3, 1));
        });
        let error = refused_by_the_client(&expired, ClientTls::new().roots(Pem::text(&expired.0)).unwrap()).await;
        means(&error, Code::FailedPrecondition, "expired on 2026-03-01");
    }
}

#[tokio::test]
async fn the_name_that_is_checked_is_what_the_user_wrote() {
    let authority = Authority::new("the authority");
    let server =
        everything().tls(server_tls(&authority.sign(&["orders.internal"]))).hosts(["orders.internal", "127.0.0.1"]);
    let running = Running::new(server).await;
    let builder = Client::builder("https://orders.internal/rpc").addresses([running.address]);
    let client = builder.tls(trusting(&authority)).build().unwrap();
    assert_eq!(add_over(&client).await.unwrap(), 3);
    let tls = trusting(&authority).server_name("orders.internal").unwrap();
    assert_eq!(add_over(&over_http(running.address, tls)).await.unwrap(), 3);
    let builder = Client::builder("https://billing.internal/rpc").addresses([running.address]);
    let error = add_over(&builder.tls(trusting(&authority)).build().unwrap()).await.unwrap_err();
    means(&error, Code::FailedPrecondition, "is for `orders.internal`, not for `billing.internal`");
}

/// A server that requires clients of this authority, in this process.
async fn requiring(servers: &Authority, clients: &Authority, change: impl FnOnce(ServerTls) -> ServerTls) -> Running {
    let tls = server_tls(&servers.sign(HERE)).require_clients(Pem::text(clients.pem())).unwrap();
    Running::new(everything().method::<spiffe_id>().tls(change(tls))).await
}

#[rpc(readonly)]
async fn spiffe_id() -> Option<String> {
    Context::current()?.peer()?.spiffe_id().map(str::to_owned)
}

#[tokio::test]
async fn each_bad_certificate_of_a_client_is_named_on_both_sides() {
    let servers = Authority::new("the authority of servers");
    let clients = Authority::new("the authority of clients");
    let lists = Pem::text(clients.revoking(&[7]));
    let mut log = Log::new();
    let running = requiring(&servers, &clients, |tls| tls.revocations(lists).unwrap()).await;
    let uri = ["spiffe://prod/billing"];
    let with = |change: fn(&mut rcgen::CertificateParams)| clients.sign_with(&["billing"], change);
    let cases = [
        (
            None,
            "requires a certificate; give one with `ClientTls::identity`",
            "sent no certificate, and one is required",
        ),
        (
            Some(with(|params| params.not_after = date_time_ymd(2026, 3, 1))),
            "rejects this client's certificate: it has expired",
            "the client's certificate, for `billing`, expired on 2026-03-01",
        ),
        (
            Some(with(|params| params.not_before = date_time_ymd(2200, 3, 1))),
            "rejects this client's certificate: it has expired or is not valid yet",
            "the client's certificate, for `billing`, is not valid before 2200-03-01",
        ),
        (
            Some(Authority::new("another").sign_for(&uri)),
            "rejects this client's certificate: it was signed by no root",
            "the client's certificate, for `spiffe://prod/billing`, was signed by none of the roots in the given text",
        ),
        (
            Some(self_signed(&["billing"], |_| ())),
            "rejects this client's certificate: it was signed by no root",
            "is self-signed and not one of the roots in the given text; if you trust it, add it as a root with `ServerTls::require_clients`",
        ),
        (
            Some(with(|params| params.serial_number = Some(SerialNumber::from(7)))),
            "rejects this client's certificate: it is revoked",
            "the client's certificate, for `billing`, is revoked by the list in the given text",
        ),
        (
            Some(with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])),
            "rejects this client's certificate (UnsupportedCertificate); its log says why",
            "the client's certificate, for `billing`, is not for clients",
        ),
    ];
    for (signed, at_the_client, in_the_log) in cases {
        let tls = signed.map_or_else(|| trusting(&servers), |signed| identified(&servers, &signed));
        let error = add_over(&over_http(running.address, tls)).await.unwrap_err();
        means(&error, Code::Unauthenticated, at_the_client);
        assert!(error.message().starts_with(&format!("can't connect to https://{}/rpc: ", running.address)), "{error}");
        log.until(in_the_log).await;
    }
    let good = clients.sign_for(&uri);
    let client = over_http(running.address, identified(&servers, &good));
    assert_eq!(spiffe_id::on(&client).await.unwrap().as_deref(), Some(uri[0]));
}

#[tokio::test]
async fn an_identity_is_the_names_of_the_certificate() {
    let (servers, clients) = (Authority::new("of servers"), Authority::new("of clients"));
    let running = requiring(&servers, &clients, |tls| tls).await;
    for (uris, expected) in [
        (&["spiffe://prod/billing"][..], Some("spiffe://prod/billing")),
        (&["spiffe://prod/billing", "spiffe://prod/orders"], None),
        (&["https://billing.example"], None),
        (&[], None),
    ] {
        for transport in [Transport::Http, Transport::Frames] {
            let builder = Client::builder(running.https()).transport(transport);
            let client = builder.tls(identified(&servers, &clients.sign_for(uris))).build().unwrap();
            for _ in 0..10 {
                assert_eq!(spiffe_id::on(&client).await.unwrap().as_deref(), expected, "{uris:?}");
                tokio::task::yield_now().await;
            }
        }
    }

    let tls = server_tls(&servers.sign(HERE)).accept_clients(Pem::text(clients.pem())).unwrap();
    let running = Running::new(everything().method::<spiffe_id>().tls(tls)).await;
    assert_eq!(spiffe_id::on(&over_http(running.address, trusting(&servers))).await.unwrap(), None);
    let known = identified(&servers, &clients.sign_for(&["spiffe://prod/billing"]));
    assert!(spiffe_id::on(&over_http(running.address, known)).await.unwrap().is_some());
    let unknown = identified(&servers, &servers.sign_for(&["spiffe://prod/billing"]));
    let error = add_over(&over_http(running.address, unknown)).await.unwrap_err();
    means(&error, Code::Unauthenticated, "rejects this client's certificate");
}

/// Billing may call everything below `orders`, and nobody else anything.
async fn billing_calls_orders(request: Request, next: Next) -> Result<byname::Reply, Error> {
    match request.peer().and_then(Peer::spiffe_id) {
        Some("spiffe://prod/billing") if request.name().starts_with("orders.") => Ok(next.run(request).await),
        Some(id) => Err(Error::new(Code::PermissionDenied, format!("{id} may not call `{}`", request.name()))),
        None => Err(Error::new(Code::Unauthenticated, "show a certificate with a SPIFFE ID")),
    }
}

#[tokio::test]
async fn an_interceptor_lets_billing_call_orders() {
    let (servers, clients) = (Authority::new("of servers"), Authority::new("of clients"));
    let tls = server_tls(&servers.sign(HERE)).accept_clients(Pem::text(clients.pem())).unwrap();
    let server = Server::new()
        .function("orders.get", |id: u64| async move { id })
        .function("users.get", |id: u64| async move { id })
        .intercept(billing_calls_orders);
    let running = Running::new(server.tls(tls)).await;
    let client = |tls| over_http(running.address, tls);
    let code = async |client: &Client, name: &str| {
        client.call::<u64>(name, (7,)).await.map_err(|error| error.rpc().unwrap().code())
    };
    let billing = client(identified(&servers, &clients.sign_for(&["spiffe://prod/billing"])));
    assert_eq!(code(&billing, "orders.get").await, Ok(7));
    assert_eq!(code(&billing, "users.get").await, Err(Code::PermissionDenied));
    let shipping = client(identified(&servers, &clients.sign_for(&["spiffe://prod/shipping"])));
    assert_eq!(code(&shipping, "orders.get").await, Err(Code::PermissionDenied));
    let nobody = client(trusting(&servers));
    assert_eq!(code(&nobody, "orders.get").await, Err(Code::Unauthenticated));
}

/// Certificate, then header: what a rule's refusal says to each, and the access log of each.
#[tokio::test]
async fn a_rule_names_certificates_where_they_are_accepted_and_the_access_log_says_who_called() {
    let mut log = Log::new();
    let (servers, clients) = (Authority::new("of servers"), Authority::new("of clients"));
    let tls = server_tls(&servers.sign(HERE));
    let server = || {
        let server = Server::new().function("orders.get", |id: u64| async move { id }).access_log(true);
        server.allow("orders.*", |request| request.peer().and_then(Peer::spiffe_id) == Some("spiffe://prod/billing"))
    };
    let accepting = Running::new(server().tls(tls.clone().accept_clients(Pem::text(clients.pem())).unwrap())).await;
    let others = Running::new(server().tls(tls)).await;
    let certificate = "(`Client::bearer`), or present a certificate (`ClientTls::identity`)";
    for (running, is_named) in [(&accepting, true), (&others, false)] {
        for name in ["orders.get", "orders.got"] {
            let client = over_http(running.address, trusting(&servers));
            let error = client.call::<u64>(name, (7,)).await.unwrap_err().rpc().unwrap().clone();
            assert_eq!(error.code(), Code::Unauthenticated);
            assert_eq!(error.message().contains(certificate), is_named, "{error}");
            assert_eq!(log.access().await.get("identity"), None);
            let forwarded = client.header("x-forwarded-for", "192.0.2.1").call::<u64>(name, (7,)).await.unwrap_err();
            assert!(!forwarded.to_string().contains("ClientTls::identity"), "it would be the proxy's: {forwarded}");
            log.access().await;
        }
    }
    for (uris, code, identity) in [
        (&["spiffe://prod/billing"][..], "ok", Some("spiffe://prod/billing")),
        (&["spiffe://prod/shipping"], "permission_denied", Some("spiffe://prod/shipping")),
        (&["https://a.example", "https://b.example"], "permission_denied", Some("https://a.example")),
    ] {
        for transport in [Transport::Http, Transport::Frames] {
            let builder = Client::builder(accepting.https()).transport(transport);
            let client = builder.tls(identified(&servers, &clients.sign_for(uris))).build().unwrap();
            for _ in 0..5 {
                let _ = client.call::<u64>("orders.get", (7,)).await;
                let access = log.access().await;
                assert_eq!(
                    (access["rpc.response.status_code"].as_str(), access.get("identity").map(String::as_str)),
                    (code, identity)
                );
            }
        }
    }
    let local = Client::local(&server()).unwrap().call::<u64>("orders.get", (7,)).await.unwrap_err();
    assert!(!local.to_string().contains("ClientTls::identity"), "{local}");
}

/// The `authorization` of this call.
#[rpc(readonly)]
async fn authorization() -> Option<String> {
    Context::current()?.header("authorization").map(str::to_owned)
}

/// On Linux `0.0.0.0` is this machine, which byname does not rely on: to byname it is another one.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_token_is_sent_to_another_machine_over_tls() {
    let authority = Authority::new("the authority");
    let tls = server_tls(&authority.sign(&["orders.internal", "0.0.0.0"]));
    let server = everything().method::<authorization>().hosts(["orders.internal", "0.0.0.0"]).tls(tls);
    let running = Running::new(server).await;
    let away = format!("0.0.0.0:{}", running.address.port());
    for transport in [Transport::Http, Transport::Frames] {
        for builder in
            [Client::builder("https://orders.internal").addresses([&away]), Client::builder(format!("https://{away}"))]
        {
            let client = builder.transport(transport).tls(trusting(&authority)).build().unwrap().bearer("secret");
            for _ in 0..12 {
                let sent = authorization::on(&client).await.unwrap();
                assert_eq!(sent.as_deref(), Some("Bearer secret"), "{client:?} by {transport:?}");
            }
        }
    }
    // The same without TLS is refused.
    for builder in [Client::builder("http://orders.internal").addresses([&away]), Client::builder(&away)] {
        let error = authorization::on(&builder.build().unwrap().bearer("secret")).await.unwrap_err();
        means(&error, Code::FailedPrecondition, "could be read by others");
    }
}

/// By this in its environment a test knows that it is a process of its own, which calls this URL.
const CALLS: &str = "BYNAME_TEST_PLATFORM";

#[cfg(unix)]
#[tokio::test]
async fn https_trusts_what_the_platform_trusts() {
    if let Ok(url) = std::env::var(CALLS) {
        let client = Client::builder(url).transport(Transport::Http).build().unwrap();
        return match add_over(&client).await {
            Ok(sum) => println!("result: {sum}"),
            Err(error) => println!("result: {} {}", error.code(), error.message()),
        };
    }
    let authority = Authority::new("the authority");
    let running = Running::new(everything().tls(server_tls(&authority.sign(HERE)))).await;
    let folder = Folder::new("platform");
    folder.write("ca.pem", &authority.pem());
    folder.write("other.pem", &Authority::new("another").pem());
    folder.write("empty.pem", "");
    std::fs::create_dir_all(folder.path("certs")).unwrap();
    folder.write("certs/ca.pem", &authority.pem());
    let with = async |variables: &[(&str, &str)]| {
        let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "tls::https_trusts_what_the_platform_trusts", "--nocapture"]);
        command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
        command.envs(variables.iter().map(|&(name, file)| (name, folder.path(file))));
        Process::start(command, CALLS, &running.https()).said("result: ").await
    };
    assert_eq!(with(&[("SSL_CERT_FILE", "ca.pem")]).await, "3");
    assert_eq!(with(&[("SSL_CERT_DIR", "certs")]).await, "3");
    assert_eq!(with(&[("SSL_CERT_FILE", "other.pem"), ("SSL_CERT_DIR", "certs")]).await, "3");
    let unknown = "was signed by none of the roots of this machine; give the root that signed it to \
                   `ClientTls::roots`";
    let other = with(&[("SSL_CERT_FILE", "other.pem")]).await;
    assert!(other.starts_with("failed_precondition ") && other.contains(unknown), "{other}");
    let none = "this machine has no root certificates";
    let empty = with(&[("SSL_CERT_FILE", "empty.pem")]).await;
    assert!(empty.starts_with("failed_precondition ") && empty.contains(none), "{empty}");
    assert!(empty.contains("`apt-get install ca-certificates`") && empty.contains("`ClientTls::roots`"), "{empty}");
    // What this machine trusts, which may be nothing.
    let own = with(&[]).await;
    assert!(own.starts_with("failed_precondition ") && (own.contains(unknown) || own.contains(none)), "{own}");
}

#[tokio::test]
async fn old_versions_of_tls_are_named_on_both_sides() {
    let authority = Authority::new("the authority");
    let running = Running::new(everything().tls(server_tls(&authority.sign(HERE)))).await;
    let mut log = Log::new();
    // A hello of TLS 1.0 with one cipher suite and no extensions.
    let body = [&[3, 1][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
    let hello = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    let record = [&[0x16, 3, 1, 0, hello.len() as u8][..], &hello].concat();
    let mut socket = TcpStream::connect(running.address).await.unwrap();
    socket.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    within(socket.read_to_end(&mut answer)).await.unwrap();
    assert_eq!((answer[0], answer.last()), (21, Some(&40)), "the alert `handshake_failure`: {answer:?}");
    log.until("the client supports only TLS versions before 1.2").await;

    // A server that knows none of the client's versions.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = over_http(listener.local_addr().unwrap(), trusting(&authority));
    let old = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.read_exact(&mut [0; 5]).await.unwrap();
        socket.write_all(&[21, 3, 1, 0, 2, 2, 70]).await.unwrap();
        socket
    };
    let (error, _socket) = tokio::join!(add_over(&client), old);
    means(&error.unwrap_err(), Code::FailedPrecondition, "the server supports only TLS versions before 1.2");
}

#[tokio::test]
async fn a_client_that_offers_other_protocols_is_told_so() {
    let authority = Authority::new("the authority");
    let running = Running::new(everything().tls(server_tls(&authority.sign(HERE)))).await;
    let mut log = Log::new();
    let error = connect(running.address, client_config(&authority, &["acme-tls/1"])).await.unwrap_err();
    let error = error.get_ref().unwrap().downcast_ref::<rustls::Error>().unwrap();
    assert_eq!(error, &rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol));
    log.until("the client offers no protocol by ALPN that this side speaks; expected `h2`, `http/1.1` or `http/1.0`")
        .await;
}

#[tokio::test]
async fn tls_1_2_is_spoken_and_refuses_clients_in_its_handshake() {
    let (servers, clients) = (Authority::new("of servers"), Authority::new("of clients"));
    let running = requiring(&servers, &clients, |tls| tls).await;
    let old = |(certificate, key): &Signed| {
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_protocol_versions(&[&version::TLS12]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(servers.0.der().clone()).unwrap();
        let config = config.with_root_certificates(roots);
        config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
    };
    let mut log = Log::new();
    let mut stream = connect(running.address, old(&clients.sign_for(&["spiffe://prod/billing"]))).await.unwrap();
    log.until("a TLS handshake is done: Some(TLSv1_2), Some(Full)").await;
    stream.write_all(post("/rpc/spiffe_id", "[]").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.ends_with(b"\"spiffe://prod/billing\""), "{answer:?}");
    assert!(connect(running.address, old(&servers.sign_for(&["spiffe://prod/billing"]))).await.is_err());
    log.until("was signed by none of the roots in the given text").await;
}

#[tokio::test]
async fn a_handshake_that_stalls_ends_at_its_limit_on_both_sides() {
    let authority = Authority::new("the authority");
    let server = everything().tls(server_tls(&authority.sign(HERE))).limits(|limits| limits.handshake = SHORT);
    let running = Running::new(server).await;
    let mut log = Log::new();
    for beginning in [&b""[..], &[0x16, 3, 1, 2, 0, 1, 0]] {
        let mut socket = TcpStream::connect(running.address).await.unwrap();
        socket.write_all(beginning).await.unwrap();
        let mut answer = Vec::new();
        let _ = within(socket.read_to_end(&mut answer)).await;
        assert!(answer.is_empty(), "{answer:?}");
        log.until("the client did not finish the TLS handshake in time (`Limits::handshake`)").await;
    }

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let builder = Client::builder(format!("https://{}", silent.local_addr().unwrap()));
    let client = builder.tls(trusting(&authority)).limits(|limits| limits.connect = SHORT).build().unwrap();
    let error = add_over(&client).await.unwrap_err();
    means(&error, Code::Unavailable, "the TLS handshake did not finish within 20ms (`Limits::connect`)");
}

/// A listener that accepts by the kernel alone, and how many have connected since it was asked last.
struct SilentListener(std::net::TcpListener);

impl SilentListener {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn connected(&self) -> usize {
        std::iter::from_fn(|| self.0.accept().ok()).count()
    }
}

/// Calls until one, which opens a connection as each does, leaves out these listeners. On a busy machine a good address may
/// take long as well, and then they are tried beside it.
async fn none_connects(client: &Client, stalled: &[SilentListener]) {
    let connected = || stalled.iter().map(SilentListener::connected).sum::<usize>();
    within(async {
        connected();
        while {
            assert_eq!(add_over(client).await.unwrap(), 3);
            connected() > 0
        } {}
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_stalls_in_its_handshake_is_overtaken_and_comes_last_afterwards() {
    let authority = Authority::new("the authority");
    let server = everything().hosts(["orders.internal"]).tls(server_tls(&authority.sign(&["orders.internal"])));
    let running = Running::new(server).await;
    let stalled = [SilentListener::new(), SilentListener::new()];
    let addresses = [stalled[0].address(), stalled[1].address(), running.address];
    let client = Client::builder("https://orders.internal/rpc").addresses(addresses).tls(trusting(&authority));
    let client = client.transport(Transport::Http).limits(|limits| {
        limits.connect = Duration::from_secs(3600);
        limits.pool_idle = Duration::ZERO;
    });
    let client = client.build().unwrap();
    // Which replica gets a call is chance.
    while stalled.iter().map(SilentListener::connected).sum::<usize>() == 0 {
        assert_eq!(within(add_over(&client)).await.unwrap(), 3);
    }
    none_connects(&client, &stalled).await;
    running.stopped().await.unwrap();
    // They are all that is left to connect to, so they are tried again.
    let call = tokio::spawn(async move { add_over(&client).await });
    within(async {
        while stalled[0].connected() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    call.abort();
}

#[tokio::test]
async fn a_call_that_ends_in_a_stalled_handshake_sends_the_next_elsewhere() {
    let authority = Authority::new("the authority");
    let server = everything().hosts(["orders.internal"]).tls(server_tls(&authority.sign(&["orders.internal"])));
    let running = Running::new(server).await;
    let silent = || {
        let stalled = SilentListener::new();
        let client = Client::builder("https://orders.internal/rpc").addresses([stalled.address(), running.address]);
        (stalled, client.tls(trusting(&authority)).transport(Transport::Http))
    };
    let (stalled, client) = silent();
    let client = client.limits(|limits| limits.pool_idle = Duration::ZERO).build().unwrap();
    // Which replica gets a call is chance.
    let hurried = client.timeout(SHORT);
    let error = within(async {
        loop {
            // On a busy machine the server may be late too. Then the call may have run.
            if let Err(error) = add_over(&hurried).await
                && error.executed() == Executed::No
            {
                break error;
            }
        }
    });
    let error = error.await;
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    none_connects(&client, &[stalled]).await;

    // No address gets its 250 ms. The retry goes elsewhere; on a busy machine it may also be too late.
    let (_stalled, client) = silent();
    let client = client.limits(|limits| limits.connect = SHORT).build().unwrap();
    within(async { while add_over(&client).await.is_err() {} }).await;
}

#[tokio::test]
async fn stalled_handshakes_hold_up_nobody() {
    let authority = Authority::new("the authority");
    let running = Running::new(everything().tls(server_tls(&authority.sign(HERE)))).await;
    let mut log = Log::new();
    let mut stalled = Vec::new();
    for _ in 0..50 {
        stalled.push(TcpStream::connect(running.address).await.unwrap());
    }
    assert_eq!(add_over(&over_http(running.address, trusting(&authority))).await.unwrap(), 3);
    // And the end of the server waits for none of them. They have not reached the limit, so there is no warning.
    running.stopped().await.unwrap();
    let warnings: Vec<_> = log.lines().into_iter().filter(|line| line.starts_with("WARN")).collect();
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[tokio::test]
async fn a_handshake_that_has_begun_is_finished_when_the_server_stops() {
    let authority = Authority::new("the authority");
    let mut running = Running::new(everything().tls(server_tls(&authority.sign(HERE)))).await;
    let mut log = Log::new();
    let socket = TcpStream::connect(running.address).await.unwrap();
    running.stop();
    log.until("draining").await;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client_config(&authority, &["http/1.1"])));
    let name = tokio_rustls::rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = within(connector.connect(name, socket)).await.unwrap();
    stream.write_all(post("/rpc/add", "[1,2]").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n3"), "{answer}");
    running.stopped().await.unwrap();
}

#[tokio::test]
async fn plain_http_on_a_port_of_tls_is_told_so() {
    let authority = Authority::new("the authority");
    let running = Running::new(everything().tls(server_tls(&authority.sign(HERE)))).await;
    // A body that nobody reads must not destroy the answer.
    for request in [get("/rpc/add?a=1&b=2"), post("/rpc/add", &format!("[1,2]{}", " ".repeat(1 << 20)))] {
        let answer = Caller::to(running.address).await.ask(request).await;
        assert_eq!((answer.status, answer.header("connection")), (400, "close"), "{answer:?}");
        let error = &answer.json()["err"];
        assert_eq!((&error["code"], &error["executed"]), (&"failed_precondition".into(), &"no".into()));
        assert!(error["message"].as_str().unwrap().contains("call it with https://"), "{error}");
    }
    let client = Client::builder(format!("http://{}", running.address)).transport(Transport::Http).build().unwrap();
    means(&add_over(&client).await.unwrap_err(), Code::FailedPrecondition, "call it with https://");

    // A handshake within TLS is no request, and no handshake.
    let mut caller = Caller::on(connect(running.address, client_config(&authority, &["http/1.1"])).await.unwrap());
    caller.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    let answer = caller.rest().await;
    assert!(answer.starts_with("HTTP/1.1 400") && !answer.contains("http://"), "{answer}");
}

#[tokio::test]
async fn tls_on_a_port_of_plain_http_is_told_so() {
    let plain = Running::new(everything()).await;
    for transport in [Transport::Http, Transport::Frames] {
        let builder = Client::builder(format!("https://{}", plain.address)).transport(transport);
        let client = builder.tls(trusting(&Authority::new("the authority"))).build().unwrap();
        let error = add_over(&client).await.unwrap_err();
        means(&error, Code::FailedPrecondition, "the server does not speak TLS; call it with http://");
    }
}

#[tokio::test]
async fn each_reason_of_a_rejection_has_its_own_warnings_and_they_count_the_others() {
    let (servers, clients) = (Authority::new("of servers"), Authority::new("of clients"));
    let running = requiring(&servers, &clients, |tls| tls).await;
    let mut log = Log::new();
    let mut rejected = async |signed: Option<&Signed>, words: &str| {
        let tls = signed.map_or_else(|| trusting(&servers), |signed| identified(&servers, signed));
        add_over(&over_http(running.address, tls)).await.unwrap_err();
        log.until(words).await
    };
    let (unknown, words) = (servers.sign_for(&["spiffe://prod/billing"]), "was signed by none of the roots");
    assert!(rejected(Some(&unknown), words).await.starts_with("WARN"));
    let mut suppressed = 0;
    for _ in 0..4 {
        // On a slow machine one of them may be the first after a second.
        let line = rejected(Some(&unknown), words).await;
        suppressed = if line.starts_with("DEBUG") { suppressed + 1 } else { 0 };
    }
    // Others are not held back by these.
    let expired = clients.sign_with(&["billing"], |params| params.not_after = date_time_ymd(2026, 3, 1));
    assert!(rejected(Some(&expired), "expired on 2026-03-01").await.starts_with("WARN"));
    assert!(rejected(None, "the client sent no certificate").await.starts_with("WARN"));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
    let line = rejected(Some(&unknown), words).await;
    assert!(line.starts_with("WARN"), "{line}");
    let counted = format!(" (and {suppressed} more like it since the last warning, at level DEBUG)");
    assert_eq!(line.contains(&counted), suppressed > 0, "{suppressed}: {line}");
}

#[tokio::test]
async fn a_client_that_closes_its_connection_in_the_handshake_is_no_warning() {
    let authority = Authority::new("the authority");
    let running = Running::new(everything().tls(server_tls(&authority.sign(HERE)))).await;
    let mut log = Log::new();
    for (beginning, is_reset, words) in [
        (&b""[..], false, "the client closed the connection before the TLS handshake"),
        (&[0x16, 3, 1], false, "the client closed the connection during the TLS handshake"),
        (&[0x16, 3, 1, 2, 0, 1, 0], true, "a connection ended before its first request: "),
    ] {
        let mut socket = TcpStream::connect(running.address).await.unwrap();
        socket.write_all(beginning).await.unwrap();
        if is_reset {
            SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(socket);
        let line = log.until(words).await;
        assert!(line.starts_with("DEBUG"), "{line}");
    }
    // They use up no warning.
    let error = connect(running.address, client_config(&Authority::new("another"), &["http/1.1"])).await;
    error.unwrap_err();
    let line = log.until("the client rejects this server's certificate").await;
    assert!(line.starts_with("WARN"), "{line}");
}

#[tokio::test]
async fn clients_that_end_after_two_calls_leave_no_warning() {
    let authority = Authority::new("the authority");
    let running = Running::new(everything().tls(server_tls(&authority.sign(HERE)))).await;
    let mut log = Log::new();
    let (address, tls) = (running.https(), trusting(&authority));
    for _ in 0..10 {
        let (address, tls) = (address.clone(), tls.clone());
        // The runtime of a program ends with it, in the middle of everything.
        let program = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = Client::builder(address).tls(tls).build().unwrap();
                for _ in 0..2 {
                    assert_eq!(add_over(&client).await.unwrap(), 3);
                }
            });
        });
        within(tokio::task::spawn_blocking(|| program.join().unwrap())).await.unwrap();
    }
    running.stopped().await.unwrap();
    let lines = log.lines();
    assert!(lines.iter().all(|line| !line.starts_with("WARN")), "{lines:#?}");
}

#[tokio::test]
async fn a_plain_answer_to_a_hello_is_named() {
    let authority = Authority::new("the authority");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = over_http(listener.local_addr().unwrap(), trusting(&authority));
    let plain = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.read_exact(&mut [0; 5]).await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        socket
    };
    let (error, _socket) = tokio::join!(add_over(&client), plain);
    means(&error.unwrap_err(), Code::FailedPrecondition, "the server does not speak TLS; call it with http://");
}

#[tokio::test]
async fn sessions_are_resumed_until_the_roots_of_clients_change() {
    let (servers, clients) = (Authority::new("of servers"), Authority::new("of clients"));
    let folder = Folder::new("sessions");
    folder.write("ca.pem", &clients.pem());
    let signed = servers.sign(HERE);
    folder.write("cert.pem", &signed.0);
    folder.write("key.pem", &signed.1);
    let tls = ServerTls::files(folder.path("cert.pem"), folder.path("key.pem")).unwrap();
    let tls = tls.accept_clients(folder.path("ca.pem")).unwrap();
    let running = Running::new(everything().tls(tls.clone())).await;
    let config = Arc::new(client_config(&servers, &["http/1.1"]));
    let kind = async || {
        let mut stream = connect(running.address, Arc::clone(&config)).await.unwrap();
        let kind = stream.get_ref().1.handshake_kind();
        // Tickets come with the answer at the latest.
        stream.write_all(post("/rpc/add", "[1,2]").as_bytes()).await.unwrap();
        within(stream.read_u8()).await.unwrap();
        kind.unwrap()
    };
    assert_eq!(kind().await, HandshakeKind::Full);
    assert_eq!(kind().await, HandshakeKind::Resumed);
    let signed = servers.sign(HERE);
    folder.write("cert.pem", &signed.0);
    folder.write("key.pem", &signed.1);
    assert!(tls.reload().unwrap());
    assert_eq!(kind().await, HandshakeKind::Resumed, "the server's own certificate is no reason");
    folder.write("ca.pem", &[clients.pem(), servers.pem()].concat());
    assert!(tls.reload().unwrap());
    assert_eq!(kind().await, HandshakeKind::Full);
    assert_eq!(kind().await, HandshakeKind::Resumed);
}

#[tokio::test]
async fn bynames_client_resumes_sessions() {
    let authority = Authority::new("the authority");
    let (gate, handle) = Gate::new();
    let running = Running::new(everything().inject(gate).tls(server_tls(&authority.sign(HERE)))).await;
    let mut log = Log::new();
    let client = over_http(running.address, trusting(&authority));
    assert_eq!(add_over(&client).await.unwrap(), 3);
    log.until("a TLS handshake is done: Some(TLSv1_3), Some(Full)").await;
    // One call has the connection, so that the next one needs another.
    let held = tokio::spawn({
        let client = client.clone();
        async move { client.call::<bool>("pass", ()).await }
    });
    within(handle.started).await.unwrap();
    assert_eq!(add_over(&client).await.unwrap(), 3);
    log.until("a TLS handshake is done: Some(TLSv1_3), Some(Resumed)").await;
    handle.release.send(()).unwrap();
    assert!(held.await.unwrap().unwrap());
}

#[tokio::test]
async fn a_caller_that_half_closes_over_tls_is_answered() {
    let authority = Authority::new("the authority");
    let (gate, handle) = Gate::new();
    let running = Running::new(everything().inject(gate).tls(server_tls(&authority.sign(HERE)))).await;
    let config = Arc::new(client_config(&authority, &["http/1.1"]));
    let half_closing = async |request: String| {
        let mut stream = connect(running.address, Arc::clone(&config)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    };
    let rest = async |mut stream: tokio_rustls::client::TlsStream<TcpStream>| {
        let mut answer = Vec::new();
        within(stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    for _ in 0..20 {
        let answer = rest(half_closing(post("/rpc/add", "[1,2]")).await).await;
        assert!(answer.ends_with("\r\n\r\n3"), "{answer}");
    }
    // A function that is at work learns of it, and its caller gets the result.
    let waiting = half_closing(post("/rpc/pass", "[]")).await;
    within(handle.started).await.unwrap();
    tokio::task::yield_now().await;
    handle.release.send(()).unwrap();
    let answer = rest(waiting).await;
    assert!(answer.ends_with("\r\n\r\ntrue"), "{answer}");
    // A second request that has come meanwhile is not lost to the look for the end.
    let both = [post("/rpc/total", "[[1]]"), post("/rpc/add", "[1,2]")].concat();
    let answer = rest(half_closing(both).await).await;
    assert!(answer.matches("HTTP/1.1 200").count() == 2 && answer.ends_with("\r\n\r\n3"), "{answer}");
}

#[tokio::test]
async fn a_slow_header_over_tls_is_told_so() {
    let authority = Authority::new("the authority");
    let server = everything().tls(server_tls(&authority.sign(HERE))).limits(|limits| limits.header_read = SHORT);
    let running = Running::new(server).await;
    let mut stream = connect(running.address, client_config(&authority, &["http/1.1"])).await.unwrap();
    stream.write_all(b"POST /rpc HTTP/1.1\r\nhost: ").await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("Limits::header_read"), "{answer}");
}

/// A server that isn't byname's. After each answer it does what the next byte of `plan` says, and adds a permit to the
/// semaphore.
async fn foreign(authority: &Authority, plan: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>, Arc<Semaphore>) {
    let acceptor = TlsAcceptor::from(Arc::new(server_config(&authority.sign(HERE))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (opened, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (counted, did) = (Arc::clone(&opened), Arc::clone(&done));
    tokio::spawn(async move {
        let mut plan = plan.iter();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let mut stream = acceptor.accept(socket).await.unwrap();
            let mut read = Vec::new();
            loop {
                let head = read.windows(4).position(|end| end == b"\r\n\r\n");
                let Some(head) = head.filter(|_| read.ends_with(b"}") || read.ends_with(b"]")) else {
                    if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                        break;
                    }
                    continue;
                };
                assert!(head > 0);
                read.clear();
                let answer = b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=60\r\ncontent-length: 10\r\n\r\n{\"ret\": 3}";
                stream.write_all(answer).await.unwrap();
                stream.flush().await.unwrap();
                match plan.next() {
                    Some(b'k') => {
                        // Says something that concerns TLS alone.
                        stream.get_mut().1.refresh_traffic_keys().unwrap();
                        stream.flush().await.unwrap();
                    }
                    Some(b'c') => {
                        stream.shutdown().await.unwrap();
                        break;
                    }
                    Some(b'r') => break,
                    Some(b's') => {
                        stream.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
                        stream.flush().await.unwrap();
                    }
                    _ => {}
                }
                did.add_permits(1);
            }
            drop(stream);
            did.add_permits(1);
        }
    });
    (address, opened, done)
}

#[tokio::test]
async fn a_call_may_have_run_when_another_alert_comes_after_it() {
    let authority = Authority::new("the authority");
    let acceptor = TlsAcceptor::from(Arc::new(server_config(&authority.sign(HERE))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = over_http(listener.local_addr().unwrap(), trusting(&authority));
    let server = async {
        let (socket, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(socket).await.unwrap();
        stream.read_u8().await.unwrap();
        // The server takes these bytes for the client's, and answers them by an alert.
        let (socket, session) = stream.get_mut();
        let garbage = [&[0x17, 3, 3, 0, 20][..], &[7; 20]].concat();
        session.read_tls(&mut &garbage[..]).unwrap();
        let why = session.process_new_packets().unwrap_err();
        let mut alert = Vec::new();
        session.write_tls(&mut alert).unwrap();
        assert!(!alert.is_empty(), "{why}");
        socket.write_all(&alert).await.unwrap();
        stream
    };
    let (error, _stream) = tokio::join!(add_over(&client), server);
    let error = error.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::Unknown), "{error}");
    assert!(error.message().contains("BadRecordMac"), "{error}");
}

/// Calls as often as the plan says, and gives the number of connections.
async fn connections_for(plan: &'static [u8]) -> usize {
    let authority = Authority::new("the authority");
    let (address, opened, done) = foreign(&authority, plan).await;
    let client = over_http(address, trusting(&authority));
    for _ in plan {
        assert_eq!(add_over(&client).await.unwrap(), 3);
        within(done.acquire()).await.unwrap().forget();
    }
    opened.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_kept_connection_is_looked_at_before_its_next_call() {
    assert_eq!(connections_for(b"....").await, 1);
    assert_eq!(connections_for(b"kkk.").await, 1, "what concerns TLS alone is no reason to give it up");
    assert_eq!(connections_for(b"c.c.").await, 3, "closed by `close_notify`");
    assert_eq!(connections_for(b"r.r.").await, 3, "closed without a word");
    assert_eq!(connections_for(b"s...").await, 2, "a server that speaks unasked");
}

#[tokio::test]
async fn certificates_are_replaced_twenty_times_under_load() {
    let authority = Authority::new("the authority");
    let folder = Folder::new("replaced");
    let replace = |signed: &Signed| {
        folder.write("cert.pem", &signed.0);
        folder.write("key.pem", &signed.1);
    };
    replace(&authority.sign(HERE));
    let tls = ServerTls::files(folder.path("cert.pem"), folder.path("key.pem")).unwrap();
    let running = Running::new(everything().tls(tls.clone())).await;
    let (is_over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers = Vec::new();
    for number in 0..6 {
        let (is_over, calls, url) = (Arc::clone(&is_over), Arc::clone(&calls), running.https());
        let tls = trusting(&authority);
        callers.push(tokio::spawn(async move {
            let transport = if number % 2 == 0 { Transport::Frames } else { Transport::Http };
            let client = || Client::builder(&url).tls(tls.clone()).transport(transport).build().unwrap();
            let mut own = client();
            while !is_over.load(Ordering::SeqCst) {
                assert_eq!(add_over(&own).await.unwrap(), 3);
                calls.fetch_add(1, Ordering::SeqCst);
                // Some open a connection for each call.
                if number > 3 {
                    own = client();
                }
            }
        }));
    }
    for _ in 0..20 {
        let signed = authority.sign(HERE);
        // First one file, as it happens: the old pair stays.
        folder.write("cert.pem", &signed.0);
        let error = tls.reload().unwrap_err();
        assert!(error.message().contains("/key.pem` is not the key of the certificate in `"), "{error}");
        folder.write("key.pem", &signed.1);
        assert!(tls.reload().unwrap());
        let shown = connect(running.address, client_config(&authority, &["http/1.1"])).await.unwrap();
        let shown = shown.get_ref().1.peer_certificates().unwrap()[0].clone();
        assert_eq!(shown, CertificateDer::from_pem_slice(signed.0.as_bytes()).unwrap());
        let before = calls.load(Ordering::SeqCst);
        within(async {
            while calls.load(Ordering::SeqCst) < before + 20 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    is_over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
}

/// Lets the time of tokio go on until a line is in the log.
async fn later_it_says(log: &mut Log, words: &str) -> String {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    tokio::time::resume();
    log.until(words).await
}

#[tokio::test]
async fn files_are_looked_at_while_the_server_serves() {
    let authority = Authority::new("the authority");
    let folder = Folder::new("looked-at");
    let first = authority.sign(HERE);
    folder.write("cert.pem", &first.0);
    folder.write("key.pem", &first.1);
    let tls = ServerTls::files(folder.path("cert.pem"), folder.path("key.pem")).unwrap();
    let running = Running::new(everything().tls(tls)).await;
    let mut log = Log::new();
    tokio::task::yield_now().await;
    let shown = async || {
        let stream = connect(running.address, client_config(&authority, &["http/1.1"])).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let der = |signed: &Signed| CertificateDer::from_pem_slice(signed.0.as_bytes()).unwrap();

    let second = authority.sign_with(HERE, |params| params.not_after = date_time_ymd(2028, 3, 1));
    // Half of it.
    folder.write("cert.pem", &second.0[..second.0.len() / 2]);
    later_it_says(&mut log, "were not loaded again, and the old ones stay: ").await;
    assert_eq!(shown().await, der(&first));
    // All of it, and not its key.
    folder.write("cert.pem", &second.0);
    later_it_says(&mut log, "/key.pem` is not the key of the certificate in").await;
    assert_eq!(shown().await, der(&first));
    folder.write("key.pem", &second.1);
    let line = later_it_says(&mut log, "the certificates of the server were loaded again").await;
    assert!(line.contains("again: the certificate for `127.0.0.1` is valid until 2028-03-01"), "{line}");
    assert_eq!(shown().await, der(&second));
}

/// Lets a server read its files three times, if it does so every five seconds. The time does not go on while it reads.
async fn three_looks() {
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(16)).await;
    tokio::time::resume();
}

/// The lines that speak of files.
fn of_files(log: &mut Log) -> Vec<String> {
    let lines = log.lines().into_iter();
    lines.filter(|line| line.contains("loaded again") || line.contains("hold again")).collect()
}

#[tokio::test]
async fn a_file_that_stays_away_is_logged_once_and_so_is_its_return() {
    let authority = Authority::new("the authority");
    let folder = Folder::new("stays-away");
    let first = authority.sign(HERE);
    folder.write("cert.pem", &first.0);
    folder.write("key.pem", &first.1);
    let tls = ServerTls::files(folder.path("cert.pem"), folder.path("key.pem")).unwrap();
    let _running = Running::new(everything().tls(tls)).await;
    let mut log = Log::new();
    tokio::task::yield_now().await;
    let one = |lines: Vec<String>, words: &str| {
        assert!(matches!(&*lines, [line] if line.contains(words)), "expected one line with {words:?}: {lines:#?}");
    };
    three_looks().await;
    assert_eq!(of_files(&mut log), [""; 0]);
    std::fs::remove_file(folder.path("key.pem")).unwrap();
    three_looks().await;
    one(of_files(&mut log), "were not loaded again, and the old ones stay: invalid_argument: can't read");
    // Another failure, and then the first one again.
    std::fs::remove_file(folder.path("cert.pem")).unwrap();
    three_looks().await;
    one(of_files(&mut log), "/cert.pem`");
    folder.write("cert.pem", &first.0);
    three_looks().await;
    one(of_files(&mut log), "/key.pem`");
    // The same reason for other content is another failure.
    folder.write("key.pem", &authority.sign(HERE).1);
    three_looks().await;
    one(of_files(&mut log), "is not the key of the certificate in");
    folder.write("key.pem", &authority.sign(HERE).1);
    three_looks().await;
    one(of_files(&mut log), "is not the key of the certificate in");
    folder.write("key.pem", &first.1);
    three_looks().await;
    one(of_files(&mut log), "the files of the server's certificates hold again what is in use");
    // New content is the end of a failure too.
    std::fs::remove_file(folder.path("key.pem")).unwrap();
    three_looks().await;
    one(of_files(&mut log), "can't read");
    let second = authority.sign(HERE);
    folder.write("key.pem", &second.1);
    folder.write("cert.pem", &second.0);
    three_looks().await;
    one(of_files(&mut log), "the certificates of the server were loaded again");
}

#[tokio::test]
async fn a_client_logs_a_file_that_stays_away_once_and_so_its_return() {
    let authority = Authority::new("the authority");
    let running = Running::new(everything().tls(server_tls(&authority.sign(HERE)))).await;
    let folder = Folder::new("of-a-client-stays-away");
    folder.write("ca.pem", &authority.pem());
    let client = over_http(running.address, ClientTls::new().roots(folder.path("ca.pem")).unwrap());
    assert_eq!(add_over(&client).await.unwrap(), 3);
    let mut log = Log::new();
    let three_connections = async || {
        for _ in 0..3 {
            tokio::time::pause();
            // Longer than a connection is kept.
            tokio::time::advance(Duration::from_secs(100)).await;
            tokio::time::resume();
            assert_eq!(add_over(&client).await.unwrap(), 3);
        }
    };
    let one = |lines: Vec<String>, words: &str| {
        assert!(matches!(&*lines, [line] if line.contains(words)), "expected one line with {words:?}: {lines:#?}");
    };
    std::fs::remove_file(folder.path("ca.pem")).unwrap();
    three_connections().await;
    one(
        of_files(&mut log),
        "the TLS of a client was not loaded again, and stays as it was: invalid_argument: can't read",
    );
    folder.write("ca.pem", "no certificate");
    three_connections().await;
    one(of_files(&mut log), "contains no certificate");
    folder.write("ca.pem", &authority.pem());
    three_connections().await;
    one(of_files(&mut log), "the files of a client's TLS hold again what is in use");
}

#[cfg(unix)]
#[tokio::test]
async fn a_client_opens_connections_while_its_files_cannot_be_read() {
    let authority = Authority::new("the authority");
    let running = Running::new(everything().tls(server_tls(&authority.sign(HERE)))).await;
    let folder = Folder::new("of-a-client-hangs");
    let roots = folder.path("ca.pem");
    folder.write("ca.pem", &authority.pem());
    let client = Client::builder(running.https()).tls(ClientTls::new().roots(&*roots).unwrap());
    let client = client.transport(Transport::Http).limits(|limits| {
        (limits.connect, limits.pool_idle) = (Duration::from_secs(3600), Duration::ZERO);
    });
    let client = client.build().unwrap();
    assert_eq!(add_over(&client).await.unwrap(), 3);
    // Whoever reads a FIFO waits for a writer.
    std::fs::remove_file(&roots).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&roots).status().unwrap().success());
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    tokio::time::resume();
    let reading = tokio::spawn({
        let client = client.clone();
        async move { add_over(&client).await }
    });
    let writer = within(async {
        loop {
            match tokio::net::unix::pipe::OpenOptions::new().open_sender(&roots) {
                Ok(writer) => break writer,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    assert_eq!(within(add_over(&client)).await.unwrap(), 3);
    drop(writer);
    assert_eq!(within(reading).await.unwrap().unwrap(), 3, "the roots that were known are used");
}

#[tokio::test]
async fn a_client_of_http_1_0_may_say_so_by_alpn() {
    let authority = Authority::new("the authority");
    let running = Running::new(everything().tls(server_tls(&authority.sign(HERE)))).await;
    // What `curl --http1.0` sends.
    for (offered, chosen) in [
        (&["http/1.0"][..], "http/1.0"),
        (&["http/1.0", "http/1.1"], "http/1.1"),
        (&["http/1.0", "http/1.1", "h2"], "h2"),
    ] {
        let stream = connect(running.address, client_config(&authority, offered)).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(chosen.as_bytes()));
    }
    let mut stream = connect(running.address, client_config(&authority, &["http/1.0"])).await.unwrap();
    stream.write_all(post("/rpc/add", "[1,2]").replace("HTTP/1.1", "HTTP/1.0").as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\n3"), "{answer}");
}

#[tokio::test]
async fn a_whole_name_with_its_dot_is_the_same_name() {
    let authority = Authority::new("the authority");
    let server = everything().hosts(["orders.internal"]).tls(server_tls(&authority.sign(&["orders.internal"])));
    let running = Running::new(server).await;
    let here = running.address.to_string();
    for transport in [Transport::Http, Transport::Frames] {
        for url in ["https://orders.internal", "https://orders.internal.", "https://orders.internal.:8443"] {
            let builder = Client::builder(url).addresses([&here]).transport(transport).tls(trusting(&authority));
            assert_eq!(add_over(&builder.build().unwrap()).await.unwrap(), 3, "{url} by {transport:?}");
        }
    }
}

#[tokio::test]
async fn a_client_takes_new_roots_and_a_new_identity_for_its_next_connection() {
    let (servers, clients) = (Authority::new("of servers"), Authority::new("of clients"));
    let running = requiring(&servers, &clients, |tls| tls).await;
    let folder = Folder::new("of-a-client");
    let show = |(certificate, key): &Signed| {
        folder.write("client.pem", certificate);
        folder.write("client.key", key);
    };
    show(&clients.sign_for(&["spiffe://prod/first"]));
    folder.write("ca.pem", &servers.pem());
    let tls = ClientTls::new().roots(folder.path("ca.pem")).unwrap();
    let tls = tls.identity(folder.path("client.pem"), folder.path("client.key")).unwrap();
    let client = over_http(running.address, tls);
    assert_eq!(spiffe_id::on(&client).await.unwrap().unwrap(), "spiffe://prod/first");
    show(&clients.sign_for(&["spiffe://prod/second"]));
    tokio::time::pause();
    // Longer than a connection is kept.
    tokio::time::advance(Duration::from_secs(100)).await;
    tokio::time::resume();
    assert_eq!(spiffe_id::on(&client).await.unwrap().unwrap(), "spiffe://prod/second");
    folder.write("ca.pem", &clients.pem());
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(100)).await;
    tokio::time::resume();
    let error = add_over(&client).await.unwrap_err();
    means(&error, Code::FailedPrecondition, "was signed by none of the roots in");
}

/// Gives each name its own certificate.
#[derive(Debug)]
struct ByName(Vec<(&'static str, Arc<CertifiedKey>)>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = self.0.iter().find(|(name, _)| Some(*name) == hello.server_name());
        found.map(|(_, certificate)| Arc::clone(certificate))
    }
}

#[tokio::test]
async fn a_resolver_of_the_users_own_chooses_by_name() {
    let authority = Authority::new("the authority");
    let certified = |name: &'static str| {
        let (certificate, key) = authority.sign(&[name]);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        (name, Arc::new(CertifiedKey::new(chain, sign::any_supported_type(&key).unwrap())))
    };
    let resolver = ByName(vec![certified("a.example"), certified("b.example")]);
    let tls = ServerTls::resolver(Arc::new(resolver)).unwrap();
    let running = Running::new(everything().tls(tls)).await;
    for name in ["a.example", "b.example"] {
        let tls = trusting(&authority).server_name(name).unwrap();
        assert_eq!(add_over(&over_http(running.address, tls)).await.unwrap(), 3);
    }
    let tls = trusting(&authority).server_name("c.example").unwrap();
    let error = add_over(&over_http(running.address, tls)).await.unwrap_err();
    means(&error, Code::FailedPrecondition, "it may have no certificate for the requested name (SNI)");
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_at_the_start() {
    let authority = Authority::new("the authority");
    let (certificate, key) = authority.sign(HERE);
    let refused = |result: Result<ServerTls, Error>, words: &str| {
        let error = result.expect_err(words);
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains(words), "{error}");
        assert!(!format!("{error:?} {error}").contains("MII"), "no message bears a key: {error}");
    };
    refused(ServerTls::files("/nowhere/cert.pem", "/nowhere/key.pem"), "can't read `/nowhere/cert.pem`: ");
    refused(
        ServerTls::pem(&key, &certificate),
        "the given text contains no certificate, expected `-----BEGIN CERTIFICATE",
    );
    refused(ServerTls::pem(&certificate, &certificate), "contains no private key, expected `-----BEGIN PRIVATE KEY");
    refused(ServerTls::pem("", &key), "it is empty");
    refused(ServerTls::files(&certificate, &key), "pass the text with `Pem::text`");
    let cut = &certificate[..certificate.len() / 2];
    refused(ServerTls::pem(cut, &key), "its last section has no end, so the file is incomplete");

    let builder = Client::builder("http://localhost").tls(trusting(&authority));
    means(&builder.build().unwrap_err(), Code::InvalidArgument, "its URL is http://localhost/rpc; write https://");
    let error = Server::new().method::<add>().tls(server_tls(&authority.sign(HERE))).into_service().unwrap_err();
    means(&error, Code::FailedPrecondition, "give the outer server its TLS");
}
