//! The server of both axum peers: a route for each function.

use anyhow::Result;
use axum::serve::ListenerExt;
use axum::{Json, Router, routing::post};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::base64::Base64;
use crate::work::{self, User};

pub const ADD: &str = "/rpc/add";
pub const RECORD: &str = "/rpc/record";
pub const PAYLOAD: &str = "/rpc/payload";

#[derive(Serialize, Deserialize)]
pub struct Add {
    pub a: i64,
    pub b: i64,
}

#[derive(Serialize, Deserialize)]
pub struct Record {
    pub users: Vec<User>,
}

#[derive(Serialize, Deserialize)]
pub struct Payload {
    pub bytes: Base64,
}

pub async fn serve(listener: TcpListener) -> Result<()> {
    let router = Router::new().route(ADD, post(add)).route(RECORD, post(record)).route(PAYLOAD, post(payload));
    let listener = listener.tap_io(|connection| {
        // As axum's documentation advises. A socket that refuses is as good as gone.
        let _ = connection.set_nodelay(true);
    });
    axum::serve(listener, router).await?;
    Ok(())
}

async fn add(Json(Add { a, b }): Json<Add>) -> Json<i64> {
    Json(work::add(a, b))
}

async fn record(Json(Record { users }): Json<Record>) -> Json<Vec<User>> {
    Json(work::record(users))
}

async fn payload(Json(Payload { bytes: Base64(bytes) }): Json<Payload>) -> Json<Base64> {
    Json(Base64(work::payload(bytes)))
}
