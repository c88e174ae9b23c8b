//! Certificates to try mutual TLS with: an authority, a server that it has signed, and two clients. In production a
//! program such as SPIRE, cert-manager or step-ca issues them and renews them.

use std::error::Error;
use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

/// The clients, and the SPIFFE IDs in their certificates.
const CLIENTS: [(&str, &str); 2] = [("billing", "spiffe://prod/billing"), ("guest", "spiffe://prod/guest")];

/// Writes each certificate and its key into `directory`, and returns the names of the files.
pub(crate) fn write(directory: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "demo authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let mut files = vec!["ca.pem".to_owned()];
    fs::write(directory.join("ca.pem"), authority.pem())?;
    let mut sign = |name: &str, mut params: CertificateParams| {
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?.pem();
        for (file, content) in [(format!("{name}.pem"), certificate), (format!("{name}.key"), key.serialize_pem())] {
            fs::write(directory.join(&file), content)?;
            files.push(file);
        }
        Ok::<(), Box<dyn Error>>(())
    };
    sign("server", CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?)?;
    for (name, id) in CLIENTS {
        let mut params = CertificateParams::default();
        // It must be the only URI. Names of other kinds mean nothing here.
        params.subject_alt_names.push(SanType::URI(id.try_into()?));
        sign(name, params)?;
    }
    Ok(files)
}
