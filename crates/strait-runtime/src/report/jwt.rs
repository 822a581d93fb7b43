//! What a token says of itself, without the token.
//!
//! A JSON Web Token (RFC 7519) is three parts in base64url; the second says for whom it is and until
//! when. Nothing is verified, and the signature, which makes it a secret, is not looked at.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::Token;

/// The claims of a JWT that may be told: `aud`, `sub`, `iss` and `exp`. `None` for what is no JWT.
pub(super) fn claims(text: &str, now: i64) -> Option<Token> {
    let mut parts = text.trim().split('.');
    let (header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let object = |part: &str| -> Option<Value> {
        let bytes = URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object)
    };
    object(header)?;
    let payload = object(payload)?;
    let text = |claim: &str| payload.get(claim).and_then(Value::as_str).map(str::to_owned);
    let audience = match payload.get("aud") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => {
            all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    let expires = payload.get("exp").and_then(Value::as_i64);
    Some(Token {
        audience,
        subject: text("sub"),
        issuer: text("iss"),
        expires,
        expired: expires.map(|expires| expires <= now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part("{\"alg\":\"none\"}"), part(payload), part("not-a-signature"))
    }

    #[test]
    fn who_a_token_is_for_and_until_when_is_read() {
        let text = token(
            "{\"aud\":[\"https://kubernetes.default.svc\"],\"exp\":2000,\
             \"sub\":\"system:serviceaccount:pay:api\",\"secret\":\"x\"}",
        );
        let claims = claims(&text, 1999).unwrap();
        assert_eq!(claims.audience, ["https://kubernetes.default.svc"]);
        assert_eq!(claims.subject.as_deref(), Some("system:serviceaccount:pay:api"));
        assert_eq!((claims.expires, claims.expired), (Some(2000), Some(false)));
        assert_eq!(super::claims(&text, 2000).unwrap().expired, Some(true));
    }

    #[test]
    fn what_is_no_token_says_nothing() {
        for text in ["", "a.b.c", "hunter2", "e30.e30", "e30.e30.x.y", "e30.W10.x"] {
            assert_eq!(claims(text, 0), None, "{text}");
        }
    }
}
