//! Properties that every family has.

#![expect(
    clippy::cast_possible_truncation,
    reason = "test colours are below 256"
)]

use super::*;
use proptest::prelude::*;

/// Smooth colours with some texture.
fn image(width: u32, height: u32) -> RgbImage {
    let value = |i: u32, c: u32| {
        ((i % width * (3 + c) + i / width * (5 - c)) % 200 + (i * 31 + c * 7) % 40) as u8
    };
    let data = (0..width * height)
        .flat_map(|i| (0..3).map(move |c| value(i, c)))
        .collect();
    RgbImage {
        width,
        height,
        data,
    }
}

fn flat(value: u8) -> RgbImage {
    RgbImage {
        width: 16,
        height: 12,
        data: vec![value; 16 * 12 * 3],
    }
}

fn size(image: &RgbImage) -> (u32, u32, usize) {
    (image.width, image.height, image.data.len())
}

#[test]
fn images_of_any_size_keep_their_size() {
    for (width, height) in [
        (1, 1),
        (1, 7),
        (7, 1),
        (2, 2),
        (1, 300),
        (300, 1),
        (17, 33),
        (640, 360),
    ] {
        let image = image(width, height);
        for family in Family::ALL {
            for strength in [1e-6, 0.5, 1.0] {
                assert_eq!(
                    size(&intervene(&image, family, strength, 3)),
                    size(&image),
                    "{family} {width}×{height}"
                );
            }
        }
    }
}

#[test]
fn an_empty_image_stays_empty() {
    for family in Family::ALL {
        for (width, height) in [(0, 0), (0, 5), (5, 0)] {
            let empty = RgbImage {
                width,
                height,
                data: Vec::new(),
            };
            assert_eq!(intervene(&empty, family, 1.0, 3), empty, "{family}");
        }
    }
}

#[test]
fn strength_zero_changes_nothing() {
    let image = image(31, 23);
    for family in Family::ALL {
        for strength in [0.0, -1.0, f32::NAN] {
            assert_eq!(intervene(&image, family, strength, 8), image, "{family}");
        }
        assert_eq!(
            intervene(&image, family, 2.0, 8),
            intervene(&image, family, 1.0, 8),
            "{family}"
        );
    }
}

#[test]
fn more_strength_changes_more() {
    let image = image(96, 80);
    let off = |family, strength| {
        let total: u64 = (0..8)
            .flat_map(|seed| intervene(&image, family, strength, seed).data)
            .zip(image.data.iter().cycle())
            .map(|(a, b)| u64::from(a.abs_diff(*b)))
            .sum();
        total as f32 / (8 * image.data.len()) as f32
    };
    for family in Family::ALL {
        let range = family.strengths();
        let (least, most) = (off(family, *range.start()), off(family, *range.end()));
        println!("{family:14} moves a value by {least:5.1} to {most:5.1} of 255");
        assert!(
            least > 0.5,
            "{family} hardly shows at {}: {least}",
            range.start()
        );
        assert!(
            most > 1.2 * least || family.is_switch(),
            "{family}: {least}, {most}"
        );
    }
}

#[test]
fn black_stays_black_and_white_stays_brighter() {
    use Family::{
        Banding, ColourJitter, Defocus, Equalise, Exposure, Gamma, GaussianBlur, GreyScale,
        Infrared,
    };
    use Family::{
        Inversion, MotionBlur, Posterise, Solarise, Vignetting, WaterDrops, WhiteBalance,
    };
    let keep_black = [
        ColourJitter,
        GreyScale,
        GaussianBlur,
        Posterise,
        Solarise,
        Equalise,
        Exposure,
        Gamma,
        WhiteBalance,
        MotionBlur,
        Defocus,
        Vignetting,
        Banding,
        WaterDrops,
        Infrared,
    ];
    let mean =
        |i: &RgbImage| i.data.iter().map(|&v| u32::from(v)).sum::<u32>() / i.data.len() as u32;
    for family in Family::ALL {
        for strength in [0.3, 1.0] {
            let [black, white] = [0, 255].map(|v| intervene(&flat(v), family, strength, 5));
            assert!(
                black == flat(0) || !keep_black.contains(&family),
                "{family} on black"
            );
            assert!(
                mean(&white) > mean(&black) || matches!(family, Inversion | Solarise),
                "{family}"
            );
        }
    }
}

#[test]
fn the_seed_matters_where_a_family_is_random() {
    let none = [
        Family::GreyScale,
        Family::GaussianBlur,
        Family::Inversion,
        Family::Posterise,
        Family::Solarise,
        Family::Equalise,
        Family::Defocus,
        Family::Jpeg,
    ];
    let image = image(48, 40);
    for family in Family::ALL {
        let all: std::collections::BTreeSet<Vec<u8>> = (0..6)
            .map(|seed| intervene(&image, family, 0.8, seed).data)
            .collect();
        assert_eq!(
            all.len() == 1,
            none.contains(&family),
            "{family}: {} outcomes",
            all.len()
        );
    }
}

/// FNV-1a of the pixels.
fn digest(image: &RgbImage) -> u64 {
    image.data.iter().fold(0xCBF2_9CE4_8422_2325, |h: u64, &v| {
        (h ^ u64::from(v)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[test]
fn every_machine_makes_the_same_bytes() {
    // Recorded on x86-64. A change here changes every fit: say so in CHANGELOG.md.
    const DIGESTS: [u64; 20] = [
        0x161a_4d64_988c_1d2f,
        0x79c1_973a_de08_b09e,
        0x2972_974b_2667_ec4e,
        0x1012_7e6b_0417_b14e,
        0xe526_ede9_c597_2c7f,
        0xe4b6_c50f_10ac_1d74,
        0x0b57_068c_ac02_b229,
        0xcc31_f68e_13a9_a85a,
        0x9fe1_d831_107e_4545,
        0xc807_aece_a604_efc8,
        0xb97c_78d4_cacb_c744,
        0xdd32_0297_68b7_ca3b,
        0xb4e0_587c_2a5f_d7e7,
        0x074c_07e4_9560_6e50,
        0xfb3b_502e_46b8_288e,
        0x0290_258f_8a4b_d397,
        0x5da8_6bde_fa7b_f966,
        0x5bb4_2ee3_7db5_93d4,
        0xa6b0_4cd0_3c5f_a778,
        0x0f5a_2992_8927_8a60,
    ];
    let image = image(61, 47);
    let digests = Family::ALL.map(|family| digest(&intervene(&image, family, 0.7, 1234)));
    assert_eq!(digests, DIGESTS, "{digests:#018x?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_image_keeps_its_size_and_gives_the_same_result_twice(
        (width, height, data) in (1u32..24, 1u32..24).prop_flat_map(|(w, h)| {
            (Just(w), Just(h), prop::collection::vec(any::<u8>(), (w * h * 3) as usize))
        }),
        strength in 0.0f32..=1.0,
        seed: u64,
    ) {
        let image = RgbImage { width, height, data };
        for family in Family::ALL {
            let changed = intervene(&image, family, strength, seed);
            prop_assert_eq!(size(&changed), size(&image));
            prop_assert_eq!(changed, intervene(&image, family, strength, seed));
        }
    }
}
