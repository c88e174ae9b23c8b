//! Remembers which compiler built the measured code, and generates the stubs of gRPC: the same as from a `.proto` file, for
//! messages that derive prost's trait by hand, so that this builds without protoc.

use std::env;
use std::process::Command;

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let version = Command::new(rustc).arg("--version").output().expect("rustc runs");
    println!("cargo:rustc-env=BENCH_RUSTC={}", String::from_utf8_lossy(&version.stdout).trim());
    let method = Method::builder()
        .name("work")
        .route_name("Work")
        .input_type("super::Job")
        .output_type("super::Job")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    let service = Service::builder().package("overload").name("Jobs").method(method).build();
    Builder::new().compile(&[service]);
}
