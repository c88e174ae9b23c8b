//! The configuration file, which names services: [`ServiceNames`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{env, fs, io};

use serde::Deserialize;

use crate::exit::CommandError;

/// ```toml
/// [services.shop]
/// url = "https://shop.example/rpc"
/// functions = ["orders.*"]
/// token_env = "SHOP_TOKEN"
/// ```
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceNames {
    /// The service of commands that name none.
    pub(crate) default: Option<String>,
    #[serde(default)]
    pub(crate) services: BTreeMap<String, NamedService>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedService {
    pub(crate) url: String,
    /// The functions for which it is called if the command names no service: `orders.*`, or whole names.
    #[serde(default)]
    pub(crate) functions: Vec<String>,
    /// The environment variable with its token.
    pub(crate) token_env: Option<String>,
    /// The file with the roots of its certificate.
    pub(crate) ca: Option<PathBuf>,
}

impl ServiceNames {
    /// Reads the file, if there is one: `$BYNAME_CONFIG`, or `byname/config.toml` in the folder for configuration.
    pub(crate) fn read() -> Result<Self, CommandError> {
        let Some(path) = path() else {
            return Ok(Self::default());
        };
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map_err(|why| CommandError::usage(format!("{}: {why}", path.display()))),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(why) => Err(CommandError::usage(format!("can't read {}: {why}", path.display()))),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|why| why.to_string())
    }

    /// The service that has a function of this name.
    pub(crate) fn of_function(&self, name: &str) -> Option<&NamedService> {
        let has = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => pattern == name,
        };
        self.services.values().find(|service| service.functions.iter().any(has))
    }
}

fn path() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = || set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    set("BYNAME_CONFIG").or_else(|| Some(folder()?.join("byname/config.toml")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_has_a_service() {
        let names = ServiceNames::parse(
            "[services.shop]\nurl = 'localhost:1'\nfunctions = ['orders.*', 'add']\n[services.other]\nurl = 'localhost:2'",
        );
        let names = names.unwrap();
        let url = |name| names.of_function(name).map(|service| service.url.as_str());
        assert_eq!((url("orders.get"), url("add"), url("adds")), (Some("localhost:1"), Some("localhost:1"), None));
        assert!(ServiceNames::parse("[services.shop]\nurll = 'x'").unwrap_err().contains("urll"));
    }
}
