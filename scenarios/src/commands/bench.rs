//! `trial bench`.

use crate::bench::{Figures, measure};
use crate::cli::{BenchArgs, Common, Format};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(super) fn bench(args: &BenchArgs, common: &Common) -> ExitCode {
    let mut all: Vec<Figures> = Vec::new();
    for turn in 1..=args.repeat {
        if !common.quiet {
            eprintln!("measuring, {turn} of {}", args.repeat);
        }
        all.push(measure());
    }
    let of = |pick: fn(&Figures) -> f64| median(all.iter().map(pick).collect());
    let produces = of(|figures| figures.produces_per_cpu_second);
    let idle = of(|figures| figures.idle_simulated_seconds_per_cpu_second);
    let run = of(|figures| figures.run_60s_cpu_seconds);
    let rss = all.iter().map(|figures| figures.peak_rss_bytes).max().unwrap_or(0);
    let layers: BTreeMap<&str, f64> = all
        .first()
        .map(|first| &first.layers)
        .into_iter()
        .flatten()
        .map(|(layer, _)| {
            let shares = all.iter().filter_map(|figures| figures.layers.get(layer).copied()).collect();
            (*layer, median(shares))
        })
        .collect();
    match common.format {
        Format::Json => outln!(
            "{:#}",
            json!({
                "schema": "kafka-trial/bench/v1",
                "produces_per_cpu_second": produces.round(),
                "idle_simulated_seconds_per_cpu_second": idle.round(),
                "run_60s_cpu_seconds": run,
                "peak_rss_bytes": rss,
                "layers": layers,
                "repeat": args.repeat,
            })
        ),
        Format::Text => {
            outln!(
                "{:>10.0}  acks=all produces per CPU-second (RF 3, 100 bytes, 8 producers, trace and checks on)",
                produces
            );
            outln!("{:>10.0}  simulated seconds per CPU-second, idle cluster of 3 brokers and 3 controllers", idle);
            outln!("{:>10.2}  CPU-seconds for a 60 s run at 300 requests per second, every check on", run);
            outln!("{:>10.0}  MiB peak resident set", rss as f64 / f64::from(1 << 20));
            outln!();
            outln!("the busy run's time by layer:");
            let mut by_share: Vec<_> = layers.iter().collect();
            by_share.sort_by(|left, right| right.1.total_cmp(left.1));
            for (layer, share) in by_share {
                outln!("{:>9.1}%  {layer}", share * 100.0);
            }
            outln!();
            outln!(
                "median of {} (debug assertions {})",
                args.repeat,
                if cfg!(debug_assertions) { "on" } else { "off" }
            );
        }
    }
    ExitCode::SUCCESS
}
