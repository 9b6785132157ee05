//! Arguments of `constancy classes evaluate`.

use crate::cli::image_embeddings::{EmbeddingArgs, Families, parse_interventions};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(in crate::cli) struct EvaluateArgs {
    /// Class bank, as written by `constancy classes`
    pub bank: PathBuf,
    /// Folder of images that the bank was not made from: HELD/CLASS/IMAGE or HELD/ENVIRONMENT/CLASS/IMAGE
    ///
    /// Folders that are no class of the bank show how often it takes something unknown for a class.
    pub held: PathBuf,
    #[command(flatten)]
    pub embedding: EmbeddingArgs,
    /// Projection file to apply; defaults to the one in --config, or to none
    #[arg(short, long, conflicts_with = "config")]
    pub projection: Option<PathBuf>,
    /// Intervention families to apply to each image: comma-separated names, the sets `paper`, `camera` and `all`, or
    /// `none`
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = parse_interventions)]
    pub interventions: Families,
    /// Least confidence of a known answer, or least score for a bank without confidence, 0 to 1; defaults to the one in
    /// --config, or to 0.9, without calibration to 0.5
    #[arg(long, value_parser = parse_threshold)]
    pub threshold: Option<f32>,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Write the report with plots as a self-contained HTML page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

fn parse_threshold(given: &str) -> Result<f32, String> {
    match given.parse() {
        Ok(threshold) if (0.0..=1.0).contains(&threshold) => Ok(threshold),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_threshold;

    #[test]
    fn a_threshold_is_a_share() {
        assert_eq!(parse_threshold("0.25"), Ok(0.25));
        for refused in ["1.1", "-0.1", "NaN", "half"] {
            assert!(parse_threshold(refused).is_err(), "{refused}");
        }
    }
}
