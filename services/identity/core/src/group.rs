//! Groups: a tree of names, with people in it. Who may do what in a group is a matter of roles.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::ids::{GroupId, TenantId};
use crate::refusal::Refusal;

/// Levels of groups at most.
pub const MAX_DEPTH: usize = 20;

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: GroupId,
    /// Counts the changes, from 1. Members coming and going do not count.
    pub version: i64,
    /// 1 to 200 characters; unique among the groups of the same parent, whatever its case.
    pub name: String,
    /// The id in the caller's system; unique in the tenant.
    pub external_id: Option<String>,
    /// The group above; `None`: at the top.
    pub parent: Option<GroupId>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// The groups of a tenant, by what is above what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupTree {
    parents: BTreeMap<GroupId, Option<GroupId>>,
}

impl GroupTree {
    /// A tree of groups with their parents.
    pub fn new(groups: impl IntoIterator<Item = (GroupId, Option<GroupId>)>) -> Self {
        Self {
            parents: groups.into_iter().collect(),
        }
    }

    /// Whether there is such a group.
    pub fn contains(&self, group: GroupId) -> bool {
        self.parents.contains_key(&group)
    }

    /// The group itself and all above it, from the bottom up.
    pub fn with_ancestors(&self, group: GroupId) -> Vec<GroupId> {
        let mut chain = Vec::new();
        let mut next = Some(group);
        while let Some(here) = next {
            if chain.contains(&here) || !self.contains(here) {
                break;
            }
            chain.push(here);
            next = self.parents.get(&here).copied().flatten();
        }
        chain
    }

    /// The groups themselves and all below them.
    pub fn with_descendants(&self, groups: &BTreeSet<GroupId>) -> BTreeSet<GroupId> {
        let below = |group: &&GroupId| self.with_ancestors(**group).iter().any(|above| groups.contains(above));
        self.parents.keys().filter(below).copied().collect()
    }

    /// Whether a group may be put below another: no cycle, and not too deep.
    pub fn check_move(&self, group: GroupId, parent: Option<GroupId>) -> Result<(), Refusal> {
        let Some(parent) = parent else { return Ok(()) };
        if !self.contains(parent) {
            return Err(Refusal::GroupNotFound(parent.to_string()));
        }
        let above = self.with_ancestors(parent);
        if above.contains(&group) {
            return Err(Refusal::GroupCycle(group.to_string()));
        }
        let height = self
            .with_descendants(&[group].into())
            .into_iter()
            .map(|below| self.with_ancestors(below).iter().take_while(|id| **id != group).count())
            .max()
            .unwrap_or(0);
        if above.len() + 1 + height > MAX_DEPTH {
            return Err(Refusal::GroupTooDeep);
        }
        Ok(())
    }

    /// Takes in a group that was created or moved.
    pub fn insert(&mut self, group: GroupId, parent: Option<GroupId>) {
        self.parents.insert(group, parent);
    }

    /// Takes a group out; those below it go up to its parent.
    pub fn remove(&mut self, group: GroupId) {
        let above = self.parents.remove(&group).flatten();
        for parent in self.parents.values_mut() {
            if *parent == Some(group) {
                *parent = above;
            }
        }
    }

    /// Those directly below a group.
    pub fn children(&self, group: GroupId) -> Vec<GroupId> {
        let below = self.parents.iter().filter(|(_, parent)| **parent == Some(group));
        below.map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn group(number: u128) -> GroupId {
        GroupId(Uuid::from_u128(number))
    }

    proptest! {
        #[test]
        fn no_sequence_of_moves_makes_a_cycle_or_goes_too_deep(moves in prop::collection::vec((0_u128..30, 0_u128..30), 0..200)) {
            let mut tree = GroupTree::new((0..30).map(|number| (group(number), None)));
            for (moved, parent) in moves {
                if tree.check_move(group(moved), Some(group(parent))).is_ok() {
                    tree.insert(group(moved), Some(group(parent)));
                }
            }
            for number in 0..30 {
                let chain = tree.with_ancestors(group(number));
                prop_assert!(chain.len() <= MAX_DEPTH);
                let top = chain.last().copied();
                prop_assert!(top.is_some_and(|top| tree.parents[&top].is_none()), "the chain ends at the top: {chain:?}");
            }
        }
    }

    #[test]
    fn a_group_below_itself_is_refused_and_so_is_an_unknown_parent() {
        let tree = GroupTree::new([(group(1), None), (group(2), Some(group(1))), (group(3), Some(group(2)))]);
        for parent in [1, 2, 3] {
            assert!(matches!(
                tree.check_move(group(1), Some(group(parent))),
                Err(Refusal::GroupCycle(_))
            ));
        }
        assert!(matches!(
            tree.check_move(group(1), Some(group(9))),
            Err(Refusal::GroupNotFound(_))
        ));
        assert!(tree.check_move(group(3), None).is_ok());
    }

    #[test]
    fn what_is_above_and_below_is_found_and_a_removed_group_leaves_those_below_to_its_parent() {
        let mut tree = GroupTree::new([
            (group(1), None),
            (group(2), Some(group(1))),
            (group(3), Some(group(2))),
            (group(4), None),
        ]);
        assert_eq!(tree.with_ancestors(group(3)), [group(3), group(2), group(1)]);
        assert_eq!(tree.with_descendants(&[group(2)].into()), [group(2), group(3)].into());
        tree.remove(group(2));
        assert_eq!(tree.with_ancestors(group(3)), [group(3), group(1)]);
        assert_eq!(tree.children(group(1)), [group(3)]);
    }
}
