//! Reading `WWW-Authenticate`: several headers, several challenges in one, odd quoting.
//!
//! Source: RFC 9110 11.6.1; distribution "Token Authentication Specification". Without I/O.

/// One way to authenticate that a registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token of a token server.
    Bearer {
        /// URL of the token server, as written.
        realm: String,
        /// The service that the token is for.
        service: Option<String>,
        /// The access that the token must allow.
        scope: Vec<String>,
        /// Why the registry refused the token that was sent.
        error: Option<String>,
    },
}

/// Reads all challenges of a response, in order; unknown schemes are left out.
pub(super) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Vec<Challenge> {
    headers.flat_map(parse_one).collect()
}

/// A challenge as it is read: scheme and parameters.
struct Raw {
    scheme: String,
    parameters: Vec<(String, String)>,
}

/// Reads one header. A word without `=` after it begins a new challenge; everything else is a parameter.
fn parse_one(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Raw> = Vec::new();
    let mut rest = header.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', '\t', '=', ',']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after_space = after.trim_start_matches([' ', '\t']);
        match after_space.strip_prefix('=') {
            // `Negotiate abc==`: a token68 of another scheme, not a parameter.
            Some(value) if !word.is_empty() && !value.starts_with('=') => {
                let (value, after) = read_value(value.trim_start_matches([' ', '\t']));
                if let Some(challenge) = found.last_mut() {
                    challenge.parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            Some(value) => rest = value.trim_start_matches('='),
            None => {
                if !word.is_empty() {
                    found.push(Raw { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                }
                rest = after_space;
            }
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    found.iter().filter_map(understand).collect()
}

/// Reads a quoted string or a token, and returns it with what follows.
fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return (value.to_owned(), after);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(index + 1..).unwrap_or("")),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    // An unclosed quote ends with the header.
    (value, "")
}

fn understand(raw: &Raw) -> Option<Challenge> {
    let get = |name: &str| {
        let found = raw.parameters.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    match raw.scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: get("realm")?,
            service: get("service"),
            scope: get("scope")
                .map(|text| text.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default(),
            error: get("error"),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: &[&str], error: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(str::to_owned),
            scope: scope.iter().map(|&scope| scope.to_owned()).collect(),
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn challenges_are_read_in_every_form_seen_in_the_field() {
        let full = bearer("https://auth.example/token", Some("reg"), &["repository:a/b:pull,push"], None);
        let cases: Vec<(Vec<&str>, Vec<Challenge>)> = vec![
            (
                vec![
                    r#"Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push""#,
                ],
                vec![full.clone()],
            ),
            (
                vec![
                    r#"bearer Realm="https://auth.example/token" , Service=reg,scope="repository:a/b:pull,push""#,
                ],
                vec![full.clone()],
            ),
            (
                vec![
                    r#"Basic realm="x", Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push""#,
                ],
                vec![Challenge::Basic, full.clone()],
            ),
            (
                vec![
                    r#"Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push", Basic realm="x""#,
                ],
                vec![full, Challenge::Basic],
            ),
            (
                vec!["Negotiate", r#"Bearer realm="https://auth.example/token""#],
                vec![bearer("https://auth.example/token", None, &[], None)],
            ),
            (vec!["Negotiate YWJj==, Basic realm=x"], vec![Challenge::Basic]),
            (vec!["Basic"], vec![Challenge::Basic]),
            (vec!["BASIC realm=/"], vec![Challenge::Basic]),
            (vec![r#"Bearer realm="/token""#], vec![bearer("/token", None, &[], None)]),
            (
                vec![
                    r#"Bearer realm="https://a/t",scope="repository:a:pull repository:b:pull",error="insufficient_scope""#,
                ],
                vec![bearer(
                    "https://a/t",
                    None,
                    &["repository:a:pull", "repository:b:pull"],
                    Some("insufficient_scope"),
                )],
            ),
            (vec![r#"Bearer realm="https://a/t\"x""#], vec![bearer("https://a/t\"x", None, &[], None)]),
            (vec![r#"Bearer realm="https://a/t"#], vec![bearer("https://a/t", None, &[], None)]),
            (vec![r#"Bearer service="x""#], vec![]),
            (vec!["Bearer realm==, service=x"], vec![]),
            (vec![r#"Bearer ="x", scope=a, realm="/t""#], vec![]),
            (vec![r#"Bearer realm = "/t" , error = x"#], vec![bearer("/t", None, &[], Some("x"))]),
            (vec!["", ",,,", "Digest qop=\"auth,auth-int\", nonce=\"a\"", "=", "==", "a=b"], vec![]),
        ];
        for (headers, expected) in cases {
            assert_eq!(parse(headers.iter().copied()), expected, "{headers:?}");
        }
    }
}
