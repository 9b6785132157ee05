//! `constancy bench`: measures how fast this machine runs a model, and the share of each operator.

use super::CliError;
use super::model_args::ModelArgs;
use super::output::{json_line, line};
use clap::Args;
use constancy_core::stats::quantile;
use constancy_engine::Encoder;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Warm-up runs, which are not counted.
const WARM_UP: usize = 3;
/// Seed of the noise images.
const SEED: u64 = 1;

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Number of batches to time
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Number of images per batch
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    batch: u32,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The measurements of one model.
#[derive(Debug, Serialize)]
struct Report<'a> {
    model: &'a str,
    model_sha256: &'a str,
    /// The GPU, the instruction set of the fused operators, or `tract` where there are none.
    device: &'a str,
    threads: usize,
    batch: usize,
    runs: usize,
    /// From opening the file to the first embedding.
    load_ms: f64,
    median_ms: f64,
    p95_ms: f64,
    images_per_second: f64,
    weights_mb: f64,
    peak_resident_mb: f64,
    /// Time of each kind of operator in one batch, in descending order.
    operators: Vec<Share>,
}

#[derive(Debug, Serialize)]
struct Share {
    operator: String,
    calls: usize,
    ms: f64,
    percent: f64,
}

pub(super) fn run(args: &BenchArgs) -> Result<(), CliError> {
    let start = Instant::now();
    let loaded = args.model.load()?;
    let encoder = loaded.frame_encoder.encoder();
    let input = encoder.manifest().noise(args.batch as usize, SEED);
    encoder.embed_batch(&input, args.batch as usize)?;
    let load_ms = ms(start.elapsed());
    let times = measure(encoder, &input, args)?;
    let total: f64 = times.iter().sum();
    let info = encoder.info();
    let report = Report {
        model: &encoder.manifest().encoder.name,
        model_sha256: encoder.sha256(),
        device: match &info.gpu {
            Some(gpu) => gpu,
            None if info.weight_bytes == 0 => "tract",
            None => info.isa.name(),
        },
        threads: info.threads,
        batch: args.batch as usize,
        runs: times.len(),
        load_ms,
        median_ms: quantile(&times, 0.5),
        p95_ms: quantile(&times, 0.95),
        images_per_second: times.len() as f64 * f64::from(args.batch) / total * 1e3,
        weights_mb: info.weight_bytes as f64 / 1e6,
        peak_resident_mb: peak_resident_mb(),
        operators: shares(encoder, &input, args.batch as usize)?,
    };
    // If the GPU was lost, the CPU made these figures: report an error instead.
    encoder.ensure_no_fallback()?;
    if args.json {
        json_line(&report)
    } else {
        print(&report)
    }
}

/// Milliseconds of each run, sorted.
fn measure(encoder: &Encoder, input: &[f32], args: &BenchArgs) -> Result<Vec<f64>, CliError> {
    let mut times = Vec::new();
    for run in 0..WARM_UP + args.runs as usize {
        let start = Instant::now();
        encoder.embed_batch(input, args.batch as usize)?;
        if run >= WARM_UP {
            times.push(ms(start.elapsed()));
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Time of each kind of operator in descending order, from the median of several profiles.
fn shares(encoder: &Encoder, input: &[f32], batch: usize) -> Result<Vec<Share>, CliError> {
    const ROUNDS: usize = 9;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(encoder.profile(input, batch)?);
    }
    let total =
        |round: &Vec<(String, usize, Duration)>| round.iter().map(|(_, _, t)| *t).sum::<Duration>();
    rounds.sort_by_key(total);
    let median = rounds.swap_remove(ROUNDS / 2);
    let all = ms(total(&median));
    let mut shares: Vec<Share> = median
        .into_iter()
        .map(|(operator, calls, time)| Share {
            operator,
            calls,
            ms: ms(time),
            percent: ms(time) / all * 100.0,
        })
        .collect();
    shares.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    Ok(shares)
}

fn print(report: &Report<'_>) -> Result<(), CliError> {
    let Report {
        model,
        device,
        threads,
        batch,
        ..
    } = report;
    line(&format!(
        "{model} on {device}, {threads} {}, batch {batch}",
        if *threads == 1 { "thread" } else { "threads" }
    ))?;
    line(&format!(
        "latency     {:.2} ms in the median of {} runs, {:.2} ms at the 95th percentile; {:.1} images/s",
        report.median_ms, report.runs, report.p95_ms, report.images_per_second
    ))?;
    line(&format!(
        "load        {:.0} ms to the first embedding",
        report.load_ms
    ))?;
    line(&format!(
        "memory      {:.1} MB of packed weights, {:.1} MB resident at most",
        report.weights_mb, report.peak_resident_mb
    ))?;
    line("operator                 calls       ms   share")?;
    for share in &report.operators {
        line(&format!(
            "{:<24} {:>5} {:>8.3} {:>5.1} %",
            share.operator, share.calls, share.ms, share.percent
        ))?;
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Peak resident memory of this process, MB; 0 if the system does not report it.
fn peak_resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0 / 1e6
}
