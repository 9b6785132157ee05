#!/bin/sh
# cargo's RUSTC_WORKSPACE_WRAPPER of tools/fuzz.sh: compiles our own crates with libFuzzer's coverage counters, overflow checks
# and the entries of the fuzz targets. Build scripts stay as they are.
case " $* " in
*" --crate-name build_script_build "* | *" --crate-name ___ "*) exec "$@" ;;
esac
exec "$@" --cfg fuzzing -Coverflow-checks=on -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
