//! Runs the service as a user would, and calls it by its contract.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use byname::Client;
use users::{UserError, Users, UsersClient};

struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn keeps_the_contract(users: &impl Users) {
    assert_eq!(users.add("Ada").await, Ok(1));
    assert_eq!(users.add("Bob").await, Ok(2));
    assert_eq!(users.add("Ada").await, Err(UserError::NameTaken("Ada".into())));
    assert_eq!(users.get(2).await.unwrap().name, "Bob");
    assert_eq!(users.get(3).await, Err(UserError::NoSuchUser(3)));
    let names = async |limit, after| {
        let users = users.list(limit, after).await.unwrap();
        users.into_iter().map(|user| user.name).collect::<Vec<_>>()
    };
    assert_eq!(names(10, None).await, ["Ada", "Bob"]);
    assert_eq!(names(1, None).await, ["Ada"]);
    assert_eq!(names(10, Some(1)).await, ["Bob"]);
}

#[tokio::test]
async fn over_the_network() {
    let mut service = Command::new(env!("CARGO_BIN_EXE_users-service")).stdout(Stdio::piped()).spawn().unwrap();
    let mut address = String::new();
    BufReader::new(service.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let _service = Service(service);
    keeps_the_contract(&UsersClient::on(&Client::new(address.trim()).unwrap())).await;
}
