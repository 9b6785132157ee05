//! A picture that stays the same: the answer of an earlier frame stands for it, where the camera allows it.

use super::support::{LIMIT, Setup, write_images};
use serde_json::Value;

/// The events of a recording of forty times the same picture, another, and the first again twice.
fn events(reuse: &str) -> Vec<Value> {
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n{reuse}[camera.replay]\npath = \"list.txt\"\n"
    ));
    write_images(&setup.path("images"), 2);
    let mut images: Vec<_> = std::fs::read_dir(setup.path("images"))
        .expect("images")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    images.sort();
    let line = |i: usize| format!("{}\n", images[i].display());
    let list = line(0).repeat(40) + &line(1) + &line(0).repeat(2);
    std::fs::write(setup.path("list.txt"), list).expect("list");
    let mut daemon = setup.start();
    let (status, _) = daemon.wait_exit(LIMIT);
    assert!(status.success(), "{}", daemon.log());
    daemon.wait_events(43)
}

#[test]
fn a_picture_that_stays_the_same_is_not_embedded_again() {
    let all = events("");
    assert!(
        all.iter()
            .all(|e| e["reused"] == false && e["age_ms"].is_null())
    );
    let some = events("reuse_s = 600.0\n");
    let reused = |i: usize| some[i]["reused"] == true;
    let first = (0..40).find(|&i| reused(i)).expect("it is reused");
    assert!((5..30).contains(&first), "it learns first: {first}");
    assert!((first..40).all(reused), "until something else comes");
    assert!(some[39]["age_ms"].as_f64() > some[first]["age_ms"].as_f64());
    assert_eq!(some[39]["latency_ms"]["embed"], 0.0);
    assert!(!reused(40) && !reused(41), "a change is embedded at once");
    for (a, b) in all.iter().zip(&some) {
        for field in ["class", "score", "known", "top"] {
            assert_eq!(a[field], b[field], "{}", a["seq"]);
        }
    }
}
