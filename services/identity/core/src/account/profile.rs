//! Changes of a person's data, and of their password.

use super::{Account, Effect};
use crate::change::{Act, Changeset};
use crate::clock::Timestamp;
use crate::delivery::{DeliveryKind, DeliveryState};
use crate::email::EmailAddress;
use crate::event::EventType;
use crate::invitation::InvitationState;
use crate::refusal::Refusal;
use crate::status::Status;
use crate::user::Credential;

/// The fields to change; `None` leaves one as it is.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the fields of Profile")]
pub struct ProfileUpdate {
    pub email: Option<EmailAddress>,
    pub external_id: Option<Option<String>>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub language: Option<String>,
    pub time_zone: Option<String>,
    pub labels: Option<Vec<String>>,
    pub deletes_at: Option<Option<Timestamp>>,
}

impl Account {
    /// Changes fields of the profile. That an address or external id is free is checked before, and by the database. A
    /// changed address supersedes an open invitation, and replaces a one-time password: the old mailbox must not hold a
    /// living link or password.
    pub fn update(&mut self, update: ProfileUpdate, act: &Act, changes: &mut Changeset) -> Result<Effect, Refusal> {
        self.settle(act, changes);
        if self.user.status == Status::Erased {
            return Err(Refusal::UserErased(self.name()));
        }
        let mut fields = Vec::new();
        let profile = &mut self.user.profile;
        let mut set = |field: &str, differs: bool| {
            if differs {
                fields.push(field.to_owned());
            }
        };
        let mut moved = false;
        if let Some(email) = update.email {
            moved = email != profile.email;
            set("email", email.as_str() != profile.email.as_str());
            profile.email = email;
            if let (true, Credential::OneTime { generation }) = (moved, &mut self.user.credential) {
                *generation += 1;
                set("password", true);
            }
        }
        if let Some(external_id) = update.external_id {
            set("external_id", external_id != profile.external_id);
            profile.external_id = external_id;
        }
        if let Some(first_name) = update.first_name {
            set("first_name", first_name != profile.first_name);
            profile.first_name = first_name;
        }
        if let Some(last_name) = update.last_name {
            set("last_name", last_name != profile.last_name);
            profile.last_name = last_name;
        }
        if let Some(language) = update.language {
            set("language", language != profile.language);
            profile.language = language;
        }
        if let Some(time_zone) = update.time_zone {
            set("time_zone", time_zone != profile.time_zone);
            profile.time_zone = time_zone;
        }
        if let Some(labels) = update.labels {
            set("labels", labels != profile.labels);
            profile.labels = labels;
        }
        if let Some(deletes_at) = update.deletes_at {
            set("delete_time", deletes_at != self.user.deletes_at);
            self.user.deletes_at = deletes_at;
        }
        if fields.iter().any(|field| field == "delete_time") {
            self.set_deletion_timer(changes);
        }
        if fields.is_empty() {
            return Ok(Effect::Unchanged);
        }
        if act.is_by(self.user.id) {
            self.mark_edited(fields.iter().map(String::as_str));
        }
        self.touch(act, changes);
        let mut event = self.event(act, EventType::UserUpdated);
        event.changed_fields = fields;
        changes.events.push(event);
        if moved {
            self.readdress_notification(act, changes);
        }
        if moved && self.invitation.as_ref().is_some_and(|i| i.is_open(act.now)) {
            let message = self.invitation.as_ref().and_then(|i| i.message.clone());
            self.close_invitation(
                InvitationState::Superseded,
                EventType::InvitationSuperseded,
                act,
                changes,
            );
            self.open_invitation(message, act, changes);
        }
        Ok(Effect::Changed)
    }

    /// Notes that the person set these fields themselves.
    pub(super) fn mark_edited<'a>(&mut self, fields: impl IntoIterator<Item = &'a str>) {
        let edited = &mut self.user.edited_fields;
        edited.extend(fields.into_iter().map(str::to_owned));
        edited.sort();
        edited.dedup();
    }

    /// After the address changed: who was not told of their account yet, or told a one-time password, is told there, unless
    /// a mail is on its way there already, since they were there before.
    fn readdress_notification(&mut self, act: &Act, changes: &mut Changeset) {
        let mut tell = matches!(self.user.credential, Credential::OneTime { .. });
        let mut told = false;
        for index in 0..self.deliveries.len() {
            let delivery = &self.deliveries[index];
            if delivery.kind != DeliveryKind::AccountCreated || !delivery.state.name().is_live() {
                continue;
            }
            tell = true;
            if matches!(delivery.state, DeliveryState::Transmitting(_)) {
                told |= self.is_current(delivery, act.now);
            } else {
                self.cancel_delivery(index, act, changes);
            }
        }
        if tell && !told {
            self.notify_created(act, changes);
        }
    }

    /// Adds labels to those that are there.
    pub fn add_labels(&mut self, labels: &[String], act: &Act, changes: &mut Changeset) -> Result<Effect, Refusal> {
        self.edit_labels(labels, &[], act, changes)
    }

    fn set_labels(&mut self, all: &[String], act: &Act, changes: &mut Changeset) -> Result<Effect, Refusal> {
        let all = crate::text::labels(all).map_err(|faults| {
            Refusal::field(
                "labels",
                faults
                    .into_iter()
                    .map(|(_, fault)| fault)
                    .collect::<Vec<_>>()
                    .join("; "),
            )
        })?;
        self.update(
            ProfileUpdate {
                labels: Some(all),
                ..ProfileUpdate::default()
            },
            act,
            changes,
        )
    }

    /// Adds labels and takes others off; what is named in both is added.
    pub fn edit_labels(
        &mut self,
        add: &[String],
        remove: &[String],
        act: &Act,
        changes: &mut Changeset,
    ) -> Result<Effect, Refusal> {
        let kept = self.user.profile.labels.iter().filter(|label| !remove.contains(label));
        let labels: Vec<String> = kept.chain(add).cloned().collect();
        self.set_labels(&labels, act, changes)
    }

    /// The address gets mail again (L13): kept in the history, so that it is known who lifted it and why.
    pub fn lift_suppression(&mut self, act: &Act, changes: &mut Changeset) {
        self.suppressed = false;
        let mut event = self.event(act, EventType::UserUpdated);
        event.changed_fields = vec!["suppression".into()];
        changes.events.push(event);
    }

    /// Sets a password that the person chose. The hash was made before.
    pub fn set_password(&mut self, hash: String, act: &Act, changes: &mut Changeset) -> Result<Effect, Refusal> {
        self.settle(act, changes);
        match self.user.status {
            Status::ACTIVE => {}
            Status::Deactivated { .. } => return Err(Refusal::AccountDeactivated),
            Status::Expired { .. } => return Err(Refusal::AccountExpired),
            Status::Onboarding(_) | Status::Erased => return Err(Refusal::WrongCredentials),
        }
        self.user.credential = Credential::Password(hash);
        self.touch(act, changes);
        let mut event = self.event(act, EventType::UserUpdated);
        event.changed_fields = vec!["password".into()];
        changes.events.push(event);
        Ok(Effect::Changed)
    }
}
