//! Cache files: torn ends, damage, other recipes, several runs at once.

use super::*;
use constancy_core::intervene::Family;

fn key(n: u8) -> Key {
    Key::of(&[n; 32], None)
}

fn row(n: u8) -> Vec<f32> {
    vec![f32::from(n), 0.5, -1.25]
}

fn open(folder: &Path) -> Cache {
    Cache::open(folder, &Recipe::named("aa11", 3)).unwrap()
}

/// A cache with embeddings 0, 1 and 2, closed; and its file.
fn three(folder: &Path) -> PathBuf {
    let mut cache = open(folder);
    cache.append(&[(key(0), row(0)), (key(1), row(1))]).unwrap();
    cache.append(&[(key(2), row(2))]).unwrap();
    cache.path
}

fn known(cache: &Cache) -> Vec<u8> {
    (0..4)
        .filter(|&n| cache.get(&key(n)) == Some(row(n)))
        .collect()
}

#[test]
fn stored_embeddings_are_found_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    three(&folder.path().join("new/folder"));
    let cache = open(&folder.path().join("new/folder"));
    assert_eq!((known(&cache), cache.len()), (vec![0, 1, 2], 3));
    assert_eq!(cache.get(&key(7)), None);
}

#[test]
fn a_key_is_the_image_the_family_its_strength_and_its_seed() {
    let base = Intervention {
        family: Family::Jpeg,
        strength: 0.5,
        seed: 1,
    };
    let keys = [
        Key::of(&[1; 32], None),
        Key::of(&[2; 32], None),
        Key::of(&[1; 32], Some(&base)),
        Key::of(
            &[1; 32],
            Some(&Intervention {
                family: Family::Haze,
                ..base
            }),
        ),
        Key::of(
            &[1; 32],
            Some(&Intervention {
                strength: 0.6,
                ..base
            }),
        ),
        Key::of(&[1; 32], Some(&Intervention { seed: 2, ..base })),
    ];
    let different: std::collections::HashSet<Key> = keys.into();
    assert_eq!(different.len(), keys.len());
}

#[test]
fn a_torn_end_is_truncated_wherever_it_tore() {
    let folder = tempfile::tempdir().unwrap();
    let path = three(folder.path());
    let whole = std::fs::read(&path).unwrap();
    let record = KEY_BYTES + 12 + CRC_BYTES;
    for torn in 1..=whole.len() {
        std::fs::write(&path, &whole[..whole.len() - torn]).unwrap();
        let mut cache = open(folder.path());
        let left = 3_usize.saturating_sub(torn.div_ceil(record));
        assert_eq!(known(&cache).len(), left, "{torn} bytes torn off");
        cache.append(&[(key(3), row(3))]).unwrap();
        assert_eq!(known(&open(folder.path())).last(), Some(&3));
    }
}

#[test]
fn an_end_of_zeros_is_truncated() {
    let folder = tempfile::tempdir().unwrap();
    let path = three(folder.path());
    let whole = std::fs::read(&path).unwrap();
    // What a power cut leaves: the length was written, the bytes were not.
    std::fs::write(&path, [&whole[..], &[0; 100]].concat()).unwrap();
    assert_eq!(open(folder.path()).len(), 3);
    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

#[test]
fn a_damaged_record_counts_as_missing_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = three(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let second = bytes.len() - 2 * (KEY_BYTES + 12 + CRC_BYTES) + KEY_BYTES + 1;
    bytes[second] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mut cache = open(folder.path());
    assert_eq!(known(&cache), [0, 2]);
    cache.append(&[(key(1), row(1))]).unwrap();
    assert_eq!(known(&open(folder.path())), [0, 1, 2]);
}

#[test]
fn a_file_of_another_encoder_is_refused_and_both_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = three(folder.path());
    let other = Recipe::named("bb22", 3);
    assert_eq!(
        Cache::open(folder.path(), &other).unwrap().len(),
        0,
        "it has a file of its own"
    );
    std::fs::rename(&path, folder.path().join(other.file_name())).unwrap();
    let error = Cache::open(folder.path(), &other).unwrap_err().to_string();
    assert!(
        error.contains("aa11") && error.contains("bb22") && error.contains("--cache"),
        "{error}"
    );
    std::fs::write(folder.path().join(other.file_name()), "something else").unwrap();
    let error = Cache::open(folder.path(), &other).unwrap_err().to_string();
    assert!(
        error.contains("not a cache") && error.contains("move it away"),
        "{error}"
    );
}

#[test]
fn runs_that_share_a_file_do_not_write_over_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let many = |from: u8| (from..from + 100).map(|n| (key(n), row(n)));
    std::thread::scope(|scope| {
        for from in [0, 100] {
            let mut cache = open(folder.path());
            scope.spawn(move || many(from).for_each(|r| cache.append(&[r]).unwrap()));
        }
    });
    let cache = open(folder.path());
    assert_eq!(cache.len(), 200);
    assert!((0..200).all(|n| cache.get(&key(n)) == Some(row(n))));
}

#[test]
fn non_finite_values_are_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let mut cache = open(folder.path());
    assert!(matches!(
        cache.append(&[(key(0), vec![1.0, f32::NAN, 0.0])]),
        Err(CacheError::Row { .. })
    ));
    assert!(matches!(
        cache.append(&[(key(0), vec![1.0])]),
        Err(CacheError::Row {
            found: 1,
            width: 3,
            ..
        })
    ));
    assert!(cache.len() == 0 && open(folder.path()).len() == 0);
}
