//! Groups, roles, seats and what is done to many, from the command line.

use serde_json::Value;

use crate::stage::Up;

/// Runs a command that is expected to go through, and answers its standard output.
fn done(up: &Up, line: &str) -> String {
    let (code, shown, told) = up.run(&words(line));
    assert_eq!(code, 0, "usher {line}\n{shown}{told}");
    shown
}

/// The same for one that prints one JSON object.
fn object(up: &Up, line: &str) -> Value {
    serde_json::from_str(&done(up, &format!("{line} --json"))).unwrap()
}

/// A field of it.
fn field(up: &Up, line: &str, field: &str) -> String {
    object(up, line)[field].as_str().unwrap().to_owned()
}

/// Words between spaces; `_` is a space.
fn words(line: &str) -> Vec<String> {
    line.split(' ').map(|word| word.replace('_', " ")).collect()
}

fn start() -> (tempfile::TempDir, Up) {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]);
    (data, up)
}

#[test]
fn u2_groups_are_a_tree_and_a_group_has_the_people_of_those_below_it() {
    let (_data, up) = start();
    done(&up, "groups create School");
    done(&up, "groups create Maths --parent School");
    done(&up, "groups create Arts --parent school");
    done(&up, "groups create Year_1 --parent School/Maths --external-id Y-1");
    assert_eq!(
        done(&up, "groups list --tree"),
        "School\n├─ Arts\n└─ Maths\n   └─ Year 1 (Y-1)\n"
    );
    assert_eq!(done(&up, "groups list --tree --below School/Maths"), "Year 1 (Y-1)\n");

    done(&up, "users create ana@example.org --group Y-1 --group School/Arts");
    done(&up, "users create bo@example.org --external-id S-2");
    let (code, shown, told) = up.run(&words("groups add School/Maths S-2 nobody@example.org ana@example.org"));
    assert_eq!(code, 1, "one of the three is nobody: {shown}{told}");
    assert!(told.contains("2 added, 0 members before, 0 refused"), "{told}");
    let listed = |line: &str| done(&up, line).lines().skip(1).count();
    assert_eq!(listed("users list --group School"), 2);
    assert_eq!(listed("users list --group Y-1"), 1);
    assert_eq!(listed("groups list --user ana@example.org"), 3);

    let (code, _, told) = up.run(&words("groups move School School/Maths/Year_1"));
    assert!(code == 65 && told.contains("usher groups list --tree"), "{told}");
    done(&up, "groups move School/Maths --top");
    done(&up, "groups update Y-1 --name First_year");
    done(&up, "groups remove Maths S-2");
    done(&up, "groups delete Maths");
    assert_eq!(
        done(&up, "groups list --tree"),
        "First year (Y-1)\nSchool\n└─ Arts\n",
        "what was below a deleted group moves up"
    );
}

#[test]
fn u2_roles_are_held_in_a_scope_and_whoever_holds_none_is_refused() {
    let (_data, up) = start();
    done(&up, "groups create Maths");
    done(&up, "groups create Arts");
    let head = field(&up, "users create head@example.org --active --group Maths", "user_id");
    let pupil = field(&up, "users create pupil@example.org --active --group Maths", "user_id");
    done(&up, "users create other@example.org --active --group Arts");

    let shown = done(&up, "roles assign head@example.org administrator --group Maths");
    assert!(
        shown.contains("administrator") && shown.contains("group Maths"),
        "{shown}"
    );
    done(&up, "roles create Tutor --permission users.read");
    done(&up, "roles assign pupil@example.org tutor --session S-1");
    let shown = done(&up, "roles holders --user pupil@example.org");
    assert!(
        shown.contains("pupil@example.org") && shown.contains("Tutor"),
        "{shown}"
    );
    assert_eq!(done(&up, "roles holders --group Maths").lines().count(), 2);
    let shown = done(&up, "roles list");
    assert!(shown.contains("(built in)") && shown.contains("users.read"), "{shown}");
    let (code, _, told) = up.run(&words("roles delete Tutor"));
    assert!(code == 65 && told.contains("usher roles revoke USER ROLE"), "{told}");
    done(&up, "roles revoke pupil@example.org Tutor --session S-1");
    done(&up, "roles delete Tutor");

    let everybody = |actor: &str| {
        up.run(&words(&format!(
            "bulk deactivate --everybody --preview --actor {actor}"
        )))
    };
    let (code, shown, told) = everybody(&head);
    assert!(
        code == 0 && shown.ends_with("2 users.\n"),
        "their own group only: {shown}{told}"
    );
    let (code, _, told) = everybody(&pupil);
    assert!(code == 77 && told.contains("usher roles holders"), "{told}");
}

#[test]
fn u6_a_bulk_action_shows_whom_asks_and_can_be_undone() {
    let (_data, up) = start();
    for name in ["ana", "bo", "cy"] {
        done(
            &up,
            &format!("users create {name}@example.org --active --label Leavers"),
        );
    }
    done(&up, "users create dee@example.org --active");
    let shown = done(&up, "bulk deactivate --label Leavers --preview");
    assert!(
        shown.contains("ana@example.org") && shown.ends_with("\n3 users.\n"),
        "{shown}"
    );
    let code = |line: &str| up.run(&words(line)).0;
    assert_eq!(code("bulk deactivate --label Leavers"), 2, "there is nobody to ask");
    assert_eq!(
        code("bulk deactivate --yes"),
        2,
        "everybody is not what is meant by nothing"
    );
    done(&up, "bulk deactivate --label Leavers --dry-run");
    assert_eq!(
        done(&up, "users list --status active").lines().count(),
        1 + 4,
        "nothing was done so far"
    );

    let shown = done(&up, "bulk deactivate --label Leavers --yes --reason left");
    assert!(shown.ends_with("\n3 users: 3 changed\n"), "{shown}");
    assert_eq!(done(&up, "users list --status active").lines().count(), 1 + 1);
    let job = field(&up, "jobs list", "job_id");
    let shown = done(&up, &format!("jobs show {job}"));
    assert!(shown.contains("left") && shown.contains("usher jobs undo"), "{shown}");
    let file = up.data.join("report.csv");
    assert_eq!(up.run(&["jobs", "report", &job, "--out", file.to_str().unwrap()]).0, 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1 + 3);
    assert_eq!(done(&up, &format!("jobs report {job} --json")).lines().count(), 3);
    let (code, _, told) = up.run(&words(&format!("jobs retry {job}")));
    assert!(code == 65 && told.contains("usher jobs show"), "{told}");

    let shown = done(&up, &format!("jobs undo {job} --reason mistake"));
    assert_eq!(shown, "3 users: 3 changed\n");
    assert_eq!(done(&up, "users list --status active").lines().count(), 1 + 4);
}

#[test]
fn b7_a_job_goes_on_by_itself_and_whoever_watches_it_later_is_told_what_was_left_out() {
    let (_data, up) = start();
    done(&up, "groups create Maths");
    done(&up, "users create ana@example.org --active");
    let head = field(&up, "users create head@example.org --active", "user_id");
    done(&up, "roles assign head@example.org administrator");

    let line = "bulk groups --add Maths --user ana@example.org --user head@example.org --yes --detach";
    let shown = done(&up, line);
    let job = shown.lines().last().unwrap();
    assert_eq!(done(&up, &format!("jobs watch {job}")), "2 users: 2 changed\n");
    let shown = done(&up, "bulk roles --assign coach@Maths --group Maths --yes");
    assert!(shown.ends_with("2 users: 2 changed\n"), "{shown}");

    let line = format!("bulk deactivate --group Maths --yes --actor {head}");
    let (code, shown, told) = up.run(&words(&line));
    assert_eq!(code, 1, "nobody deactivates themselves: {shown}{told}");
    assert!(
        shown.contains(&head) && shown.ends_with("2 users: 1 changed, 1 skipped\n"),
        "{shown}"
    );
    let job = done(&up, "jobs list --state done --limit 1 --json");
    let job: Value = serde_json::from_str(&job).unwrap();
    let line = format!("jobs retry {} --json", job["job_id"].as_str().unwrap());
    let (code, shown, _) = up.run(&words(&line));
    let again: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (code, again["changed_count"].as_i64()),
        (0, Some(1)),
        "another actor may: {shown}"
    );
}

#[test]
fn u8_b13_seats_are_counted_and_at_the_limit_people_are_refused_or_wait() {
    let (_data, up) = start();
    done(&up, "tenants update --seat-limit 1");
    done(&up, "users create ana@example.org --active");
    let (code, _, told) = up.run(&words("users create bo@example.org --active"));
    assert!(
        code == 65 && told.contains("usher tenants update --seat-limit"),
        "{told}"
    );
    let shown = done(&up, "seats");
    assert!(
        shown.contains("Seats taken") && shown.contains("0 seats left"),
        "{shown}"
    );

    let shown = done(&up, "tenants update --seat-policy wait");
    assert!(shown.contains("people wait for a seat"), "{shown}");
    let shown = done(&up, "users create bo@example.org --active");
    assert!(
        shown.contains("PENDING") && shown.contains("Waits for a seat since"),
        "{shown}"
    );
    let shown = done(&up, "users list --waiting-for-seat");
    assert!(
        shown.contains("bo@example.org") && shown.lines().count() == 2,
        "{shown}"
    );
    done(&up, "tenants update --seat-limit 2");
    up.eventually("bo has a seat", |up| {
        done(up, "users show bo@example.org").contains("ACTIVE since")
    });
    let shown = done(&up, "seats --json");
    let usage: Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
    assert_eq!(
        (usage["used_count"].as_i64(), usage["waiting_count"].as_i64()),
        (Some(2), Some(0))
    );
    assert_eq!(done(&up, "seats ledger").matches("+1").count(), 2);
    assert_eq!(done(&up, "seats ledger --user bo@example.org").matches("+1").count(), 1);
}

#[test]
fn l5_groups_roles_and_a_deletion_date_are_set_with_the_invitation() {
    let (_data, up) = start();
    done(&up, "groups create Maths");
    let line = "invite ana@example.org --group Maths --role learner --delete-on 2999-06-30";
    let shown = done(&up, line);
    assert!(shown.contains("created, invited"), "{shown}");
    let shown = done(&up, "users show ana@example.org");
    assert!(shown.contains("2999-06-30"), "{shown}");
    assert_eq!(done(&up, "users list --group Maths --role learner").lines().count(), 2);
    let shown = done(&up, "roles holders --role learner");
    assert!(
        shown.contains("ana@example.org") && shown.contains("group Maths"),
        "{shown}"
    );
    done(&up, "users update ana@example.org --delete-on never");
    assert!(!done(&up, "users show ana@example.org").contains("2999-06-30"));
}

#[test]
fn s8_b10_activity_is_reported_and_the_inactivity_policy_is_previewed_and_decided_about() {
    let (data, up) = start();
    done(&up, "users create ana@example.org --active --external-id S-1");
    let report = "activity record ana@example.org --kind course-opened --at 2026-01-01";
    assert_eq!(object(&up, report)["recorded_count"], 1);
    assert_eq!(object(&up, report)["known_count"], 1);
    let listed = |line: &str| done(&up, line).lines().skip(1).count();
    assert_eq!(listed("users list --engagement engaged"), 1);
    let file = data.path().join("activity.csv");
    std::fs::write(
        &file,
        "user,kind,time\nS-1,sign-in,2026-01-02\nnobody,sign-in,2026-01-02\n",
    )
    .unwrap();
    let (code, shown, told) = up.run(&["activity".into(), "import".into(), file.display().to_string()]);
    assert_eq!(code, 1, "{shown}{told}");
    assert!(told.contains("Row 3") && shown.contains("New"), "{shown}{told}");

    done(&up, "tenants update --warn-after-days 90 --deactivate-after-days 120");
    assert!(done(&up, "tenants show").contains("warned after 90 days, deactivated after 120"));
    assert_eq!(listed("inactivity preview"), 0);
    assert_eq!(listed("inactivity preview --until 2030-01-01"), 1);
    assert_eq!(listed("inactivity runs"), 0);
    let nothing = "0197a2f0-0000-7000-8000-00000000dead";
    let (code, _, told) = up.run(&words(&format!("inactivity approve {nothing}")));
    assert!(code != 0 && told.contains("usher inactivity runs"), "{told}");
}

#[test]
fn l8_people_who_are_there_are_invited_by_name_and_a_help_desk_follows_a_link_and_a_password() {
    let (_data, up) = start();
    done(&up, "users create ana@example.org --external-id S-1");
    let invitation = field(&up, "invitations send S-1 --subject Welcome", "invitation_id");
    assert!(done(&up, &format!("invitations show {invitation}")).contains("ana@example.org"));
    up.eventually("the mail", |up| up.mails() == 1);
    let (code, _, told) = up.run(&words("accept no-such-token --fresh"));
    assert!(
        code == 0 && told.contains("on its way"),
        "the answer never tells what the link is: {told}"
    );

    done(&up, "users create bo@example.org --password correct_horse_battery");
    let verified = |password: &str| {
        let input = format!("{password}\n");
        up.run_with(
            input.as_bytes(),
            &["access", "verify-password", "bo@example.org", "--password-stdin"],
        )
        .0
    };
    assert_eq!(
        (verified("correct horse battery"), verified("wrong horse battery")),
        (0, 77)
    );
    let input = b"correct horse battery\nanother horse battery\n";
    let (code, shown, told) = up.run_with(
        input,
        &["access", "change-password", "bo@example.org", "--passwords-stdin"],
    );
    assert!(code == 0 && shown.contains("bo@example.org"), "{shown}{told}");
    assert_eq!(
        (verified("another horse battery"), verified("correct horse battery")),
        (0, 77)
    );
}
