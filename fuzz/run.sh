#!/bin/sh
# Fuzzes each target for SECONDS, one after the other, and stops at the first finding: `fuzz/run.sh [SECONDS] [TARGET…]`.
# Needs the pinned toolchain, a C++ compiler (for libFuzzer) and Python.
set -eu
cd "$(dirname "$0")"

seconds=${1:-300}
[ $# -eq 0 ] || shift

# Targets, and the folders below `dialect` whose fixtures they begin with; a target is a provider, or one that `main.rs` names.
folder() {
    case $1 in
    framers | door-openai) echo openai ;;
    agents) echo mlflow ;;
    mlflow-predict | door-scoring) echo scoring ;;
    openai-responses) echo openai_responses ;;
    huggingface-text-generation-inference) echo tgi ;;
    vertex-ai) echo vertex ;;
    *) echo "$1" ;;
    esac
}
all="openai-responses anthropic gemini bedrock cohere ollama huggingface-text-generation-inference mlflow mlflow-predict sagemaker openai
    framers door-openai door-scoring azure databricks vertex-ai agents door-oip door-oip-rest oip-answers batches
    model-onnx model-xgboost model-lightgbm model-file model-body"
[ $# -gt 0 ] || set -- $all

# Coverage for libFuzzer, which needs no nightly compiler; `--target` keeps it out of build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# What is shipped is what is fuzzed.
cp ../Cargo.lock Cargo.lock
RUSTFLAGS="$flags" cargo build --release --target "$host"
program=${CARGO_TARGET_DIR:-target}/$host/release/flowgate-fuzz

for target in "$@"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    python3 seeds.py "$target" "$(folder "$target")" "seeds/$target"
    echo "== $target for $seconds s"
    if ! FUZZ_TARGET=${target%-predict} "$program" -max_total_time="$seconds" -max_len=65536 -timeout=20 -rss_limit_mb=1024 -print_final_stats=1 \
        -dict="seeds/$target.dict" -artifact_prefix="artifacts/$target/" "corpus/$target" "seeds/$target"; then
        echo "== $target failed; again with: cd fuzz && FUZZ_TARGET=${target%-predict} $program artifacts/$target/FILE" >&2
        exit 1
    fi
done
