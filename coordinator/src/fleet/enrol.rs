//! `POST /southbound/v1/enroll`: a token and a certificate request become a
//! certificate.

use farol_protocol::{
    Timestamp,
    frame::{EnrolAnswer, EnrolRequest},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
};

use serde::{Serialize, de::DeserializeOwned};

use super::listener::{Answer, Southbound, problem};
use crate::{
    error::{EnrolmentRefusal, Error},
    events::Noun,
};

const BODY_LIMIT: usize = 16 * 1024;

pub(super) async fn answer(south: &Southbound, request: Request<Incoming>) -> Answer {
    let request: EnrolRequest = match read(request, "an enrolment").await {
        Ok(request) => request,
        Err(answer) => return *answer,
    };
    match enrol(south, &request).await {
        Ok(answer) => json(&answer),
        Err(error) => refusal(&error),
    }
}

/// The body of a request, or what to answer instead. `what` it is, for people.
pub(super) async fn read<T: DeserializeOwned>(request: Request<Incoming>, what: &str) -> Result<T, Box<Answer>> {
    let body = match Limited::new(request.into_body(), BODY_LIMIT).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(Box::new(problem(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                &format!("{what} has at most {BODY_LIMIT} bytes"),
            )));
        }
        Err(error) => {
            return Err(Box::new(problem(
                StatusCode::BAD_REQUEST,
                "invalid_body",
                &format!("the body broke off: {error}"),
            )));
        }
    };
    serde_json::from_slice(&body).map_err(|error| {
        Box::new(problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_body",
            &format!("the body is not {what} request: {error}"),
        ))
    })
}

async fn enrol(south: &Southbound, request: &EnrolRequest) -> Result<EnrolAnswer, Error> {
    let now = Timestamp::now();
    let present = south.app.trust.present();
    let certify = |id: &farol_protocol::HostId| {
        present.authority.issue_host(&request.csr, id.as_str(), time::OffsetDateTime::now_utc()).map_err(Error::from)
    };
    let (host, certificate) = south.app.store.enrol(&request.token, now, certify).await?;
    // Not left to the next poll: the host connects at once.
    if let Err(error) = south.app.fleet.refresh(&south.app.store).await {
        tracing::warn!("the live set was not read, the next poll does: {error}");
    }
    south.app.events.publish(Noun::Host, host.id.as_str(), "enrolled");
    tracing::info!(agent_id = host.id.as_str(), host.name = host.name, "a host enrolled");
    Ok(EnrolAnswer { host_id: host.id, name: host.name, cert: certificate.cert_pem, ca: present.authority.ca_pem() })
}

fn refusal(error: &Error) -> Answer {
    match error {
        Error::Enrolment(refusal) => {
            tracing::warn!("an enrolment was refused: {refusal}");
            let status = match refusal {
                EnrolmentRefusal::Unknown => StatusCode::UNAUTHORIZED,
                EnrolmentRefusal::Expired | EnrolmentRefusal::Used | EnrolmentRefusal::Revoked => StatusCode::FORBIDDEN,
            };
            problem(status, refusal.code(), &refusal.to_string())
        }
        Error::Pki(
            farol_pki::Error::CsrUnreadable { .. } | farol_pki::Error::CsrKey | farol_pki::Error::CsrSignature,
        ) => {
            tracing::warn!("an enrolment was refused: {error}");
            problem(StatusCode::UNPROCESSABLE_ENTITY, "csr_invalid", &error.to_string())
        }
        error => {
            tracing::error!("an enrolment failed: {error}");
            problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the coordinator could not enrol the host; its log says why, and the token is still good",
            )
        }
    }
}

pub(super) fn json(answer: &impl Serialize) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(farol_protocol::frame::encode(answer))));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
