//! Links libFuzzer, which `tools/fuzz.sh` has built and names in `LIBFUZZER`.

#![allow(clippy::print_stdout, reason = "cargo reads it")]

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBFUZZER");
    let Some(library) = std::env::var_os("LIBFUZZER") else {
        return;
    };
    let folder = Path::new(&library).parent().unwrap_or(Path::new("."));
    println!("cargo:rustc-link-search=native={}", folder.display());
    println!("cargo:rustc-link-lib=static=fuzzer");
    println!("cargo:rustc-link-lib=stdc++");
}
