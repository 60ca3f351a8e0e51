//! Where an HTTP server is, as a person writes it.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use hyper::http::uri::Scheme;

/// `http://HOST[:PORT][/PATH]`, without a slash at the end. `http://` may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    authority: String,
    host: String,
    port: u16,
    path: String,
}

impl BaseUrl {
    /// The host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 80 if none was written.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The host and port as they were written: what the `Host` header says.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What comes before the path of every request: empty, or a path that begins with `/` and does not end with it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The same server with another path.
    #[must_use]
    pub fn with_path(&self, path: &str) -> Self {
        Self { path: path.trim_end_matches('/').to_owned(), ..self.clone() }
    }
}

impl FromStr for BaseUrl {
    type Err = UrlError;

    fn from_str(written: &str) -> Result<Self, UrlError> {
        let error = |why| UrlError { url: written.to_owned(), why };
        let whole = if written.contains("://") { written.to_owned() } else { format!("http://{written}") };
        let uri: Uri = whole.parse().map_err(|_| error(Why::NoUrl))?;
        if uri.scheme() == Some(&Scheme::HTTPS) {
            return Err(error(Why::Https));
        }
        if uri.scheme() != Some(&Scheme::HTTP) {
            return Err(error(Why::Scheme));
        }
        let authority = uri.authority().ok_or_else(|| error(Why::NoUrl))?.as_str();
        if authority.contains('@') {
            return Err(error(Why::Secret));
        }
        if uri.query().is_some() {
            return Err(error(Why::Query));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| error(Why::NoUrl))?;
        let port = match authority.strip_prefix(host) {
            Some("") => 80,
            Some(port) => {
                port.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or_else(|| error(Why::Port))?
            }
            None => return Err(error(Why::NoUrl)),
        };
        Ok(Self {
            authority: authority.to_owned(),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// Why this is no base URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlError {
    url: String,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    NoUrl,
    Https,
    Scheme,
    Secret,
    Query,
    Port,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = &self.url;
        match self.why {
            Why::NoUrl => write!(f, "`{url}` is no URL: write http://HOST:PORT"),
            Why::Https => write!(
                f,
                "`{url}`: https is not supported: use the server's http:// address, or put a local proxy that speaks https before it"
            ),
            Why::Scheme => write!(f, "`{url}`: only http:// is supported"),
            Why::Secret => {
                write!(f, "a URL with a user or password in it is not supported: give the key as a setting")
            }
            Why::Query => write!(f, "`{url}`: a base URL has no `?`: leave it and what follows out"),
            Why::Port => write!(f, "`{url}`: the port must be a number from 1 to 65535"),
        }
    }
}

impl Error for UrlError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> (String, u16, String) {
        let url: BaseUrl = url.parse().unwrap();
        (url.host().to_owned(), url.port(), url.to_string())
    }

    #[test]
    fn hosts_ports_and_paths() {
        let case = |host: &str, port, shown: &str| (host.to_owned(), port, shown.to_owned());
        assert_eq!(parsed("http://127.0.0.1:8080"), case("127.0.0.1", 8080, "http://127.0.0.1:8080"));
        assert_eq!(parsed("http://box/v1/"), case("box", 80, "http://box/v1"));
        assert_eq!(parsed("http://[::1]:11434/"), case("::1", 11434, "http://[::1]:11434"));
        assert_eq!(parsed("http://[::1]"), case("::1", 80, "http://[::1]"));
        assert_eq!(parsed("localhost:8080/v1"), case("localhost", 8080, "http://localhost:8080/v1"));
    }

    #[test]
    fn what_is_no_base_url_says_what_to_do() {
        let errors: Vec<String> = [
            "",
            "http://",
            "http://a b",
            "https://api.example.com/v1",
            "ftp://box",
            "http://user:secret@box",
            "http://box/v1?key=1",
            "http://box:99999",
            "http://box:",
            "http://:80",
        ]
        .iter()
        .map(|url| url.parse::<BaseUrl>().unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(errors.join("\n"), @r"
        `` is no URL: write http://HOST:PORT
        `http://` is no URL: write http://HOST:PORT
        `http://a b` is no URL: write http://HOST:PORT
        `https://api.example.com/v1`: https is not supported: use the server's http:// address, or put a local proxy that speaks https before it
        `ftp://box`: only http:// is supported
        a URL with a user or password in it is not supported: give the key as a setting
        `http://box/v1?key=1`: a base URL has no `?`: leave it and what follows out
        `http://box:99999`: the port must be a number from 1 to 65535
        `http://box:`: the port must be a number from 1 to 65535
        `http://:80` is no URL: write http://HOST:PORT
        ");
    }
}
