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

    /// The service that has a function of this name: the one that names it whole, or by the longest beginning.
    ///
    /// # Errors
    ///
    /// Two services name it alike.
    pub(crate) fn of_function(&self, name: &str) -> Result<Option<&NamedService>, CommandError> {
        let fit = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start).then_some(start.len()),
            None => (pattern == name).then_some(usize::MAX),
        };
        let mut best: (usize, Vec<(&String, &NamedService)>) = (0, Vec::new());
        for (of, service) in &self.services {
            let Some(fit) = service.functions.iter().filter_map(fit).max() else { continue };
            if fit > best.0 {
                best = (fit, Vec::new());
            }
            if fit == best.0 {
                best.1.push((of, service));
            }
        }
        match best.1.as_slice() {
            [] => Ok(None),
            [(_, service)] => Ok(Some(service)),
            [(one, _), (other, _), ..] => Err(CommandError::usage(format!(
                "the services `{one}` and `{other}` both have `{name}` by the configuration file; name the service first"
            ))),
        }
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
        let url = |name| names.of_function(name).unwrap().map(|service| service.url.as_str());
        assert_eq!((url("orders.get"), url("add"), url("adds")), (Some("localhost:1"), Some("localhost:1"), None));
        assert!(ServiceNames::parse("[services.shop]\nurll = 'x'").unwrap_err().contains("urll"));
    }

    #[test]
    fn the_service_that_names_a_function_most_closely_has_it() {
        let names = ServiceNames::parse(
            "[services.all]\nurl = 'all'\nfunctions = ['*']\n[services.orders]\nurl = 'orders'\nfunctions = ['orders.*', 'users.*']\n\
             [services.one]\nurl = 'one'\nfunctions = ['orders.get', 'orders.get.*', 'users.*']",
        );
        let names = names.unwrap();
        let url = |name| names.of_function(name).unwrap().unwrap().url.as_str();
        assert_eq!(["orders.get", "orders.put", "orders.get.all", "add"].map(url), ["one", "orders", "one", "all"]);
        let both = format!("{:?}", names.of_function("users.get").unwrap_err());
        assert!(both.contains("`one` and `orders`") || both.contains("`orders` and `one`"), "{both}");
    }
}
