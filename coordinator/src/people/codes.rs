//! The second factor: codes of an app (RFC 6238), each of which counts once,
//! and recovery codes for whoever lost it.

use data_encoding::BASE32_NOPAD;
use farol_protocol::Timestamp;
use ring::rand::SecureRandom as _;
use totp_rs::{Algorithm, Builder, Totp};

use super::Typed;
use crate::{
    error::{Error, Result},
    integrations::Secret,
};

/// Recovery codes that are made at once.
pub const RECOVERY_CODES: usize = 10;
/// Seconds that a code is shown.
const STEP: u64 = 30;
/// Bytes of a secret.
const BYTES: usize = 20;

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0_u8; N];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Refused("the system gives no random numbers; try again".to_owned()))?;
    Ok(bytes)
}

/// A new secret, in base32 as apps take it.
///
/// # Errors
/// The system gives no random numbers.
pub fn new_secret() -> Result<Secret> {
    Ok(Secret::new(BASE32_NOPAD.encode(&random::<BYTES>()?)))
}

/// The address behind the picture that apps scan. Names are ASCII without what
/// an address would have to quote.
#[must_use]
pub fn uri(user: &str, secret: &Secret) -> String {
    format!("otpauth://totp/Farol:{user}?secret={}&issuer=Farol&algorithm=SHA1&digits=6&period={STEP}", secret.expose())
}

/// The time step whose code this is; the one before and the one after count
/// too, since clocks differ.
#[must_use]
pub fn step(secret: &Secret, code: &Typed, now: Timestamp) -> Option<i64> {
    let secret = BASE32_NOPAD.decode(secret.expose().as_bytes()).ok()?;
    let code: String = code.expose().chars().filter(|c| !c.is_whitespace()).collect();
    let seconds = u64::try_from(now.as_ms() / 1000).ok()?;
    let step = totp(secret)?.check(&code, seconds)?;
    i64::try_from(step).ok()
}

fn totp(secret: Vec<u8>) -> Option<Totp> {
    let builder = Builder::new().with_algorithm(Algorithm::SHA1).with_digits(6).with_skew(1).with_step_duration(STEP);
    builder.with_secret(secret).build().ok()
}

/// Recovery codes, as they are shown once.
///
/// # Errors
/// The system gives no random numbers.
pub fn recovery_codes() -> Result<Vec<String>> {
    (0..RECOVERY_CODES)
        .map(|_| {
            // 80 random bits, so that their plain hash cannot be guessed.
            let text = BASE32_NOPAD.encode(&random::<10>()?).to_lowercase();
            Ok(format!("{}-{}-{}-{}", &text[..4], &text[4..8], &text[8..12], &text[12..]))
        })
        .collect()
}

/// A recovery code as it is stored: whatever people do to its look, it is one.
#[must_use]
pub fn normal(code: &Typed) -> Option<String> {
    let text: String = code.expose().chars().filter(char::is_ascii_alphanumeric).collect();
    (text.len() == 16).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Typed {
        Typed::new(text.to_owned())
    }

    /// RFC 6238, appendix B, in six digits.
    #[test]
    fn codes_are_those_of_the_standard_within_a_step() {
        let secret = Secret::new(BASE32_NOPAD.encode(b"12345678901234567890"));
        let at = |seconds: i64| Timestamp::from_ms(seconds * 1000);
        assert_eq!(step(&secret, &typed("287082"), at(59)), Some(1));
        assert_eq!(step(&secret, &typed("081 804"), at(1_111_111_109)), Some(37_037_036));
        assert_eq!(step(&secret, &typed("287082"), at(89)), Some(1), "a step late");
        assert_eq!(step(&secret, &typed("287082"), at(120)), None, "three steps late");
        for wrong in ["287083", "28708", "2870822", "", "+28708", "abcdef"] {
            assert_eq!(step(&secret, &typed(wrong), at(59)), None, "{wrong}");
        }
    }

    #[test]
    fn an_app_is_told_whose_secret_it_is() {
        let secret = new_secret().expect("made");
        assert_eq!(secret.expose().len(), 32);
        let uri = uri("ana@example.org", &secret);
        assert!(uri.starts_with("otpauth://totp/Farol:ana@example.org?secret="), "{uri}");
        assert!(reqwest::Url::parse(&uri).is_ok());
    }

    #[test]
    fn a_recovery_code_is_itself_however_it_is_typed() {
        let codes = recovery_codes().expect("made");
        assert_eq!(codes.len(), RECOVERY_CODES);
        let one = normal(&typed(&codes[0])).expect("a code");
        assert_eq!(normal(&typed(&codes[0].to_uppercase().replace('-', " "))), Some(one));
        assert_eq!(normal(&typed("123456")), None);
    }
}
