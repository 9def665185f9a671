//! The page on which whoever reads the log of the first start makes the first
//! account. Opening it changes nothing; its form does, once.
//!
//! **Invariant.** The link's secret is behind the `#` of its address, which
//! browsers send to nobody: a script of one line puts it into the form.

use std::sync::LazyLock;

use axum::{body::Body, extract::State, http::StatusCode, response::Response};
use farol_protocol::{Language, Timestamp};

use super::{extract, page::Page, problem::ApiError};
use crate::{
    app::App,
    auth::Operator,
    error::Error,
    notify::matrix::html,
    people::{Typed, password},
    roster::Role,
    store::people::NewUser,
    text::say,
};

const FORM_STYLE: &str = "label{display:block;margin:0 0 1rem}input{display:block;width:100%;box-sizing:border-box;\
min-height:3rem;font:inherit;padding:.4rem .6rem;border:1px solid #8c959f;border-radius:.5rem}";
/// Puts the secret into the form and out of the address.
const SCRIPT: &str = "if(location.hash.length>1){document.getElementById('token').value=location.hash.slice(1);\
history.replaceState(null,'',location.pathname)}";

static PAGE: LazyLock<Page> = LazyLock::new(|| Page::new(FORM_STYLE, Some(SCRIPT)));
/// What is said once there is nothing to fill in.
static PLAIN: LazyLock<Page> = LazyLock::new(|| Page::new("", None));

/// What was sent, in the order of the form.
#[derive(Default)]
struct Sent {
    token: Option<Typed>,
    name: String,
    password: Option<Typed>,
    again: Option<Typed>,
}

/// The form for the first account
///
/// Changes nothing.
#[utoipa::path(get, path = "/first-run", tag = "session", operation_id = "first_run", security(()),
    responses((status = 200, body = String, content_type = "text/html"),
        (status = 410, body = String, content_type = "text/html")))]
pub(super) async fn show(State(app): State<App>) -> Response {
    let language = app.language();
    if app.first_run_is_open(Timestamp::now()).await {
        form(language, StatusCode::OK, "", None)
    } else {
        gone(language)
    }
}

/// Makes the first account, a super_admin
///
/// The secret of the link counts once, and not after an hour or once there is an account.
#[utoipa::path(post, path = "/first-run", tag = "session", operation_id = "make_first_user", security(()),
    request_body(content = String, content_type = "application/x-www-form-urlencoded",
        description = "`token`, `name`, `password`, `again`"),
    responses((status = 201, body = String, content_type = "text/html"),
        (status = 403, body = String, content_type = "text/html"),
        (status = 410, body = String, content_type = "text/html"),
        (status = 422, body = String, content_type = "text/html")))]
pub(super) async fn make(State(app): State<App>, body: Body) -> Result<Response, ApiError> {
    // Browsers hide the origin of a page without referrer; the link's secret
    // says that the form is ours.
    let language = app.language();
    let sent = read(&extract::bytes(body).await?)?;
    let now = Timestamp::now();
    if !app.first_run_is_open(now).await {
        return Ok(gone(language));
    }
    if !sent.token.as_ref().is_some_and(|token| app.people.first_run.is_open_for(token, now)) {
        let text = say!(language, "O código não é o do registro.", "The code is not the one in the log.");
        return Ok(form(language, StatusCode::FORBIDDEN, &sent.name, Some(&text)));
    }
    let wrong = |text: &str| Ok(form(language, StatusCode::UNPROCESSABLE_ENTITY, &sent.name, Some(text)));
    let Some(password) = sent.password.filter(|password| Some(password) == sent.again.as_ref()) else {
        return wrong(&say!(language, "As duas senhas não são iguais.", "The two passwords differ."));
    };
    if crate::auth::check_name(&sent.name).is_err() {
        return wrong(&say!(
            language,
            "O nome tem de 1 a 64 letras sem acento, algarismos e ._-@, e não é reservado.",
            "The name has 1 to 64 ASCII letters, digits and ._-@, and is not reserved."
        ));
    }
    if password::check_new(&sent.name, &password).is_err() {
        let shortest = password::SHORTEST;
        return wrong(&say!(
            language,
            "A senha precisa de {shortest} caracteres ou mais, e não pode ser o nome.",
            "The password needs {shortest} characters or more, and cannot be the name."
        ));
    }
    let hash = super::account::hash(&app, "first-run", password).await?;
    let user = NewUser { name: &sent.name, role: Role::SuperAdmin, sites: None, password: &hash };
    match app.store.create_user(&Operator::first_run(), user, true, now).await {
        Ok(_) => {}
        Err(Error::Refused(why)) => {
            tracing::warn!("the first account was not made: {why}");
            app.people.first_run.close();
            return Ok(gone(language));
        }
        Err(error) => return Err(error.into()),
    }
    app.people.first_run.close();
    let heading = say!(language, "Conta criada", "Account made");
    let name = &sent.name;
    let text = say!(language, "Entre no Farol como {name}.", "Sign in to Farol as {name}.");
    Ok(PLAIN.answer(language, StatusCode::CREATED, &heading, &text, ""))
}

/// The fields of a form. Nothing of it stands in an error.
fn read(bytes: &[u8]) -> Result<Sent, ApiError> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains(['#', ' ']));
    let address = text.and_then(|text| reqwest::Url::parse(&format!("http://form/?{text}")).ok());
    let address = address.ok_or_else(|| ApiError::invalid_body("the body is not what the form sends"))?;
    let mut sent = Sent::default();
    for (name, value) in address.query_pairs() {
        let value = value.into_owned();
        match &*name {
            "token" => sent.token = Some(Typed::new(value.trim().to_owned())),
            "name" => value.trim().clone_into(&mut sent.name),
            "password" => sent.password = Some(Typed::new(value)),
            "again" => sent.again = Some(Typed::new(value)),
            _ => return Err(ApiError::invalid_body("the body has fields that the form does not have")),
        }
    }
    Ok(sent)
}

fn form(language: Language, status: StatusCode, name: &str, trouble: Option<&str>) -> Response {
    let input = |label: String, rest: &str| format!("<label>{}<input {rest} required></label>", html(&label));
    let fields = [
        input(
            say!(language, "Código do registro", "Code from the log"),
            "id=\"token\" name=\"token\" autocomplete=\"off\" spellcheck=\"false\"",
        ),
        input(
            say!(language, "Seu nome de usuário", "Your user name"),
            &format!("name=\"name\" maxlength=\"64\" autocomplete=\"username\" value=\"{}\"", html(name)),
        ),
        input(
            say!(language, "Senha (12 caracteres ou mais)", "Password (12 characters or more)"),
            "type=\"password\" name=\"password\" minlength=\"12\" autocomplete=\"new-password\"",
        ),
        input(
            say!(language, "A senha outra vez", "The password again"),
            "type=\"password\" name=\"again\" minlength=\"12\" autocomplete=\"new-password\"",
        ),
    ];
    let button = say!(language, "Criar a conta", "Make the account");
    let rest = format!("<form method=\"post\">{}<button type=\"submit\">{button}</button></form>", fields.concat());
    let heading = say!(language, "A primeira conta", "The first account");
    let text = trouble.map_or_else(
        || say!(language, "Ela pode tudo, e cria as outras.", "It may do everything, and makes the others."),
        str::to_owned,
    );
    PAGE.answer(language, status, &heading, &text, &rest)
}

fn gone(language: Language) -> Response {
    let heading = say!(language, "Este endereço não vale mais", "This address is of no use any more");
    let text = say!(
        language,
        "Já existe uma conta, ou passou uma hora. Entre no Farol, ou rode `farol user add` no servidor.",
        "There is an account, or an hour has passed. Sign in to Farol, or run `farol user add` on the server."
    );
    PLAIN.answer(language, StatusCode::GONE, &heading, &text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_read_and_nothing_of_it_is_in_an_error() {
        let sent = read(b"token=+first_1&name=ana&password=a%26b+c&again=x").expect("read");
        assert_eq!((sent.name.as_str(), sent.password.expect("there").expose()), ("ana", "a&b c"));
        assert_eq!(sent.token.expect("there").expose(), "first_1");
        for bad in [&b"name=ana&planted=planted"[..], b"planted#planted", b"\xff"] {
            let said = format!("{:?}", read(bad).err().expect("refused"));
            assert!(!said.contains("planted"), "{said}");
        }
    }
}
