//! Who may use the control API: whoever can read the token file, and no web page.
//!
//! Loopback alone protects from neither: other users of the machine reach it, and so does every page in a browser,
//! directly (cross-origin requests) or under a name of its own that it lets point to 127.0.0.1 (DNS rebinding).

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::error::ApiError;
use crate::hexadecimal::hexadecimal;

/// The secret that a client must show. New at each start.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// 256 bits from the operating system, in hexadecimal.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut bits = [0; 32];
        getrandom::fill(&mut bits)?;
        Ok(Self(hexadecimal(&bits)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `claim` is this token; takes as long for any claim of the right length.
    fn matches(&self, claim: &str) -> bool {
        let differences =
            self.0.bytes().zip(claim.bytes()).fold(0, |differences, (a, b)| differences | (a ^ b));
        self.0.len() == claim.len() && differences == 0
    }
}

/// Lets through who may.
pub async fn guard(State(token): State<Token>, request: Request, next: Next) -> Result<Response, ApiError> {
    check(request.headers(), &token)?;
    Ok(next.run(request).await)
}

fn check(headers: &HeaderMap, token: &Token) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).unwrap_or_default();
    if !is_loopback(host) {
        return Err(ApiError::forbidden(
            "the Host header must name this machine: 127.0.0.1, [::1] or localhost",
        ));
    }
    // A page that was served from here sends its own origin; every other page sends a foreign one or `null`.
    let own = |origin: &str| origin.strip_prefix("http://") == Some(host);
    if headers.get_all(header::ORIGIN).iter().any(|origin| !origin.to_str().is_ok_and(own)) {
        return Err(ApiError::forbidden("web pages of other origins may not use this API"));
    }
    let claim = text(header::AUTHORIZATION).and_then(|value| {
        let (scheme, claim) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(claim.trim())
    });
    match claim {
        Some(claim) if token.matches(claim) => Ok(()),
        _ => Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "send `Authorization: Bearer TOKEN` with the token of control.json in the mesh directory",
        )),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "127.0.0.1" | "[::1]") || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const RIGHT: &str = "Bearer secret";

    fn answer(headers: &[(header::HeaderName, &'static str)]) -> Result<(), String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_static(value));
        }
        check(&map, &Token("secret".into())).map_err(|error| error.code().to_owned())
    }

    #[test]
    fn the_token_and_a_loopback_name_are_enough() {
        for host in ["127.0.0.1:8080", "localhost:1", "LocalHost", "[::1]:8080", "[::1]"] {
            assert_eq!(answer(&[(header::HOST, host), (header::AUTHORIZATION, RIGHT)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn without_the_token_nothing_is_told() {
        let unauthorized = Err("unauthorized".to_owned());
        assert_eq!(answer(&[(header::HOST, "127.0.0.1")]), unauthorized);
        for claim in
            ["Bearer", "Bearer ", "Bearer secre", "Bearer secrets", "Bearer sEcret", "Basic secret", "secret"]
        {
            assert_eq!(
                answer(&[(header::HOST, "127.0.0.1"), (header::AUTHORIZATION, claim)]),
                unauthorized,
                "{claim}"
            );
        }
    }

    #[test]
    fn names_that_a_web_page_could_bring_along_are_refused() {
        for host in [
            "",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "192.168.1.2:80",
            "::1",
        ] {
            let forbidden = Err("forbidden".to_owned());
            assert_eq!(answer(&[(header::HOST, host), (header::AUTHORIZATION, RIGHT)]), forbidden, "{host}");
        }
    }

    #[test]
    fn foreign_origins_are_refused_even_with_the_token() {
        let with = |origins: &[&'static str]| {
            let mut headers = vec![(header::HOST, "127.0.0.1:8080"), (header::AUTHORIZATION, RIGHT)];
            headers.extend(origins.iter().map(|origin| (header::ORIGIN, *origin)));
            answer(&headers)
        };
        let own = "http://127.0.0.1:8080";
        assert_eq!(with(&[own]), Ok(()));
        for origins in
            [&["null"][..], &["https://evil.example"], &["http://127.0.0.1:9090"], &[own, "null"], &[""]]
        {
            assert_eq!(with(origins), Err("forbidden".to_owned()), "{origins:?}");
        }
    }

    #[test]
    fn tokens_are_long_and_new_each_time() {
        let token = Token::new().unwrap();
        assert_eq!(token.as_str().len(), 64);
        assert!(token != Token::new().unwrap());
    }
}
