//! AWS Signature Version 4 in the headers of a request.
//!
//! Source: AWS "Create a signed AWS API request". Only what ECR, STS and S3 need: one part per header, paths without
//! anything to encode, queries in which `=` follows every name.

use ring::hmac;
use sha2::{Digest as _, Sha256};

use super::super::url::Url;
use crate::model::Secret;

/// An access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsKeys {
    /// Its public part.
    pub access_key_id: String,
    /// Its secret part.
    pub secret_access_key: Secret,
    /// The session token of temporary keys.
    pub session_token: Option<Secret>,
}

/// What a signature is bound to besides the request.
pub(in super::super) struct Scope<'a> {
    pub(in super::super) region: &'a str,
    pub(in super::super) service: &'a str,
    /// `20150830T123600Z`.
    pub(in super::super) time: String,
}

/// Returns the headers that sign a request: `x-amz-date`, `x-amz-security-token`, `authorization`.
///
/// `headers` are signed too; their names are in lower case.
pub(super) fn sign(
    method: &str,
    url: &Url,
    headers: &[(&'static str, String)],
    body: &[u8],
    keys: &AwsKeys,
    scope: &Scope<'_>,
) -> Vec<(&'static str, String)> {
    sign_hashed(method, url, headers, &hex(&Sha256::digest(body)), keys, scope)
}

/// As [`sign`], for a body whose SHA-256 is known in hexadecimal, or said to be unsigned.
pub(in super::super) fn sign_hashed(
    method: &str,
    url: &Url,
    headers: &[(&'static str, String)],
    hash: &str,
    keys: &AwsKeys,
    scope: &Scope<'_>,
) -> Vec<(&'static str, String)> {
    let mut added = vec![("x-amz-date", scope.time.clone())];
    if let Some(token) = &keys.session_token {
        added.push(("x-amz-security-token", token.expose().to_owned()));
    }
    let host = [("host", url.origin().to_string())];
    let mut signed: Vec<(&str, &str)> =
        headers.iter().chain(&added).chain(&host).map(|(name, value)| (*name, value.trim())).collect();
    signed.sort_unstable();
    let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let (path, query) = url.path_and_query();
    let mut query: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    let request = format!("{method}\n{path}\n{}\n{lines}\n{names}\n{hash}", query.join("&"));
    let date = scope.time.get(..8).unwrap_or_default();
    let range = format!("{date}/{}/{}/aws4_request", scope.region, scope.service);
    let text =
        format!("AWS4-HMAC-SHA256\n{}\n{range}\n{}", scope.time, hex(&Sha256::digest(request.as_bytes())));
    let secret = format!("AWS4{}", keys.secret_access_key.expose());
    let parts = [date, scope.region, scope.service, "aws4_request", &text];
    let signature = parts.iter().fold(secret.into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    let id = &keys.access_key_id;
    let signature = hex(&signature);
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={id}/{range}, SignedHeaders={names}, Signature={signature}");
    added.push(("authorization", authorization));
    added
}

/// HMAC with SHA-256 (RFC 2104).
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

    /// Name, method, path, headers, body, session, signature.
    type Case = (
        &'static str,
        &'static str,
        &'static str,
        Vec<(&'static str, String)>,
        &'static str,
        Option<&'static str>,
        &'static str,
    );

    /// The cases of AWS's `aws-sig-v4-test-suite` that have the shape of our requests.
    #[test]
    fn signatures_are_those_of_the_published_test_suite() {
        let form = vec![("content-type", "application/x-www-form-urlencoded".to_owned())];
        let value = |text: &str| vec![("my-header1", text.to_owned())];
        let cases: Vec<Case> = vec![
            (
                "get-vanilla",
                "GET",
                "/",
                vec![],
                "",
                None,
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "post-vanilla",
                "POST",
                "/",
                vec![],
                "",
                None,
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "get-vanilla-query-order-key-case",
                "GET",
                "/?Param2=value2&Param1=value1",
                vec![],
                "",
                None,
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "post-header-key-sort",
                "POST",
                "/",
                value("value1"),
                "",
                None,
                "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
            ),
            (
                "post-header-value-case",
                "POST",
                "/",
                value("VALUE1"),
                "",
                None,
                "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
            ),
            (
                "post-sts-header-before",
                "POST",
                "/",
                vec![],
                "",
                Some(SESSION),
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
            (
                "post-x-www-form-urlencoded",
                "POST",
                "/",
                form,
                "Param1=value1",
                None,
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ];
        for (name, method, path, headers, body, session, expected) in cases {
            let url = Url::parse(&format!("https://example.amazonaws.com{path}")).unwrap();
            let keys = AwsKeys {
                access_key_id: "AKIDEXAMPLE".into(),
                secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
                session_token: session.map(Secret::new),
            };
            let scope = Scope { region: "us-east-1", service: "service", time: "20150830T123600Z".into() };
            let added = sign(method, &url, &headers, body.as_bytes(), &keys, &scope);
            let (_, authorization) = added.last().unwrap();
            assert!(authorization.ends_with(&format!("Signature={expected}")), "{name}: {authorization}");
            let start = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=";
            assert!(authorization.starts_with(start), "{name}: {authorization}");
        }
    }

    /// RFC 4231, cases 2 and 6: a short key, and one longer than a block.
    #[test]
    fn hmacs_are_those_of_the_rfc() {
        assert_eq!(
            hex(&hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(&hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }
}
