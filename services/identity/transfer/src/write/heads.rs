//! The columns of an export, and their heads in the languages that people read them in.

use crate::field::Field;

/// The languages that heads are written in; in all others they are English.
pub const LANGUAGES: [&str; 7] = ["en", "fr", "de", "es", "it", "pt", "nl"];

/// A column of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExportColumn {
    /// The id of the account.
    UserId,
    /// The address.
    Email,
    /// The id in the caller's system.
    ExternalId,
    /// First name.
    FirstName,
    /// Last name.
    LastName,
    /// Language tag.
    Language,
    /// The time zone that the person lives by.
    TimeZone,
    /// Labels.
    Labels,
    /// Where the account stands.
    Status,
    /// Since when.
    StatusSince,
    /// Paths of groups.
    Groups,
    /// Names of roles.
    Roles,
    /// When access ends.
    Expires,
    /// When the account is deleted.
    Deletes,
    /// When it was created.
    Created,
    /// When registration was completed.
    Activated,
    /// When the person signed in last.
    LastLogin,
}

const HEADS: [(ExportColumn, &str, [&str; 7]); 17] = [
    (
        ExportColumn::UserId,
        "user_id",
        [
            "User ID",
            "Identifiant utilisateur",
            "Benutzer-ID",
            "Identificador de usuario",
            "Identificativo utente",
            "Identificador do utilizador",
            "Gebruikers-ID",
        ],
    ),
    (
        ExportColumn::Email,
        "email",
        [
            "Email",
            "Adresse e-mail",
            "E-Mail-Adresse",
            "Correo electrónico",
            "Indirizzo email",
            "Email",
            "E-mailadres",
        ],
    ),
    (
        ExportColumn::ExternalId,
        "external_id",
        [
            "External ID",
            "Identifiant externe",
            "Externe Kennung",
            "Identificador externo",
            "Identificativo esterno",
            "Identificador externo",
            "Externe ID",
        ],
    ),
    (
        ExportColumn::FirstName,
        "first_name",
        [
            "First name",
            "Prénom",
            "Vorname",
            "Nombre",
            "Nome",
            "Primeiro nome",
            "Voornaam",
        ],
    ),
    (
        ExportColumn::LastName,
        "last_name",
        [
            "Last name",
            "Nom",
            "Nachname",
            "Apellidos",
            "Cognome",
            "Apelido",
            "Achternaam",
        ],
    ),
    (
        ExportColumn::Language,
        "language",
        ["Language", "Langue", "Sprache", "Idioma", "Lingua", "Língua", "Taal"],
    ),
    (
        ExportColumn::TimeZone,
        "time_zone",
        [
            "Time zone",
            "Fuseau horaire",
            "Zeitzone",
            "Zona horaria",
            "Fuso orario",
            "Fuso horário",
            "Tijdzone",
        ],
    ),
    (
        ExportColumn::Labels,
        "labels",
        [
            "Labels",
            "Étiquettes",
            "Etiketten",
            "Etiquetas",
            "Etichette",
            "Etiquetas",
            "Labels",
        ],
    ),
    (
        ExportColumn::Status,
        "status",
        ["Status", "Statut", "Status", "Estado", "Stato", "Estado", "Status"],
    ),
    (
        ExportColumn::StatusSince,
        "status_since",
        [
            "Status since",
            "Statut depuis",
            "Status seit",
            "Estado desde",
            "Stato dal",
            "Estado desde",
            "Status sinds",
        ],
    ),
    (
        ExportColumn::Groups,
        "groups",
        ["Groups", "Groupes", "Gruppen", "Grupos", "Gruppi", "Grupos", "Groepen"],
    ),
    (
        ExportColumn::Roles,
        "roles",
        ["Roles", "Rôles", "Rollen", "Roles", "Ruoli", "Papéis", "Rollen"],
    ),
    (
        ExportColumn::Expires,
        "expires",
        [
            "Expiration date",
            "Date d'expiration",
            "Ablaufdatum",
            "Fecha de caducidad",
            "Data di scadenza",
            "Data de validade",
            "Vervaldatum",
        ],
    ),
    (
        ExportColumn::Deletes,
        "deletes",
        [
            "Deletion date",
            "Date de suppression",
            "Löschdatum",
            "Fecha de eliminación",
            "Data di eliminazione",
            "Data de eliminação",
            "Verwijderdatum",
        ],
    ),
    (
        ExportColumn::Created,
        "created",
        [
            "Created",
            "Création",
            "Erstellt",
            "Creación",
            "Creazione",
            "Criação",
            "Aangemaakt",
        ],
    ),
    (
        ExportColumn::Activated,
        "activated",
        [
            "Registered",
            "Inscription",
            "Registriert",
            "Registro",
            "Registrazione",
            "Registo",
            "Geregistreerd",
        ],
    ),
    (
        ExportColumn::LastLogin,
        "last_login",
        [
            "Last sign-in",
            "Dernière connexion",
            "Letzte Anmeldung",
            "Último acceso",
            "Ultimo accesso",
            "Último acesso",
            "Laatste aanmelding",
        ],
    ),
];

impl ExportColumn {
    /// All of them, in the order that a whole export has.
    pub const ALL: [Self; 17] = [
        Self::UserId,
        Self::Email,
        Self::ExternalId,
        Self::FirstName,
        Self::LastName,
        Self::Language,
        Self::TimeZone,
        Self::Labels,
        Self::Status,
        Self::StatusSince,
        Self::Groups,
        Self::Roles,
        Self::Expires,
        Self::Deletes,
        Self::Created,
        Self::Activated,
        Self::LastLogin,
    ];

    /// As in a request: `first_name`.
    pub fn as_str(self) -> &'static str {
        self.entry().1
    }

    /// The reverse of `as_str`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.as_str() == name)
    }

    /// Its head in a language (BCP 47); in English where the language is none of [`LANGUAGES`].
    pub fn head(self, language: &str) -> &'static str {
        let primary = language.split(['-', '_']).next().unwrap_or_default();
        let index = LANGUAGES
            .iter()
            .position(|known| known.eq_ignore_ascii_case(primary))
            .unwrap_or_default();
        self.entry().2[index]
    }

    /// The field that an import of this column sets; `None`: an import does not change it.
    pub fn field(self) -> Option<Field> {
        match self {
            Self::Email => Some(Field::Email),
            Self::ExternalId => Some(Field::ExternalId),
            Self::FirstName => Some(Field::FirstName),
            Self::LastName => Some(Field::LastName),
            Self::Language => Some(Field::Language),
            Self::TimeZone => Some(Field::TimeZone),
            Self::Labels => Some(Field::Labels),
            Self::Status => Some(Field::Active),
            Self::Groups => Some(Field::Groups),
            Self::Roles => Some(Field::Roles),
            Self::Expires => Some(Field::Expires),
            Self::Deletes => Some(Field::Deletes),
            Self::UserId | Self::StatusSince | Self::Created | Self::Activated | Self::LastLogin => None,
        }
    }

    /// Its heads in all languages, and its name.
    pub(crate) fn heads(self) -> impl Iterator<Item = &'static str> {
        let (_, name, heads) = self.entry();
        heads.iter().copied().chain([*name])
    }

    fn entry(self) -> &'static (Self, &'static str, [&'static str; 7]) {
        &HEADS[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u7_every_column_has_its_own_line_in_the_table_of_heads() {
        for (index, column) in ExportColumn::ALL.into_iter().enumerate() {
            assert_eq!(HEADS[index].0, column);
            assert_eq!(ExportColumn::from_name(column.as_str()), Some(column));
        }
    }

    #[test]
    fn u7_heads_of_one_language_differ_and_none_begins_like_a_formula_or_a_sylk_file() {
        for language in LANGUAGES {
            let mut heads: Vec<&str> = ExportColumn::ALL.iter().map(|column| column.head(language)).collect();
            heads.sort_unstable();
            heads.dedup();
            assert_eq!(heads.len(), 17, "{language}");
            assert!(
                heads
                    .iter()
                    .all(|head| head.starts_with(char::is_alphabetic) && !head.starts_with("ID"))
            );
        }
    }

    #[test]
    fn u7_a_language_without_heads_of_its_own_gets_english_ones() {
        assert_eq!(ExportColumn::FirstName.head("fr-CA"), "Prénom");
        assert_eq!(ExportColumn::FirstName.head("PT_br"), "Primeiro nome");
        assert_eq!(ExportColumn::FirstName.head("ja"), "First name");
        assert_eq!(ExportColumn::FirstName.head(""), "First name");
    }
}
