//! What mails say, from the command line.

use std::fs;

use crate::stage::Up;

fn run(up: &Up, arguments: &[&str]) -> String {
    let (code, shown, told) = up.run(arguments);
    assert_eq!(code, 0, "usher {arguments:?}\n{shown}{told}");
    shown
}

#[test]
fn l11_a_template_is_taken_as_a_beginning_changed_shown_saved_and_reset() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]);
    let folder = data.path().join("mine");
    let path = folder.to_str().unwrap();
    run(&up, &["templates", "get", "invitation", "fr", "--to", path]);
    let subject = folder.join("subject.txt");
    assert_eq!(
        fs::read_to_string(&subject).unwrap(),
        "Votre invitation à rejoindre {{ tenant_name }}\n"
    );

    fs::write(&subject, "Bienvenue, {{ first_nam }}\n").unwrap();
    let set = ["templates", "set", "invitation", "fr", path];
    let (code, _, told) = up.run(&set);
    assert!(
        code == 65 && told.contains("content.subject") && told.contains("line 1, column 15"),
        "{code}\n{told}"
    );
    fs::write(&subject, "Bienvenue, {{ first_name }}\n").unwrap();

    let files = ["a.eml", "a.html", "a.txt"].map(|name| data.path().join(name));
    let mut preview = vec![
        "templates",
        "preview",
        "invitation",
        "fr",
        "--draft",
        path,
        "--sample",
        "first_name=Zoë",
    ];
    for file in &files {
        preview.extend(["--to", file.to_str().unwrap()]);
    }
    let shown = run(&up, &preview);
    assert!(shown.starts_with("Bienvenue, Zoë\n\nBonjour Zoë,\n"), "{shown}");
    let [eml, html, text] = files.map(|file| fs::read_to_string(file).unwrap());
    assert!(
        eml.contains("Auto-Submitted: auto-generated") && eml.contains("multipart/alternative"),
        "{eml}"
    );
    assert!(
        html.starts_with("<!doctype html>") && text.starts_with("Bonjour Zoë,"),
        "{html}{text}"
    );

    run(&up, &set);
    run(&up, &set);
    let shown = run(&up, &["templates", "list", "--kind", "invitation"]);
    assert!(shown.contains("own: INVITATION, fr, version 1"), "{shown}");
    let shown = run(&up, &["templates", "reset", "invitation", "fr", "--json"]);
    let reset: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&reset["source"], &reset["newest_version"]),
        (&"TEMPLATE_SOURCE_DEFAULT".into(), &2.into())
    );
    let shown = run(&up, &["templates", "versions", "invitation", "fr"]);
    assert_eq!(shown.lines().count(), 3, "{shown}");
    assert!(shown.contains("version 2: reset"), "{shown}");
}
