//! The heads that are known: in the languages that people name columns in, and as other learning platforms name them in
//! their lists of users. Lower case, letters and digits only; accents do not matter.

use std::collections::HashMap;
use std::sync::LazyLock;

use usher_core::text::fold;

use crate::field::Field;
use crate::write::ExportColumn;

/// What a head can mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Meaning {
    /// A field as it is.
    Field(Field),
    /// The address, or the id in another system: its values decide.
    Username,
    /// A level of Docebo, which stands for a role.
    Level,
    /// The reverse of active.
    Suspended,
    /// A mark of what is to be deleted at once.
    Deleted,
    /// A branch of Docebo: its path, its code, its name. The first of them that is there counts.
    Branch(u8),
    /// One of Moodle's numbered columns of cohorts.
    Cohort,
    /// Part of an export that an import does not change.
    Information,
}

impl Meaning {
    /// Whether a column sets one of these fields.
    pub(crate) fn is_about(self, fields: &[Field]) -> bool {
        match self {
            Self::Field(field) => fields.contains(&field),
            Self::Username => fields.contains(&Field::Email) || fields.contains(&Field::ExternalId),
            Self::Level => fields.contains(&Field::Roles),
            Self::Suspended => fields.contains(&Field::Active),
            Self::Branch(_) | Self::Cohort => fields.contains(&Field::Groups),
            Self::Deleted => false,
            Self::Information => true,
        }
    }
}

const HEADS: &[(Meaning, &str)] = &[
    (
        Meaning::Field(Field::Email),
        "email emailaddress mail mailaddress emailadresse mailadresse courriel adressemail adresseemail \
         adressedecourriel adresseelectronique correo correoelectronico direcciondecorreo indirizzoemail \
         postaelettronica enderecodeemail epost epostadresse emailadres useremail メールアドレス メール 电子邮件 电子邮箱 \
         邮箱 البريدالإلكتروني بريدإلكتروني",
    ),
    (
        Meaning::Field(Field::FirstName),
        "firstname givenname forename prénom vorname nombre nombres nome primeironome voornaam fornavn imię 名 \
         الاسمالأول",
    ),
    (
        Meaning::Field(Field::LastName),
        "lastname surname familyname nom nomdefamille nachname familienname zuname apellido apellidos cognome \
         sobrenome apelido achternaam etternavn nazwisko 姓 اسمالعائلة",
    ),
    (
        Meaning::Field(Field::Language),
        "language lang locale preferredlanguage langue sprache idioma lingua língua taal 言語 语言 اللغة",
    ),
    (
        Meaning::Field(Field::TimeZone),
        "timezone tz timezonename fuseauhoraire fuseau zeitzone zonahoraria husohorario fusoorario fusohorario \
         fusohorário tijdzone tidszone tidssone strefaczasowa タイムゾーン 时区 المنطقةالزمنية",
    ),
    (
        Meaning::Field(Field::Labels),
        "label labels tag tags étiquette étiquettes libellés etikett etiketten etiqueta etiquetas etichetta etichette \
         标签 タグ",
    ),
    (
        Meaning::Field(Field::Groups),
        "group groups groupid groupids groupsids groupname groupnames grouppath team teams groupe groupes équipe équipes \
         gruppe gruppen grupo grupos equipo equipos gruppo gruppi squadra equipe equipes groep groepen グループ 组 群组 \
         مجموعة",
    ),
    (
        Meaning::Field(Field::Roles),
        "role roles userrole userroles rôle rôles rolle rollen rol roles ruolo ruoli função funções papel papéis \
         perfil 役割 角色 دور",
    ),
    (
        Meaning::Field(Field::Expires),
        "expires expire expiretime expiration expirationdate expirydate expiry validuntil accessuntil \
         dateexpiration datedexpiration expirele findaccès ablauf ablaufdatum gültigbis zugangbis caducidad \
         fechadecaducidad vencimiento scadenza datadiscadenza validade datadevalidade datadeexpiração verlooptop \
         vervaldatum",
    ),
    (
        Meaning::Field(Field::Deletes),
        "deletes deletetime deletion deletiondate deleteson deleteon datedesuppression suppressionle supprimele \
         löschdatum löschungam löschen fechadeeliminación fechadeborrado datadieliminazione datadicancellazione \
         datadeeliminação datadeexclusão verwijderdatum verwijderenop",
    ),
    (
        Meaning::Field(Field::Active),
        "active isactive activated enabled status userstatus actif activé statut état aktiv aktiviert zustand \
         activo activado estado attivo stato ativo situação actief 状態 状态 الحالة",
    ),
    (
        Meaning::Field(Field::ExternalId),
        "externalid externaluserid studentid employeeid idnumber matricule identifiantexterne personalnummer \
         matrikelnummer externeid externekennung matrícula numerodeempleado idexterno identificadorexterno idesterno \
         identificativoesterno 学号 社員番号",
    ),
    (
        Meaning::Username,
        "username userlogin login nomdutilisateur benutzername anmeldename nombredeusuario nomeutente nomedeusuário \
         gebruikersnaam",
    ),
    (Meaning::Level, "level userlevel"),
    (
        Meaning::Suspended,
        "suspended deactivated deactivate todeactivate inactive disabled suspendu désactivé gesperrt deaktiviert \
         suspendido desactivado sospeso disattivato suspenso desativado gedeactiveerd",
    ),
    (
        Meaning::Deleted,
        "deleted todelete supprimé gelöscht eliminado eliminato",
    ),
    (Meaning::Branch(0), "branchnamepath branchpath branchesnamepath"),
    (Meaning::Branch(1), "branchcodepath"),
    (Meaning::Branch(2), "branchcode branchescodes branchcodes"),
    (
        Meaning::Branch(3),
        "branchname branchesnames branchnames branch branches",
    ),
    (Meaning::Cohort, "cohort cohorts"),
    (Meaning::Information, "userid useruuid"),
];

static MEANINGS: LazyLock<HashMap<String, Meaning>> = LazyLock::new(|| {
    let informative = ExportColumn::ALL.into_iter().filter(|column| column.field().is_none());
    let informative = informative
        .flat_map(ExportColumn::heads)
        .map(|head| (key(head), Meaning::Information));
    let exported = ExportColumn::ALL
        .into_iter()
        .filter_map(|column| Some((column, Meaning::Field(column.field()?))));
    let exported = exported.flat_map(|(column, meaning)| column.heads().map(move |head| (key(head), meaning)));
    let known = HEADS
        .iter()
        .flat_map(|(meaning, heads)| heads.split_whitespace().map(|head| (key(head), *meaning)));
    informative.chain(exported).chain(known).collect()
});

/// The form in which heads are compared.
pub(crate) fn key(head: &str) -> String {
    fold(head).chars().filter(|c| c.is_alphanumeric()).collect()
}

/// What a head means.
pub(crate) fn meaning(head: &str) -> Option<Meaning> {
    let key = key(head);
    let cohort = || {
        let number = key.strip_prefix("cohort")?;
        number
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some(Meaning::Cohort)
    };
    MEANINGS.get(&key).copied().or_else(cohort)
}
