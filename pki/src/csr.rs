//! The one thing taken from a signing request: a key whose holder signed it.

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData, SubjectPublicKeyInfo};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ED25519};
use x509_parser::prelude::FromDer;

use crate::Error;
use crate::error::Cause;

/// Names and extensions in the request are never looked at.
pub(crate) fn proven_key(csr_pem: &str) -> Result<SubjectPublicKeyInfo, Error> {
    let der =
        CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes()).map_err(|source| unreadable(source.into()))?;
    let (rest, csr) =
        X509CertificationRequest::from_der(&der).map_err(|source| unreadable(source.to_string().into()))?;
    if !rest.is_empty() {
        return Err(unreadable("bytes follow the request".into()));
    }

    let info = &csr.certification_request_info;
    let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw).map_err(|_| Error::CsrKey)?;
    let (verification, signature_oid): (&dyn VerificationAlgorithm, _) = if *key.algorithm() == PKCS_ECDSA_P256_SHA256 {
        (&ECDSA_P256_SHA256_ASN1, OID_SIG_ECDSA_WITH_SHA256)
    } else if *key.algorithm() == PKCS_ED25519 {
        (&ED25519, OID_SIG_ED25519)
    } else {
        return Err(Error::CsrKey);
    };
    if csr.signature_algorithm.algorithm != signature_oid {
        return Err(Error::CsrSignature);
    }
    UnparsedPublicKey::new(verification, key.der_bytes())
        .verify(info.raw, &csr.signature_value.data)
        .map_err(|_| Error::CsrSignature)?;
    Ok(key)
}

fn unreadable(source: Cause) -> Error {
    Error::CsrUnreadable { source }
}
