//! The service that a command is about: [`Service`].

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use byname::{Client, ClientBuilder, ClientTls, Code, Error, ServiceSchema, Transport};

use crate::call_as_code::WrittenCredentials;
use crate::exit::{CommandError, with_options};
use crate::service_names::{NamedService, ServiceNames};

/// How a service is reached.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ConnectOptions {
    /// A header of each call
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// A bearer token
    #[arg(long, env = "BYNAME_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Send the token over plain TCP to another machine
    #[arg(long)]
    allow_plaintext_token: bool,
    /// A PEM file with the roots that the certificate of the service must come from [default: those of the system]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A PEM file with the client certificate
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// A PEM file with the key of the client certificate
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// How a service is reached, and how long it may take.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ServiceOptions {
    #[command(flatten)]
    pub(crate) connect: ConnectOptions,
    /// How long a call may take [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Send calls over HTTP, and not by frames
    #[arg(long)]
    pub(crate) http: bool,
}

/// A service, with all that is needed to call it.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) url: String,
    headers: Vec<(String, String)>,
    token: Option<String>,
    tls: Option<ClientTls>,
    credentials: WrittenCredentials,
    /// The word that was taken for a host, because no service has this name.
    bare_host: Option<String>,
}

impl ConnectOptions {
    /// Takes the service off the words, if the first one is one. Otherwise it is that of the function, of `BYNAME_URL`, or the default one.
    pub(crate) fn service_and_words(&self, mut words: Vec<String>) -> Result<(Service, Vec<String>), CommandError> {
        let names = ServiceNames::read()?;
        let first = words.first().cloned();
        if let Some(first) = first.as_deref()
            && (looks_like_url(first) || names.services.contains_key(first))
        {
            words.remove(0);
            let named = names.services.get(first).cloned();
            return Ok((self.service(named.unwrap_or_else(|| NamedService::of_url(first)))?, words));
        }
        let of_function = first.as_deref().map(|name| names.of_function(name)).transpose()?.flatten().cloned();
        let named = match (of_function, env::var("BYNAME_URL").ok().filter(|url| !url.is_empty()), &names.default) {
            (Some(named), ..) => Some(named),
            (None, Some(url), _) => Some(names.named("BYNAME_URL", &url)?),
            (None, None, Some(name)) => Some(names.named("`default` of the configuration file", name)?),
            (None, None, None) => None,
        };
        match named {
            Some(named) => Ok((self.service(named)?, words)),
            None => {
                let said = first
                    .map(|word| format!("`{word}` is neither an address nor a service of the configuration; "))
                    .unwrap_or_default();
                Err(CommandError::usage(format!(
                    "{said}which service? Write its address first, such as localhost:8080, or set BYNAME_URL"
                )))
            }
        }
    }

    /// The service that a command names, or names not.
    pub(crate) fn service_or_default(&self, named: Option<String>) -> Result<Service, CommandError> {
        // What is written for a service is one, even without a port.
        let names = ServiceNames::read()?;
        let is_host = |word: &String| !names.services.contains_key(word) && !looks_like_url(word);
        let bare_host = named.clone().filter(is_host);
        let word = bare_host.as_ref().map(|word| format!("http://{word}")).or(named);
        let service = self.service_and_words(word.into_iter().collect())?.0;
        Ok(Service { bare_host, ..service })
    }

    fn service(&self, named: NamedService) -> Result<Service, CommandError> {
        let mut headers = Vec::new();
        for header in &self.header {
            let Some((name, value)) = header.split_once(':') else {
                return Err(CommandError::usage(format!("`{header}` is not a header; write `--header 'name: value'`")));
            };
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        let token = match (&self.token, &named.token_env) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(variable)) => Some(env::var(variable).map_err(|_| {
                CommandError::usage(format!(
                    "by the configuration file the token of this service is in {variable}, which is not set; set it, or leave it empty to \
                     send no token"
                ))
            })?),
            (None, None) => None,
        };
        let token = token.filter(|token| !token.is_empty());
        let of_file = named.token_env.filter(|_| self.token.is_none());
        let credentials = WrittenCredentials {
            token_variable: token.as_ref().map(|_| of_file.unwrap_or_else(|| "BYNAME_TOKEN".to_owned())),
            allow_plaintext_token: self.allow_plaintext_token,
            ca: self.ca.clone().or(named.ca),
            identity: self.cert.clone().zip(self.key.clone()),
        };
        let (ca, identity) = (&credentials.ca, &credentials.identity);
        let mut tls = None;
        if ca.is_some() || identity.is_some() {
            let mut made = ClientTls::new();
            if let Some(ca) = ca {
                made = made.roots(ca.as_path()).map_err(wrong_setting)?;
            }
            if let Some((cert, key)) = identity {
                made = made.identity(cert.as_path(), key.as_path()).map_err(wrong_setting)?;
            }
            tls = Some(made);
        }
        Ok(Service { url: named.url, headers, token, tls, credentials, bare_host: None })
    }
}

impl Service {
    /// A client of the service by a builder that has the other settings.
    pub(crate) fn connected(&self, mut builder: ClientBuilder) -> Result<Client, Error> {
        if let Some(tls) = &self.tls {
            builder = builder.tls(tls.clone());
        }
        let mut client = builder.build()?;
        for (name, value) in &self.headers {
            client = client.header(name, value);
        }
        if let Some(token) = &self.token {
            client = client.bearer(token);
        }
        if self.credentials.allow_plaintext_token {
            client = client.allow_plaintext_token();
        }
        Ok(client)
    }

    /// The same with another address.
    pub(crate) fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    pub(crate) fn client(&self, options: &ServiceOptions) -> Result<Client, CommandError> {
        let mut builder = Client::builder(&self.url);
        if options.http {
            builder = builder.transport(Transport::Http);
        }
        let client = self.connected(builder).map_err(wrong_setting)?;
        Ok(match options.timeout {
            Some(timeout) => client.timeout(timeout),
            None => client,
        })
    }

    /// The schema, with the reason if the service tells none.
    pub(crate) async fn schema(&self, options: &ServiceOptions) -> Result<ServiceSchema, CommandError> {
        let told = self.client(options)?.schema().await;
        told.map_err(|error| match (error.message().starts_with("no function is named"), &self.bare_host) {
            (true, _) => CommandError::not_told(
                "the service does not tell what it can do; it does so where it listens on a loopback address or at a unix socket, and elsewhere \
                 with `Server::listing(true)`",
            ),
            (false, Some(word)) if error.code() == Code::Unavailable => CommandError::from(error)
                .noted(&format!("`{word}` was taken for a host, because it is neither a file nor a service of the configuration file")),
            (false, _) => error.into(),
        })
    }

    /// By what a program shows who it is.
    pub(crate) fn credentials(&self) -> &WrittenCredentials {
        &self.credentials
    }

    pub(crate) fn headers(&self) -> &[(String, String)] {
        &self.headers
    }
}

/// The schema of a service, for a call of this function. `None` if it tells it not to this caller, or has none.
pub(crate) async fn known_schema(client: &Client, name: &str) -> Result<Option<ServiceSchema>, CommandError> {
    match client.schema().await {
        Ok(schema) => Ok(Some(schema)),
        // A service that is older, or not byname, has no such function.
        Err(error) if error.code() == Code::Unavailable => Err(error.into()),
        Err(error) if error.code() == Code::DeadlineExceeded => Err(CommandError::from(error)
            .noted(&format!("the service was asked for its schema first, so `{name}` was not called"))),
        Err(_) => Ok(None),
    }
}

/// An error about what the command itself says.
fn wrong_setting(error: Error) -> CommandError {
    CommandError::usage(with_options(error.message()))
}

/// A host with a port, a scheme, a list. The name of a function has none of these characters.
pub(crate) fn looks_like_url(word: &str) -> bool {
    word.contains([':', '/', ','])
}
