//! Which invariants depend on themselves through others. Each of such a cycle would hold back the others' tickets for
//! ever, so that nobody would ever hear of a fault: within a cycle nobody waits. Pure: time is an argument, since an
//! origin that the caller chooses.

use crate::watch::ObjectKey;
use petgraph::algo::kosaraju_scc;
use petgraph::graphmap::DiGraphMap;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Between two looks for cycles, each at one namespace: whoever edits dependencies all the time keeps nobody else waiting.
const SPACING: Duration = Duration::from_millis(200);

/// Names of a cycle that are written out.
const SHOWN: usize = 8;

/// Cycles that are named of one knot of invariants; of a larger knot the rest go by the name of its first cycle.
const NAMED: usize = 32;

type Graph<'a> = DiGraphMap<&'a str, ()>;

/// What each invariant depends on, and the cycles in that.
#[derive(Debug, Default)]
pub struct Dependencies {
    by_namespace: BTreeMap<String, Namespace>,
    /// Namespaces that were not looked at since something in them changed.
    changed: BTreeSet<String>,
    /// No look before this.
    next: Duration,
}

#[derive(Debug, Default)]
struct Namespace {
    depends_on: BTreeMap<String, Vec<String>>,
    cycles: HashMap<String, Cycle>,
}

/// The cycle that an invariant is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    /// All that reach each other have the same number.
    pub knot: usize,
    /// `a → b → a`.
    pub text: Arc<str>,
}

impl Dependencies {
    /// An invariant depends on these; or on nothing, as one that is gone.
    pub fn set(&mut self, key: &ObjectKey, names: Vec<String>) {
        let known = self.by_namespace.get(&key.namespace).and_then(|it| it.depends_on.get(&key.name));
        if known.map_or(names.is_empty(), |known| *known == names) {
            return;
        }
        let namespace = self.by_namespace.entry(key.namespace.clone()).or_default();
        if names.is_empty() {
            namespace.depends_on.remove(&key.name);
        } else {
            namespace.depends_on.insert(key.name.clone(), names);
        }
        self.changed.insert(key.namespace.clone());
    }

    /// When [`Dependencies::look`] has something to look at.
    pub fn next_due(&self) -> Option<Duration> {
        (!self.changed.is_empty()).then_some(self.next)
    }

    /// Looks for cycles in a namespace where something changed; gives those whose cycle is new, another or gone.
    pub fn look(&mut self, now: Duration) -> Vec<ObjectKey> {
        if self.next_due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        let Some(name) = self.changed.pop_first() else { return Vec::new() };
        self.next = now + SPACING;
        let Some(namespace) = self.by_namespace.get_mut(&name) else { return Vec::new() };
        let before = std::mem::replace(&mut namespace.cycles, cycles(&namespace.depends_on));
        let members: BTreeSet<&String> = before.keys().chain(namespace.cycles.keys()).collect();
        let changed = members.into_iter().filter(|it| before.get(*it) != namespace.cycles.get(*it));
        let changed = changed.map(|it| ObjectKey::new(&name, it)).collect();
        if namespace.depends_on.is_empty() {
            self.by_namespace.remove(&name);
        }
        changed
    }

    /// The cycle that an invariant is in, as far as was looked.
    pub fn cycle(&self, key: &ObjectKey) -> Option<&Cycle> {
        self.by_namespace.get(&key.namespace)?.cycles.get(&key.name)
    }

    /// Whether an invariant waits for one that it depends on: not within a cycle.
    pub fn waits_for(&self, key: &ObjectKey, name: &str) -> bool {
        let Some(own) = self.cycle(key) else { return true };
        self.cycle(&ObjectKey::new(&key.namespace, name)).is_none_or(|other| other.knot != own.knot)
    }
}

/// The members of all cycles, each with the one that it is in.
pub fn cycles(depends_on: &BTreeMap<String, Vec<String>>) -> HashMap<String, Cycle> {
    let edges = depends_on.iter().flat_map(|(from, names)| names.iter().map(move |to| (from.as_str(), to.as_str())));
    let graph = Graph::from_edges(edges);
    let mut found = HashMap::new();
    for (knot, mut members) in kosaraju_scc(&graph).into_iter().enumerate() {
        if members.len() == 1 && !graph.contains_edge(members[0], members[0]) {
            continue;
        }
        members.sort_unstable();
        name_cycles(&graph, knot, &members, &mut found);
    }
    found
}

/// Names the cycles of a knot, whose members all reach each other.
fn name_cycles(graph: &Graph, knot: usize, members: &[&str], found: &mut HashMap<String, Cycle>) {
    let inside: HashSet<&str> = members.iter().copied().collect();
    let (mut first, mut named): (Option<Arc<str>>, usize) = (None, 0);
    for member in members {
        if found.contains_key(*member) {
            continue;
        }
        if let Some(text) = first.as_ref().filter(|_| named >= NAMED) {
            found.insert((*member).to_owned(), Cycle { knot, text: Arc::clone(text) });
            continue;
        }
        let cycle = shortest_cycle(graph, member, &inside);
        let text: Arc<str> = shown(&cycle).into();
        for name in cycle {
            found.entry(name.to_owned()).or_insert_with(|| Cycle { knot, text: Arc::clone(&text) });
        }
        first.get_or_insert(text);
        named += 1;
    }
}

/// The shortest way from a member of a knot back to itself; it begins with it.
fn shortest_cycle<'a>(graph: &Graph<'a>, start: &'a str, inside: &HashSet<&str>) -> Vec<&'a str> {
    let mut came_from: HashMap<&str, &str> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for next in graph.neighbors(at).filter(|it| inside.contains(it)) {
            if next == start {
                let mut cycle = vec![at];
                while let Some(before) = cycle.last().filter(|it| **it != start).and_then(|it| came_from.get(it)) {
                    cycle.push(before);
                }
                cycle.reverse();
                return cycle;
            }
            if !came_from.contains_key(next) {
                came_from.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    vec![start]
}

fn shown(cycle: &[&str]) -> String {
    let first = cycle.first().copied().unwrap_or_default();
    if cycle.len() <= SHOWN {
        return cycle.iter().chain([&first]).copied().collect::<Vec<_>>().join(" → ");
    }
    format!("{} → … → {first} ({} invariants)", cycle[..SHOWN].join(" → "), cycle.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Edges<'a> = &'a [(&'a str, &'a [&'a str])];
    type Named<'a> = &'a [(&'a str, &'a str)];

    fn graph(edges: Edges) -> BTreeMap<String, Vec<String>> {
        edges.iter().map(|(from, to)| ((*from).to_owned(), to.iter().map(|it| (*it).to_owned()).collect())).collect()
    }

    fn texts(edges: Edges) -> Vec<(String, String)> {
        let mut found: Vec<_> =
            cycles(&graph(edges)).into_iter().map(|(name, it)| (name, it.text.to_string())).collect();
        found.sort();
        found
    }

    fn named(members: Named) -> Vec<(String, String)> {
        members.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_cycle_is_named_for_all_its_members_and_nobody_else() {
        let table: [(Edges, Named); 6] = [
            (&[("a", &["b"]), ("b", &["c"])], &[]),
            (&[("a", &["b"]), ("b", &["a"])], &[("a", "a → b → a"), ("b", "a → b → a")]),
            (&[("child", &["a"]), ("a", &["b"]), ("b", &["a", "parent"])], &[("a", "a → b → a"), ("b", "a → b → a")]),
            (&[("a", &["a"])], &[("a", "a → a")]),
            (
                &[("a", &["b"]), ("b", &["a", "c"]), ("c", &["b"])],
                &[("a", "a → b → a"), ("b", "a → b → a"), ("c", "c → b → c")],
            ),
            (&[("a", &["b", "c"]), ("b", &[]), ("c", &["a"])], &[("a", "a → c → a"), ("c", "a → c → a")]),
        ];
        for (edges, expected) in table {
            assert_eq!(texts(edges), named(expected), "{edges:?}");
        }
    }

    #[test]
    fn a_ring_of_all_that_a_namespace_holds_has_a_short_name() {
        let name = |number: usize| format!("check-{number:05}");
        let ring: BTreeMap<_, _> = (0..10_000).map(|it| (name(it), vec![name((it + 1) % 10_000)])).collect();
        let found = cycles(&ring);
        assert_eq!(found.len(), 10_000);
        assert!(found.values().all(|it| it.text.ends_with("→ … → check-00000 (10000 invariants)")));
    }

    #[test]
    fn an_edit_is_seen_at_the_next_look_and_looks_have_a_distance() {
        let mut dependencies = Dependencies::default();
        let (a, b) = (ObjectKey::new("shop", "a"), ObjectKey::new("shop", "b"));
        dependencies.set(&a, vec!["b".into()]);
        dependencies.set(&b, vec!["a".into()]);
        assert_eq!(dependencies.look(Duration::ZERO), [a.clone(), b.clone()]);
        assert!(!dependencies.waits_for(&a, "b") && dependencies.waits_for(&a, "other"));
        dependencies.set(&b, Vec::new());
        assert_eq!(dependencies.next_due(), Some(SPACING));
        assert_eq!(dependencies.look(Duration::ZERO), []);
        assert_eq!(dependencies.look(SPACING), [a.clone(), b]);
        assert!(dependencies.cycle(&a).is_none() && dependencies.waits_for(&a, "b"));
        dependencies.set(&a, vec!["b".into()]);
        assert_eq!(dependencies.next_due(), None, "nothing changed");
    }

    proptest! {
        #[test]
        fn whatever_depends_on_what_a_named_cycle_is_one_and_nobody_waits_for_ever(
            edges in prop::collection::vec((0usize..9, 0usize..9), 0..40)
        ) {
            let name = |number: usize| format!("check-{number}");
            let mut dependencies = Dependencies::default();
            let mut depends_on: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (from, to) in edges {
                depends_on.entry(name(from)).or_default().push(name(to));
            }
            for (from, to) in &depends_on {
                dependencies.set(&ObjectKey::new("shop", from), to.clone());
            }
            dependencies.look(Duration::ZERO);
            for cycle in depends_on.keys().filter_map(|it| dependencies.cycle(&ObjectKey::new("shop", it))) {
                let steps: Vec<&str> = cycle.text.split(" → ").collect();
                // Nine have room in a name.
                if steps.len() <= SHOWN + 1 && !cycle.text.contains('…') {
                    prop_assert!(steps.windows(2).all(|it| depends_on[it[0]].iter().any(|to| to == it[1])));
                    prop_assert_eq!(steps.first(), steps.last());
                }
            }
            // All are broken. Whoever waits for nobody has a ticket; once that is resolved, so have those who waited.
            let mut broken: BTreeSet<String> = (0..9).map(name).collect();
            while !broken.is_empty() {
                let waits = |it: &String| {
                    let key = ObjectKey::new("shop", it);
                    let mut of_it = depends_on.get(it).into_iter().flatten();
                    of_it.any(|parent| broken.contains(parent) && dependencies.waits_for(&key, parent))
                };
                let free: Vec<String> = broken.iter().filter(|it| !waits(it)).cloned().collect();
                prop_assert!(!free.is_empty(), "{:?} wait for ever", broken);
                broken.retain(|it| !free.contains(it));
            }
        }
    }
}
