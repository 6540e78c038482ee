//! Users from files and into files (L10, S13, U7).

use anyhow::{Context as _, Result};
use tonic::{Code, Status};
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::import_users_request::Part;
use usher_proto::identity::v1::{FileFormat, ImportMode, JobOutcome, UserStatus};
use usher_tests::environment::{eventually, new_folder};
use usher_tests::system::{Options, System, vars};

use crate::stage::{PATIENCE, Stage, Together, apart, assert_refused, refused, together};

impl<G: std::ops::Deref<Target = System>> Stage<G> {
    pub(crate) fn importing(&self, mode: ImportMode) -> api::ImportSettings {
        api::ImportSettings {
            tenant_id: self.tenant.clone(),
            mode: mode.into(),
            ..api::ImportSettings::default()
        }
    }

    pub(crate) async fn upload(
        &self,
        settings: api::ImportSettings,
        file: &[u8],
    ) -> Result<api::ImportUsersResponse, Status> {
        let pieces = file.chunks(100).map(|piece| Part::Data(piece.to_vec()));
        let parts: Vec<_> = std::iter::once(Part::Settings(settings))
            .chain(pieces)
            .map(|part| api::ImportUsersRequest { part: Some(part) })
            .collect();
        let answer = self
            .clients
            .transfer()
            .import_users(futures::stream::iter(parts))
            .await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn import(&self, settings: api::ImportSettings, file: &str) -> Result<api::Job> {
        let job = self.upload(settings, file.as_bytes()).await?.job.context("no job")?;
        self.ended(&job).await
    }

    pub(crate) async fn export(&self, request: api::ExportUsersRequest) -> Result<Vec<u8>> {
        let mut stream = self.clients.transfer().export_users(request).await?.into_inner();
        let mut file = Vec::new();
        let mut done = 0;
        while let Some(piece) = stream.message().await? {
            assert!(piece.done_count >= done);
            done = piece.done_count;
            file.extend(piece.data);
        }
        Ok(file)
    }

    pub(crate) fn exporting(&self, format: FileFormat, columns: &[&str], language: &str) -> api::ExportUsersRequest {
        api::ExportUsersRequest {
            tenant_id: self.tenant.clone(),
            selection: Some(api::Selection {
                by: Some(api::selection::By::Filter(api::UserFilter::default())),
            }),
            format: format.into(),
            columns: columns.iter().map(ToString::to_string).collect(),
            language: language.into(),
        }
    }

    pub(crate) async fn looked_up(&self, name: &str) -> Result<api::User, Status> {
        let request = api::LookupUserRequest {
            tenant_id: self.tenant.clone(),
            key: Some(api::lookup_user_request::Key::Email(self.address(name))),
        };
        let found = self.clients.users().lookup_user(request).await?;
        Ok(found.into_inner().user.unwrap_or_default())
    }
}

async fn group(stage: &Together, name: &str) -> Result<String> {
    let group = api::CreateGroupRequest {
        group: Some(api::Group {
            tenant_id: stage.tenant.clone(),
            name: name.into(),
            ..api::Group::default()
        }),
        options: None,
    };
    let created = stage.clients.groups().create_group(group).await?.into_inner();
    Ok(created.group.context("no group")?.group_id)
}

/// L10, L5, S13, B8: good rows go through with everything the file says of them; each bad one is named by row, column and reason.
#[test]
fn good_rows_go_through_and_each_bad_one_is_named() -> Result<()> {
    together(async |stage| {
        let choir = group(&stage, "Choir").await?;
        let at = |name: &str| stage.address(name);
        let file = format!(
            "Courriel;Prénom;Nom;Langue;Étiquettes;Groupes;Rôles;Expire le;Fuseau horaire\r\n\
             {};Zoë;d’Été;fr;Year 7|Band;Choir;learner;2099-06-30;Europe/Paris\r\n\
             no-address;A;B;;;;;;\r\n\
             {};Ana;Silva;pt-BR;;;;;\r\n\
             {};<b>Bo</b>;B;;;Orchestra;;;Paris\r\n",
            at("zoe"),
            at("ana"),
            at("bo"),
        );
        let job = stage.import(stage.importing(ImportMode::Create), &file).await?;
        assert_eq!(
            (job.total_count, job.changed_count, job.failed_count),
            (4, 2, 2),
            "{job:?}"
        );
        let failed = stage.items(&job, &[JobOutcome::Failed]).await?;
        let named: Vec<(i64, &str)> = failed
            .iter()
            .map(|item| (item.position, item.column.as_str()))
            .collect();
        assert_eq!(
            named,
            [(3, "Courriel"), (5, "Prénom"), (5, "Fuseau horaire"), (5, "Groupes")],
            "{failed:?}"
        );
        let zoe = stage.looked_up("zoe").await?;
        assert_eq!((zoe.first_name.as_str(), zoe.language.as_str()), ("Zoë", "fr"));
        assert_eq!(zoe.time_zone, "Europe/Paris");
        assert_eq!(zoe.labels, ["Band", "Year 7"]);
        assert!(zoe.expire_time.is_some());
        let members = api::ListUsersRequest {
            tenant_id: stage.tenant.clone(),
            filter: Some(api::UserFilter {
                group_ids: vec![choir],
                roles: vec!["learner".into()],
                ..api::UserFilter::default()
            }),
            ..api::ListUsersRequest::default()
        };
        let members = stage.clients.users().list_users(members).await?.into_inner().users;
        assert_eq!(members.len(), 1);
        let report = stage.report(&job).await?;
        assert!(report.contains("created") && report.contains("Orchestra"), "{report}");

        let again = stage.import(stage.importing(ImportMode::Create), &file).await?;
        assert_eq!(
            (again.changed_count, again.unchanged_count),
            (0, 2),
            "nobody is created twice"
        );
        Ok(())
    })
}

/// L10: invited once, however often the file comes; a dry run tells what would happen and does nothing.
#[test]
fn a_dry_run_does_nothing_and_whoever_is_invited_is_not_invited_again() -> Result<()> {
    together(async |stage| {
        let file = format!(
            "email,first_name\n{},Ana\n{},Bo\n",
            stage.address("ana"),
            stage.address("bo")
        );
        let dry = api::ImportSettings {
            dry_run: true,
            ..stage.importing(ImportMode::Invite)
        };
        let job = stage.import(dry, &file).await?;
        assert!(job.dry_run);
        assert_eq!(job.changed_count, 2);
        assert_refused(stage.looked_up("ana").await, Code::NotFound, "USER_NOT_FOUND");

        let job = stage.import(stage.importing(ImportMode::Invite), &file).await?;
        assert_eq!(job.changed_count, 2);
        stage.mail("ana", 1).await?;
        let job = stage.import(stage.importing(ImportMode::Invite), &file).await?;
        assert_eq!((job.changed_count, job.unchanged_count), (0, 2));
        stage
            .becomes(&stage.looked_up("bo").await?.user_id, UserStatus::Invited)
            .await?;
        assert_eq!((stage.mails("ana").len(), stage.mails("bo").len()), (1, 1));
        Ok(())
    })
}

/// B1: an upload that is repeated with its request_id starts nothing a second time.
#[test]
fn an_upload_that_is_repeated_answers_the_same_job() -> Result<()> {
    together(async |stage| {
        let file = format!("email\n{}\n", stage.address("once"));
        let settings = api::ImportSettings {
            options: Some(api::MutationOptions {
                request_id: "import-1".into(),
                ..api::MutationOptions::default()
            }),
            ..stage.importing(ImportMode::Create)
        };
        let first = stage
            .upload(settings.clone(), file.as_bytes())
            .await?
            .job
            .context("no job")?;
        let second = stage
            .upload(settings.clone(), file.as_bytes())
            .await?
            .job
            .context("no job")?;
        assert_eq!(first.job_id, second.job_id);
        let other = stage
            .upload(settings, format!("{file}{}\n", stage.address("two")).as_bytes())
            .await;
        assert_refused(other, Code::InvalidArgument, "REQUEST_ID_REUSED");
        Ok(())
    })
}

/// L10: fields that a person edited stay, unless it is asked for.
#[test]
fn what_a_person_edited_themselves_stays_unless_asked() -> Result<()> {
    together(async |stage| {
        stage.invited("ana").await?;
        let token = stage.link("ana", 1).await?;
        stage.accept(&token).await?;
        let file = format!("email,first_name,language\n{},Hannah,fr\n", stage.address("ana"));
        let job = stage.import(stage.importing(ImportMode::Update), &file).await?;
        assert_eq!(job.changed_count, 1);
        let ana = stage.looked_up("ana").await?;
        assert_eq!((ana.first_name.as_str(), ana.language.as_str()), ("Ana", "fr"));
        let settings = api::ImportSettings {
            overwrite_edited: true,
            ..stage.importing(ImportMode::Update)
        };
        stage.import(settings, &file).await?;
        assert_eq!(stage.looked_up("ana").await?.first_name, "Hannah");
        let stranger = format!("email,first_name\n{},X\n", stage.address("nobody"));
        let job = stage.import(stage.importing(ImportMode::Update), &stranger).await?;
        assert_eq!(job.skipped_count, 1);
        Ok(())
    })
}

/// L10: a file that would show out more people than anybody meant does nothing.
#[test]
fn an_import_that_would_deactivate_too_many_is_stopped() -> Result<()> {
    together(async |stage| {
        for name in ["ana", "bo", "cy"] {
            stage.active(name).await?;
        }
        let file = format!("email\n{}\n", stage.address("ana"));
        let stopped = stage
            .upload(stage.importing(ImportMode::Deactivate), file.as_bytes())
            .await;
        assert_refused(stopped, Code::FailedPrecondition, "SAFETY_STOP");
        assert_eq!(stage.looked_up("ana").await?.status(), UserStatus::Active);
        let settings = api::ImportSettings {
            max_deactivated_percent: 40,
            ..stage.importing(ImportMode::Deactivate)
        };
        let job = stage.import(settings, &file).await?;
        assert_eq!(job.changed_count, 1);
        assert_eq!(stage.looked_up("ana").await?.status(), UserStatus::Deactivated);
        let job = stage.import(stage.importing(ImportMode::Activate), &file).await?;
        assert_eq!(job.changed_count, 1);
        assert_eq!(stage.looked_up("ana").await?.status(), UserStatus::Active);
        Ok(())
    })
}

/// L10: a row that only the accounts that there are speak against is named by its column, too, as the file calls it.
#[test]
fn a_row_that_meets_somebody_else_is_named_by_row_column_and_address() -> Result<()> {
    together(async |stage| {
        let rows = |rows: &[(&str, &str)]| {
            let rows = rows.iter().map(|(name, id)| format!("{};{id}\n", stage.address(name)));
            std::iter::once("Courriel;Matricule\n".to_owned())
                .chain(rows)
                .collect::<String>()
        };
        let first = rows(&[("ana", "S-1"), ("bo", "S-2")]);
        let job = stage.import(stage.importing(ImportMode::Create), &first).await?;
        assert_eq!((job.changed_count, job.import_mode.as_str()), (2, "create"));
        let made = stage.items(&job, &[]).await?;
        assert_eq!(made[1].address, stage.address("bo"));

        let file = rows(&[("ana", "S-1"), ("bo", "S-1"), ("cy", "S-2")]);
        let file = file.replacen("S-1", "", 1);
        let job = stage.import(stage.importing(ImportMode::Invite), &file).await?;
        assert_eq!((job.changed_count, job.failed_count), (1, 2), "{job:?}");
        let failed = stage.items(&job, &[JobOutcome::Failed]).await?;
        let named: Vec<_> = failed
            .iter()
            .map(|item| {
                (
                    item.position,
                    item.column.as_str(),
                    item.reason.as_str(),
                    item.address.clone(),
                )
            })
            .collect();
        let (bo, cy) = (stage.address("bo"), stage.address("cy"));
        let expected = [
            (3, "Courriel", "EMAIL_TAKEN", bo),
            (4, "Matricule", "EXTERNAL_ID_TAKEN", cy),
        ];
        assert_eq!(named, expected, "{failed:?}");
        assert_refused(stage.looked_up("cy").await, Code::NotFound, "USER_NOT_FOUND");
        Ok(())
    })
}

/// L10: what is no table of users is refused as a whole.
#[test]
fn a_file_that_is_no_table_of_users_is_refused() -> Result<()> {
    together(async |stage| {
        for file in [&b""[..], b"name,phone\nAna,1\n", b"PK\x03\x04 and then nothing"] {
            let answer = stage.upload(stage.importing(ImportMode::Create), file).await;
            assert_refused(answer, Code::InvalidArgument, "FILE_NOT_READABLE");
        }
        let answer = stage.upload(api::ImportSettings::default(), b"email\n").await;
        assert_refused(answer, Code::InvalidArgument, "INVALID_FIELDS");
        Ok(())
    })
}

/// U7: columns and language are chosen, nothing can be read as a formula, and what was exported comes back.
#[test]
fn an_export_has_the_chosen_columns_carries_no_formula_and_can_be_imported_again() -> Result<()> {
    together(async |stage| {
        let file = format!(
            "email,first_name,last_name,labels,time_zone\n{},=1+1,Silva,@home|Year 7,\n{},Zoë,\"d’Été\",,Asia/Tokyo\n",
            stage.address("ana"),
            stage.address("zoe"),
        );
        stage.import(stage.importing(ImportMode::Create), &file).await?;
        let columns = ["email", "first_name", "last_name", "labels", "status", "time_zone"];
        let csv = stage.export(stage.exporting(FileFormat::Csv, &columns, "fr")).await?;
        let text = String::from_utf8(csv.clone())?;
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("'=1+1") && text.contains("Asia/Tokyo"), "{text}");
        assert!(
            text.lines().next().is_some_and(|heads| heads.contains("Prénom")),
            "{text}"
        );

        let back = String::from_utf8(csv)?;
        let job = stage.import(stage.importing(ImportMode::Update), &back).await?;
        assert_eq!(
            (job.unchanged_count, job.changed_count, job.failed_count),
            (2, 0, 0),
            "{back}"
        );

        let xlsx = stage.export(stage.exporting(FileFormat::Xlsx, &[], "")).await?;
        assert!(xlsx.starts_with(b"PK"));
        let uploaded = stage.upload(stage.importing(ImportMode::Update), &xlsx).await?;
        let job = stage.ended(&uploaded.job.context("no job")?).await?;
        assert_eq!((job.unchanged_count, job.failed_count), (2, 0), "{:?}", uploaded.notes);

        let twice = stage.exporting(FileFormat::Csv, &["email", "email", "shoe_size"], "");
        let refusal = refused(stage.clients.transfer().export_users(twice).await.map(drop));
        assert_eq!((refusal.code, refusal.fields.len()), (Code::InvalidArgument, 2));
        Ok(())
    })
}

/// L10: a file has no name while it is on its way in, so that nothing of it is left when the service is killed.
#[test]
fn nothing_of_an_upload_is_left_when_the_service_is_killed_in_the_middle() -> Result<()> {
    const PIECES: usize = 32;
    const PIECE: usize = 64 << 10;
    apart(async {
        let folder = new_folder("uploads")?;
        let options = Options {
            sqlite: true,
            identity: vars([("TMPDIR", folder.display().to_string())]),
            ..Options::default()
        };
        let mut system = System::start(options).await?;
        let settings = api::ImportSettings {
            tenant_id: system.tenant(api::Tenant::default()).await?,
            mode: ImportMode::Create.into(),
            ..api::ImportSettings::default()
        };
        let pieces = (0..PIECES).map(|_| Part::Data(vec![b'a'; PIECE]));
        let parts = std::iter::once(Part::Settings(settings)).chain(pieces);
        let parts: Vec<_> = parts.map(|part| api::ImportUsersRequest { part: Some(part) }).collect();
        // The end of the file never comes.
        let parts = futures::StreamExt::chain(futures::stream::iter(parts), futures::stream::pending());
        let mut client = system.clients()?.transfer();
        let upload = tokio::spawn(async move { client.import_users(parts).await });

        let open = format!("/proc/{}/fd", system.identity.id().context("it runs")?);
        eventually("the pieces are on disk", PATIENCE, async || {
            let mut files = std::fs::read_dir(&open).ok()?.filter_map(Result::ok);
            files.find(|file| {
                let is_ours = std::fs::read_link(file.path()).is_ok_and(|path| path.starts_with(&folder));
                let size = std::fs::metadata(file.path()).map_or(0, |it| it.len());
                is_ours && size == (PIECES * PIECE) as u64
            })
        })
        .await?;
        assert_eq!(std::fs::read_dir(&folder)?.count(), 0, "it has a name");
        system.identity.kill();
        assert!(upload.await?.is_err());
        assert_eq!(std::fs::read_dir(&folder)?.count(), 0, "something is left");
        Ok(())
    })
}
