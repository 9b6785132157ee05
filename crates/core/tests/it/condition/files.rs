//! The reference in a bank, and profiles as files.

use super::world::{WIDTH, World, classifier};
use constancy_core::classify::ClassBank;
use constancy_core::classify::condition::{
    Binding, Comparison, Offset, OffsetKind, Profile, ProfileError, Summary,
};

fn profile() -> Profile {
    let summary = Summary {
        confidence: Some(0.5),
        known: 0.25,
        drift: None,
    };
    Profile {
        id: "3-9f2c".into(),
        created: "2026-11-30T21:00:00.000Z".into(),
        offset: Offset {
            vector: vec![0.25; WIDTH],
            kind: OffsetKind::Whole,
            light: 0.75,
            frames: 40,
        },
        place: vec![0.5, -0.5],
        shown: Comparison {
            before: summary,
            after: summary,
            agreement: 1.0,
        },
    }
}

fn binding() -> Binding {
    Binding {
        camera: "belt".into(),
        encoder_sha256: "ab".repeat(32),
        projection: "identity".into(),
        bank: "0123456789ab".into(),
    }
}

#[test]
fn a_bank_keeps_the_light_that_it_was_calibrated_in_and_an_older_one_has_none() {
    let mut bank = World::new(0.0, 7).bank(40);
    let reference = classifier(&bank).reference().cloned();
    assert!(reference.as_ref().is_some_and(|r| !r.axes.is_empty()));
    let read = ClassBank::parse(&bank.to_bytes().expect("bytes")).expect("bank");
    assert_eq!(read, bank);
    assert_eq!(classifier(&read).reference().cloned(), reference);
    bank.confidence.as_mut().expect("calibrated").reference = None;
    let read = ClassBank::parse(&bank.to_bytes().expect("bytes")).expect("bank");
    assert!(read.confidence.is_some() && classifier(&read).reference().is_none());
}

#[test]
fn a_damaged_light_is_refused() {
    let mut bank = World::new(0.0, 8).bank(40);
    let reference = bank.confidence.as_mut().and_then(|c| c.reference.as_mut());
    reference.expect("a reference").mean[3] = 1e6;
    let error = ClassBank::parse(&bank.to_bytes().expect("bytes")).expect_err("refused");
    assert!(error.to_string().contains("impossible light"), "{error}");
}

type Change = fn(&mut Binding);

#[test]
fn a_profile_is_read_back_where_it_belongs_and_refused_by_name_elsewhere() {
    let bytes = profile().to_bytes(&binding()).expect("bytes");
    assert_eq!(
        Profile::parse(&bytes, &binding(), WIDTH).expect("profile"),
        profile()
    );
    let others: [(Change, &str); 4] = [
        (
            |b| b.camera = "gate".into(),
            "belongs to camera belt, and gate is loaded",
        ),
        (
            |b| b.encoder_sha256 = "cd".repeat(32),
            "the model abababababab, and cdcdcdcdcdcd",
        ),
        (
            |b| b.projection = "f4b1dbb4f2ce".into(),
            "projection identity",
        ),
        (
            |b| b.bank = "ba987654321f".into(),
            "class bank 0123456789ab, and ba987654321f",
        ),
    ];
    for (change, words) in others {
        let mut other = binding();
        change(&mut other);
        let error = Profile::parse(&bytes, &other, WIDTH)
            .expect_err("refused")
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn no_damaged_profile_makes_it_panic() {
    let bytes = profile().to_bytes(&binding()).expect("bytes");
    assert!(Profile::parse(&bytes, &binding(), WIDTH + 1).is_err());
    for cut in (0..bytes.len()).step_by(7) {
        assert!(Profile::parse(&bytes[..cut], &binding(), WIDTH).is_err());
        let mut flipped = bytes.clone();
        flipped[cut] ^= 0x55;
        let _ = Profile::parse(&flipped, &binding(), WIDTH);
    }
    let mut huge = profile();
    huge.offset.vector[0] = 9.0;
    let bytes = huge.to_bytes(&binding()).expect("bytes");
    let error = Profile::parse(&bytes, &binding(), WIDTH).expect_err("refused");
    assert!(matches!(error, ProfileError::Damaged), "{error}");
}
