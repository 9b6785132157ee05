# make demo       runs the daemon on a rendered workshop, with a broker of its own (30 s)
# make test       runs every test that this machine can run
# make test-isa   runs the engine's tests once per instruction set; ISA=avx2 runs one
# make test-long  runs the queue's tests at full length: 20 kills of daemon or broker, a day's backlog, 1,000 devices
# make soak       breaks camera, network, disk, configuration and clock at random for an hour; SOAK=60 for a minute
# make test-arm   runs kernels, preprocessing and renderer on emulated ARM cores
# make test-asan  runs the kernels' tests under AddressSanitizer (1 min)
# make fuzz       feeds mutated input to everything that reads what others have made, SECONDS=60 for each kind
# make cross      builds the programs for another machine, TARGET=aarch64, armv7 or x86_64: without GPU support, for CUDA 13
#                 and for JetPack 6; GPU=none, cuda or cuda-jetpack6 builds one of them
# make deb        builds their Debian packages
# make board      installs the package on an emulated ARM board and breaks its cameras
# make lint       checks formatting, lints, API documentation and licences; warnings are errors
# make lint-cuda  lints the builds with GPU support, which compile tract anew
# make bench      runs one criterion bench per stage of a frame's path, and measures what publishing an event costs
# make bench-gpu  on a machine with an NVIDIA GPU: measures speed beside PyTorch and ONNX Runtime, compares embeddings with
#                 the CPU's, runs the daemon for ten minutes; GPU=cuda-jetpack6 for CUDA 12.6
# make golden     writes the golden numbers of tests/fixtures, and runs quantised towers in ONNX Runtime (Python)
#
# All targets install what they need and this machine lacks.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Under CI, fresh clones share one target folder.
ifdef CI
export CARGO_TARGET_DIR ?= $(HOME)/.cache/constancy/target
endif
target := $(or $(CARGO_TARGET_DIR),target)

# Test data outside the project: images, and full-size towers with random weights.
export CONSTANCY_TEST_DATA ?= $(abspath ../shared/data)
tower_script := $(wildcard ../shared/tools/clip_model.py)
ifneq ($(tower_script),)
# A tower of ViT-B/32's size, to measure what a frame costs besides the tower.
tower := $(target)/towers/clip-vit-b32.onnx
export CONSTANCY_TEST_TOWER := $(abspath $(tower))
endif

# Other programs check what is published: a Sparkplug implementation, and Home Assistant's templates.
judges := $(target)/venv-judges
export CONSTANCY_TEST_JUDGES := $(abspath $(judges)/bin/python)

.PHONY: help setup demo test test-isa test-long soak test-arm test-asan fuzz cross deb board lint lint-cuda bench bench-gpu golden

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

setup:
	@tools/setup.sh

demo: setup
	cargo build --release --locked --bin constancy
	@$(target)/release/constancy demo

# Release profile only: tract is too slow without optimisation.
test: setup $(tower) $(judges)/ready
	cargo test --release --locked --workspace

test-long: setup
	CONSTANCY_TEST_LONG=1 PROPTEST_CASES=3000 cargo test --release --locked queue -- --nocapture

SOAK ?= 3600
soak: setup
	CONSTANCY_SOAK_SECONDS=$(SOAK) cargo test --release --locked --test it soak:: -- --nocapture

# The tests that depend on the instruction set. The kernels' own tests cover every set in `make test`.
ISA ?= portable avx2 avx-vnni avx512-vnni avx512-bf16
test-isa: setup
	@for isa in $(ISA); do \
	    echo "== CONSTANCY_ISA=$$isa"; export CONSTANCY_ISA=$$isa; \
	    cargo test --release --locked -p constancy-kernels -p constancy-engine; \
	    cargo test --release --locked --test it -- encoder:: quantise:: pocket:: fit::; \
	done

test-arm: setup
	@tools/setup-cross.sh
	@tools/test-arm.sh

# CUDA does not exist for 32-bit ARM.
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

# RUSTC_BOOTSTRAP enables the sanitizer on stable. --target keeps it out of build scripts.
test-asan:
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --release --locked -p constancy-kernels --lib \
	    --target $(shell rustc -vV | sed -n 's/^host: //p')

SECONDS ?= 60
fuzz: setup
	@tools/fuzz.sh $(SECONDS) $(FUZZ)

lint: setup
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps --document-private-items
	@tools/licences.py

lint-cuda: setup
	for build in cuda cuda-jetpack6; do \
	    cargo clippy --release --locked -p constancy-engine -p constancy --features $$build --lib --bins -- -D warnings; done

bench: setup $(tower)
	cargo bench --locked

# Towers in the shapes of public models with random weights; they run as long as the real ones.
ifneq ($(tower_script),)
MODELS ?= $(patsubst %,$(target)/towers/%.toml,clip-vit-b32 clip-vit-b16 mobileclip2-s0)
endif

bench-gpu: setup $(MODELS)
	@[ -n "$(MODELS)" ] || { echo "set MODELS=\"MANIFEST.toml …\"; models/*.toml name the files' sources" >&2; exit 64; }
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
	for script in preprocess cameras interventions text encoder convolution projection icm whitening confidence reliability; do $(target)/venv-golden/bin/python tests/golden/$$script.py; done
	cargo build --release --locked --bin constancy
	$(target)/venv-golden/bin/python tests/golden/quantise.py --constancy $(target)/release/constancy
