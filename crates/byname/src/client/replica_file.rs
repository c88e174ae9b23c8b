//! A file that lists the replicas of a service: [`ReplicaFile`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::endpoint_url::EndpointUrls;
use super::replica_address::ListedReplica;
use crate::replica_line::replica_line;
use crate::runtime;
use crate::untrusted_text::quoted;

/// One address a line. `#` begins a comment. It is read whole each time, so that a file that is replaced by another, or by a
/// link to another, is noticed.
#[derive(Clone)]
pub(super) struct ReplicaFile {
    path: PathBuf,
    urls: Arc<EndpointUrls>,
    content: Arc<Mutex<KnownContent>>,
}

/// What was read.
#[derive(Default)]
struct KnownContent {
    /// The content in use, and what it lists.
    used: Option<(Vec<u8>, Vec<ListedReplica>)>,
    /// Other content whose last line has no end. It may be half-written.
    unfinished: Option<Vec<u8>>,
}

impl ReplicaFile {
    pub(super) fn new(path: PathBuf, urls: EndpointUrls) -> Self {
        Self { path, urls: Arc::new(urls), content: Arc::default() }
    }

    /// What it lists, or what is wrong with it.
    pub(super) async fn read(&self) -> Result<Vec<ListedReplica>, String> {
        let this = self.clone();
        // Files may be slow.
        let reading = runtime::run_blocking(move || {
            let content = std::fs::read(&this.path).map_err(|why| format!("can't read {}: {why}", this.name()))?;
            this.take(content)
        });
        reading.await.map_err(|why| why.to_string())?
    }

    /// Uses this content, unless it may be half-written.
    fn take(&self, content: Vec<u8>) -> Result<Vec<ListedReplica>, String> {
        let mut locked = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut *locked;
        if let Some((used, replicas)) = &known.used {
            if *used == content {
                known.unfinished = None;
                return Ok(replicas.clone());
            }
            // Half an address may be an address too.
            if !content.ends_with(b"\n") && known.unfinished.as_ref() != Some(&content) {
                known.unfinished = Some(content);
                return Ok(replicas.clone());
            }
        }
        let replicas = self.parse(&content)?;
        *known = KnownContent { used: Some((content, replicas.clone())), unfinished: None };
        Ok(replicas)
    }

    fn parse(&self, content: &[u8]) -> Result<Vec<ListedReplica>, String> {
        let text = std::str::from_utf8(content).map_err(|_| format!("{} is not UTF-8", self.name()))?;
        let mut replicas = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let address = line.split('#').next().unwrap_or_default().trim();
            if address.is_empty() {
                continue;
            }
            let wrong = |why: String| {
                format!(
                    "line {} of {} is not an address of a replica: {}: {why}; expected host:port, such as 10.0.0.1:8080, or \
                     unix:/path",
                    number + 1,
                    self.name(),
                    quoted(address)
                )
            };
            let (place, options) = replica_line(address).map_err(wrong)?;
            let url = self.urls.of(&place, options).map_err(|why| wrong(why.message().to_owned()))?;
            if replicas.iter().any(|replica: &ListedReplica| replica.place == place) {
                tracing::warn!(
                    "line {} of {} has {} again, which is ignored",
                    number + 1,
                    self.name(),
                    quoted(address)
                );
                continue;
            }
            replicas.push(ListedReplica { place, url: Arc::new(url) });
        }
        if replicas.is_empty() {
            return Err(format!("{} lists no replica; write one address a line, such as 10.0.0.1:8080", self.name()));
        }
        Ok(replicas)
    }

    fn name(&self) -> String {
        quoted(&self.path.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::super::service_url::{ServicePlace, ServiceUrl};
    use super::*;

    fn file() -> ReplicaFile {
        let url = ServiceUrl::parse("file:///etc/orders.replicas?endpoint=/orders").unwrap();
        let ServicePlace::File { path, .. } = url.place.clone() else { panic!("it is one: {url:?}") };
        ReplicaFile::new(path, EndpointUrls::new(&url, None))
    }

    /// What is in use after this content, as `address/path`.
    fn listed(file: &ReplicaFile, content: &str) -> Result<Vec<String>, String> {
        let replicas = file.take(content.as_bytes().to_vec())?;
        let shown = |replica: &ListedReplica| {
            let found = replica.without_lookup().expect("no line is a name");
            format!("{}{}", found.address, found.url.path)
        };
        Ok(replicas.iter().map(shown).collect())
    }

    #[tokio::test]
    async fn an_address_that_is_there_twice_counts_once() {
        assert_eq!(listed(&file(), "10.0.0.1:8080\n10.0.0.1:8080 # again\n").unwrap().len(), 1);
    }

    #[test]
    fn a_line_is_an_address_a_comment_or_nothing() {
        let content = "# the old rack\r\n 10.0.0.1:8080 # until May\n\n\t[::1]:1\nunix:/run/a.sock?endpoint=/a\n";
        let expected = ["10.0.0.1:8080/orders", "[::1]:1/orders", "unix:/run/a.sock/a"];
        assert_eq!(listed(&file(), content).unwrap(), expected);
        assert_eq!(
            listed(&file(), "10.0.0.1:80").unwrap(),
            ["10.0.0.1:80/orders"],
            "the first content is not compared"
        );
    }

    #[test]
    fn what_may_be_half_an_address_is_used_when_it_stays() {
        let file = file();
        listed(&file, "10.0.0.1:8080\n").unwrap();
        assert_eq!(listed(&file, "10.0.0.1:8080\n10.0.0.2:80").unwrap(), ["10.0.0.1:8080/orders"]);
        let both = ["10.0.0.1:8080/orders", "10.0.0.2:8080/orders"];
        assert_eq!(listed(&file, "10.0.0.1:8080\n10.0.0.2:8080\n").unwrap(), both);
        assert_eq!(listed(&file, "10.0.0.3:8080").unwrap(), both);
        assert_eq!(listed(&file, "10.0.0.3:8080").unwrap(), ["10.0.0.3:8080/orders"]);
    }

    #[test]
    fn content_that_lists_nothing_or_is_wrong_says_where() {
        let file = file();
        for (content, why) in [
            ("", "`/etc/orders.replicas` lists no replica"),
            ("# all gone\n", "lists no replica"),
            (
                "10.0.0.1:8080\norders\n",
                "line 2 of `/etc/orders.replicas` is not an address of a replica: `orders`: it has no port",
            ),
            ("http://10.0.0.1:8080\n", "it has a scheme; write the address alone"),
            ("10.0.0.1:8080/rpc\n", "write it as the option `?endpoint=/path`"),
            ("10.0.0.1:8080, 10.0.0.2:8080\n", "it has more than one address; write each on its own"),
            ("10.0.0.1:8080?weight=3\n", "`weight=3` is not an option"),
            ("10.0.0.1:0\n", "nothing listens at port 0"),
            ("unix:orders.sock\n", "begins neither with `/` nor with `./`"),
            ("unix:/run/a.sock?tls=orders\n", "a unix socket has no TLS"),
        ] {
            let message = listed(&file, content).expect_err(content);
            assert!(message.contains(why), "{content:?}: {message}");
        }
        assert!(file.take(vec![0xff]).unwrap_err().contains("is not UTF-8"));
    }
}
