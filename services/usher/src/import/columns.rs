//! Which column is what, in the languages that people name columns in; and users made of rows.

use usher_core::text::fold;
use usher_proto::identity::v1::User;

use super::read::Fault;
use crate::time;

/// What a column can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Column {
    Email,
    FirstName,
    LastName,
    Language,
    Labels,
    Expires,
    ExternalId,
}

/// The heads that are known, in lower case, letters and digits only. Accents do not matter.
const HEADS: [(Column, &str); 7] = [
    (
        Column::Email,
        "email emailaddress mail mailaddress emailadresse mailadresse courriel adressemail adresseemail \
         adressedecourriel adresseelectronique correo correoelectronico direcciondecorreo indirizzoemail \
         postaelettronica enderecodeemail epost epostadresse emailadres メールアドレス メール 电子邮件 电子邮箱 邮箱 \
         البريدالإلكتروني بريدإلكتروني",
    ),
    (
        Column::FirstName,
        "firstname givenname forename prénom vorname nombre nombres nome primeironome voornaam fornavn imię 名 \
         الاسمالأول",
    ),
    (
        Column::LastName,
        "lastname surname familyname nom nomdefamille nachname familienname zuname apellido apellidos cognome \
         sobrenome apelido achternaam etternavn nazwisko 姓 اسمالعائلة",
    ),
    (
        Column::Language,
        "language lang locale preferredlanguage langue sprache idioma lingua taal 言語 语言 اللغة",
    ),
    (
        Column::Labels,
        "label labels tag tags étiquette étiquettes libellés etikett etiketten etiqueta etiquetas etichette 标签 タグ",
    ),
    (
        Column::Expires,
        "expires expire expiretime expiration expirationdate expirydate expiry validuntil accessuntil \
         dateexpiration datedexpiration expirele findaccès ablauf ablaufdatum gültigbis zugangbis caducidad \
         fechadecaducidad vencimiento scadenza validade",
    ),
    (
        Column::ExternalId,
        "externalid studentid employeeid matricule personalnummer matrikelnummer matrícula numerodeempleado 学号 社員番号",
    ),
];

/// A header that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("no column holds e-mail addresses; the file has: {0}. Name that column `email`; nothing was sent")]
    NoEmail(String),
    #[error("the columns `{0}` and `{1}` mean the same; rename or remove one of them; nothing was sent")]
    Twice(String, String),
}

/// Where each column is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    header: Vec<String>,
    found: Vec<(Column, usize)>,
    email: usize,
}

/// What a head means.
fn meaning(head: &str) -> Option<Column> {
    let folded: String = fold(head).chars().filter(|c| c.is_alphanumeric()).collect();
    let known = |heads: &str| heads.split_whitespace().any(|known| fold(known) == folded);
    HEADS.iter().find(|(_, heads)| known(heads)).map(|(column, _)| *column)
}

/// How many heads are known.
pub(crate) fn recognised(header: &[String]) -> usize {
    header.iter().filter(|head| meaning(head).is_some()).count()
}

impl Columns {
    /// Finds the columns by their heads.
    pub(crate) fn find(header: &[String]) -> Result<Self, HeaderError> {
        let mut found: Vec<(Column, usize)> = Vec::new();
        for (index, head) in header.iter().enumerate() {
            let Some(column) = meaning(head) else { continue };
            if let Some((_, other)) = found.iter().find(|(known, _)| *known == column) {
                return Err(HeaderError::Twice(header[*other].clone(), head.clone()));
            }
            found.push((column, index));
        }
        // `Vorname;Name` and `Prénom;Nom`: beside a first name, a bare "name" is the last name.
        let has = |wanted| found.iter().any(|(column, _)| *column == wanted);
        if has(Column::FirstName) && !has(Column::LastName) {
            let bare = header.iter().position(|head| head.trim().eq_ignore_ascii_case("name"));
            found.extend(bare.map(|index| (Column::LastName, index)));
        }
        let email = found
            .iter()
            .find(|(column, _)| *column == Column::Email)
            .map(|(_, index)| *index);
        let Some(email) = email else {
            return Err(HeaderError::NoEmail(header.join(", ")));
        };
        Ok(Self {
            header: header.to_vec(),
            found,
            email,
        })
    }

    /// The index of the addresses.
    pub(crate) fn email(&self) -> usize {
        self.email
    }

    /// The indices of all columns that are used.
    pub(crate) fn used(&self) -> Vec<usize> {
        self.found.iter().map(|(_, index)| *index).collect()
    }

    /// The heads of the columns that are not used.
    pub(crate) fn ignored(&self) -> Vec<&str> {
        let used = self.used();
        self.header
            .iter()
            .enumerate()
            .filter(|(index, head)| !head.is_empty() && !used.contains(index))
            .map(|(_, head)| head.as_str())
            .collect()
    }

    /// The head of the column that a field of the API came from, or the field where it came from none.
    pub(crate) fn head_of(&self, field: &str) -> String {
        let name = field.strip_prefix("user.").unwrap_or(field);
        let column = match name.split('[').next().unwrap_or(name) {
            "email" => Column::Email,
            "first_name" => Column::FirstName,
            "last_name" => Column::LastName,
            "language" => Column::Language,
            "labels" => Column::Labels,
            "expire_time" => Column::Expires,
            "external_id" => Column::ExternalId,
            _ => return field.to_owned(),
        };
        self.head(column).unwrap_or_else(|| field.to_owned())
    }

    /// The head of a column, if there is one.
    pub(crate) fn head(&self, column: Column) -> Option<String> {
        self.index(column).map(|index| self.header[index].clone())
    }

    /// The cell of a column; empty where there is no such column.
    pub(crate) fn cell<'a>(&self, cells: &'a [String], column: Column) -> &'a str {
        self.index(column)
            .and_then(|index| cells.get(index))
            .map_or("", String::as_str)
    }

    /// A user made of a row, or everything that is wrong with it as far as it shows here; the server judges the rest.
    pub(crate) fn user(&self, cells: &[String]) -> Result<User, Vec<Fault>> {
        let mut faults = Vec::new();
        for (_, index) in &self.found {
            if cells[*index].contains(char::REPLACEMENT_CHARACTER) {
                faults.push(Fault::new(
                    &self.header[*index],
                    "contains characters that cannot be read; save the file as UTF-8",
                ));
            }
        }
        let mut fault = |column, reason: String| {
            faults.push(Fault::new(self.head(column).unwrap_or_default(), reason));
        };
        let email = self.cell(cells, Column::Email);
        if email.is_empty() {
            fault(Column::Email, "is empty; each row needs an address".into());
        }
        let expires = self.cell(cells, Column::Expires);
        let expire_time = (!expires.is_empty())
            .then(|| time::parse(expires))
            .transpose()
            .unwrap_or_else(|reason| {
                fault(Column::Expires, reason);
                None
            });
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(User {
            email: email.to_owned(),
            first_name: self.cell(cells, Column::FirstName).to_owned(),
            last_name: self.cell(cells, Column::LastName).to_owned(),
            language: self.cell(cells, Column::Language).to_owned(),
            labels: labels(self.cell(cells, Column::Labels)),
            external_id: self.cell(cells, Column::ExternalId).to_owned(),
            expire_time,
            ..User::default()
        })
    }

    fn index(&self, column: Column) -> Option<usize> {
        self.found
            .iter()
            .find(|(known, _)| *known == column)
            .map(|(_, index)| *index)
    }
}

/// Labels are separated by `|`, comma or semicolon.
fn labels(cell: &str) -> Vec<String> {
    cell.split(['|', ',', ';'])
        .map(str::trim)
        .filter(|label| !label.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(heads: &[&str]) -> Vec<String> {
        heads.iter().map(|head| (*head).to_owned()).collect()
    }

    #[test]
    fn columns_are_found_in_several_languages_whatever_their_case_and_accents() {
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
            let columns = Columns::find(&header(&heads)).unwrap();
            assert_eq!(columns.used(), [0, 1, 2, 3, 4, 5, 6], "{heads:?}");
            assert!(columns.ignored().is_empty());
        }
    }

    #[test]
    fn a_bare_name_is_the_last_name_beside_a_first_name_and_is_not_guessed_at_otherwise() {
        let columns = Columns::find(&header(&["Vorname", "Name", "Mail"])).unwrap();
        assert_eq!(columns.head_of("user.last_name"), "Name");
        let columns = Columns::find(&header(&["Name", "Mail", "Phone", ""])).unwrap();
        assert_eq!(columns.ignored(), ["Name", "Phone"]);
    }

    #[test]
    fn without_an_address_column_the_columns_that_there_are_are_named() {
        let error = Columns::find(&header(&["Vorname", "Telefon"])).unwrap_err().to_string();
        assert!(
            error.contains("Vorname, Telefon") && error.lines().count() == 1,
            "{error}"
        );
    }

    #[test]
    fn two_columns_of_the_same_meaning_are_refused() {
        let error = Columns::find(&header(&["email", "Courriel"])).unwrap_err();
        assert_eq!(error, HeaderError::Twice("email".into(), "Courriel".into()));
    }

    #[test]
    fn a_fault_of_the_server_is_named_by_the_head_in_the_file() {
        let columns = Columns::find(&header(&["Courriel", "Étiquettes"])).unwrap();
        assert_eq!(columns.head_of("user.labels[2]"), "Étiquettes");
        assert_eq!(columns.head_of("user.first_name"), "user.first_name");
        assert_eq!(columns.head_of("tenant_id"), "tenant_id");
    }

    #[test]
    fn a_row_becomes_a_user_with_its_labels_apart() {
        let columns = Columns::find(&header(&["email", "labels", "expires", "note"])).unwrap();
        let row = header(&["ana@example.org", "Year 7 | Maths, Choir;", "2027-06-30", "x"]);
        let user = columns.user(&row).unwrap();
        assert_eq!(user.labels, ["Year 7", "Maths", "Choir"]);
        assert_eq!(time::show(user.expire_time.as_ref()), "2027-06-30 00:00:00Z");
    }

    #[test]
    fn every_fault_of_a_row_is_named_with_its_column() {
        let columns = Columns::find(&header(&["Mail", "Vorname", "Ablaufdatum"])).unwrap();
        let faults = columns.user(&header(&["", "Zo\u{FFFD}", "31.12.2026"])).unwrap_err();
        let named: Vec<&str> = faults.iter().map(|fault| fault.column.as_str()).collect();
        assert_eq!(named, ["Vorname", "Mail", "Ablaufdatum"]);
    }
}
