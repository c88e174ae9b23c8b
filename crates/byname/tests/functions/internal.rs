//! `Internal`: the cause stays in the log.

use crate::harness::{Log, Running, get, post, raw};
use byname::{CallError, Client, Code, Executed, Internal, Server, rpc};
use serde_json::Value;

const SECRET: &str = "/var/secret/key.pem";

#[rpc(readonly)]
async fn reads() -> Result<String, Internal> {
    Ok(std::fs::read_to_string(SECRET).map_err(|why| std::io::Error::other(Outer(why)))?)
}

/// An error with a cause, whose own words say little.
#[derive(Debug)]
struct Outer(std::io::Error);

impl std::fmt::Display for Outer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{SECRET} can't be read")
    }
}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[rpc(readonly)]
async fn says() -> Result<(), Internal> {
    Err(SECRET)?
}

/// A call of its own failed; that too is nobody's business.
#[rpc(readonly)]
async fn passes_on() -> Result<(), Internal> {
    let below = Client::local(&Server::new().method::<says>()).unwrap();
    says::on(&below).await.map_err(|error| std::io::Error::other(format!("{SECRET}: {error}")))?;
    Ok(())
}

/// Under another name, which only its serialization gives away.
type Hidden = Result<(), Internal>;

fn functions() -> Server {
    Server::new()
        .method::<reads>()
        .method::<says>()
        .method::<passes_on>()
        .function("hidden", || async { Hidden::Err(Internal::from(SECRET)) })
}

fn id(text: &str) -> String {
    let id = text.split('`').nth(1).unwrap_or_else(|| panic!("no id in {text}"));
    assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
    id.to_owned()
}

#[tokio::test]
async fn nothing_leaks_on_any_way_and_the_log_has_it_all() {
    let mut log = Log::new();
    let running = Running::new(functions()).await;
    for name in ["reads", "says", "passes_on", "hidden"] {
        let plain = post("/rpc", &format!(r#"{{"fun": "{name}"}}"#));
        let mut requests = vec![plain, post(&format!("/rpc/{name}"), "")];
        if name != "hidden" {
            requests.push(get(&format!("/rpc/{name}")));
        }
        for request in requests {
            let answer = raw(running.address, &request).await;
            assert_eq!(answer.status, 500, "{request}: {answer:?}");
            assert!(!format!("{answer:?}").contains("secret"), "{answer:?}");
            let json = answer.json();
            let error = json.get("err").unwrap_or(&json);
            assert_eq!((&error["code"], &error["executed"]), (&"internal".into(), &"yes".into()), "{answer:?}");
            let line = log.until(&id(error["message"].as_str().unwrap())).await;
            assert!(line.contains(SECRET), "{line}");
        }
    }
}

#[tokio::test]
async fn nothing_leaks_by_json_rpc_alone_in_a_batch_or_as_a_notification() {
    let mut log = Log::new();
    let running = Running::new(functions()).await;
    let names = ["reads", "says", "passes_on", "hidden"];
    let request = |name: &str, more: &str| format!(r#"{{"jsonrpc":"2.0","method":"{name}"{more}}}"#);
    let all = |more: &str| format!("[{}]", names.map(|name| request(name, more)).join(","));
    let alone = names.map(|name| request(name, r#","id":1"#));
    for body in alone.into_iter().chain([all(r#","id":1"#)]) {
        let answer = raw(running.address, post("/rpc", &body)).await;
        assert!(!format!("{answer:?}").contains("secret"), "{answer:?}");
        let lines = log.lines();
        let replies = if body.starts_with('[') { answer.json() } else { Value::from(vec![answer.json()]) };
        assert_eq!(replies.as_array().unwrap().len(), if body.starts_with('[') { names.len() } else { 1 });
        for reply in replies.as_array().unwrap() {
            let (error, whole) = (&reply["error"], &reply["error"]["data"]);
            assert_eq!((&error["code"], &whole["code"]), (&(-32603).into(), &"internal".into()), "{reply}");
            assert_eq!((&whole["executed"], &whole["data"]), (&"yes".into(), &Value::Null), "{reply}");
            let id = id(error["message"].as_str().unwrap());
            let told = lines.iter().find(|line| line.contains(&id)).unwrap();
            assert!(told.contains(SECRET), "{told}");
        }
    }
    // Nobody is answered, and the log has it all the same.
    let answer = raw(running.address, post("/rpc", &all(""))).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{answer:?}");
    assert!(!format!("{answer:?}").contains("secret"), "{answer:?}");
    let told = log.lines().into_iter().filter(|line| line.contains("a function failed") && line.contains(SECRET));
    assert_eq!(told.count(), names.len() + 1, "`passes_on` calls `says`");
}

#[tokio::test]
async fn a_stub_sees_internal_and_no_source_over_sockets_and_in_this_process() {
    let running = Running::new(functions()).await;
    let local = Client::local(&functions()).unwrap();
    for client in [running.client(), local.encoded(true), local] {
        let CallError::Rpc(error) = reads::on(&client).await.unwrap_err() else {
            panic!("it is no error of the function's own: {client:?}")
        };
        assert_eq!((error.code(), error.executed()), (Code::Internal, Executed::Yes));
        id(error.message());
        assert!(std::error::Error::source(&error).is_none());
        assert!(!format!("{error:?} {error}").contains("secret"), "{error:?}");
        let by_name = client.call::<()>("hidden", ()).await.unwrap_err();
        assert_eq!(by_name.rpc().unwrap().code(), Code::Internal);
        assert!(!format!("{by_name:?}").contains("secret"), "{by_name:?}");
    }
}

#[tokio::test]
async fn the_cause_is_in_the_debug_text_of_a_local_call() {
    let error = says().await.unwrap_err();
    assert!(format!("{error:?}").contains(SECRET));
    assert!(!error.to_string().contains(SECRET), "what is shown to people is what callers see");
}
