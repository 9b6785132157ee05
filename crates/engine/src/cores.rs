//! The default number of threads for inference.

use std::path::Path;

/// Number of cores that this process may use and that are about as fast as the fastest; at least 1.
///
/// Boards pair fast cores with slow ones, and work that is shared evenly waits for the slowest
/// core. Linux gives a core's speed as `cpu_capacity` or else as its highest frequency.
#[must_use]
pub fn performance_cores() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let speeds = core_speeds(Path::new("/sys/devices/system/cpu"));
    let fastest = speeds.iter().copied().max().unwrap_or(0);
    // Equal cores may differ a little in their turbo limits.
    let fast = speeds.iter().filter(|&&s| s * 10 >= fastest * 8).count();
    if fast == 0 {
        allowed
    } else {
        allowed.min(fast)
    }
}

/// The speed of every core, in order; empty where Linux gives none.
fn core_speeds(cpus: &Path) -> Vec<u64> {
    let number = |path: std::path::PathBuf| std::fs::read_to_string(path).ok()?.trim().parse().ok();
    let one = |i: usize| -> Option<u64> {
        let cpu = cpus.join(format!("cpu{i}"));
        number(cpu.join("cpu_capacity")).or_else(|| number(cpu.join("cpufreq/cpuinfo_max_freq")))
    };
    (0..).map_while(one).collect()
}

#[cfg(test)]
mod tests {
    use super::core_speeds;

    #[test]
    fn speeds_come_from_capacity_then_from_frequency() {
        let folder = tempfile::tempdir().expect("folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("folder")).expect("folder");
            std::fs::write(path, text).expect("file");
        };
        write("cpu0/cpu_capacity", "430\n");
        write("cpu1/cpu_capacity", "1024\n");
        write("cpu2/cpufreq/cpuinfo_max_freq", "2400000\n");
        assert_eq!(core_speeds(folder.path()), [430, 1024, 2_400_000]);
        assert!(core_speeds(&folder.path().join("none")).is_empty());
    }
}
