//! TLS, over every way in: certificates good and bad, of servers and of clients.

mod harness;

use byname::{Client, ClientTls, ServerTls, Transport};
use harness::{Running, everything};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;

/// Who signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names, and its key.
    fn sign(&self, names: &[&str]) -> (String, String) {
        self.sign_with(names, |_| ())
    }

    fn sign_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

fn server_tls((certificate, key): &(String, String)) -> ServerTls {
    ServerTls::pem(certificate, key).unwrap()
}

fn trusting(authority: &Authority) -> ClientTls {
    ClientTls::new().roots(byname::Pem::text(authority.pem())).unwrap()
}

fn client(running: &Running, tls: ClientTls, transport: Transport) -> Client {
    let url = format!("https://{}/rpc", running.address);
    Client::builder(url).tls(tls).transport(transport).build().unwrap()
}

#[tokio::test]
async fn a_call_over_tls() {
    let authority = Authority::new("the authority");
    let server = everything().tls(server_tls(&authority.sign(&["127.0.0.1", "localhost"])));
    let running = Running::new(server).await;
    for transport in [Transport::Http, Transport::Frames] {
        let client = client(&running, trusting(&authority), transport);
        for _ in 0..20 {
            assert_eq!(client.call::<i64>("add", (1, 2)).await.unwrap(), 3);
            tokio::task::yield_now().await;
        }
        client.call::<Value>("nothing", ()).await.unwrap();
    }
}
