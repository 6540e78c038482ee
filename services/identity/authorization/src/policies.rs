//! Policies with their schema: read, validated strictly, and asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fs, iter};

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Authorizer, Entity, ParseErrors, Policy, PolicyId, PolicySet, Request, Schema};
use cedar_policy::{ValidationMode, Validator};
use usher_core::group::GroupTree;
use usher_core::ids::UserId;
use usher_core::role::Permission;

use crate::decision::{Decision, POLICY_FAILED};
use crate::entities::{self, Asking, Failed, TYPES, failed};
use crate::error::PolicyError;
use crate::powers::PermissionSet;
use crate::question::{Intent, Resource};
use crate::schema::{fits, grouped};
use crate::source::Source;

/// The file with the schema.
const SCHEMA: &str = "usher.cedarschema";

macro_rules! embedded {
    ($($file:literal),*) => {
        [$(($file, include_str!(concat!("../policies/", $file)))),*]
    };
}

const EMBEDDED_SCHEMA: &str = include_str!("../policies/usher.cedarschema");
const EMBEDDED: [(&str, &str); 8] = embedded!(
    "administrator.cedar",
    "author.cedar",
    "coach.cedar",
    "custom-roles.cedar",
    "instructor.cedar",
    "limits.cedar",
    "own-account.cedar",
    "services.cedar"
);

/// One question, with what was found out about it.
pub(crate) struct Asked<'a> {
    pub(crate) permission: Permission,
    pub(crate) resource: &'a Resource,
    pub(crate) intent: &'a Intent,
    pub(crate) tree: &'a GroupTree,
    /// What the call gives, and whoever asks does not hold there.
    pub(crate) gives_more: PermissionSet,
    /// What the user that it is about holds somewhere, and whoever asks does not hold there.
    pub(crate) holds_more: PermissionSet,
}

/// Policies that are valid.
#[derive(Debug)]
pub(crate) struct Policies {
    set: PolicySet,
    /// Actions that are in groups of actions, for schemas that have those.
    grouped: BTreeMap<Permission, Entity>,
    /// Accounts that a policy names: they cannot be decided together with others.
    pub(crate) named: BTreeSet<UserId>,
}

impl Policies {
    /// Those of this crate.
    pub(crate) fn embedded() -> Result<Self, PolicyError> {
        let source = |file: &str, text: &str| Source {
            path: file.into(),
            text: text.to_owned(),
        };
        let policies: Vec<_> = EMBEDDED.iter().map(|(file, text)| source(file, text)).collect();
        Self::build(&source(SCHEMA, EMBEDDED_SCHEMA), &policies)
    }

    /// Those of a folder.
    pub(crate) fn load(folder: &Path) -> Result<Self, PolicyError> {
        let failed = |source| PolicyError::Read {
            path: folder.to_owned(),
            source,
        };
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "cedar") {
                paths.push(path);
            }
        }
        if paths.is_empty() {
            return Err(PolicyError::Empty {
                folder: folder.to_owned(),
            });
        }
        paths.sort();
        let schema = Source::read(folder.join(SCHEMA))?;
        let policies = paths.into_iter().map(Source::read).collect::<Result<Vec<_>, _>>()?;
        Self::build(&schema, &policies)
    }

    fn build(schema_source: &Source, sources: &[Source]) -> Result<Self, PolicyError> {
        let schema = match Schema::from_cedarschema_str(&schema_source.text) {
            Ok((schema, _)) => schema,
            Err(error) => return Err(schema_source.cedar(&DetailedError::from(&error), 0)),
        };
        fits(&schema).map_err(|message| schema_source.invalid(0, &message))?;
        let grouped = grouped(&schema).map_err(|error| schema_source.invalid(0, &error.to_string()))?;

        let mut set = PolicySet::new();
        let mut origins = BTreeMap::new();
        for source in sources {
            for (id, policy) in parse(source)? {
                if origins.insert(id.clone(), source).is_some() || set.add(policy).is_err() {
                    let offset = source.text.rfind(&format!("@id(\"{id}\")")).unwrap_or(0);
                    return Err(source.invalid(offset, &format!("there is another policy with the id {id}")));
                }
            }
        }
        validate(schema, &set, |id| origins.get(id).copied().unwrap_or(schema_source))?;

        let literals = set.policies().flat_map(Policy::entity_literals);
        let named = literals
            .filter(|uid| *uid.type_name() == TYPES.account)
            .filter_map(|uid| uid.id().unescaped().parse().ok())
            .collect();
        Ok(Self { set, grouped, named })
    }

    /// Puts one question. What cannot be evaluated is denied: a policy that fails could be one that forbids.
    pub(crate) fn decide(&self, asking: &Asking, asked: &Asked<'_>) -> Decision {
        self.evaluate(asking, asked)
            .unwrap_or_else(|_| Decision::denied(Some(POLICY_FAILED)))
    }

    fn evaluate(&self, asking: &Asking, asked: &Asked<'_>) -> Result<Decision, Failed> {
        let Asked { permission, .. } = *asked;
        let resource = entities::resource(asked.resource, asking.own, asked.tree, asked.holds_more)?;
        let context = entities::context(permission, asked.intent, asked.gives_more)?;
        let action = entities::action(permission);
        let request = Request::new(asking.uid.clone(), action, resource.uid(), context, None).map_err(failed)?;
        let told = iter::once(resource).chain(self.grouped.get(&permission).cloned());
        let entities = asking.entities.clone().add_entities(told, None).map_err(failed)?;

        let response = Authorizer::new().is_authorized(&request, &self.set, &entities);
        if let Some(error) = response.diagnostics().errors().next() {
            return Err(failed(error.clone()));
        }
        Ok(match response.decision() {
            cedar_policy::Decision::Allow => Decision::Allowed,
            cedar_policy::Decision::Deny => {
                let forbidding = response.diagnostics().reason();
                let reason = forbidding.filter_map(|id| self.set.annotation(id, "reason")).min();
                Decision::denied(reason)
            }
        })
    }
}

/// The policies of a file by their ids: what `@id` says, else the file's name and a number.
fn parse(source: &Source) -> Result<Vec<(PolicyId, Policy)>, PolicyError> {
    let set: PolicySet = match source.text.parse() {
        Ok(set) => set,
        Err(error) => {
            let error: ParseErrors = error;
            let error = DetailedError::from(&error);
            return Err(source.cedar(&error, error.related.len()));
        }
    };
    if set.templates().next().is_some() {
        let offset = ["?principal", "?resource"]
            .iter()
            .find_map(|slot| source.text.find(slot));
        return Err(source.invalid(offset.unwrap_or(0), "templates are not used here; write the policy out"));
    }
    let file = source.path.file_name().unwrap_or_default().to_string_lossy();
    let identify = |policy: &Policy| {
        let id = match policy.annotation("id") {
            Some(id) if !id.is_empty() => PolicyId::new(id),
            _ => PolicyId::new(format!("{file}:{}", policy.id())),
        };
        (id.clone(), policy.new_id(id))
    };
    Ok(set.policies().map(identify).collect())
}

/// Strictly, and warnings count: a policy that can never apply is a mistake. No policy may look further than one step
/// from what is asked about, since no more is told.
fn validate<'a>(schema: Schema, set: &PolicySet, origin: impl Fn(&PolicyId) -> &'a Source) -> Result<(), PolicyError> {
    let result = Validator::new(schema).validate_with_level(set, ValidationMode::Strict, 1);
    let errors = result
        .validation_errors()
        .map(|error| (error.policy_id(), DetailedError::from(error)));
    let warnings = result
        .validation_warnings()
        .map(|warning| (warning.policy_id(), DetailedError::from(warning)));
    let mut faults: Vec<_> = errors.chain(warnings).collect();
    faults.sort_by(|(one, fault), (other, another)| (one, fault).cmp(&(other, another)));
    match faults.first() {
        None => Ok(()),
        Some((id, fault)) => Err(origin(id).cedar(fault, faults.len() - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// U1: all of them, and as they stand there.
    #[test]
    fn u1_the_policies_that_are_compiled_in_are_those_of_the_folder() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policies"));
        let paths = fs::read_dir(folder)
            .expect("the folder")
            .map(|entry| entry.expect("a file").path());
        let policies: BTreeSet<_> = paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "cedar"))
            .map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned())
            .collect();
        assert_eq!(policies, EMBEDDED.iter().map(|(name, _)| (*name).to_owned()).collect());

        let embedded = Policies::embedded().expect("valid policies");
        let loaded = Policies::load(folder).expect("valid policies");
        assert_eq!(embedded.set, loaded.set);
        assert!(embedded.set.policies().all(|policy| policy.annotation("id").is_some()));
    }
}
