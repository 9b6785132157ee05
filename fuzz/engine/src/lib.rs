//! Nothing of its own: building it builds libFuzzer.
