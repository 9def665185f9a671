//! Small conversions between bytes and the texts that people and files carry.

use std::fmt::Write;

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::Error;

pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(bytes)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// SHA-256 in 64 hexadecimal digits.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// How Farol names a certificate to people.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    format!("{FINGERPRINT}{}", sha256_hex(certificate))
}

pub(crate) fn parse_fingerprint(given: &str) -> Result<String, Error> {
    let text = given.trim().to_ascii_lowercase();
    let digits = text.strip_prefix(FINGERPRINT).unwrap_or_default();
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text);
    }
    Err(Error::BadFingerprint { given: given.to_owned() })
}

/// Every certificate in `pem`, at least one.
pub(crate) fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| Error::BadPem { what, source: source.into() })?;
    if found.is_empty() {
        return Err(Error::BadPem { what, source: "it holds no certificate".into() });
    }
    Ok(found)
}

pub(crate) fn certificate_pem(certificate: &CertificateDer<'_>) -> String {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    // 48 bytes become one line of 64 characters.
    for line in certificate.chunks(48) {
        for group in line.chunks(3) {
            push_base64(&mut pem, group);
        }
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

const FINGERPRINT: &str = "sha256:";

fn push_base64(text: &mut String, group: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
    let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
    for at in 0..4 {
        let six = (bits >> (18 - 6 * at)) & 0x3f;
        text.push(if at > group.len() as u32 { '=' } else { char::from(ALPHABET[six as usize]) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_any_length_reads_back_from_its_pem() {
        for length in 0..200 {
            let der = CertificateDer::from((0..length).collect::<Vec<u8>>());

            let read = certificates("the test", &certificate_pem(&der));

            assert_eq!(read.ok(), Some(vec![der]));
        }
    }

    #[test]
    fn a_fingerprint_is_taken_in_either_case_and_nothing_else_is() {
        let digits = "0123456789abcdefABCDEF0123456789abcdef0123456789abcdef0123456789";

        let read = parse_fingerprint(&format!("SHA256:{digits}"));

        assert_eq!(read.ok(), Some(format!("sha256:{}", digits.to_ascii_lowercase())));
        for wrong in ["", digits, "sha256:", "sha256:zz", "sha512:00"] {
            assert!(parse_fingerprint(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}
