//! When a host's certificate is replaced, and whether a host that comes back
//! late gets one. Pure: the coordinator's clock is an argument.

use time::{Duration, OffsetDateTime};

/// How long after its end a certificate is renewed without a person.
pub const GRACE: Duration = Duration::days(90);
/// How long a person's consent lasts.
pub const CONSENT: Duration = Duration::hours(24);

/// What a host holds.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    /// Begin of its certificate.
    pub not_before: OffsetDateTime,
    /// End of its certificate.
    pub not_after: OffsetDateTime,
    /// Key identifier of the authority that issued it.
    pub issuer: &'a str,
    /// Roots it says it trusts; none when it does not say.
    pub roots: Option<&'a [String]>,
}

/// What the authority is now.
#[derive(Debug, Clone, Copy)]
pub struct Present<'a> {
    /// Key identifier of the issuing authority.
    pub issuer: &'a str,
    /// Roots that hosts are to trust.
    pub roots: &'a [String],
}

/// Why a host is sent a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Its roots are not the present ones.
    Roots,
    /// Another authority issues now.
    Issuer,
    /// Two thirds of its life have passed.
    Age,
}

/// Whether a host is to be sent a certificate now.
#[must_use]
pub fn due(held: &Held<'_>, present: &Present<'_>, now: OffsetDateTime) -> Option<Due> {
    let same =
        |roots: &[String]| roots.len() == present.roots.len() && present.roots.iter().all(|root| roots.contains(root));
    if held.roots.is_some_and(|roots| !same(roots)) {
        return Some(Due::Roots);
    }
    if held.issuer != present.issuer {
        return Some(Due::Issuer);
    }
    let from = held.not_before + (held.not_after - held.not_before) * 2 / 3;
    (now >= from).then_some(Due::Age)
}

/// What becomes of a host that asks for a certificate by its key alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It gets one.
    Granted,
    /// It was away for too long: a person has to agree first.
    ConsentRequired,
}

/// Whether a host whose last certificate ended at `not_after` gets a new one.
/// Its key must be live, which is for the caller to know.
#[must_use]
pub fn admit(not_after: OffsetDateTime, consent_until: Option<OffsetDateTime>, now: OffsetDateTime) -> Asked {
    let agreed = consent_until.is_some_and(|until| now < until);
    if agreed || now <= not_after + GRACE { Asked::Granted } else { Asked::ConsentRequired }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn held(age_days: i64, issuer: &'static str, roots: Option<&'static [String]>) -> Held<'static> {
        let not_before = NOW - Duration::days(age_days);
        Held { not_before, not_after: not_before + Duration::days(30), issuer, roots }
    }

    #[test]
    fn a_certificate_is_renewed_from_two_thirds_of_its_life_on() {
        let roots = ["r".to_owned()];
        let present = Present { issuer: "i", roots: &roots };
        assert_eq!(due(&held(19, "i", None), &present, NOW), None);
        assert_eq!(due(&held(20, "i", None), &present, NOW), Some(Due::Age));
        assert_eq!(due(&held(400, "i", None), &present, NOW), Some(Due::Age));
    }

    #[test]
    fn another_issuer_or_other_roots_renew_at_once() {
        let present_roots = ["old".to_owned(), "new".to_owned()];
        let present = Present { issuer: "i2", roots: &present_roots };
        assert_eq!(due(&held(1, "i", None), &present, NOW), Some(Due::Issuer));
        let of = |roots: &[&str]| {
            let roots: Vec<String> = roots.iter().map(|root| (*root).to_owned()).collect();
            due(&Held { roots: Some(&roots), ..held(1, "i2", None) }, &present, NOW)
        };
        assert_eq!(of(&["old"]), Some(Due::Roots), "it does not know the new one");
        assert_eq!(of(&["old", "new", "retired"]), Some(Due::Roots), "it knows one that is gone");
        assert_eq!(of(&["new", "old"]), None);
    }

    #[test]
    fn after_ninety_days_a_person_consents_for_a_day() {
        let away = |days: i64, consent: Option<i64>| {
            admit(NOW - Duration::days(days), consent.map(|hours| NOW + Duration::hours(hours)), NOW)
        };
        assert_eq!(away(-5, None), Asked::Granted);
        assert_eq!(away(90, None), Asked::Granted);
        assert_eq!(away(91, None), Asked::ConsentRequired);
        assert_eq!(away(91, Some(1)), Asked::Granted);
        assert_eq!(away(91, Some(-1)), Asked::ConsentRequired);
    }
}
