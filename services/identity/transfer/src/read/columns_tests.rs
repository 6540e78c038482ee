use super::*;

fn header(heads: &[&str]) -> Vec<String> {
    heads.iter().map(|head| (*head).to_owned()).collect()
}

fn find(heads: &[&str]) -> Result<Columns, FileFault> {
    Columns::find(&header(heads), &Mapping(&BTreeMap::new()), &[])
}

/// The fields by head, and what the notes say.
fn found(heads: &[&str]) -> (Vec<(&'static str, String)>, String) {
    let columns = find(heads).unwrap();
    let mut fields: Vec<_> = columns
        .fields
        .iter()
        .map(|(field, index)| (*index, field.as_str(), columns.head(*index)))
        .collect();
    fields.sort_unstable();
    let fields = fields.into_iter().map(|(_, field, head)| (field, head)).collect();
    (fields, columns.notes().join(" "))
}

fn pairs(expected: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    expected
        .iter()
        .map(|(field, head)| (*field, (*head).to_owned()))
        .collect()
}

#[test]
fn l10_columns_are_found_in_several_languages_whatever_their_case_and_accents() {
    for heads in [
        [
            "E-Mail",
            "First Name",
            "last_name",
            "Language",
            "Labels",
            "Expires",
            "External ID",
        ],
        [
            "Courriel",
            "Prénom",
            "NOM",
            "langue",
            "Étiquettes",
            "Date d'expiration",
            "Matricule",
        ],
        [
            "E-Mail-Adresse",
            "Vorname",
            "Nachname",
            "Sprache",
            "Etiketten",
            "gültig bis",
            "Personalnummer",
        ],
        [
            "Correo electrónico",
            "Nombre",
            "Apellidos",
            "Idioma",
            "Etiquetas",
            "Caducidad",
            "Matrícula",
        ],
        ["メールアドレス", "名", "姓", "言語", "タグ", "expire_time", "社員番号"],
    ] {
        let (fields, notes) = found(&heads);
        let fields: Vec<&str> = fields.into_iter().map(|(field, _)| field).collect();
        let expected = [
            "email",
            "first_name",
            "last_name",
            "language",
            "labels",
            "expires",
            "external_id",
        ];
        assert_eq!((fields, notes.as_str()), (expected.to_vec(), ""), "{heads:?}");
    }
}

#[test]
fn l5_groups_roles_deletion_date_and_status_are_found() {
    for heads in [
        ["email", "Groups", "Roles", "Deletion date", "Status"],
        ["email", "Groupes", "Rôle", "Date de suppression", "Statut"],
        ["email", "Gruppen", "Rolle", "Löschdatum", "Aktiv"],
        ["email", "Grupos", "Rol", "Fecha de eliminación", "Activo"],
    ] {
        let (fields, notes) = found(&heads);
        let fields: Vec<&str> = fields.into_iter().map(|(field, _)| field).collect();
        assert_eq!(
            (fields, notes.as_str()),
            (vec!["email", "groups", "roles", "deletes", "active"], ""),
            "{heads:?}"
        );
    }
}

#[test]
fn l10_a_list_of_users_from_moodle_is_understood() {
    let (fields, notes) = found(&[
        "username",
        "password",
        "firstname",
        "lastname",
        "email",
        "lang",
        "idnumber",
        "suspended",
        "cohort1",
        "cohort2",
        "course1",
        "role1",
        "profile_field_shoe",
        "deleted",
    ]);
    let expected = pairs(&[
        ("first_name", "firstname"),
        ("last_name", "lastname"),
        ("email", "email"),
        ("language", "lang"),
        ("external_id", "idnumber"),
        ("active", "suspended"),
        ("groups", "cohort1"),
        ("groups", "cohort2"),
    ]);
    assert_eq!(fields, expected);
    assert_eq!(
        notes,
        "Columns that are not used: username, password, course1, role1, profile_field_shoe."
    );
}

#[test]
fn l10_a_list_of_users_from_docebo_is_understood() {
    let (fields, notes) = found(&[
        "Username",
        "First Name",
        "Last Name",
        "Email",
        "Level",
        "Profile Name",
        "Branch Name",
        "Branch Code",
        "Branch Name Path",
        "Active",
        "Expiration",
        "Language",
        "User ID",
    ]);
    let expected = pairs(&[
        ("external_id", "Username"),
        ("first_name", "First Name"),
        ("last_name", "Last Name"),
        ("email", "Email"),
        ("groups", "Branch Name Path"),
        ("active", "Active"),
        ("expires", "Expiration"),
        ("language", "Language"),
    ]);
    assert_eq!(fields, expected);
    assert_eq!(
        notes,
        "Columns that are not used: Profile Name, Branch Name, Branch Code. \
         Columns that an import does not change: User ID."
    );
    assert_eq!(find(&["Email", "Level"]).unwrap().level, Some(1));
    assert_eq!(find(&["Email", "Level", "Roles"]).unwrap().level, None);
}

#[test]
fn l10_a_list_of_users_from_360learning_is_understood() {
    let (fields, notes) = found(&[
        "mail",
        "firstName",
        "lastName",
        "group ids",
        "labels",
        "toDeactivate",
        "lang",
        "job",
        "organization",
    ]);
    let expected = pairs(&[
        ("email", "mail"),
        ("first_name", "firstName"),
        ("last_name", "lastName"),
        ("groups", "group ids"),
        ("labels", "labels"),
        ("active", "toDeactivate"),
        ("language", "lang"),
    ]);
    assert_eq!(fields, expected);
    assert_eq!(notes, "Columns that are not used: job, organization.");
}

#[test]
fn l10_a_bare_name_is_the_last_name_beside_a_first_name_and_is_not_guessed_at_otherwise() {
    assert_eq!(
        found(&["Vorname", "Name", "Mail"]).0[1],
        ("last_name", "Name".to_owned())
    );
    assert_eq!(
        found(&["Name", "Mail", "Phone", ""]).1,
        "Columns that are not used: Name, Phone."
    );
}

#[test]
fn l10_a_header_that_cannot_be_used_is_refused_with_what_it_has() {
    let error = find(&["Vorname", "Telefon"]).unwrap_err().to_string();
    assert!(
        error.contains("Vorname, Telefon") && error.lines().count() == 1,
        "{error}"
    );
    assert!(
        matches!(find(&["email", "Courriel"]), Err(FileFault::Twice(one, two)) if one == "email" && two == "Courriel")
    );
    assert!(matches!(
        find(&["email", "active", "suspended"]),
        Err(FileFault::Twice(..))
    ));
}

#[test]
fn l10_a_mapping_wins_over_what_heads_seem_to_mean() {
    let given = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(head, field)| ((*head).to_owned(), (*field).to_owned()))
            .collect::<BTreeMap<_, _>>()
    };
    let header = header(&["Kontakt", "Mail", "Klasse"]);
    let mapping = given(&[("kontakt", "email"), ("Mail", "ignore"), ("Klasse", "groups")]);
    let columns = Columns::find(&header, &Mapping(&mapping), &[]).unwrap();
    assert_eq!(columns.fields, [(Field::Email, 0), (Field::Groups, 2)]);
    assert_eq!(columns.notes(), ["Columns that are not used: Mail."]);
    for (mapping, word) in [
        (given(&[("Foo", "email")]), "Kontakt, Mail, Klasse"),
        (given(&[("Mail", "foo")]), "first_name"),
    ] {
        let error = Columns::find(&header, &Mapping(&mapping), &[]).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}
