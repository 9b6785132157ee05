//! Interventions through text: captions, each with an edit that changes only the environment.
//!
//! CLIP's two towers share one space. The difference between the embeddings of "a photo of a dog"
//! and "a photo of a dog at night" points where a change of light moves an image. Pairs come from a
//! file ([`parse_pairs`]) or from built-in edits ([`Edit::ALL`]).
//!
//! # The file
//!
//! UTF-8 text with one pair per line: a caption, a tab, the edited caption. Spaces around both are
//! stripped; empty lines and lines that begin with `#` are skipped.
//!
//! ```text
//! # caption<TAB>the same thing elsewhere
//! a horse in a meadow<TAB>a horse on a sandy beach at night
//! a photo of a cracked gear<TAB>a photo of a cracked gear in thick fog
//! ```

use std::fmt;
use thiserror::Error;

/// The name of the family of such pairs.
pub const CAPTIONS: &str = "captions";

/// Two captions of the same thing in different environments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptionPair {
    pub caption: String,
    /// The caption in another environment.
    pub edited: String,
}

/// Why a file of pairs was refused; names the file and the line, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CaptionError {
    #[error("{file}, line {line}: {problem}")]
    Line {
        file: String,
        line: usize,
        problem: LineProblem,
    },
    #[error(
        "{file} holds no pair; write one a line: a caption, a tab, and the caption in another environment"
    )]
    NoPairs { file: String },
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LineProblem {
    #[error("not UTF-8; save the file as UTF-8")]
    Encoding,
    #[error("no tab; write a caption, a tab, and the caption in another environment")]
    NoTab,
    #[error(
        "this is JSON; write a caption, a tab, and the edited one, as `jq -r '[.caption, .edited] | @tsv'` does"
    )]
    Json,
    #[error("more than one tab; a line is one pair")]
    Tabs,
    #[error("nothing before the tab; the caption belongs there")]
    NoCaption,
    #[error("nothing behind the tab; the caption in another environment belongs there")]
    NoEdit,
    #[error("both captions are the same; change the environment in the second")]
    Same,
}

/// Parses the bytes of a file of pairs; `file` is its name, for errors.
///
/// ```
/// use constancy_core::icm::captions::parse_pairs;
///
/// let pairs = parse_pairs("pairs.tsv", b"# horses\na horse\ta horse at night\n")?;
/// assert_eq!(pairs[0].edited, "a horse at night");
///
/// let error = parse_pairs("pairs.tsv", b"a horse").unwrap_err();
/// assert!(error.to_string().starts_with("pairs.tsv, line 1: no tab"));
/// # Ok::<(), constancy_core::icm::captions::CaptionError>(())
/// ```
pub fn parse_pairs(file: &str, bytes: &[u8]) -> Result<Vec<CaptionPair>, CaptionError> {
    // The byte order mark that some editors write.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut pairs = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|&b| b == b'\n')) {
        let at_line = |problem| CaptionError::Line {
            file: file.into(),
            line: number,
            problem,
        };
        let line = std::str::from_utf8(line).map_err(|_| at_line(LineProblem::Encoding))?;
        if !line.trim().is_empty() && !line.trim_start().starts_with('#') {
            pairs.push(parse_line(line).map_err(at_line)?);
        }
    }
    if pairs.is_empty() {
        Err(CaptionError::NoPairs { file: file.into() })
    } else {
        Ok(pairs)
    }
}

fn parse_line(line: &str) -> Result<CaptionPair, LineProblem> {
    let Some((caption, edited)) = line.split_once('\t') else {
        return Err(if line.trim_start().starts_with('{') {
            LineProblem::Json
        } else {
            LineProblem::NoTab
        });
    };
    let (caption, edited) = (caption.trim(), edited.trim());
    match (caption, edited) {
        (_, edited) if edited.contains('\t') => Err(LineProblem::Tabs),
        ("", _) => Err(LineProblem::NoCaption),
        (_, "") => Err(LineProblem::NoEdit),
        (caption, edited) if caption == edited => Err(LineProblem::Same),
        _ => Ok(CaptionPair {
            caption: caption.into(),
            edited: edited.into(),
        }),
    }
}

/// What an edit changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    Light,
    Weather,
    Lens,
    Sensor,
    /// Where the thing is.
    Place,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Light => "light",
            Self::Weather => "weather",
            Self::Lens => "lens",
            Self::Sensor => "sensor",
            Self::Place => "place",
        })
    }
}

/// An edit that fits any caption: a few words appended to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit {
    pub cause: Cause,
    /// The words that are appended to a caption.
    pub words: &'static str,
}

impl Edit {
    /// All built-in edits. Their causes are those of the image interventions, and places, which
    /// image interventions cannot change.
    pub const ALL: &'static [Self] = &[
        Self::new(Cause::Light, "at night"),
        Self::new(Cause::Light, "at dusk"),
        Self::new(Cause::Light, "under warm light"),
        Self::new(Cause::Light, "under cold fluorescent light"),
        Self::new(Cause::Light, "in harsh sunlight"),
        Self::new(Cause::Light, "against the light"),
        Self::new(Cause::Light, "in very dim light"),
        Self::new(Cause::Light, "under red light"),
        Self::new(Cause::Light, "under blue light"),
        Self::new(Cause::Weather, "in fog"),
        Self::new(Cause::Weather, "in the rain"),
        Self::new(Cause::Weather, "in falling snow"),
        Self::new(Cause::Weather, "in thick haze"),
        Self::new(Cause::Lens, "through a dirty lens"),
        Self::new(Cause::Lens, "through a wet window"),
        Self::new(Cause::Lens, "out of focus"),
        Self::new(Cause::Lens, "blurred by motion"),
        Self::new(Cause::Sensor, "in black and white"),
        Self::new(Cause::Sensor, "in an infrared image"),
        Self::new(Cause::Sensor, "in a grainy, noisy image"),
        Self::new(Cause::Sensor, "in a low-resolution image"),
        Self::new(Cause::Sensor, "in an overexposed image"),
        Self::new(Cause::Sensor, "in an underexposed image"),
        Self::new(Cause::Sensor, "in an image with compression artefacts"),
        Self::new(Cause::Place, "on a sandy beach"),
        Self::new(Cause::Place, "on grass"),
        Self::new(Cause::Place, "on concrete"),
        Self::new(Cause::Place, "on a wooden table"),
        Self::new(Cause::Place, "in a warehouse"),
        Self::new(Cause::Place, "in a city street"),
    ];

    const fn new(cause: Cause, words: &'static str) -> Self {
        Self { cause, words }
    }

    /// The pair of `caption` and its edit, which goes before a final full stop; `None` if the
    /// caption is empty or already has the words.
    #[must_use]
    pub fn pair(&self, caption: &str) -> Option<CaptionPair> {
        let caption = caption.trim();
        let (text, stop) = caption
            .strip_suffix('.')
            .map_or((caption, ""), |text| (text.trim_end(), "."));
        if text.is_empty() || text.to_lowercase().contains(self.words) {
            return None;
        }
        Some(CaptionPair {
            caption: caption.into(),
            edited: format!("{text} {}{stop}", self.words),
        })
    }

    /// The pairs of every caption with every edit, caption by caption.
    #[must_use]
    pub fn pairs(edits: &[Self], captions: &[String]) -> Vec<CaptionPair> {
        captions
            .iter()
            .flat_map(|caption| edits.iter().filter_map(|edit| edit.pair(caption)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(caption: &str, edited: &str) -> CaptionPair {
        CaptionPair {
            caption: caption.into(),
            edited: edited.into(),
        }
    }

    #[test]
    fn pairs_are_read_and_comments_skipped() {
        let file = "\u{feff}# horses\r\na horse\ta horse at night\r\n\n  \n  a grüner Apfel \t a grüner Apfel in fog";
        let pairs = parse_pairs("pairs.tsv", file.as_bytes());
        let expected = vec![
            pair("a horse", "a horse at night"),
            pair("a grüner Apfel", "a grüner Apfel in fog"),
        ];
        assert_eq!(pairs, Ok(expected));
    }

    #[test]
    fn errors_name_file_line_and_the_way_out() {
        let cases: [(&[u8], &str, &str); 8] = [
            (b"a\tb\nonly one", "line 2", "a caption, a tab"),
            (b"# none\n", "pairs.tsv holds no pair", "one a line"),
            (
                b"{\"caption\": \"a\", \"edited\": \"b\"}",
                "line 1",
                "jq -r",
            ),
            (b"a\tb\tc", "line 1", "more than one tab"),
            (b"\n\tb", "line 2", "before the tab"),
            (b"a\tb\n\nc\t \n", "line 3", "behind the tab"),
            (b"a\t a", "line 1", "the same"),
            (b"a\tb\nca\xe7\tcb", "line 2", "UTF-8"),
        ];
        for (bytes, place, hint) in cases {
            let error = parse_pairs("pairs.tsv", bytes)
                .expect_err("refused")
                .to_string();
            assert!(
                error.starts_with("pairs.tsv") && error.contains(place) && error.contains(hint),
                "{error}"
            );
        }
    }

    #[test]
    fn edits_go_before_the_full_stop() {
        let night = Edit::ALL[0];
        assert_eq!(
            night.pair("a photo of a dog."),
            Some(pair("a photo of a dog.", "a photo of a dog at night."))
        );
        assert_eq!(night.pair(" a dog "), Some(pair("a dog", "a dog at night")));
        assert_eq!(
            [
                night.pair("An owl At Night"),
                night.pair(" "),
                night.pair(".")
            ],
            [None, None, None]
        );
    }

    #[test]
    fn every_caption_is_paired_with_every_edit() {
        let captions = ["a gear".to_string(), "a bolt at night".to_string()];
        let pairs = Edit::pairs(Edit::ALL, &captions);
        assert_eq!(pairs.len(), 2 * Edit::ALL.len() - 1);
        assert_eq!(pairs[0], pair("a gear", "a gear at night"));
    }

    #[test]
    fn every_cause_has_edits_and_no_edit_occurs_twice() {
        use Cause::{Lens, Light, Place, Sensor, Weather};
        for cause in [Light, Weather, Lens, Sensor, Place] {
            assert!(
                Edit::ALL.iter().filter(|e| e.cause == cause).count() >= 4,
                "{cause}"
            );
        }
        for (i, edit) in Edit::ALL.iter().enumerate() {
            assert!(
                Edit::ALL[..i].iter().all(|e| e.words != edit.words),
                "{}",
                edit.words
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_pairs_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(pairs) = parse_pairs("pairs.tsv", &bytes) {
                prop_assert!(pairs.iter().all(|p| !p.caption.is_empty() && p.caption != p.edited));
            }
        }
    }
}
