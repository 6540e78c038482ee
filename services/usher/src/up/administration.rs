//! The demonstration's second half: what administrators do all day. A group, a preview of who would be put into it, the job
//! that does it, and everybody in a spreadsheet.

use indicatif::ProgressBar;
use usher_proto::identity::v1::bulk_action::Action;
use usher_proto::identity::v1::{
    BulkAction, BulkEditGroups, CreateGroupRequest, ErrorReason, ExportUsersRequest, FileFormat, Group,
    MutationOptions, PreviewSelectionRequest, Selection, StartBulkRequest, UserFilter, selection,
};

use super::welcome::Guide;
use crate::client::{Client, incomplete};
use crate::commands::export;
use crate::commands::watch::follow;
use crate::failure::Failure;
use crate::output;

/// The group, whose id does not change: the next start finds it there.
const GROUP_ID: &str = "de300000-0000-4000-8000-0000000000f0";
/// The group's name.
const GROUP: &str = "Francophones";
/// Whose language puts them into it.
const LANGUAGE: &str = "fr";
/// Users of the preview that are named.
const NAMED: usize = 3;

/// Runs it. A second start finds everything done and does it no second time.
pub(super) async fn run(guide: &Guide, client: &Client) -> Result<(), Failure> {
    let group = group(client).await?;
    let speakers = UserFilter {
        languages: vec![LANGUAGE.into()],
        ..UserFilter::default()
    };
    let request = PreviewSelectionRequest {
        tenant_id: client.tenant.clone(),
        selection: Some(selected(speakers)),
    };
    let preview = client.bulk().preview_selection(request).await?.into_inner();
    let named: Vec<&str> = preview
        .sample
        .iter()
        .take(NAMED)
        .map(|user| user.email.as_str())
        .collect();
    output::lines([
        String::new(),
        format!("Whose language is French, into the group {GROUP}. A preview first:"),
        format!(
            "  {} people: {}, …",
            preview.user_count,
            output::printable(&named.join(", "))
        ),
    ])?;
    let action = Action::EditGroups(BulkEditGroups {
        add_group_ids: vec![group],
        remove_group_ids: Vec::new(),
    });
    let request = StartBulkRequest {
        tenant_id: client.tenant.clone(),
        digest: preview.digest,
        action: Some(BulkAction { action: Some(action) }),
        options: None,
    };
    let job = client.bulk().start_bulk(request).await?.into_inner().job;
    let job = follow(job.ok_or_else(|| incomplete("job"))?, client, &ProgressBar::hidden()).await?;
    let file = guide.folder.export();
    let request = ExportUsersRequest {
        tenant_id: client.tenant.clone(),
        selection: Some(selected(UserFilter::default())),
        format: FileFormat::Xlsx.into(),
        ..ExportUsersRequest::default()
    };
    let rows = export::to_file(client, &request, &file, &ProgressBar::hidden()).await?;
    output::lines([
        format!("  {} added, {} were in it", job.changed_count, job.unchanged_count),
        format!("And everybody in a spreadsheet: {} ({rows} rows)", file.display()),
    ])
}

fn selected(filter: UserFilter) -> Selection {
    Selection {
        by: Some(selection::By::Filter(filter)),
    }
}

/// The group's id. It is made once.
async fn group(client: &Client) -> Result<String, Failure> {
    let request = CreateGroupRequest {
        group: Some(Group {
            tenant_id: client.tenant.clone(),
            group_id: GROUP_ID.into(),
            name: GROUP.into(),
            ..Group::default()
        }),
        options: Some(MutationOptions {
            reason: "demonstration".into(),
            ..MutationOptions::default()
        }),
    };
    let created = client.groups().create_group(request).await.map_err(Failure::from);
    match created {
        Ok(answer) => {
            let group = answer.into_inner().group.ok_or_else(|| incomplete("group"))?;
            Ok(group.group_id)
        }
        Err(failure) if failure.reason() == Some(ErrorReason::GroupTaken) => Ok(GROUP_ID.into()),
        Err(failure) => Err(failure),
    }
}
