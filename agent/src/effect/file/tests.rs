use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    time::{Duration, SystemTime},
};

use farol_protocol::action::FinalState;

use super::*;

struct Host {
    folder: tempfile::TempDir,
}

const OLD: &str = "one\ntwo\nthree\n";
const NEW: &str = "one\n2\nthree\n";

impl Host {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    /// Without links on the way, as /tmp may have them.
    fn root(&self) -> PathBuf {
        fs::canonicalize(self.folder.path()).expect("there")
    }

    fn path(&self, name: &str) -> String {
        self.root().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, name: &str, content: &str) -> String {
        fs::write(self.path(name), content).expect("writable");
        self.path(name)
    }

    fn files(&self) -> PathBuf {
        self.root().join("state")
    }

    fn apply(&self, path: &str, expected: Option<&str>, content: &str) -> Apply {
        Apply {
            readable: true,
            path: path.to_owned(),
            patch: None,
            content: Some(content.to_owned()),
            expected_sha256: expected.map(|content| sha256(content.as_bytes())),
            seen_sha256: None,
            mode: None,
            action_id: ActionId::new(),
            files: self.files(),
        }
    }

    fn rollback(&self, of: ActionId) -> Rollback {
        let record = Kept::new(&self.files()).record(of).expect("sound").expect("kept");
        Rollback { of, record, action_id: ActionId::new(), files: self.files() }
    }

    /// Nothing but what a test put there.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.root())
            .expect("there")
            .map(|entry| entry.expect("read").file_name().into_string().expect("UTF-8"))
            .filter(|name| name != "state")
            .collect();
        names.sort();
        names
    }
}

fn go(apply: Apply) -> Result<FileOutcome, Stuck> {
    apply.apply(&Gate::default())
}

fn why(stuck: Stuck) -> (FinalState, Option<ReasonCode>, Detail) {
    let Stuck::Because(why) = stuck else { panic!("halted") };
    assert!(!why.say(farol_protocol::Language::En).is_empty());
    (why.state, why.reason, why.detail)
}

fn refused(done: Result<FileOutcome, Stuck>) -> Detail {
    let (state, reason, detail) = why(done.expect_err("refused"));
    assert_eq!(state, FinalState::Refused);
    assert!(reason.is_some());
    detail
}

#[test]
fn a_file_is_replaced_with_its_mode_and_time_of_access_and_its_former_content_is_kept() {
    let host = Host::new();
    let path = host.write("motd", OLD);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
    let read_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let times = fs::FileTimes::new().set_accessed(read_at).set_modified(read_at);
    File::options().write(true).open(&path).expect("opens").set_times(times).expect("set");

    let apply = host.apply(&path, Some(OLD), NEW);
    let id = apply.action_id;
    let outcome = go(apply).expect("applied");
    assert!(outcome.applied);
    assert_eq!(outcome.before_sha256, Some(sha256(OLD.as_bytes())));
    assert_eq!(outcome.after_sha256, Some(sha256(NEW.as_bytes())));
    assert!(outcome.patch.expect("text").contains("-two\n+2\n"));
    let metadata = fs::metadata(&path).expect("there");
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
    // Reading it to compare may touch the old file's time on some mounts only.
    assert!(metadata.modified().expect("known") > read_at);
    assert_eq!(fs::read_to_string(&path).expect("there"), NEW);
    assert_eq!(host.names(), ["motd"], "something was left beside it");

    let kept = host.files().join(id.to_string());
    assert_eq!(fs::read_to_string(&kept).expect("kept"), OLD);
    assert_eq!(fs::metadata(&kept).expect("kept").permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(host.files()).expect("there").permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_patch_applies_to_what_is_there_or_changes_nothing() {
    let host = Host::new();
    let path = host.write("motd", OLD);
    let text = patch::between(&path, OLD.as_bytes(), NEW.as_bytes()).expect("text");
    let with = |patch: &str| Apply { content: None, patch: Some(patch.to_owned()), ..host.apply(&path, Some(OLD), "") };
    go(with(&text)).expect("applied");
    assert_eq!(fs::read_to_string(&path).expect("there"), NEW);

    fs::write(&path, OLD).expect("writable");
    for (broken, detail) in [
        ("@@ -1,1 +1,1 @@\n-four\n+4\n", Detail::PatchNotApplied),
        ("@@ nonsense @@\n", Detail::PatchBroken),
        ("", Detail::PatchBroken),
        ("hello\n", Detail::PatchBroken),
        (&format!("{text}{}", text.replace("motd", "passwd")), Detail::PatchBroken),
    ] {
        let (state, _, found) = why(go(with(broken)).expect_err("failed"));
        assert_eq!((state, found), (FinalState::Failed, detail), "{broken:?}");
    }
    assert_eq!(fs::read_to_string(&path).expect("there"), OLD);
    assert_eq!(host.names(), ["motd"]);
}

#[test]
fn a_file_that_is_not_as_expected_is_not_touched() {
    let host = Host::new();
    let path = host.write("motd", OLD);
    assert_eq!(refused(go(host.apply(&path, Some("other"), NEW))), Detail::FileChanged);
    assert_eq!(refused(go(host.apply(&path, None, NEW))), Detail::FileChanged, "it must not exist");
    assert_eq!(refused(go(host.apply(&host.path("none"), Some(OLD), NEW))), Detail::FileChanged);
    let seen = Apply { seen_sha256: Some(None), ..host.apply(&path, Some(OLD), NEW) };
    assert_eq!(refused(go(seen)), Detail::FileChanged, "the approver saw none");
    assert_eq!(fs::read_to_string(&path).expect("there"), OLD);
    assert!(Kept::new(&host.files()).actions().is_empty(), "something is kept for nothing");
}

#[test]
fn a_change_between_the_first_look_and_the_replace_is_noticed() {
    let host = Host::new();
    let path = host.write("motd", OLD);
    let spot = Spot::of(&path).expect("there");
    let found = spot.read().expect("readable").expect("there");
    let change = Change { spot: &spot, found: Some(&found), action_id: ActionId::new() };
    fs::write(&path, "somebody else\n").expect("writable");
    assert_eq!(
        why(change.replace(NEW.as_bytes(), 0o644, &Gate::default()).expect_err("refused")).2,
        Detail::FileChanged
    );
    assert_eq!(fs::read_to_string(&path).expect("there"), "somebody else\n");
    assert_eq!(host.names(), ["motd"]);
}

#[test]
fn a_new_file_gets_its_mode_and_never_replaces_one_that_came_meanwhile() {
    let host = Host::new();
    let path = host.path("new.conf");
    let apply = Apply { mode: Some(0o600), ..host.apply(&path, None, NEW) };
    let outcome = go(apply).expect("applied");
    assert_eq!(outcome.before_sha256, None);
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o600);

    let spot = Spot::of(&host.path("late.conf")).expect("there");
    host.write(".temp", "mine");
    host.write("late.conf", "theirs");
    assert_eq!(rename_new(&spot, ".temp"), Err(Errno::EXIST));
    assert_eq!(link_new(&spot, ".temp"), Err(Errno::EXIST));
    assert_eq!(fs::read_to_string(host.path("late.conf")).expect("there"), "theirs");
}

#[test]
fn links_anywhere_in_the_path_are_refused() {
    let host = Host::new();
    fs::create_dir(host.path("real")).expect("made");
    let target = host.write("real/file", OLD);
    symlink(host.path("real"), host.path("folder")).expect("linked");
    symlink(&target, host.path("link")).expect("linked");
    symlink("/nowhere", host.path("dangling")).expect("linked");
    for path in ["folder/file", "link", "dangling", "folder/new"] {
        let path = host.path(path);
        assert_eq!(refused(go(host.apply(&path, Some(OLD), NEW))), Detail::FileLink, "{path}");
        assert_eq!(refused(go(host.apply(&path, None, NEW))), Detail::FileLink, "{path}");
        let diff = Diff { path: path.clone(), want: NEW.to_owned() };
        assert_eq!(diff.compare().expect_err("refused").detail, Detail::FileLink, "{path}");
    }
    assert_eq!(fs::read_to_string(target).expect("there"), OLD);
}

#[test]
fn a_folder_that_becomes_a_link_meanwhile_leads_nowhere_else() {
    let host = Host::new();
    fs::create_dir(host.path("etc")).expect("made");
    fs::create_dir(host.path("elsewhere")).expect("made");
    let path = host.write("etc/file", OLD);
    let spot = Spot::of(&path).expect("there");
    let found = spot.read().expect("readable").expect("there");
    // The attack: between the look and the replace.
    fs::rename(host.path("etc"), host.path("moved")).expect("moved");
    symlink(host.path("elsewhere"), host.path("etc")).expect("linked");
    host.write("elsewhere/file", OLD);
    let change = Change { spot: &spot, found: Some(&found), action_id: ActionId::new() };
    change.replace(NEW.as_bytes(), 0o644, &Gate::default()).expect("in the folder that was reached");
    assert_eq!(fs::read_to_string(host.path("elsewhere/file")).expect("there"), OLD);
    assert_eq!(fs::read_to_string(host.path("moved/file")).expect("there"), NEW);
}

#[test]
fn what_is_no_plain_file_of_its_own_is_refused() {
    let host = Host::new();
    let linked = host.write("linked", OLD);
    fs::hard_link(&linked, host.path("other")).expect("linked");
    assert_eq!(refused(go(host.apply(&linked, Some(OLD), NEW))), Detail::FileHardLinked);

    let set_id = host.write("set-id", OLD);
    fs::set_permissions(&set_id, fs::Permissions::from_mode(0o4755)).expect("chmod");
    assert_eq!(refused(go(host.apply(&set_id, Some(OLD), NEW))), Detail::FileSetId);

    fs::create_dir(host.path("folder")).expect("made");
    assert_eq!(refused(go(host.apply(&host.path("folder"), Some(OLD), NEW))), Detail::FileNotRegular);
    rustix::fs::mknodat(rustix::fs::CWD, host.path("pipe"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .expect("made");
    assert_eq!(refused(go(host.apply(&host.path("pipe"), Some(OLD), NEW))), Detail::FileNotRegular);

    let large = host.write("large", &"x".repeat(usize::try_from(MOST).expect("small") + 1));
    assert_eq!(refused(go(host.apply(&large, Some(OLD), NEW))), Detail::FileTooLarge);
    let (state, _, detail) = why(go(host.apply(&host.path("no/such/file"), None, NEW)).expect_err("failed"));
    assert_eq!((state, detail), (FinalState::Failed, Detail::FileFailed));
}

#[test]
fn a_rollback_puts_back_what_was_there_and_only_from_what_the_apply_left() {
    let host = Host::new();
    let path = host.write("motd", OLD);
    let apply = host.apply(&path, Some(OLD), NEW);
    let id = apply.action_id;
    go(apply).expect("applied");

    fs::write(&path, "edited by hand\n").expect("writable");
    assert_eq!(refused(host.rollback(id).roll_back(&Gate::default())), Detail::FileChanged);
    assert_eq!(fs::read_to_string(&path).expect("there"), "edited by hand\n");

    fs::write(&path, NEW).expect("writable");
    let outcome = host.rollback(id).roll_back(&Gate::default()).expect("rolled back");
    assert!(outcome.applied);
    assert_eq!(outcome.after_sha256, Some(sha256(OLD.as_bytes())));
    assert_eq!(fs::read_to_string(&path).expect("there"), OLD);
    assert_eq!(refused(host.rollback(id).roll_back(&Gate::default())), Detail::FileChanged, "twice");
    assert_eq!(host.names(), ["motd"]);
    assert_eq!(Kept::new(&host.files()).actions(), [id]);
}

#[test]
fn a_file_that_the_apply_created_is_removed_by_its_rollback() {
    let host = Host::new();
    let path = host.path("new.conf");
    let apply = host.apply(&path, None, NEW);
    let id = apply.action_id;
    go(apply).expect("applied");
    let outcome = host.rollback(id).roll_back(&Gate::default()).expect("rolled back");
    assert_eq!((outcome.after_sha256, outcome.applied), (None, true));
    assert!(host.names().is_empty());
}

#[test]
fn kept_content_that_was_tampered_with_is_not_put_back() {
    let host = Host::new();
    let path = host.write("motd", OLD);
    let apply = host.apply(&path, Some(OLD), NEW);
    let id = apply.action_id;
    go(apply).expect("applied");
    fs::write(host.files().join(id.to_string()), "evil\n").expect("writable");
    assert_eq!(why(host.rollback(id).roll_back(&Gate::default()).expect_err("failed")).2, Detail::KeptDamaged);
    assert_eq!(fs::read_to_string(&path).expect("there"), NEW);
}

#[test]
fn whoever_stops_it_before_the_last_step_has_stopped_it() {
    let host = Host::new();
    let path = host.write("motd", OLD);
    let gate = Gate::default();
    assert!(gate.shut());
    assert!(matches!(host.apply(&path, Some(OLD), NEW).apply(&gate), Err(Stuck::Halted)));
    assert_eq!(fs::read_to_string(&path).expect("there"), OLD);
    assert_eq!(host.names(), ["motd"]);
    assert!(Kept::new(&host.files()).actions().is_empty());
}

#[test]
fn what_a_crash_left_beside_the_file_is_removed() {
    let host = Host::new();
    let path = host.write("motd", OLD);
    let id = ActionId::new();
    let record = Record {
        path: path.clone(),
        before_sha256: Some(sha256(OLD.as_bytes())),
        after_sha256: Some(sha256(NEW.as_bytes())),
        rollback: false,
    };
    Kept::new(&host.files()).keep(id, &record, Some(OLD.as_bytes())).expect("kept");
    host.write(&temp_name(id), "half of the new con");
    clean_up(&host.files(), id);
    assert_eq!(host.names(), ["motd"]);
    assert_eq!(refused(host.rollback(id).roll_back(&Gate::default())), Detail::FileChanged, "it never happened");
}

#[test]
fn a_diff_tells_both_sides_and_changes_nothing() {
    let host = Host::new();
    let path = host.write("motd", OLD);
    let diff = |path: &str, want: &str| Diff { path: path.to_owned(), want: want.to_owned() }.compare().expect("read");
    let outcome = diff(&path, NEW);
    assert!(!outcome.applied && outcome.patch.expect("text").contains("-two\n+2\n"));
    assert_eq!(diff(&path, OLD).patch.as_deref(), Some(""));
    let absent = diff(&host.path("none"), NEW);
    assert_eq!(absent.before_sha256, None);
    assert!(absent.patch.expect("text").contains("+one\n"));
    fs::write(&path, [0xFF, 0xFE]).expect("writable");
    assert_eq!(diff(&path, NEW).patch, None, "no text");
    assert_eq!(diff(&host.write("long", &"a\n".repeat(patch::MOST_LINES)), NEW).patch, None, "too long to compare");
    assert_eq!(fs::read_to_string(host.path("long")).expect("there").len(), patch::MOST_LINES * 2);
}

#[test]
fn nothing_to_change_changes_nothing_and_keeps_nothing() {
    let host = Host::new();
    let path = host.write("motd", OLD);
    let outcome = go(host.apply(&path, Some(OLD), OLD)).expect("fine");
    assert!(!outcome.applied);
    assert!(Kept::new(&host.files()).actions().is_empty());
}
