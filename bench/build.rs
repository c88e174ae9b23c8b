//! Remembers which compiler built the measured code, and generates the stubs of gRPC.

use std::env;
use std::process::Command;

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let version = Command::new(rustc).arg("--version").output().expect("rustc runs");
    println!("cargo:rustc-env=BENCH_RUSTC={}", String::from_utf8_lossy(&version.stdout).trim());
    generate_grpc();
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
