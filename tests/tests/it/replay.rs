//! What another registry would have found.

use farol_tests::{Site, process};
use serde_json::Value;

use crate::support::registry_with_portal;

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_tried_on_the_stored_reports_and_on_recorded_ones() {
    // Nobody listens there.
    let registry = registry_with_portal("http://127.0.0.1:9/");
    let site = Site::start(&registry, &[]).await.unwrap();
    let _agent = site.agent("vm112", None).await.unwrap();
    site.wait_finding("the portal's problem", |finding| finding["check"] == "wizard.portal").await.unwrap();

    let replay = async |arguments: &[&str]| -> Value {
        let arguments: Vec<&str> = ["replay", "--json"].into_iter().chain(arguments.iter().copied()).collect();
        process::json(&mut site.farol(&arguments).unwrap()).await.unwrap()
    };
    let count = |answer: &Value, what: &str| answer["difference"][what].as_array().unwrap().len();
    let recorded = site.folder().join("reports.jsonl");
    let same = replay(&["--since", "1h", "--save", recorded.to_str().unwrap()]).await;
    assert_eq!((count(&same, "opened"), count(&same, "vanished"), count(&same, "changed")), (0, 0, 0), "{same}");
    assert_eq!(same["difference"]["same"], 1);

    let patient = site.folder().join("patient.yaml");
    std::fs::write(&patient, registry.replace("attempts: 2", "attempts: 100000")).unwrap();
    let patient = patient.to_str().unwrap();
    let vanished = replay(&["--since", "1h", "--registry", patient]).await;
    assert_eq!((count(&vanished, "opened"), count(&vanished, "vanished")), (0, 1), "{vanished}");
    assert_eq!(vanished["difference"]["vanished"][0]["host"], "vm112");

    let from_file = replay(&["--file", recorded.to_str().unwrap()]).await;
    assert_eq!(count(&from_file, "opened"), 1, "{from_file}");
    assert_eq!(from_file["reports"], same["reports"]);

    // A file that is none is refused at its line, and one that is there is not written over.
    std::fs::write(site.folder().join("broken.jsonl"), "{\"host\": \"vm112\"}\n").unwrap();
    let broken = site.folder().join("broken.jsonl");
    let refused = site.farol(&["replay", "--file", broken.to_str().unwrap()]).unwrap().output().await.unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("line 1 of"), "{refused:?}");
    let again = site.farol(&["replay", "--save", broken.to_str().unwrap()]).unwrap().output().await.unwrap();
    assert!(!again.status.success(), "{again:?}");
}
