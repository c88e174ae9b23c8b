//! What goes wrong with TLS.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use byname::{Client, ClientCertificate, ClientTls, Code, Executed, Pem, ServerTls};
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, GeneralSubtree, NameConstraints, SanType, SerialNumber, date_time_ymd,
};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::harness::tls::{
    Authority, Folder, Signed, client_config, connect, identified, identified_config, of_version_1, over_http,
    self_signed, server_tls, trusting,
};
use super::harness::{Caller, Log, Raw, Running, get, post, raw};
use super::{Page, SHORT, Seen, failed, one};

const HERE: &[&str] = &["127.0.0.1"];

/// A build without TLS provokes it.
pub(crate) fn https(page: &mut Page) {
    page.keep("### The address is https, but the feature `tls` is off");
}

pub(crate) async fn tls(page: &mut Page) {
    page.section("TLS");
    files(page);
    let socket = Folder::new("errors-socket");
    let authority = Authority::new("the authority");
    let at = format!("unix:{}", socket.path("orders.sock").display());
    page.add(
        "A server with TLS is bound to a unix socket",
        failed(one().tls(server_tls(&authority.sign(HERE))).serve(at).bind().await),
        "A unix socket does not leave the machine, and the kernel says who calls. Serve it by another server, without TLS.",
    );
    certificates_of_servers(page).await;
    certificates_of_clients(page).await;
    handshakes(page).await;
}

fn files(page: &mut Page) {
    let authority = Authority::new("the authority");
    let folder = Folder::new("errors");
    let (certificate, key) = authority.sign(HERE);
    let cut = &certificate[..certificate.len() / 2];
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (name, content) in [
        ("cert.pem", certificate.as_str()),
        ("key.pem", &key),
        ("other.key", &authority.sign(HERE).1),
        ("turned.pem", &[authority.pem(), certificate.clone()].concat()),
        ("cut.pem", cut),
        ("broken.pem", broken),
        ("encrypted.key", encrypted),
        ("empty.key", ""),
        ("crl.pem", "none"),
    ] {
        folder.write(name, content);
    }
    let path = |name: &str| folder.path(name);
    let server = |certificate: &str, key: &str| failed(ServerTls::files(path(certificate), path(key)));
    page.add(
        "A file of TLS can't be read",
        server("missing.pem", "key.pem"),
        "Give a path that exists and that the user of the process may read. A relative path starts at the working \
         directory of the process.",
    );
    page.add(
        "The text of a PEM was given in place of its path",
        failed(ClientTls::new().roots(certificate.as_str())),
        "A string is a path. Pass the text with `Pem::text`, or with `ServerTls::pem`.",
    );
    page.add(
        "There is no certificate in the file",
        server("key.pem", "cert.pem"),
        "Check the order of the arguments: first the certificate, then the key.",
    );
    page.add(
        "There is no private key in the file",
        server("cert.pem", "empty.key"),
        "Give the file with the certificate's private key.",
    );
    page.add(
        "The private key is encrypted",
        server("cert.pem", "encrypted.key"),
        "byname does not ask for a passphrase. Decrypt the key, and let only the user of the process read it.",
    );
    page.add(
        "There is no revocation list in the file",
        failed(ServerTls::files(path("cert.pem"), path("key.pem")).unwrap().revocations(path("crl.pem"))),
        "Revocation lists are often in DER. `openssl crl -inform DER -in list.crl -out crl.pem` converts one to PEM.",
    );
    page.add(
        "A PEM file is incomplete",
        server("cut.pem", "key.pem"),
        "The file is being written, or the writing was interrupted. Write files under another name, then rename them.",
    );
    page.add(
        "The private key belongs to another certificate",
        server("cert.pem", "other.key"),
        "Give the key of this certificate. A running server logs this if it reads the files after only one of them was \
         replaced; the old pair stays in use.",
    );
    page.add(
        "The certificate is invalid",
        server("broken.pem", "key.pem"),
        "Look at the file: `openssl x509 -in FILE -text` should show a certificate.",
    );
    page.add(
        "The certificate is of version 1",
        failed(ServerTls::pem(&of_version_1().0, &of_version_1().1)),
        "Only version 3 has the names of the server. Write `subjectAltName=DNS:orders.internal` into a file, and sign again with \
         `-extfile` and this file.",
    );
    page.add(
        "The certificates are in the wrong order",
        server("turned.pem", "key.pem"),
        "The certificate of this side comes first, and after it the intermediate certificates. The root is not needed.",
    );
    page.add(
        "A root certificate is invalid",
        failed(ClientTls::new().roots(path("broken.pem"))),
        "Look at each certificate in the file: `openssl x509 -in FILE -text` shows the first.",
    );
    page.add(
        "The server name is invalid",
        failed(ClientTls::new().server_name("orders:8443")),
        "Give only the host, without scheme and port.",
    );
    let nothing = CryptoProvider { cipher_suites: Vec::new(), ..default_provider() };
    page.add(
        "The cryptography can't be used",
        failed(ServerTls::pem(&certificate, &key).unwrap().provider(Arc::new(nothing))),
        "Give a complete provider, such as `rustls::crypto::aws_lc_rs::default_provider()`.",
    );
    page.add(
        "A mounted server has TLS",
        failed(one().tls(server_tls(&authority.sign(HERE))).into_service()),
        "Remove `Server::tls`, and give the certificate to the outer server.",
    );
    page.add(
        "A client with TLS has a unix socket among its addresses",
        failed(
            Client::builder("https://orders.internal").addresses(["unix:/run/orders.sock"]).tls(trusting(&authority)).build(),
        ),
        "A unix socket does not leave the machine. Make another client for it, with `http://` or with its path as the URL.",
    );
    page.add(
        "A client has TLS and its URL has none",
        failed(Client::builder("orders.internal:8443").tls(trusting(&authority)).build()),
        "Write `https://` before the host.",
    );
}

/// What a client says of a server with this certificate.
async fn refused(signed: &Signed, tls: ClientTls) -> Seen {
    let running = Running::new(one().tls(server_tls(signed))).await;
    failed(over_http(running.address, tls).call::<u8>("add", (1, 2)).await)
}

async fn certificates_of_servers(page: &mut Page) {
    let authority = Authority::new("the authority");
    let folder = Folder::new("errors-of-servers");
    folder.write("ca.pem", &authority.pem());
    folder.write("crl.pem", &authority.revoking(&[7]));
    let trusting = || ClientTls::new().roots(folder.path("ca.pem")).unwrap();
    let with = |change: fn(&mut CertificateParams)| authority.sign_with(HERE, change);
    let dns_name = |name: &str| {
        let name = SanType::DnsName(name.try_into().unwrap());
        authority.sign_with(&[], |params| params.subject_alt_names.push(name))
    };
    page.add(
        "The server's certificate has expired",
        refused(&with(|params| params.not_after = date_time_ymd(2026, 3, 1)), trusting()).await,
        "Give the server a new certificate; it loads it without a restart. If the current date in the message is wrong, set the \
         clock of the client's machine.",
    );
    page.add(
        "The server's certificate is not valid yet",
        refused(&with(|params| params.not_before = date_time_ymd(2200, 3, 1)), trusting()).await,
        "Wait until that date, or give the server another certificate. If the current date in the message is wrong, set the \
         clock of the client's machine.",
    );
    page.add(
        "The server's certificate is for another name",
        refused(&authority.sign(&["a.example"]), trusting().server_name("b.example").unwrap()).await,
        "The host in the client's URL must be a name in the certificate, whatever its address is. If the server must be \
         called by another name, add that name to the certificate, or set the expected name with `ClientTls::server_name`.",
    );
    page.add(
        "The server's certificate has its IP address as a DNS name",
        refused(&dns_name("127.0.0.1"), trusting()).await,
        "An IP address counts only as a name of its own kind. With `openssl`, write `IP:` before it in the `subjectAltName`, \
         and `DNS:` only before names of hosts.",
    );
    page.add(
        "The server's certificate has a wildcard that does not stand for the name",
        refused(&dns_name("*.orders.internal"), trusting().server_name("a.b.orders.internal").unwrap()).await,
        "`*.orders.internal` is for `a.orders.internal`, and neither for `orders.internal` nor for `a.b.orders.internal`. Add \
         the name to the certificate.",
    );
    page.add(
        "The server's certificate has a wildcard that stands for nothing",
        refused(&dns_name("*.internal"), trusting().server_name("orders.internal").unwrap()).await,
        "A wildcard for all names of one top domain is not accepted. Add the name itself to the certificate.",
    );
    page.add(
        "The server's certificate is for no name",
        refused(&authority.sign(&[]), trusting()).await,
        "Make a certificate with the name in its `subjectAltName`. The common name is ignored.",
    );
    page.add(
        "The server's certificate was signed by an unknown authority",
        refused(&Authority::new("another").sign(HERE), trusting()).await,
        "Give the client the certificate of the authority that signed the server's. If the client has it, the server's file \
         lacks the intermediate certificates. They belong after the server's own certificate.",
    );
    page.add(
        "The server's certificate is self-signed",
        refused(&self_signed(HERE, |_| ()), trusting()).await,
        "Copy the server's certificate to the client and give it to `ClientTls::roots`. Its names and dates are still checked. \
         The check can't be disabled.",
    );
    let revocations = trusting().revocations(folder.path("crl.pem")).unwrap();
    page.add(
        "The server's certificate is revoked",
        refused(&with(|params| params.serial_number = Some(SerialNumber::from(7))), revocations).await,
        "Its key may be known to others. Find out why it was revoked, and give the server a new certificate.",
    );
    page.add(
        "The server's certificate is for clients",
        refused(&with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]), trusting())
            .await,
        "Make a certificate with the extended key usage `serverAuth`, or with none.",
    );
    let limited = Authority::with("the authority of example", |params| {
        let example = vec![GeneralSubtree::DnsName("example".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees: example, excluded_subtrees: Vec::new() });
    });
    page.add(
        "The server's certificate is bad in another way",
        refused(&limited.sign(&["a.other"]), ClientTls::new().roots(Pem::text(limited.pem())).unwrap()).await,
        "The end of the message is webpki's word for the reason. Here the root may sign only for other names.",
    );
}

async fn certificates_of_clients(page: &mut Page) {
    let (servers, clients) = (Authority::new("of servers"), Authority::new("of clients"));
    let folder = Folder::new("errors-of-clients");
    folder.write("clients.pem", &clients.pem());
    folder.write("crl.pem", &clients.revoking(&[7]));
    let tls = server_tls(&servers.sign(HERE)).require_clients(folder.path("clients.pem")).unwrap();
    let running = Running::new(one().tls(tls.revocations(folder.path("crl.pem")).unwrap())).await;
    let mut log = Log::new();
    let mut seen = async |tls: ClientTls, words: &str| {
        let error = failed(over_http(running.address, tls).call::<u8>("add", (1, 2)).await);
        (error, log.until(words).await)
    };
    let with = |change: fn(&mut CertificateParams)| identified(&servers, &clients.sign_with(&["billing"], change));
    let tls = server_tls(&servers.sign(HERE)).accept_clients(Pem::text(clients.pem())).unwrap();
    let ruled = Running::new(one().allow("add", |_| false).tls(tls)).await;
    page.add(
        "A rule wants to know who calls over TLS",
        failed(over_http(ruled.address, trusting(&servers)).call::<u8>("add", (1, 2)).await),
        "Give the client a certificate that was signed by one of the server's roots for clients, or send a token.",
    );
    let (error, line) = seen(trusting(&servers), "sent no certificate").await;
    page.add(
        "The server requires a certificate of the client",
        error,
        "Give the client a certificate that was signed by one of the server's roots for clients.",
    );
    page.add_logged(
        "A client sent no certificate",
        &line,
        "Give the client a certificate. If clients without one may also call, use `accept_clients` in place of \
         `require_clients`.",
    );
    let (error, line) = seen(with(|params| params.not_after = date_time_ymd(2026, 3, 1)), "expired").await;
    page.add(
        "The server rejects a client's certificate for its dates",
        error,
        "Renew the certificate. The client reads its files again when they change. The server's log has the date.",
    );
    page.add_logged("A client's certificate has expired", &line, "Renew the certificate of the client.");
    let early = with(|params| params.not_before = date_time_ymd(2200, 3, 1));
    page.add_logged(
        "A client's certificate is not valid yet",
        &seen(early, "not valid before").await.1,
        "Check the clocks of both machines.",
    );
    let unknown = identified(&servers, &servers.sign_for(&["spiffe://prod/billing"]));
    let (error, line) = seen(unknown, "none of the roots").await;
    page.add(
        "The server does not trust the authority of the client's certificate",
        error,
        "Give the authority that signed it to the server as a root, or get a certificate from an authority that the server \
         trusts.",
    );
    page.add_logged(
        "A client's certificate was signed by an unknown authority",
        &line,
        "Add the authority as a root, if its clients may call.",
    );
    page.add_logged(
        "A client's certificate is self-signed",
        &seen(identified(&servers, &self_signed(&["billing"], |_| ())), "self-signed").await.1,
        "To accept a client by its own certificate, add the certificate to the file of roots.",
    );
    let (error, line) = seen(with(|params| params.serial_number = Some(SerialNumber::from(7))), "is revoked by").await;
    page.add(
        "The client's certificate is revoked",
        error,
        "Get a new certificate with a new key. Ask the authority why the old one was revoked.",
    );
    page.add_logged(
        "A client came with a revoked certificate",
        &line,
        "No action is needed if the client must not call any more.",
    );
    let of_a_server = with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let (error, line) = seen(of_a_server, "is not for clients").await;
    page.add(
        "The server rejects the client's certificate for another reason",
        error,
        "Read the server's log. It has the reason.",
    );
    page.add_logged(
        "A client's certificate is for servers",
        &line,
        "Make a certificate with the extended key usage `clientAuth`, or with none.",
    );
    page.add(
        "The bytes of a client's certificate are not a certificate",
        failed(ClientCertificate::from_der(*b"letters")),
        "Pass the first certificate that the client has shown, in DER. A PEM is the same in base64: decode it first.",
    );
    let (line, answer) = tokio::task::spawn_blocking(expired_connection).await.unwrap();
    page.add_logged(
        "The certificate of a client has expired during its connection",
        &line,
        "No action is needed. The client opens another connection, for which it needs a certificate that is valid.",
    );
    page.add(
        "A call came after the certificate of its client had expired",
        answer,
        "byname's client sends the call again on another connection, with the certificate that is in its files by then. If \
         that one has expired too, the handshake fails and the error says so: renew the certificate.",
    );
}

/// What the log and the client are told when a certificate expires while its connection is open. It needs a thread of its
/// own, because it changes the clock of its runtime.
fn expired_connection() -> (String, Raw) {
    const DAY: Duration = Duration::from_secs(86_400);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (servers, clients) = (Authority::new("of servers"), Authority::new("of clients"));
        let tls = server_tls(&servers.sign(HERE)).require_clients(Pem::text(clients.pem())).unwrap();
        let mut log = Log::new();
        let running = Running::new(one().tls(tls).limits(|limits| limits.idle = 2 * DAY)).await;
        let signed = clients.sign_with(&["billing"], |params| params.not_after = (SystemTime::now() + DAY).into());
        let config = identified_config(&servers, &signed, &["http/1.1"]);
        let mut caller = Caller::on(connect(running.address, config).await.unwrap());
        assert_eq!(caller.ask(post("/rpc/add", "[1,2]")).await.status, 200);
        tokio::time::pause();
        tokio::time::advance(DAY).await;
        tokio::time::resume();
        (log.until("the certificate of the client has expired").await, caller.answer().await)
    })
}

/// Has no certificate for anybody.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

/// What a client says of a server that answers its hello by these bytes.
async fn answered_by(authority: &Authority, answer: &[u8]) -> Seen {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = over_http(listener.local_addr().unwrap(), trusting(authority));
    let server = async {
        // A call that did not run is made again.
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.read_exact(&mut [0; 5]).await.unwrap();
            socket.write_all(answer).await.unwrap();
            socket.shutdown().await.unwrap();
            while socket.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {}
        }
    };
    tokio::select! {
        result = async { client.call::<u8>("add", (1, 2)).await } => failed(result),
        () = server => unreachable!(),
    }
}

async fn handshakes(page: &mut Page) {
    let authority = Authority::new("the authority");
    let alert = |description: u8| [21, 3, 3, 0, 2, 2, description];
    page.add(
        "The server does not speak TLS",
        answered_by(&authority, b"HTTP/1.1 400 Bad Request\r\n\r\n").await,
        "Call it with `http://`, or use the port where it speaks TLS.",
    );
    page.add(
        "The server closes the connection in the handshake",
        answered_by(&authority, b"").await,
        "A proxy without a server behind it does this. Read the server's log.",
    );
    let resetting = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = over_http(resetting.local_addr().unwrap(), trusting(&authority));
    let resets = async {
        loop {
            let (mut socket, _) = resetting.accept().await.unwrap();
            socket.read_exact(&mut [0; 5]).await.unwrap();
            SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
    };
    let error = tokio::select! {
        result = async { client.call::<u8>("add", (1, 2)).await } => failed(result),
        () = resets => unreachable!(),
    };
    page.add(
        "The connection breaks in the handshake",
        error,
        "The call may be made again, for it did not run. Read the server's log.",
    );
    page.add(
        "The server speaks old versions of TLS only",
        answered_by(&authority, &alert(70)).await,
        "byname supports TLS 1.2 and 1.3. Update the server, or the proxy in front of it.",
    );
    page.add(
        "The server has no certificate for the name",
        {
            let tls = ServerTls::resolver(Arc::new(NoCertificate)).unwrap();
            let running = Running::new(one().tls(tls)).await;
            failed(over_http(running.address, trusting(&authority)).call::<u8>("add", (1, 2)).await)
        },
        "Call the server by a name that it has a certificate for. Clients do not send an IP address as a name.",
    );
    page.add(
        "The two sides have no protocol in common",
        answered_by(&authority, &alert(120)).await,
        "byname's client offers `http/1.1`. The server is not an HTTP server, or supports only HTTP/2.",
    );
    page.add(
        "The server ends the handshake",
        answered_by(&authority, &alert(80)).await,
        "The word in brackets is the alert that the server sent. RFC 8446, section 6.2, lists all alerts.",
    );
    page.add(
        "The server's messages are invalid TLS",
        answered_by(&authority, &[0x16, 3, 3, 0, 4, 2, 0, 0, 0]).await,
        "The end of the message is rustls' word for the reason. The server, or a proxy in front of it, has a defect.",
    );
    // One that knows no cipher suite of ours.
    let hello = [&[2, 0, 0, 38, 3, 3][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
    let record = [&[0x16, 3, 3, 0, hello.len() as u8][..], &hello].concat();
    page.add(
        "The server breaks the rules of TLS",
        answered_by(&authority, &record).await,
        "The server, or a proxy in front of it, has a defect.",
    );

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let builder = Client::builder(format!("https://{}", silent.local_addr().unwrap())).tls(trusting(&authority));
    let client = builder.limits(|limits| limits.connect = SHORT).build().unwrap();
    page.add(
        "The handshake takes too long",
        failed(client.call::<u8>("add", (1, 2)).await),
        "The port is open, but nothing answers. The server may expect plain HTTP, or hang.",
    );

    let running =
        Running::new(one().tls(server_tls(&authority.sign(HERE))).limits(|limits| limits.handshake = SHORT)).await;
    page.add(
        "A request without TLS came to a port with TLS",
        raw(running.address, get("/rpc/add?a=1&b=2")).await,
        "Write `https://`.",
    );
    let mut log = Log::new();
    let _silent = TcpStream::connect(running.address).await.unwrap();
    page.add_logged(
        "A client's handshake takes too long",
        &log.until("Limits::handshake").await,
        "Port scanners cause this. If real clients are that slow, raise `Limits::handshake`.",
    );
    drop(connect(running.address, client_config(&Authority::new("another"), &["http/1.1"])).await);
    page.add_logged(
        "A client doesn't trust the server's certificate",
        &log.until("the client rejects").await,
        "Read the client's error. Usually the client lacks the root that signed this certificate.",
    );
    drop(TcpStream::connect(running.address).await.unwrap());
    page.add_logged(
        "A client closed the connection before the handshake",
        &log.until("before the TLS handshake").await,
        "Health checks that only open a connection cause this. The line is at level DEBUG.",
    );
    let mut broken = TcpStream::connect(running.address).await.unwrap();
    broken.write_all(&[0x16, 3, 1]).await.unwrap();
    drop(broken);
    page.add_logged(
        "A client closed the connection during the handshake",
        &log.until("during the TLS handshake").await,
        "A client whose program ended causes this. The line is at level DEBUG.",
    );
    let mut none = TcpStream::connect(running.address).await.unwrap();
    let hello = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3]].concat();
    let hello = [&[1, 0, 0, hello.len() as u8][..], &hello].concat();
    none.write_all(&[&[0x16, 3, 1, 0, hello.len() as u8][..], &hello].concat()).await.unwrap();
    page.add_logged(
        "A client and the server support no common TLS parameters",
        &log.until("no common TLS parameters").await,
        "The end of the message is rustls' word for the reason. The client must offer AES-GCM or ChaCha20, and X25519, P-256 \
         or P-384.",
    );
    drop(connect(running.address, client_config(&authority, &["acme-tls/1"])).await);
    page.add_logged(
        "A client offers other protocols than HTTP",
        &log.until("by ALPN").await,
        "The client meant another server, or must offer `h2` or `http/1.1`. A client that offers nothing by ALPN is served.",
    );
}

impl Page {
    /// A line of a server's log, which its operator sees and no caller.
    #[track_caller]
    fn add_logged(&mut self, title: &str, line: &str, remedy: &str) {
        let message = line.split_once("message=").unwrap().1.rsplit_once(" peer=").unwrap().0;
        let seen = Seen { code: Code::Unavailable, executed: Executed::No, message: message.to_owned() };
        let start = self.text.len();
        self.add(title, seen, remedy);
        let entry = self.text.split_off(start);
        self.text += &entry.replace("`unavailable`, executed: no", "In the log of the server");
    }
}
