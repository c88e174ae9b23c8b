//! Remembers which compiler built the measured code, generates the stubs of gRPC, and makes the certificate of TLS.

use std::env;
use std::process::Command;

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let version = Command::new(rustc).arg("--version").output().expect("rustc runs");
    println!("cargo:rustc-env=BENCH_RUSTC={}", String::from_utf8_lossy(&version.stdout).trim());
    generate_grpc();
    #[cfg(feature = "tls")]
    certificate::make();
}

/// The same client and server as from a `.proto` file, for messages that derive prost's trait by
/// hand: so that nobody needs protoc to build this.
fn generate_grpc() {
    let method = |name: &str, route: &str, input: &str, output: &str, codec: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(format!("super::{input}"))
            .output_type(format!("super::{output}"))
            .codec_path(codec)
    };
    let codec = "tonic_prost::ProstCodec";
    let service = Service::builder()
        .package("bench")
        .name("Bench")
        .method(method("add", "Add", "Addends", "Sum", codec).build())
        .method(method("record", "Record", "Users", "Users", codec).build())
        .method(method("payload", "Payload", "Payload", "Payload", codec).build())
        .method(method("numbers", "Numbers", "Range", "Number", "super::StreamCodec").server_streaming().build())
        .build();
    Builder::new().compile(&[service]);
}

/// Server and client are processes of one program, so the certificate that is built in is known to both.
#[cfg(feature = "tls")]
mod certificate {
    use std::path::Path;
    use std::{env, fs};

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    /// An authority, and what it has signed for the address that all servers listen at. The keys are ECDSA on P-256.
    pub fn make() {
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "the authority of the benchmark");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("there is randomness");
        let authority = CertifiedIssuer::self_signed(authority, key).expect("an authority can be made");
        let key = KeyPair::generate().expect("there is randomness");
        let server = CertificateParams::new(["127.0.0.1".to_owned()]).expect("it is an address");
        let certificate = server.signed_by(&key, &authority).expect("the authority can sign");
        let folder = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
        let write = |name: &str, pem: &str| {
            fs::write(Path::new(&folder).join(name), pem).expect("OUT_DIR can be written to");
        };
        write("authority.pem", &authority.pem());
        write("certificate.pem", &certificate.pem());
        write("key.pem", &key.serialize_pem());
    }
}
