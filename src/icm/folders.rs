//! DomainBed's folder layout, `environment/class/image`: PACS, VLCS, OfficeHome, TerraIncognita and DomainNet as they lie
//! on disk. Paths in, a list out; whoever calls has looked through the folders.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a folder is no data set of several environments.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FoldersError {
    #[error("{root} holds no images; expected {root}/ENVIRONMENT/CLASS/IMAGE")]
    NoImages { root: PathBuf },
    #[error(
        "{root} holds one environment, `{environment}`; at least two are needed, to leave one out: expected {root}/ENVIRONMENT/CLASS/IMAGE"
    )]
    OneEnvironment { root: PathBuf, environment: String },
    #[error("{root} holds one class, `{class}`; at least two are needed: expected {root}/ENVIRONMENT/CLASS/IMAGE")]
    OneClass { root: PathBuf, class: String },
    #[error("{path} lies in no class folder of an environment; expected {root}/ENVIRONMENT/CLASS/IMAGE")]
    Depth { root: PathBuf, path: PathBuf },
    #[error("{path} is not in {root}")]
    Outside { root: PathBuf, path: PathBuf },
    #[error("{path}: the name of its environment or class is not UTF-8; rename the folder")]
    Name { path: PathBuf },
}

/// An environment that has no image of a class which others have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingClass {
    pub environment: String,
    pub class: String,
}

impl fmt::Display for MissingClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { environment, class } = self;
        write!(f, "environment `{environment}` has no image of class `{class}`; it is judged by its other classes")
    }
}

/// One image of a data set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Index into [`Domains::environments`].
    pub environment: usize,
    /// Index into [`Domains::classes`].
    pub class: usize,
    pub path: PathBuf,
}

/// Labelled images of several environments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domains {
    /// By name.
    pub environments: Vec<String>,
    /// Of all environments, by name.
    pub classes: Vec<String>,
    /// By environment, class and path.
    pub items: Vec<Item>,
    /// What is to be warned of, by environment and class.
    pub missing: Vec<MissingClass>,
}

impl Domains {
    /// Arranges the images under `root`, in any order. Folders below the class's are the class's; whatever begins with
    /// a dot is no image (file managers leave such things).
    pub fn arrange(root: &Path, images: &[PathBuf]) -> Result<Self, FoldersError> {
        let mut found: BTreeMap<(String, String), BTreeSet<&PathBuf>> = BTreeMap::new();
        for path in images {
            if let Some(names) = names(root, path)? {
                found.entry(names).or_default().insert(path);
            }
        }
        let environments: Vec<String> = distinct(found.keys().map(|(environment, _)| environment));
        let classes: Vec<String> = distinct(found.keys().map(|(_, class)| class));
        let root = root.to_path_buf();
        match (&environments[..], &classes[..]) {
            ([], _) => return Err(FoldersError::NoImages { root }),
            ([environment], _) => return Err(FoldersError::OneEnvironment { root, environment: environment.clone() }),
            (_, [class]) => return Err(FoldersError::OneClass { root, class: class.clone() }),
            _ => {}
        }
        let (mut items, mut missing) = (Vec::new(), Vec::new());
        for (e, environment) in environments.iter().enumerate() {
            for (c, class) in classes.iter().enumerate() {
                match found.remove(&(environment.clone(), class.clone())) {
                    Some(paths) => {
                        items.extend(paths.into_iter().map(|p| Item { environment: e, class: c, path: p.clone() }));
                    }
                    None => missing.push(MissingClass { environment: environment.clone(), class: class.clone() }),
                }
            }
        }
        Ok(Self { environments, classes, items, missing })
    }
}

/// Environment and class of an image; `None` where it is hidden.
fn names(root: &Path, path: &Path) -> Result<Option<(String, String)>, FoldersError> {
    let outside = || FoldersError::Outside { root: root.into(), path: path.into() };
    let inside = path.strip_prefix(root).map_err(|_| outside())?;
    let parts: Vec<_> = inside.iter().collect();
    if parts.iter().any(|p| p.to_string_lossy().starts_with('.')) {
        return Ok(None);
    }
    let [environment, class, _, ..] = &parts[..] else {
        return Err(FoldersError::Depth { root: root.into(), path: path.into() });
    };
    match (environment.to_str(), class.to_str()) {
        (Some(environment), Some(class)) => Ok(Some((environment.into(), class.into()))),
        _ => Err(FoldersError::Name { path: path.into() }),
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    names.collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrange(images: &[&str]) -> Result<Domains, FoldersError> {
        let images: Vec<PathBuf> = images.iter().map(PathBuf::from).collect();
        Domains::arrange(Path::new("/data"), &images)
    }

    #[test]
    fn images_are_sorted_whatever_order_the_disk_has() {
        let forward =
            ["/data/photo/dog/2.jpg", "/data/photo/dog/1.jpg", "/data/art/cat/x/9.png", "/data/art/dog/1.jpg"];
        let mut backward = forward;
        backward.reverse();
        let domains = arrange(&forward).unwrap();
        assert_eq!(arrange(&backward).unwrap(), domains);
        assert_eq!(domains.environments, ["art", "photo"]);
        assert_eq!(domains.classes, ["cat", "dog"]);
        let items: Vec<(usize, usize, &str)> =
            domains.items.iter().map(|i| (i.environment, i.class, i.path.to_str().unwrap())).collect();
        let expected = [
            (0, 0, "/data/art/cat/x/9.png"),
            (0, 1, "/data/art/dog/1.jpg"),
            (1, 1, "/data/photo/dog/1.jpg"),
            (1, 1, "/data/photo/dog/2.jpg"),
        ];
        assert_eq!(items, expected);
        let warning = domains.missing[0].to_string();
        assert!(warning.contains("`photo` has no image of class `cat`"), "{warning}");
        assert_eq!(domains.missing.len(), 1);
    }

    #[test]
    fn what_is_no_such_data_set_is_refused_with_the_layout() {
        let error = |images: &[&str]| arrange(images).unwrap_err();
        for (images, culprit) in [
            (&[][..], "/data holds no images"),
            (&["/data/._1.jpg", "/data/.cache/dog/1.jpg"], "/data holds no images"),
            (&["/data/photo/dog/1.jpg", "/data/photo/cat/1.jpg"], "one environment, `photo`"),
            (&["/data/photo/dog/1.jpg", "/data/art/dog/1.jpg"], "one class, `dog`"),
            (&["/data/dog/1.jpg"], "/data/dog/1.jpg lies in no class folder"),
        ] {
            let message = error(images).to_string();
            assert!(message.contains(culprit) && message.contains("ENVIRONMENT/CLASS/IMAGE"), "{message}");
        }
        assert!(matches!(error(&["/elsewhere/photo/dog/1.jpg"]), FoldersError::Outside { .. }));
    }
}
