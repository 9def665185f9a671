//! Headers of a signed HTTP request, and the text that is signed.

use farol_protocol::{
    Timestamp,
    http_signing::{KEY, NONCE, Request, SIGNATURE, Signed, TIMESTAMP, sign},
};

const SECRET: &str = "a secret of a fuzz target";

/// Headers that are read are bounded; what its sender signed is taken, and
/// nothing else in its place. The input is one part a line: key, time, nonce,
/// signature, method, target, and the rest is the body.
///
/// # Panics
/// It does not hold.
pub fn check(data: &[u8]) {
    let mut parts = data.splitn(7, |byte| *byte == b'\n');
    let mut line = || std::str::from_utf8(parts.next().unwrap_or_default()).unwrap_or_default();
    let (key, timestamp, nonce, signature, method, target) = (line(), line(), line(), line(), line(), line());
    let body = parts.next().unwrap_or_default();
    let read = |signature: &str| {
        let headers = [(KEY, key), (TIMESTAMP, timestamp), (NONCE, nonce), (SIGNATURE, signature)];
        Signed::read(|name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    };
    let request = Request { method, target, body };
    match read(signature) {
        Ok(signed) => {
            assert!((1..=64).contains(&signed.key.len()) && (16..=64).contains(&signed.nonce.len()));
            // Nobody guesses a signature.
            assert!(signed.verify(SECRET, request).is_err());
            // Any two times can be compared.
            for now in [i64::MIN, 0, i64::MAX].map(Timestamp::from_ms) {
                let _any = signed.in_time(now);
            }
            assert!(signed.in_time(signed.at).is_ok());
            let own =
                read(&sign(SECRET, request, &signed.timestamp, &signed.nonce)).expect("only the signature differs");
            assert!(own.verify(SECRET, request).is_ok());
            assert!(own.verify("another secret", request).is_err());
            let longer = [body, b"x"].concat();
            assert!(own.verify(SECRET, Request { body: &longer, ..request }).is_err());
        }
        Err(refusal) => assert!(!refusal.code().is_empty() && refusal.to_string().len() < 400),
    }
}
