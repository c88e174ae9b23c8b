//! The caller: `users-caller HOST:PORT NAME…` registers users and prints who there is.

use std::process::ExitCode;
use std::sync::Arc;

use byname::Client;
use users::{User, UserError, Users, UsersClient};

/// Knows the contract only; its test runs it without a service.
async fn register(users: Arc<impl Users>, names: Vec<String>) -> Result<Vec<User>, UserError> {
    let added = names.into_iter().map(|name| {
        let users = Arc::clone(&users);
        tokio::spawn(async move {
            match users.add(&name).await {
                Err(UserError::NameTaken(_)) => Ok(()),
                added => added.map(drop),
            }
        })
    });
    for added in added.collect::<Vec<_>>() {
        added.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))?;
    }
    users.list(100, None).await
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(address) = arguments.next() else {
        eprintln!("users-caller HOST:PORT NAME…");
        return ExitCode::FAILURE;
    };
    match call(&address, arguments.collect()).await {
        Ok(users) => {
            for User { id, name } in users {
                println!("{id} {name}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

async fn call(address: &str, names: Vec<String>) -> Result<Vec<User>, UserError> {
    let users = UsersClient::on(&Client::new(address)?);
    register(Arc::new(users), names).await
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Added(Mutex<Vec<String>>);

    impl Users for Added {
        async fn get(&self, id: u64) -> Result<User, UserError> {
            Err(UserError::NoSuchUser(id))
        }

        async fn add(&self, name: &str) -> Result<u64, UserError> {
            if name == "Taken" {
                return Err(UserError::NameTaken(name.to_owned()));
            }
            self.0.lock().unwrap().push(name.to_owned());
            Ok(1)
        }

        async fn list(&self, limit: usize, _: Option<u64>) -> Result<Vec<User>, UserError> {
            let mut names = self.0.lock().unwrap().clone();
            names.sort();
            Ok((1..).zip(names).map(|(id, name)| User { id, name }).take(limit).collect())
        }
    }

    #[tokio::test]
    async fn a_name_that_is_taken_is_not_a_failure() {
        let names = ["Bob", "Taken", "Ada"].map(String::from).to_vec();
        let users = register(Arc::new(Added::default()), names).await.unwrap();
        assert_eq!(users.into_iter().map(|user| user.name).collect::<Vec<_>>(), ["Ada", "Bob"]);
    }
}
