use farol_protocol::remediation::Phase;

use super::*;

fn catalogue() -> Catalogue {
    Catalogue::with(None).expect("what comes with Farol is valid")
}

fn given(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

#[test]
fn what_comes_with_farol_can_be_planned_and_says_how_it_is_verified() {
    let catalogue = catalogue();
    for id in [
        "service.restart",
        "container.restart",
        "disk.journal",
        "logs.rotate",
        "certificate.renew",
        "file.apply",
        "package.install",
        "host.reboot",
        "guest.start",
        "guest.shutdown",
        "guest.stop",
    ] {
        assert!(catalogue.entry(id).is_ok(), "{id}");
    }
    for entry in catalogue.entries() {
        let sample = entry.params.iter().map(|(name, param)| (name.clone(), param.sample())).collect();
        let (_, effect) = entry.fill(&sample).expect("planned");
        let Effect::RemediationRun(remediation) = effect else { panic!("a remediation") };
        assert!(remediation.steps.iter().any(|step| step.phase == Phase::Verify), "{}", entry.id);
        assert!(!entry.title.pt_br.is_empty() && !entry.title.en.is_empty());
    }
}

#[test]
fn parameters_fill_texts_and_can_be_nothing_else() {
    let catalogue = catalogue();
    let restart = catalogue.entry("service.restart").expect("there");
    let (params, effect) = restart.fill(&given(json!({"service": "portal"}))).expect("planned");
    assert_eq!(params["steps"][0]["work"]["effect"]["params"], json!({"service": "portal", "verb": "restart"}));
    assert_eq!(effect.default_class(), RiskClass::R1);
    for bad in ["-x", "a b", "", "a;reboot", "{verb}", "../x", "a\nb", "ｐortal"] {
        let error = restart.fill(&given(json!({"service": bad}))).expect_err(bad);
        assert!(matches!(error, Error::Params(_)), "{bad}: {error}");
    }
    let install = catalogue.entry("package.install").expect("there");
    assert!(install.fill(&given(json!({"package": "g++"}))).is_ok());
    for bad in ["curl-", "zlib1.", "Curl", "-y", "curl=1", "a b"] {
        install.fill(&given(json!({"package": bad}))).expect_err(bad);
    }
    let apply = catalogue.entry("file.apply").expect("there");
    let content = "{path} \"}]}} {content}";
    let (params, _) = apply.fill(&given(json!({"path": "/etc/motd", "content": content}))).expect("planned");
    assert_eq!(params["steps"][0]["work"]["effect"]["params"], json!({"path": "/etc/motd", "content": content}));
    for bad in ["etc/motd", "/etc/../shadow", "/etc//motd", "/etc/\u{7}"] {
        apply.fill(&given(json!({"path": bad, "content": ""}))).expect_err(bad);
    }
}

#[test]
fn a_parameter_that_is_missing_unknown_or_out_of_its_bounds_is_named() {
    let catalogue = catalogue();
    let says = |id: &str, params: Value| {
        catalogue.entry(id).expect("there").fill(&given(params)).expect_err("refused").to_string()
    };
    assert!(says("service.restart", json!({})).contains("needs the parameter `service`"));
    assert!(says("service.restart", json!({"servise": "x"})).contains("did you mean `service`"));
    assert!(says("guest.start", json!({"vmid": 99})).contains("99 lies outside 100 to"));
    assert!(says("guest.start", json!({"vmid": "all"})).contains("whole number"));
    let (params, _) =
        catalogue.entry("guest.start").expect("there").fill(&given(json!({"vmid": "104"}))).expect("planned");
    assert_eq!(params["steps"][0]["work"]["effect"]["params"]["args"], json!(["-n", "/usr/sbin/qm", "status", "104"]));
}

#[test]
fn a_sites_own_file_adds_and_replaces_and_its_mistakes_have_a_place() {
    let own = |steps: &str| {
        format!(
            "version: 1\nentries:\n  - id: service.restart\n    title: {{pt-BR: a, en: b}}\n    timeout: 1m\n    \
             params: {{service: {{type: service, title: {{pt-BR: a, en: b}}}}}}\n    steps:\n{steps}"
        )
    };
    let modify = "      - {id: go, phase: modify, work: {effect: {kind: command.exec, params: {command: \"true\"}}}}\n";
    let verify = "      - {id: up, phase: verify, work: {check: {probe: {load: {}}}}}\n";
    let catalogue = Catalogue::with(Some(&own(&format!("{modify}{verify}")))).expect("valid");
    assert_eq!(catalogue.entry("service.restart").expect("there").title.en, "b");
    assert!(catalogue.entry("host.reboot").is_ok());
    let refused = |steps: &str| Catalogue::with(Some(&own(steps))).expect_err("refused");
    assert!(refused(modify).message.contains("one must verify"), "{}", refused(modify));
    let typo = modify.replace("\"true\"", "\"{servise}\"");
    let mistake = refused(&format!("{typo}{verify}"));
    assert!(mistake.message.contains("`{servise}` is none of the parameters") && mistake.line > 1, "{mistake}");
    let twice = own(&format!("{modify}{verify}"))
        + "  - id: service.restart\n    title: {pt-BR: a, en: b}\n    \
        timeout: 1m\n    steps:\n"
        + modify
        + verify;
    assert!(Catalogue::with(Some(&twice)).expect_err("refused").message.contains("listed twice"));
}
