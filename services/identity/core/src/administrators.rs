//! Who looks after whom: the administrators of the groups that somebody is in, and of those above them; where there is none, those
//! of the platform.

use std::collections::{BTreeMap, BTreeSet};

use crate::group::GroupTree;
use crate::ids::{GroupId, UserId};
use crate::role::Scope;

/// A person with the groups that they are in.
pub type Person = (UserId, BTreeSet<GroupId>);

/// The administrators of a tenant who can be told of something, by what they administer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Administrators {
    tree: GroupTree,
    of_group: BTreeMap<GroupId, BTreeSet<UserId>>,
    of_platform: BTreeSet<UserId>,
}

impl Administrators {
    /// Of a tenant with these groups: who is administrator where. Sessions of programmes hold no people.
    pub fn new(tree: GroupTree, holders: impl IntoIterator<Item = (UserId, Scope)>) -> Self {
        let mut all = Self {
            tree,
            ..Self::default()
        };
        for (user, scope) in holders {
            match scope {
                Scope::Platform => drop(all.of_platform.insert(user)),
                Scope::Group(group) => drop(all.of_group.entry(group).or_default().insert(user)),
                Scope::Session(_) => {}
            }
        }
        all
    }

    /// Who looks after somebody: never they themselves.
    pub fn of(&self, (user, groups): &Person) -> BTreeSet<UserId> {
        let above: BTreeSet<_> = groups
            .iter()
            .flat_map(|group| self.tree.with_ancestors(*group))
            .collect();
        let holders = above.iter().filter_map(|group| self.of_group.get(group)).flatten();
        let mut found: BTreeSet<_> = holders.copied().filter(|holder| holder != user).collect();
        if found.is_empty() {
            found = self
                .of_platform
                .iter()
                .copied()
                .filter(|holder| holder != user)
                .collect();
        }
        found
    }

    /// The groups whose members somebody may look after; `None`: of people of any group and of none.
    pub fn groups_of(&self, administrator: UserId) -> Option<BTreeSet<GroupId>> {
        if self.of_platform.contains(&administrator) {
            return None;
        }
        let held = self
            .of_group
            .iter()
            .filter(|(_, holders)| holders.contains(&administrator));
        Some(self.tree.with_descendants(&held.map(|(group, _)| *group).collect()))
    }

    /// Who is to be told of which of these people, until there are `most` to be told: answers how many of the people that
    /// covers, from the first on, at least one. Of somebody whom more look after, so many are told.
    pub fn share(&self, people: &[Person], most: usize) -> (usize, BTreeMap<UserId, BTreeSet<UserId>>) {
        let mut told: BTreeMap<UserId, BTreeSet<UserId>> = BTreeMap::new();
        for (covered, person) in people.iter().enumerate() {
            let of: Vec<_> = self.of(person).into_iter().take(most).collect();
            let new = of.iter().filter(|administrator| !told.contains_key(administrator));
            if told.len() + new.count() > most {
                return (covered, told);
            }
            for administrator in of {
                told.entry(administrator).or_default().insert(person.0);
            }
        }
        (people.len(), told)
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

    fn user(number: u128) -> UserId {
        UserId(Uuid::from_u128(number))
    }

    fn person(number: u128, groups: &[u128]) -> Person {
        (user(number), groups.iter().copied().map(group).collect())
    }

    /// Group 1 above 2 above 3, and 4 beside them. 10 administers 1, 20 administers 3, 90 and 91 everything.
    fn stage() -> Administrators {
        let tree = GroupTree::new([
            (group(1), None),
            (group(2), Some(group(1))),
            (group(3), Some(group(2))),
            (group(4), None),
        ]);
        let holders = [
            (user(10), Scope::Group(group(1))),
            (user(20), Scope::Group(group(3))),
            (user(90), Scope::Platform),
            (user(91), Scope::Platform),
            (user(30), Scope::Session("2027-spring".into())),
        ];
        Administrators::new(tree, holders)
    }

    #[test]
    fn b9_those_of_the_groups_and_of_all_above_are_told_and_those_of_the_platform_where_there_is_none() {
        let stage = stage();
        let cases: [(&[u128], &[u128]); 6] = [
            (&[3], &[10, 20]),
            (&[2], &[10]),
            (&[2, 4], &[10]),
            (&[4], &[90, 91]),
            (&[], &[90, 91]),
            // A group that was deleted meanwhile.
            (&[7], &[90, 91]),
        ];
        for (groups, expected) in cases {
            let told: Vec<_> = stage.of(&person(1, groups)).into_iter().collect();
            assert_eq!(
                told,
                expected.iter().copied().map(user).collect::<Vec<_>>(),
                "{groups:?}"
            );
        }
        let of_sole_administrator = stage.of(&person(10, &[2]));
        assert_eq!(of_sole_administrator, [user(90), user(91)].into());
        assert_eq!(stage.of(&person(90, &[])), [user(91)].into());
        assert_eq!(stage.groups_of(user(20)), Some([group(3)].into()));
        assert_eq!(stage.groups_of(user(90)), None);
        assert_eq!(stage.groups_of(user(1)), Some(BTreeSet::new()));
    }

    proptest! {
        /// B9
        #[test]
        fn nobody_is_told_of_people_beyond_their_scope_and_everybody_has_somebody_who_is(
            parents in prop::collection::vec(0_u128..12, 12),
            holders in prop::collection::vec((0_u128..8, 0_u128..13), 1..12),
            people in prop::collection::btree_map(0_u128..30, prop::collection::btree_set(0_u128..12, 0..4), 1..30),
            most in 1_usize..6,
        ) {
            // A parent has a lower number: no cycles. Group 12 stands for the platform.
            let parent = |number: usize, above: u128| (above < number as u128).then(|| group(above));
            let tree = GroupTree::new((0..12).map(|number| (group(number as u128), parent(number, parents[number]))));
            let scope = |number| if number == 12 { Scope::Platform } else { Scope::Group(group(number)) };
            let holders: Vec<_> = holders.into_iter().map(|(who, place)| (user(who), scope(place))).collect();
            let administrators = Administrators::new(tree.clone(), holders.iter().cloned());
            let people: Vec<Person> = people.into_iter()
                .map(|(number, groups)| (user(number), groups.into_iter().map(group).collect())).collect();
            let (covered, told) = administrators.share(&people, most);
            prop_assert!(covered >= 1 && covered <= people.len() && told.len() <= most);
            for person in &people[..covered] {
                let of = administrators.of(person);
                let platform = holders.iter().any(|(who, scope)| *scope == Scope::Platform && *who != person.0);
                prop_assert!(!of.is_empty() || !platform);
                let heard = told.iter().filter(|(_, people)| people.contains(&person.0)).count();
                prop_assert_eq!(heard == 0, of.is_empty());
            }
            for (administrator, subjects) in &told {
                prop_assert!(!subjects.contains(administrator));
                for person in people[..covered].iter().filter(|person| subjects.contains(&person.0)) {
                    let reach = administrators.groups_of(*administrator);
                    prop_assert!(reach.is_none_or(|reach| person.1.iter().any(|group| reach.contains(group))));
                }
            }
        }
    }
}
