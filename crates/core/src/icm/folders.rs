//! DomainBed's folder layout, `environment/class/image`, in which PACS, VLCS, OfficeHome,
//! TerraIncognita and DomainNet are distributed, and `class/image` for a single environment. This
//! module arranges paths; the caller walks the folders.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a folder is not a data set of several environments.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum FoldersError {
    #[error("{root} holds no images; expected {root}/ENVIRONMENT/CLASS/IMAGE")]
    NoImages { root: PathBuf },
    #[error(
        "{root} holds one environment, `{environment}`; leaving one out needs at least two: expected {root}/ENVIRONMENT/CLASS/IMAGE"
    )]
    OneEnvironment { root: PathBuf, environment: String },
    #[error(
        "{root} holds one class, `{class}`; at least two are needed: expected {root}/ENVIRONMENT/CLASS/IMAGE"
    )]
    OneClass { root: PathBuf, class: String },
    #[error(
        "{path} lies in no class folder of an environment; expected {root}/ENVIRONMENT/CLASS/IMAGE"
    )]
    Depth { root: PathBuf, path: PathBuf },
    #[error("{path} is not in {root}")]
    Outside { root: PathBuf, path: PathBuf },
    #[error(
        "{path}: the name of its environment or class folder is not UTF-8 and reads like that of another; rename the folder"
    )]
    Name { path: PathBuf },
}

/// A class that other environments have and this one does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingClass {
    pub environment: String,
    pub class: String,
}

impl fmt::Display for MissingClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { environment, class } = self;
        write!(
            f,
            "environment `{environment}` has no image of class `{class}`; it is judged by its other classes"
        )
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
    /// Names of the environments, sorted.
    pub environments: Vec<String>,
    /// Names of the classes of all environments, sorted.
    pub classes: Vec<String>,
    /// The images, sorted by environment, class and path.
    pub items: Vec<Item>,
    /// Missing classes to warn of, sorted by environment and class.
    pub missing: Vec<MissingClass>,
}

impl Domains {
    /// Arranges the images under `root`, which may come in any order. An image in a subfolder of a
    /// class folder belongs to that class. Names that begin with a dot are ignored: file managers
    /// leave such files.
    ///
    /// ```
    /// use constancy_core::icm::Domains;
    /// use std::path::{Path, PathBuf};
    ///
    /// let images = ["art/cat/1.jpg", "art/dog/2.jpg", "photo/dog/3.jpg"].map(PathBuf::from);
    /// let domains = Domains::arrange(Path::new(""), &images)?;
    /// assert_eq!(domains.environments, ["art", "photo"]);
    /// assert_eq!(domains.classes, ["cat", "dog"]);
    /// assert_eq!(domains.missing[0].class, "cat");
    /// # Ok::<(), constancy_core::icm::FoldersError>(())
    /// ```
    pub fn arrange(root: &Path, images: &[PathBuf]) -> Result<Self, FoldersError> {
        let mut found: BTreeMap<(String, String), BTreeSet<&PathBuf>> = BTreeMap::new();
        let mut read = ReadNames::default();
        for path in images {
            if let Some(names) = names(root, path, &mut read)? {
                found.entry(names).or_default().insert(path);
            }
        }
        let environments: Vec<String> = distinct(found.keys().map(|(environment, _)| environment));
        if let [environment] = &environments[..] {
            return Err(FoldersError::OneEnvironment {
                root: root.into(),
                environment: environment.clone(),
            });
        }
        let domains = Self::sorted(root, environments, found)?;
        domains.check_classes(root)?;
        Ok(domains)
    }

    /// Arranges images of a single environment, `class/image`, or of any number of environments. A
    /// single environment gets the name of the folder `root`.
    pub fn arrange_any(root: &Path, images: &[PathBuf]) -> Result<Self, FoldersError> {
        let domains = Self::arrange_few(root, images)?;
        domains.check_classes(root)?;
        Ok(domains)
    }

    /// The same, where one class is enough.
    pub fn arrange_few(root: &Path, images: &[PathBuf]) -> Result<Self, FoldersError> {
        let in_class_folders = |path: &PathBuf| {
            path.strip_prefix(root)
                .is_ok_and(|inside| inside.iter().count() == 2)
        };
        let mut found: BTreeMap<(String, String), BTreeSet<&PathBuf>> = BTreeMap::new();
        let only = root
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let one = images
            .iter()
            .filter(|path| !is_hidden(root, path))
            .all(in_class_folders);
        let mut read = ReadNames::default();
        for path in images {
            let names = if one {
                class_name(root, path, &mut read)?.map(|class| (only.clone(), class))
            } else {
                names(root, path, &mut read)?
            };
            if let Some(names) = names {
                found.entry(names).or_default().insert(path);
            }
        }
        let environments = distinct(found.keys().map(|(environment, _)| environment));
        Self::sorted(root, environments, found)
    }

    fn sorted(
        root: &Path,
        environments: Vec<String>,
        mut found: BTreeMap<(String, String), BTreeSet<&PathBuf>>,
    ) -> Result<Self, FoldersError> {
        let classes: Vec<String> = distinct(found.keys().map(|(_, class)| class));
        if classes.is_empty() {
            return Err(FoldersError::NoImages { root: root.into() });
        }
        let (mut items, mut missing) = (Vec::new(), Vec::new());
        for (e, environment) in environments.iter().enumerate() {
            for (c, class) in classes.iter().enumerate() {
                match found.remove(&(environment.clone(), class.clone())) {
                    Some(paths) => {
                        items.extend(paths.into_iter().map(|p| Item {
                            environment: e,
                            class: c,
                            path: p.clone(),
                        }));
                    }
                    None => missing.push(MissingClass {
                        environment: environment.clone(),
                        class: class.clone(),
                    }),
                }
            }
        }
        Ok(Self {
            environments,
            classes,
            items,
            missing,
        })
    }

    /// Refuses a single class.
    fn check_classes(&self, root: &Path) -> Result<(), FoldersError> {
        match &self.classes[..] {
            [class] => Err(FoldersError::OneClass {
                root: root.into(),
                class: class.clone(),
            }),
            _ => Ok(()),
        }
    }
}

/// The components of an image's path below the root; `None` if the image is hidden.
fn parts<'p>(root: &Path, path: &'p Path) -> Result<Option<Vec<&'p OsStr>>, FoldersError> {
    let outside = |_| FoldersError::Outside {
        root: root.into(),
        path: path.into(),
    };
    let parts: Vec<&OsStr> = path.strip_prefix(root).map_err(outside)?.iter().collect();
    Ok((!parts
        .iter()
        .any(|part| part.to_string_lossy().starts_with('.')))
    .then_some(parts))
}

fn is_hidden(root: &Path, path: &Path) -> bool {
    matches!(parts(root, path), Ok(None))
}

/// The folders' names by how they read: what is not UTF-8 in a name becomes U+FFFD, so two names may read alike.
#[derive(Default)]
struct ReadNames<'p> {
    environments: BTreeMap<String, &'p OsStr>,
    classes: BTreeMap<String, &'p OsStr>,
}

/// How the name of a folder reads; an error if another one reads alike.
fn read_name<'p>(
    known: &mut BTreeMap<String, &'p OsStr>,
    name: &'p OsStr,
    path: &Path,
) -> Result<String, FoldersError> {
    let text = name.to_string_lossy().into_owned();
    if known.get(&text).is_some_and(|other| *other != name) {
        return Err(FoldersError::Name { path: path.into() });
    }
    known.insert(text.clone(), name);
    Ok(text)
}

/// The environment and class of an image; `None` if it is hidden.
fn names<'p>(
    root: &Path,
    path: &'p Path,
    read: &mut ReadNames<'p>,
) -> Result<Option<(String, String)>, FoldersError> {
    let Some(parts) = parts(root, path)? else {
        return Ok(None);
    };
    let [environment, class, _, ..] = &parts[..] else {
        return Err(FoldersError::Depth {
            root: root.into(),
            path: path.into(),
        });
    };
    let environment = read_name(&mut read.environments, environment, path)?;
    Ok(Some((
        environment,
        read_name(&mut read.classes, class, path)?,
    )))
}

/// The class of an image in a `class/image` layout; `None` if it is hidden.
fn class_name<'p>(
    root: &Path,
    path: &'p Path,
    read: &mut ReadNames<'p>,
) -> Result<Option<String>, FoldersError> {
    let Some(parts) = parts(root, path)? else {
        return Ok(None);
    };
    let class = parts.first().copied().unwrap_or_default();
    read_name(&mut read.classes, class, path).map(Some)
}

fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    names
        .collect::<BTreeSet<_>>()
        .into_iter()
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrange(images: &[&str]) -> Result<Domains, FoldersError> {
        let images: Vec<PathBuf> = images.iter().map(PathBuf::from).collect();
        Domains::arrange(Path::new("/data"), &images)
    }

    #[test]
    fn images_are_sorted_in_any_order_of_the_disk() {
        let forward = [
            "/data/photo/dog/2.jpg",
            "/data/photo/dog/1.jpg",
            "/data/art/cat/x/9.png",
            "/data/art/dog/1.jpg",
        ];
        let mut backward = forward;
        backward.reverse();
        let domains = arrange(&forward).unwrap();
        assert_eq!(arrange(&backward).unwrap(), domains);
        assert_eq!(domains.environments, ["art", "photo"]);
        assert_eq!(domains.classes, ["cat", "dog"]);
        let items: Vec<(usize, usize, &str)> = domains
            .items
            .iter()
            .map(|i| (i.environment, i.class, i.path.to_str().unwrap()))
            .collect();
        let expected = [
            (0, 0, "/data/art/cat/x/9.png"),
            (0, 1, "/data/art/dog/1.jpg"),
            (1, 1, "/data/photo/dog/1.jpg"),
            (1, 1, "/data/photo/dog/2.jpg"),
        ];
        assert_eq!(items, expected);
        let warning = domains.missing[0].to_string();
        assert!(
            warning.contains("`photo` has no image of class `cat`"),
            "{warning}"
        );
        assert_eq!(domains.missing.len(), 1);
    }

    #[test]
    fn a_single_environment_needs_class_folders_only() {
        let any = |images: &[&str]| {
            let images: Vec<PathBuf> = images.iter().map(PathBuf::from).collect();
            Domains::arrange_any(Path::new("/data"), &images)
        };
        let classes = any(&[
            "/data/ok/1.jpg",
            "/data/bad/2.jpg",
            "/data/.cache/a/b/c.jpg",
        ])
        .unwrap();
        assert_eq!(
            (&classes.environments[..], &classes.classes[..]),
            (&["data".into()][..], &["bad".into(), "ok".into()][..])
        );
        let one = any(&["/data/line/ok/1.jpg", "/data/line/bad/2.jpg"]).unwrap();
        assert_eq!(
            (one.environments, one.items.len()),
            (vec!["line".to_owned()], 2)
        );
        assert!(matches!(
            any(&["/data/ok/1.jpg"]),
            Err(FoldersError::OneClass { .. })
        ));
        let few = [PathBuf::from("/data/ok/1.jpg")];
        let few = Domains::arrange_few(Path::new("/data"), &few).unwrap();
        assert_eq!((&few.classes[..], few.items.len()), (&["ok".into()][..], 1));
        assert!(matches!(
            any(&["/data/ok/1.jpg", "/data/line/bad/2.jpg"]),
            Err(FoldersError::Depth { .. })
        ));
    }

    #[test]
    fn names_that_are_not_utf_8_are_read_as_well_as_they_can_be() {
        use std::os::unix::ffi::OsStrExt as _;
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let images = [
            path(b"/data/gr\xfcn/ok/1.jpg"),
            path(b"/data/rot/ok/2.jpg"),
            path(b"/data/rot/\xff/3\xff.jpg"),
        ];
        let domains = Domains::arrange(Path::new("/data"), &images).unwrap();
        assert_eq!(domains.environments, ["gr\u{fffd}n", "rot"]);
        assert_eq!(domains.classes, ["ok", "\u{fffd}"]);
        assert!(domains.items.iter().any(|item| item.path == images[2]));
        let alike = [path(b"/data/a/\xff/1.jpg"), path(b"/data/b/\xfe/2.jpg")];
        assert_eq!(
            Domains::arrange(Path::new("/data"), &alike),
            Err(FoldersError::Name {
                path: alike[1].clone()
            })
        );
    }

    #[test]
    fn other_layouts_are_refused_with_the_expected_one() {
        let error = |images: &[&str]| arrange(images).unwrap_err();
        for (images, culprit) in [
            (&[][..], "/data holds no images"),
            (
                &["/data/._1.jpg", "/data/.cache/dog/1.jpg"],
                "/data holds no images",
            ),
            (
                &["/data/photo/dog/1.jpg", "/data/photo/cat/1.jpg"],
                "one environment, `photo`",
            ),
            (
                &["/data/photo/dog/1.jpg", "/data/art/dog/1.jpg"],
                "one class, `dog`",
            ),
            (
                &["/data/dog/1.jpg"],
                "/data/dog/1.jpg lies in no class folder",
            ),
        ] {
            let message = error(images).to_string();
            assert!(
                message.contains(culprit) && message.contains("ENVIRONMENT/CLASS/IMAGE"),
                "{message}"
            );
        }
        assert!(matches!(
            error(&["/elsewhere/photo/dog/1.jpg"]),
            FoldersError::Outside { .. }
        ));
    }
}
