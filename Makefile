# make demo       the main job, with nothing else set up: about 20 s on a rendered workshop; installs what is missing
# make test       everything that can be checked here; installs what is missing
# make test-long  the tests of the queue at full length: 20 kills of daemon or broker, a day's backlog, 1,000 devices
# make test-arm   kernels, preprocessing and renderer on emulated ARM cores; installs what is missing
# make test-asan  the kernels under AddressSanitizer
# make cross      the programs for another machine, TARGET=aarch64, armv7 or x86_64: without GPU support, and with it for
#                 CUDA 13 and for JetPack 6; or one of them, GPU=none, cuda or cuda-jetpack6
# make deb        their Debian packages
# make board      the package on an emulated ARM board with cameras, which are then broken; installs what is missing
# make lint       formatting and lints, warnings are errors
# make lint-cuda  lints of the builds with GPU support; they build tract anew
# make bench      one criterion bench per stage of a frame's path, and what publishing an event costs
# make bench-gpu  everything that is claimed of GPUs, judged on a machine that has one: speed beside PyTorch and ONNX
#                 Runtime, embeddings beside the CPU's, ten minutes of the daemon; GPU=cuda-jetpack6 for CUDA 12.6
# make golden     writes the golden numbers of tests/fixtures anew, and runs quantised towers in ONNX Runtime (Python)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# A fresh clone under CI shares one target folder with the next.
ifdef CI
export CARGO_TARGET_DIR ?= $(HOME)/.cache/constancy/target
endif
target := $(or $(CARGO_TARGET_DIR),target)

# Inputs that are not part of the project: images, and full-size towers with random weights.
export CONSTANCY_TEST_DATA ?= $(abspath ../shared/data)
tower_script := $(wildcard ../shared/tools/clip_model.py)
ifneq ($(tower_script),)
# A tower of CLIP ViT-B/32's real size, for the share of a frame's time that is not the tower's.
tower := $(target)/towers/clip-vit-b32.onnx
export CONSTANCY_TEST_TOWER := $(abspath $(tower))
endif

# Programs that are not ours judge what is published: an implementation of Sparkplug, and Home Assistant's templates.
judges := $(target)/venv-judges
export CONSTANCY_TEST_JUDGES := $(abspath $(judges)/bin/python)

.PHONY: help setup demo test test-isa test-long test-arm test-asan cross deb board lint lint-cuda bench bench-gpu golden

help:
	@grep -E '^# make' Makefile | cut -c3-

setup:
	@tools/setup.sh

demo: setup
	cargo build --release --locked --bin constancy
	@$(target)/release/constancy demo

# One profile for everything: tract without optimisation crawls.
test: setup $(tower) $(judges)/ready
	cargo test --release --locked --workspace

test-long: setup
	CONSTANCY_TEST_LONG=1 PROPTEST_CASES=3000 cargo test --release --locked queue -- --nocapture

# What computes on the instruction set: the kernels test every one of them in `make test` already.
ISA ?= portable avx2 avx-vnni avx512-vnni avx512-bf16
test-isa: setup
	for isa in $(ISA); do echo "== CONSTANCY_ISA=$$isa"; CONSTANCY_ISA=$$isa \
	    cargo test --release --locked -p constancy-engine -p constancy \
	    -- encoder quantise pocket fit overhead; done

test-arm: setup
	@tools/setup-cross.sh
	@tools/test-arm.sh

# 32-bit machines have no CUDA.
builds = $(or $(GPU),$(if $(filter armv7,$(TARGET)),none,none cuda cuda-jetpack6))

cross: setup
	@tools/setup-cross.sh
	@for gpu in $(builds); do TARGET=$(TARGET) GPU=$$gpu cross/build.sh; done

deb: setup
	@tools/setup-cross.sh
	@tools/setup-board.sh
	@for gpu in $(builds); do TARGET=$(TARGET) GPU=$$gpu packaging/deb.sh; done

board: setup
	@tools/setup-cross.sh
	@tools/setup-board.sh
	@package=$$(TARGET=aarch64 GPU=none packaging/deb.sh) && board/board.py "$$package" $(target)/board

# Only the sanitizer needs more than a stable compiler lets through; --target keeps it out of build scripts.
test-asan:
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --release --locked -p constancy-kernels --lib \
	    --target $(shell rustc -vV | sed -n 's/^host: //p')

lint: setup
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings

lint-cuda: setup
	for build in cuda cuda-jetpack6; do \
	    cargo clippy --release --locked --features $$build --lib --bins -- -D warnings; done

bench: setup $(tower)
	cargo bench --locked

# Towers of public models' shapes with random weights, where they can be made: they take as long as the real ones.
ifneq ($(tower_script),)
MODELS ?= $(patsubst %,$(target)/towers/%.toml,clip-vit-b32 clip-vit-b16 mobileclip2-s0)
endif

bench-gpu: setup $(MODELS)
	@[ -n "$(MODELS)" ] || { echo "say MODELS=\"MANIFEST.toml …\": models/*.toml tell where the files come from" >&2; exit 64; }
	cargo build --release --locked --features $(or $(GPU),cuda) --bin constancy
	python3 -m venv $(target)/venv-gpu
	$(target)/venv-gpu/bin/pip install --quiet numpy torch timm onnxruntime-gpu
	$(target)/venv-gpu/bin/python benches/gpu.py models/pocket/pocket.toml $(MODELS)

$(target)/towers/%.toml: models/%.toml $(target)/towers/%.onnx
	@sed '/^\[text\]/,$$d; s|^file = .*|file = "$*.onnx"|' $< >$@

.PRECIOUS: $(target)/towers/%.onnx
$(target)/towers/%.onnx: $(tower_script) $(target)/venv/towers
	@mkdir -p $(dir $@)
	$(target)/venv/bin/python $(tower_script) $* $@.partial
	@mv $@.partial $@

$(target)/venv/towers:
	@mkdir -p $(target)
	python3 -m venv $(target)/venv
	$(target)/venv/bin/pip install --quiet numpy onnx onnxruntime
	@touch $@

$(judges)/ready:
	@mkdir -p $(target)
	python3 -m venv $(judges)
	$(judges)/bin/pip install --quiet pysparkplug==0.6.1 jinja2==3.1.6
	@touch $@

golden: setup
	@mkdir -p $(target)
	python3 -m venv $(target)/venv-golden
	$(target)/venv-golden/bin/pip install --quiet -r tests/golden/requirements.txt
	for script in preprocess interventions text encoder projection icm; do $(target)/venv-golden/bin/python tests/golden/$$script.py; done
	cargo build --release --locked --bin constancy
	$(target)/venv-golden/bin/python tests/golden/quantise.py --constancy $(target)/release/constancy
