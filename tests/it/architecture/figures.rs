//! The shape of the sources in numbers: lengths of functions and files, and circles of imports.

use super::source::{Name, Source};
use std::collections::{BTreeMap, BTreeSet};

/// Lengths that a reader meets.
pub(super) struct Figures {
    pub functions: usize,
    pub median: usize,
    pub ninetieth: usize,
    /// The longest function, and where it is.
    pub longest: (usize, String),
    /// Files over 400 lines.
    pub long_files: Vec<(usize, String)>,
}

impl Figures {
    pub fn of(sources: &BTreeMap<String, Source>) -> Self {
        let functions = sources.iter().flat_map(|(path, source)| {
            source
                .functions
                .iter()
                .map(move |(name, lines)| (*lines, format!("{path}: {name}")))
        });
        let mut functions: Vec<(usize, String)> = functions.collect();
        functions.sort();
        let at = |share: f64| functions[((functions.len() - 1) as f64 * share) as usize].0;
        let long = sources.iter().filter(|(_, s)| s.lines > 400);
        Self {
            functions: functions.len(),
            median: at(0.5),
            ninetieth: at(0.9),
            longest: functions.last().cloned().unwrap_or_default(),
            long_files: long.map(|(path, s)| (s.lines, path.clone())).collect(),
        }
    }
}

/// Files that import each other in a circle, each group once.
///
/// A file imports the one that defines what it names: re-exports are followed to their origin, and a parent's `mod` and
/// `pub use` lines are no imports.
pub(super) fn circles(sources: &BTreeMap<String, Source>) -> Vec<Vec<String>> {
    let files: BTreeMap<&[String], &str> = sources
        .iter()
        .map(|(path, s)| (s.module.as_slice(), path.as_str()))
        .collect();
    let modules: BTreeMap<&[String], &Source> =
        sources.values().map(|s| (s.module.as_slice(), s)).collect();
    let edges: BTreeMap<&str, BTreeSet<&str>> = sources
        .iter()
        .map(|(path, source)| {
            let targets = source.names.iter().filter_map(|n| owner(n, &modules));
            let targets = targets.filter_map(|module| files.get(module).copied());
            (path.as_str(), targets.filter(|t| *t != path).collect())
        })
        .collect();
    strongly_connected(&edges)
}

/// The module whose file defines `name`; `None` outside this crate, and for a module itself.
fn owner<'s>(name: &Name, modules: &BTreeMap<&'s [String], &'s Source>) -> Option<&'s [String]> {
    let mut name = name.clone();
    for _ in 0..8 {
        let (first, path) = name.split_first()?;
        if first != "crate" {
            return None;
        }
        let depth = (0..=path.len())
            .rev()
            .find(|&n| modules.contains_key(&path[..n]))?;
        let (module, source) = modules.get_key_value(&path[..depth])?;
        let item = path.get(depth)?;
        match source.exports.get(item) {
            Some(target) => name = target.iter().chain(&path[depth + 1..]).cloned().collect(),
            None => return Some(module),
        }
    }
    None
}

/// Groups of more than one node that all reach each other.
fn strongly_connected(edges: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<Vec<String>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> = edges
        .keys()
        .map(|from| (*from, reachable(from, edges)))
        .collect();
    let mut groups: BTreeSet<Vec<String>> = BTreeSet::new();
    for (from, there) in &reach {
        let back = |to: &&&str| reach.get(**to).is_some_and(|r| r.contains(from));
        let group: Vec<String> = there.iter().filter(back).map(ToString::to_string).collect();
        if group.len() > 1 {
            groups.insert(group);
        }
    }
    groups.into_iter().collect()
}

fn reachable<'e>(from: &str, edges: &BTreeMap<&str, BTreeSet<&'e str>>) -> BTreeSet<&'e str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = vec![from];
    while let Some(at) = open.pop() {
        for to in edges.get(at).into_iter().flatten() {
            if found.insert(*to) {
                open.push(to);
            }
        }
    }
    found
}
