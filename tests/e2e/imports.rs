//! Imports among people who are there already: what a file says of them, what it may not do, and what can be done again
//! or taken back (L5, L9, L10, B7, U2).

use std::io::{Cursor, Read as _, Write as _};

use anyhow::{Context as _, Result};
use sqlx::{Connection as _, PgConnection};
use tonic::Code;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{FileFormat, ImportMode, JobOutcome, UserStatus};

use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::stage::{DAY, assert_refused, in_group, in_session, platform, together};

/// L9, U2, U7: an export that is imported again gives nobody a role anywhere else, nor an expiration again that has passed.
#[test]
fn an_export_that_is_imported_again_changes_nobody() -> Result<()> {
    together(async |stage| {
        let (sixth, choir) = (stage.group("Sixth form", "").await?, stage.group("Choir", "").await?);
        let office = stage.active("office").await?.user_id;
        stage.give(&office, "administrator", in_group(&sixth)).await?;
        let coach = stage.active("coach").await?.user_id;
        stage.join(&sixth, &[&coach]).await?;
        stage.join(&choir, &[&coach]).await?;
        stage.give(&coach, "coach", in_group(&choir)).await?;
        stage.give(&coach, "author", platform()).await?;
        stage.give(&coach, "instructor", in_session("2027@spring")).await?;
        let gone = stage.active("gone").await?.user_id;
        stage
            .expire(&gone, Some(stage.after(std::time::Duration::from_millis(300))))
            .await?;
        stage.becomes(&gone, UserStatus::Expired).await?;
        let before = (stage.held(&office).await?, stage.held(&coach).await?);
        assert_eq!((before.0.len(), before.1.len()), (1, 3));

        for format in [FileFormat::Csv, FileFormat::Xlsx] {
            let file = stage.export(stage.exporting(format, &[], "")).await?;
            let uploaded = stage.upload(stage.importing(ImportMode::Update), &file).await?;
            let job = stage.ended(&uploaded.job.context("no job")?).await?;
            assert_eq!(
                (job.unchanged_count, job.changed_count),
                (3, 0),
                "{:?}",
                stage.report(&job).await
            );
            assert_eq!((stage.held(&office).await?, stage.held(&coach).await?), before);
        }
        Ok(())
    })
}

/// L9: a role in a file can say where it is held.
#[test]
fn a_role_in_a_file_can_say_where_it_is_held() -> Result<()> {
    together(async |stage| {
        let choir = stage.group("Choir", "").await?;
        let file = format!(
            "email;groups;roles\n{};Choir;learner|author@platform|instructor@session:S-1\n{};;coach@Band\n",
            stage.address("ana"),
            stage.address("bo"),
        );
        let job = stage.import(stage.importing(ImportMode::Create), &file).await?;
        assert_eq!((job.changed_count, job.failed_count), (1, 1));
        let ana = stage.looked_up("ana").await?.user_id;
        let mut held: Vec<_> = stage
            .held(&ana)
            .await?
            .into_iter()
            .map(|held| (held.role, held.scope.unwrap_or_default()))
            .collect();
        held.sort_by(|one, other| one.0.cmp(&other.0));
        let wanted = [
            ("author".to_owned(), platform()),
            ("instructor".to_owned(), in_session("S-1")),
            ("learner".to_owned(), in_group(&choir)),
        ];
        assert_eq!(held, wanted);

        // B7: what failed is repeated, once the group that it lacked is there.
        let band = stage.group("Band", "").await?;
        let retried = stage.retry(&job).await?;
        assert_eq!(
            (retried.total_count, retried.changed_count),
            (1, 1),
            "{:?}",
            stage.report(&retried).await
        );
        let bo = stage.looked_up("bo").await?.user_id;
        let held = stage.held(&bo).await?;
        assert_eq!(held[0].scope.clone(), Some(in_group(&band)));
        Ok(())
    })
}

/// L10: whoever leaves is shut out, whatever else their row says.
#[test]
fn columns_that_a_mode_has_no_use_for_fail_no_row() -> Result<()> {
    together(async |stage| {
        stage.active("ana").await?;
        let file = format!(
            "email;Expires;Groups;Roles;Language\n{};2020-06-30;Orchestra;conductor;???\n",
            stage.address("ana")
        );
        let settings = api::ImportSettings {
            max_deactivated_percent: 100,
            ..stage.importing(ImportMode::Deactivate)
        };
        let job = stage.import(settings, &file).await?;
        assert_eq!(
            (job.changed_count, job.failed_count),
            (1, 0),
            "{:?}",
            stage.report(&job).await
        );
        assert_eq!(stage.looked_up("ana").await?.status(), UserStatus::Deactivated);

        // B7: an import that shut people out is taken back.
        assert!(job.can_be_undone);
        assert_eq!(stage.undo(&job).await?.changed_count, 1);
        assert_eq!(stage.looked_up("ana").await?.status(), UserStatus::Active);

        let file = format!("email;Expires\n{};2020-06-30\n", stage.address("ana"));
        let job = stage.import(stage.importing(ImportMode::Update), &file).await?;
        let failed = stage.items(&job, &[JobOutcome::Failed]).await?;
        assert_eq!(
            (failed[0].column.as_str(), failed[0].message.as_str()),
            ("Expires", "is not in the future")
        );
        Ok(())
    })
}

/// L10: a file is stopped in whatever way it would shut out too many, and a dry run tells of it. Who is out already does
/// not count.
#[test]
fn an_update_that_would_deactivate_too_many_is_stopped_and_a_dry_run_tells() -> Result<()> {
    together(async |stage| {
        let mut users = Vec::new();
        for name in ["ana", "bo", "cy"] {
            users.push(stage.active(name).await?.user_id);
        }
        let rows = |suspended: &str| {
            let rows = ["ana", "bo", "cy"].map(|name| format!("{};{suspended}\n", stage.address(name)));
            rows.concat()
        };
        let file = format!("email;suspended\n{}", rows("1"));
        let update = || stage.importing(ImportMode::Update);
        assert_refused(
            stage.upload(update(), file.as_bytes()).await,
            Code::FailedPrecondition,
            "SAFETY_STOP",
        );
        let dry = api::ImportSettings {
            dry_run: true,
            ..update()
        };
        let told = stage.upload(dry, file.as_bytes()).await?.notes;
        assert!(told.iter().any(|note| note.contains("would be refused")), "{told:?}");
        for user in &users {
            assert_eq!(stage.user(user).await?.status(), UserStatus::Active);
        }
        let everybody = api::ImportSettings {
            max_deactivated_percent: 100,
            ..update()
        };
        assert_eq!(stage.import(everybody, &file).await?.changed_count, 3);
        assert_eq!(stage.import(update(), &file).await?.unchanged_count, 3, "they are out");
        Ok(())
    })
}

/// L5, L10: who waits to register is given what an invitation brings, and not invited twice; who was shut out is named.
#[test]
fn an_invitation_by_file_adds_to_whoever_waits_and_names_whoever_is_shut_out() -> Result<()> {
    together(async |stage| {
        let choir = stage.group("Choir", "").await?;
        let addresses = ["ana", "bo", "cy"].map(|name| stage.address(name));
        let first = format!("email\n{}\n{}\n", addresses[0], addresses[1]);
        assert_eq!(
            stage
                .import(stage.importing(ImportMode::Invite), &first)
                .await?
                .changed_count,
            2
        );
        stage.mail("ana", 1).await?;
        let bo = stage.looked_up("bo").await?.user_id;
        stage.deactivate(&bo).await?;
        stage.active("cy").await?;

        let rows = addresses
            .each_ref()
            .map(|address| format!("{address};Choir;coach;Band;2099-06-30\n"));
        let second = format!("email;groups;roles;labels;expires\n{}", rows.concat());
        let job = stage.import(stage.importing(ImportMode::Invite), &second).await?;
        assert_eq!(
            (job.changed_count, job.skipped_count, job.unchanged_count),
            (1, 1, 1),
            "{:?}",
            stage.report(&job).await
        );
        let skipped = stage.items(&job, &[JobOutcome::Skipped]).await?;
        assert_eq!(
            (skipped[0].position, skipped[0].reason.as_str()),
            (3, "USER_DEACTIVATED")
        );
        let ana = stage.looked_up("ana").await?;
        assert_eq!(ana.labels, ["Band"]);
        assert!(ana.expire_time.is_some());
        let held = stage.held(&ana.user_id).await?;
        assert_eq!(held[0].scope.clone(), Some(in_group(&choir)));
        assert_eq!(stage.mails("ana").len(), 1, "the link that she has stays good");
        let cy = stage.looked_up("cy").await?;
        assert!(cy.labels.is_empty() && cy.expire_time.is_none(), "{cy:?}");
        Ok(())
    })
}

/// A spreadsheet whose sheet is no XML any more from its last quarter on.
fn broken(file: Vec<u8>) -> Result<Vec<u8>> {
    let mut parts = ZipArchive::new(Cursor::new(file))?;
    let mut written = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..parts.len() {
        let mut part = parts.by_index(index)?;
        let name = part.name()?.into_owned();
        let mut content = Vec::new();
        part.read_to_end(&mut content)?;
        if name.ends_with("sheet1.xml") {
            content.truncate(content.len() / 4 * 3);
            content.extend_from_slice(b"<<<>");
        }
        written.start_file(name, SimpleFileOptions::default())?;
        written.write_all(&content)?;
    }
    Ok(written.finish()?.into_inner())
}

/// L10: of a file that turns out to be broken in the middle, nothing stays that housekeeping would not find.
#[test]
fn rows_of_a_file_that_breaks_off_are_found_and_go() -> Result<()> {
    together(async |stage| {
        let rows: String = (0..1_500)
            .map(|number| stage.address(&format!("p{number}")) + "\n")
            .collect();
        stage
            .import(stage.importing(ImportMode::Create), &format!("email\n{rows}"))
            .await?;
        let file = stage.export(stage.exporting(FileFormat::Xlsx, &[], "")).await?;
        let refused = stage.upload(stage.importing(ImportMode::Update), &broken(file)?).await;
        let mut database = PgConnection::connect(&stage.system.database_url).await?;
        let lost: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM selection_chunks c WHERE c.tenant_id = $1::uuid AND NOT EXISTS \
             (SELECT 1 FROM selections s WHERE s.tenant_id = c.tenant_id AND s.selection_id = c.selection_id)",
        )
        .bind(&stage.tenant)
        .fetch_one(&mut database)
        .await?;
        let kept: i64 =
            sqlx::query_scalar("SELECT count(*) FROM selections WHERE tenant_id = $1::uuid AND digest = ''")
                .bind(&stage.tenant)
                .fetch_one(&mut database)
                .await?;
        assert_refused(refused, Code::InvalidArgument, "FILE_NOT_READABLE");
        assert_eq!(kept, 1, "some rows were written before the fault was met");
        assert_eq!(lost, 0);
        Ok(())
    })
}

/// U2, U7: whoever administers a group exports its people without the groups and roles that they have elsewhere.
#[test]
fn an_export_tells_of_no_groups_and_roles_beyond_reach() -> Result<()> {
    together(async |stage| {
        let (choir, secret) = (stage.group("Choir", "").await?, stage.group("Works council", "").await?);
        let head = stage.active("head").await?.user_id;
        stage.give(&head, "administrator", in_group(&choir)).await?;
        let ana = stage.active("ana").await?.user_id;
        stage.join(&choir, &[&ana]).await?;
        stage.join(&secret, &[&ana]).await?;
        stage.give(&ana, "coach", in_group(&choir)).await?;
        stage.give(&ana, "administrator", in_group(&secret)).await?;
        let request = stage.exporting(FileFormat::Csv, &["email", "groups", "roles"], "en");
        let mut stream = stage
            .acting(&head)?
            .transfer()
            .export_users(request)
            .await?
            .into_inner();
        let mut file = Vec::new();
        while let Some(piece) = stream.message().await? {
            file.extend(piece.data);
        }
        let file = String::from_utf8(file)?;
        assert!(file.contains("coach@Choir"), "{file}");
        assert!(!file.contains("council") && !file.contains("administrator"), "{file}");
        Ok(())
    })
}

/// B7: what was taken back is not taken back a second time, whatever was done since; and two jobs are taken back one after
/// the other, in either order.
#[test]
fn a_job_is_taken_back_once_and_asks_only_for_what_it_changed() -> Result<()> {
    use usher_proto::identity::v1::bulk_action::Action;
    together(async |stage| {
        let users = crate::bulk::pupils(&stage, 2, "Year 9").await?;
        let choir = stage.group("Choir", "").await?;
        let day = stage.after(30 * DAY);
        let expire = Action::SetExpiration(api::BulkSetExpiration { expire_time: Some(day) });
        let expired = stage.run(crate::bulk::ids(&users), expire).await?;
        let join = Action::EditGroups(api::BulkEditGroups {
            add_group_ids: vec![choir.clone()],
            remove_group_ids: vec![],
        });
        let joined = stage.run(crate::bulk::ids(&users), join).await?;
        let label = Action::EditLabels(api::BulkEditLabels {
            add: vec!["Band".into()],
            remove: vec![],
        });
        let labelled = stage.run(crate::bulk::ids(&users), label).await?;
        assert_eq!(stage.undo(&labelled).await?.changed_count, 2);
        assert_eq!(
            stage.undo(&expired).await?.changed_count,
            2,
            "labels are another matter"
        );

        assert_eq!(stage.undo(&joined).await?.changed_count, 2);
        let ids: Vec<&str> = users.iter().map(|user| user.user_id.as_str()).collect();
        stage.join(&choir, &ids).await?;
        let again = api::UndoJobRequest {
            tenant_id: stage.tenant.clone(),
            job_id: joined.job_id.clone(),
            options: None,
        };
        assert_refused(
            stage.clients.bulk().undo_job(again).await,
            Code::FailedPrecondition,
            "CANNOT_BE_UNDONE",
        );
        Ok(())
    })
}
