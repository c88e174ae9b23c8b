//! The configuration file, which names services: [`ServiceNames`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{env, fs, io};

use serde::Deserialize;

use crate::exit::CommandError;
use crate::service::looks_like_url;

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
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let of_variable = set("BYNAME_CONFIG");
        let is_wanted = of_variable.is_some();
        let folder = || set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
        let Some(path) = of_variable.or_else(|| Some(folder()?.join("byname/config.toml"))) else {
            return Ok(Self::default());
        };
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map_err(|why| CommandError::usage(format!("{}: {why}", path.display()))),
            Err(why) if why.kind() == io::ErrorKind::NotFound && !is_wanted => Ok(Self::default()),
            Err(why) => {
                let remedy = if is_wanted { "; BYNAME_CONFIG names it: correct the variable, or unset it" } else { "" };
                Err(CommandError::usage(format!("can't read {}: {why}{remedy}", path.display())))
            }
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|why| why.to_string())
    }

    /// The service of this name or address, as `place` says.
    ///
    /// # Errors
    ///
    /// It is neither an address nor a name.
    pub(crate) fn named(&self, place: &str, word: &str) -> Result<NamedService, CommandError> {
        if let Some(service) = self.services.get(word) {
            return Ok(service.clone());
        }
        if looks_like_url(word) {
            return Ok(NamedService::of_url(word));
        }
        let names: Vec<_> = self.services.keys().map(|name| format!("`{name}`")).collect();
        let known =
            if names.is_empty() { "which has none".to_owned() } else { format!("which has {}", names.join(", ")) };
        Err(CommandError::usage(format!(
            "{place} is `{word}`, which is neither an address, such as localhost:8080 or http://{word}, nor a service of the configuration \
             file, {known}"
        )))
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

impl NamedService {
    /// A service without a name.
    pub(crate) fn of_url(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }
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
