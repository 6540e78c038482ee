//! Page tokens.

use anyhow::Result;
use futures::FutureExt as _;
use usher_proto::identity::v1 as api;

use super::{assert_all_refused, case};
use crate::stage::together;

#[test]
fn page_tokens_that_were_forged_or_belong_elsewhere_are_refused() -> Result<()> {
    together(async |stage| {
        for name in ["a", "b", "c"] {
            stage.invited(name).await?;
        }
        let elsewhere = stage.system.tenant(api::Tenant::default()).await?;
        let list = |page_token: &str| api::ListUsersRequest {
            tenant_id: stage.tenant.clone(),
            page_size: 1,
            page_token: page_token.into(),
            ..api::ListUsersRequest::default()
        };
        let mut users = stage.clients.users();
        let token = users.list_users(list("")).await?.into_inner().next_page_token;
        let other = if token.ends_with('A') { 'B' } else { 'A' };
        let flipped = format!("{}{other}", &token[..token.len() - 1]);
        let invitations = |page_token: &str| api::ListInvitationsRequest {
            tenant_id: stage.tenant.clone(),
            page_size: 1,
            page_token: page_token.into(),
            ..api::ListInvitationsRequest::default()
        };
        let of_invitations = stage
            .clients
            .invitations()
            .list_invitations(invitations(""))
            .await?
            .into_inner();
        let deliveries = api::ListDeliveriesRequest {
            tenant_id: stage.tenant.clone(),
            page_token: token.clone(),
            ..api::ListDeliveriesRequest::default()
        };
        let suppressions = api::ListSuppressionsRequest {
            tenant_id: stage.tenant.clone(),
            page_token: token.clone(),
            page_size: -1,
        };
        let foreign = api::ListUsersRequest {
            tenant_id: elsewhere,
            ..list(&token)
        };
        let other_filter = api::ListUsersRequest {
            filter: Some(api::UserFilter {
                text: "a".into(),
                ..api::UserFilter::default()
            }),
            ..list(&token)
        };
        let other_order = api::ListUsersRequest {
            order_by: "name".into(),
            ..list(&token)
        };
        let too_much = api::ListUsersRequest {
            page_size: 1_001,
            order_by: "shoe_size".into(),
            ..list("")
        };
        let of_users = stage.clients.users();
        let field = ["page_token"];
        let other_list = list(&of_invitations.next_page_token);
        let cases = vec![
            case!("garbage", of_users.clone(), list_users, list("garbage"), field),
            case!("not base64", of_users.clone(), list_users, list("é!"), field),
            case!(
                "one character changed",
                of_users.clone(),
                list_users,
                list(&flipped),
                field
            ),
            case!("cut short", of_users.clone(), list_users, list(&token[..10]), field),
            case!("another tenant's", of_users.clone(), list_users, foreign, field),
            case!("another filter's", of_users.clone(), list_users, other_filter, field),
            case!("another order's", of_users.clone(), list_users, other_order, field),
            case!("another list's", of_users.clone(), list_users, other_list, field),
            case!(
                "a list of users'",
                stage.clients.invitations(),
                list_invitations,
                invitations(&token),
                field
            ),
            case!(
                "a list of users', of mails",
                stage.clients.deliveries(),
                list_deliveries,
                deliveries,
                field
            ),
            case!(
                "also",
                stage.clients.deliveries(),
                list_suppressions,
                suppressions,
                ["page_size", "page_token"]
            ),
            case!(
                "page size and order",
                of_users,
                list_users,
                too_much,
                ["order_by", "page_size"]
            ),
        ];
        assert_all_refused(&stage, cases).await?;
        // The right one may be used with another page size, and more than once.
        for page_size in [1, 2, 2] {
            let next = api::ListUsersRequest {
                page_size,
                ..list(&token)
            };
            assert_eq!(
                users.list_users(next).await?.into_inner().users.len(),
                usize::try_from(page_size)?
            );
        }
        Ok(())
    })
}
