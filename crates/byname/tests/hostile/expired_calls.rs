//! Calls whose deadline has passed when they arrive: they are not decoded and not run, and the access log counts them, on every
//! way in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Log, Running, post_with, raw};
use byname::{Server, rpc};
use serde_json::Value;

struct Counted(AtomicUsize);

#[rpc]
impl Counted {
    #[rpc(readonly)]
    async fn count(&self, a: i64) -> i64 {
        self.0.fetch_add(1, Ordering::SeqCst);
        a
    }
}

#[tokio::test]
async fn a_call_that_comes_too_late_is_refused_before_its_arguments_are_decoded() {
    let counted = Arc::new(Counted(AtomicUsize::new(0)));
    let plain = Server::new().inject(Arc::clone(&counted));
    let intercepted = plain.clone().intercept(|request, next| async move { next.run(request).await });
    let ruled = plain.clone().allow_anyone("*");
    for server in [plain, intercepted, ruled] {
        let mut log = Log::new();
        let running = Running::new(server.access_log(true)).await;
        let get = "GET /rpc/count?a=x HTTP/1.1\r\nhost: localhost\r\nbyname-timeout-ms: 0\r\nconnection: close\r\n\r\n";
        let late = |path: &str, body: &str| post_with(path, "byname-timeout-ms: 0\r\n", body);
        let json_rpc = r#"{"jsonrpc":"2.0","method":"count","params":["x"],"id":1}"#;
        let ways = [
            late("/rpc", r#"{"fun":"count","args":["x"]}"#),
            late("/rpc/count", r#"["x"]"#),
            get.to_owned(),
            late("/rpc", json_rpc),
            late("/rpc", &format!("[{json_rpc}]")),
        ];
        for request in ways {
            let answer = raw(running.address, &request).await.json();
            assert_eq!(code(&answer), Some(("deadline_exceeded", "no")), "{request}: {answer}");
            let event = log.access().await;
            assert_eq!(event["rpc.response.status_code"], "deadline_exceeded", "{request}");
        }
        assert_eq!(counted.0.load(Ordering::SeqCst), 0);
    }
}

/// The code of an error and whether the function ran, wherever they stand.
fn code(answer: &Value) -> Option<(&str, &str)> {
    match answer {
        Value::Object(members) if members.contains_key("executed") => {
            Some((members["code"].as_str()?, members["executed"].as_str()?))
        }
        Value::Object(members) => members.values().find_map(code),
        Value::Array(items) => items.iter().find_map(code),
        _ => None,
    }
}
