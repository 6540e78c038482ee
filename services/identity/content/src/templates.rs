//! The templates, compiled in: a mail that lacks a text in a language does not build.

/// The texts of a folder in every language, as (name, source).
macro_rules! folder {
    ($folder:literal: $($file:literal),+ $(,)?) => {
        &[$(
            (concat!($folder, "/ar/", $file), include_str!(concat!("../templates/", $folder, "/ar/", $file, ".j2"))),
            (concat!($folder, "/de/", $file), include_str!(concat!("../templates/", $folder, "/de/", $file, ".j2"))),
            (concat!($folder, "/en/", $file), include_str!(concat!("../templates/", $folder, "/en/", $file, ".j2"))),
            (concat!($folder, "/es/", $file), include_str!(concat!("../templates/", $folder, "/es/", $file, ".j2"))),
            (concat!($folder, "/fr/", $file), include_str!(concat!("../templates/", $folder, "/fr/", $file, ".j2"))),
        )+]
    };
}

/// A folder's templates: name and source.
type Folder = &'static [(&'static str, &'static str)];

/// All of them. The end of a name (`.txt`, `.html`) decides how values are escaped.
pub(crate) const TEMPLATES: &[Folder] = &[
    &[
        ("layout.txt", include_str!("../templates/layout.txt.j2")),
        ("layout.html", include_str!("../templates/layout.html.j2")),
    ],
    folder!("shared": "copy_link.txt", "lapse.txt", "password.txt", "sender.txt", "test.txt", "test_mark.txt"),
    folder!("invitation": "subject.txt", "body.txt", "link.txt"),
    folder!("reminder": "subject.txt", "body.txt", "link.txt"),
    folder!("account_created": "subject.txt", "body.txt", "link.txt"),
];
