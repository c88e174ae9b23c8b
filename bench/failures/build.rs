//! Generates the stubs of gRPC: the same as from a `.proto` file, for messages that derive prost's trait by hand, so that
//! this builds without protoc.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let method = |name: &str, route: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type("super::Order")
            .output_type("super::Answered")
            .codec_path("tonic_prost::ProstCodec")
            .build()
    };
    let service = Service::builder().package("failures").name("Orders");
    Builder::new().compile(&[service.method(method("look", "Look")).method(method("place", "Place")).build()]);
}
