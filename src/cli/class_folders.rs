//! Folders that name the classes of their images, and what may be wrong with them.

use super::CliError;
use super::image_embeddings::label_of_folder;
use crate::files::Class;
use constancy_core::classify::calibrate::Truth;
use constancy_core::classify::{BankError, check_label};
use constancy_core::icm::{Domains, FoldersError, Item};
use std::path::{Path, PathBuf};

/// Messages name at most this many folders.
const MOST_SHOWN: usize = 5;

/// The class that a folder is named after: `hex_bolt` may be `hex bolt`.
fn class_named(labels: &[String], folder: &str) -> Option<usize> {
    let spaced = label_of_folder(folder);
    labels.iter().position(|l| l == folder || *l == spaced)
}

/// Whether any folder is named after a class of the bank.
pub(super) fn names_a_class(labels: &[String], domains: &Domains) -> bool {
    let mut folders = domains.classes.iter();
    folders.any(|folder| class_named(labels, folder).is_some())
}

/// The class of the bank that each class of folders is. Folders that are no class of the bank are told. `or` is another way
/// out where none is.
pub(super) fn truths(
    labels: &[String],
    domains: &Domains,
    folder: &Path,
    or: &str,
) -> Result<Vec<Truth>, CliError> {
    let truth = |name: &String| class_named(labels, name).map_or(Truth::Other, Truth::Class);
    let classes: Vec<Truth> = domains.classes.iter().map(truth).collect();
    let others: Vec<&str> = domains
        .classes
        .iter()
        .zip(&classes)
        .filter(|(_, truth)| **truth == Truth::Other)
        .map(|(name, _)| name.as_str())
        .collect();
    if others.len() == classes.len() {
        let environments = domains.environments.iter();
        let mut too_low = environments.filter(|e| class_named(labels, e).is_some());
        let in_subfolders = domains.items.iter().any(|item| depth(folder, item) > 2);
        if let Some(class) = too_low.next().filter(|_| in_subfolders) {
            return Err(CliError::Usage(format!(
                "{0}/{class} is named after a class of the bank, but its images lie in subfolders, which are taken for classes (such as {1}); move the images up into {0}/{class}",
                folder.display(),
                shown(&others)
            )));
        }
        return Err(CliError::Usage(format!(
            "no subfolder of {} is named after a class of the bank, which has {}; rename them, or {or}",
            folder.display(),
            labels.join(", ")
        )));
    }
    if let Some(item) = domains.items.iter().find(|item| depth(folder, item) > 3) {
        log::warn!(
            "{}: it lies in a subfolder of a class folder, and counts as `{}`",
            item.path.display(),
            domains.classes[item.class]
        );
    }
    if !others.is_empty() {
        log::warn!(
            "no class of the bank: {}; the images in these folders count as unknown to it",
            others.join(", ")
        );
    }
    Ok(classes)
}

/// The number of names in an image's path below the folder: 2 in `CLASS/IMAGE`, 3 in `ENVIRONMENT/CLASS/IMAGE`.
fn depth(folder: &Path, item: &Item) -> usize {
    let inside = item.path.strip_prefix(folder);
    inside.map_or(0, |inside| inside.iter().count())
}

/// Tells that images are taken as unsorted, though they lie in folders: none of these is a class, or they are not arranged as
/// classes are.
pub(super) fn tell_unsorted(
    labels: &[String],
    folder: &Path,
    arranged: Result<&Domains, FoldersError>,
) {
    let why = match arranged {
        Ok(domains) => {
            let names: Vec<&str> = domains.classes.iter().map(String::as_str).collect();
            format!("no subfolder is named after a class ({})", shown(&names))
        }
        Err(FoldersError::OneClass { class, .. }) => {
            format!("there are images of one class alone, `{class}`")
        }
        Err(FoldersError::Depth { path, .. }) => format!(
            "{} lies less deep than others, so folders do not say which class an image is of",
            path.display()
        ),
        Err(error) => error.to_string(),
    };
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    log::warn!(
        "{}: {why}, so all its images are taken as unsorted; to calibrate by class, sort them into subfolders that are named after the classes ({})",
        folder.display(),
        shown(&labels)
    );
}

/// Checks the names of class folders, before their images cost time. Class folders whose images lie in subfolders are told.
pub(super) fn check_class_folders(classes: &[Class]) -> Result<(), CliError> {
    for class in classes {
        check_label(&class.name).map_err(BankError::Label)?;
    }
    let below = |class: &Class| {
        let mut images = class.images.iter();
        images.find_map(|image| {
            image
                .parent()
                .filter(|p| *p != class.folder)
                .map(PathBuf::from)
        })
    };
    let nested: Vec<(&Class, PathBuf)> = classes
        .iter()
        .filter_map(|c| Some((c, below(c)?)))
        .collect();
    if let Some((class, inside)) = nested.first() {
        log::warn!(
            "{} of {} class folders hold images in subfolders, such as {}: these count as `{}`. If the subfolders are the classes, give {} instead",
            nested.len(),
            classes.len(),
            inside.display(),
            class.name,
            class.folder.display()
        );
    }
    Ok(())
}

fn shown(names: &[&str]) -> String {
    let first = names.iter().take(MOST_SHOWN).copied();
    let first = first.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
