#!/usr/bin/env bash
# Installs what the checks need into .interop/ (git-ignored): quick when it is there already.
#
#   tests/interop/setup.sh               all that `make interop` needs
#   tests/interop/setup.sh node deny     only these parts: python peers onnx node go gen models deny
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
out=$root/.interop
here=$root/tests/interop
mkdir -p "$out/bin"
export MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true

GRPCURL=1.9.4
PROTOC_GEN_GO=1.36.12
PROTOC_GEN_GO_GRPC=1.6.2
CARGO_DENY=0.20.2

# done_already PART FILE...: whether PART was done with exactly these inputs.
done_already() {
    local part=$1
    shift
    [ "$(cat "$out/$part.stamp" 2>/dev/null)" = "$(cat "$@" | sha256sum)" ]
}

# now_done PART FILE...: remembers the inputs with which PART was done.
now_done() {
    local part=$1
    shift
    cat "$@" | sha256sum >"$out/$part.stamp"
}

# The virtual environment with MLflow and the Python clients.
install_python() {
    local inputs=("$here/requirements.txt" "$here/constraints.txt")
    done_already python "${inputs[@]}" && return
    python3 -m venv --clear "$out/venv"
    "$out/venv/bin/pip" install --quiet --disable-pip-version-check \
        --requirement "$here/requirements.txt" --constraint "$here/constraints.txt"
    now_done python "${inputs[@]}"
}

# llama.cpp's server and a small model: nothing is compiled, and no other package's version is touched.
install_peers() {
    local inputs=("$here/peers.txt")
    done_already peers "${inputs[@]}" && return
    rm -rf "$out/peers"
    "$out/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --target "$out/peers" --requirement "$here/peers.txt"
    now_done peers "${inputs[@]}"
}

# ONNX Runtime and the export to ONNX, for the benchmark of models only.
install_onnx() {
    local inputs=("$here/onnx.txt")
    done_already onnx "${inputs[@]}" && return
    rm -rf "$out/onnx"
    "$out/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --target "$out/onnx" --requirement "$here/onnx.txt"
    now_done onnx "${inputs[@]}"
}

# buf, a mock of providers, and the Node clients. Install scripts stay off: none of these packages needs its own. Not `npm ci`, which refuses a
# lock file that was written where the optional packages of other platforms could not be seen.
install_node() {
    local inputs=("$here/node/package.json" "$here/node/package-lock.json")
    done_already node "${inputs[@]}" && return
    mkdir -p "$out/node"
    cp "${inputs[@]}" "$out/node/"
    npm install --prefix "$out/node" --ignore-scripts --no-audit --no-fund --loglevel=error
    now_done node "${inputs[@]}"
}

# grpcurl and the Go code generators.
install_go() {
    local inputs=("$here/setup.sh")
    done_already go "${inputs[@]}" && return
    export GOBIN=$out/bin
    go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@v$GRPCURL"
    go install "google.golang.org/protobuf/cmd/protoc-gen-go@v$PROTOC_GEN_GO"
    go install "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v$PROTOC_GEN_GO_GRPC"
    now_done go "${inputs[@]}"
}

# The contract in the clients' languages. It takes a second, so it is done each time.
install_gen() {
    local files=(proto/flowgate/v1/*.proto) vendored=(proto/google/*/*.proto)
    local module=flowgate.test/interop/gen
    local go_packages=google/api/annotations.proto=google.golang.org/genproto/googleapis/api/annotations
    go_packages+=,Mgoogle/api/http.proto=google.golang.org/genproto/googleapis/api/annotations
    go_packages+=,Mgoogle/rpc/status.proto=google.golang.org/genproto/googleapis/rpc/status
    local file
    for file in "${files[@]}"; do
        go_packages+=",M${file#proto/}=$module/flowgatev1"
    done
    rm -rf "$out/gen" "$out/node/gen" "$out/go/gen"
    mkdir -p "$out/gen/python" "$out/node/gen" "$out/go/gen"
    protoc --python_out="$out/gen/python" --grpc_python_out="$out/gen/python" "${files[@]}"
    protoc --plugin=protoc-gen-es="$out/node/node_modules/.bin/protoc-gen-es" \
        --es_out="$out/node/gen" --es_opt=target=js,import_extension=js "${files[@]}" "${vendored[@]}"
    protoc --plugin=protoc-gen-go="$out/bin/protoc-gen-go" --plugin=protoc-gen-go-grpc="$out/bin/protoc-gen-go-grpc" \
        --go_out="$out/go/gen" --go_opt="module=$module,M$go_packages" \
        --go-grpc_out="$out/go/gen" --go-grpc_opt="module=$module,M$go_packages" "${files[@]}"
}

protoc() {
    "$out/venv/bin/python" -m grpc_tools.protoc --proto_path=proto "$@"
}

# The registered models.
install_models() {
    local inputs=("$here/train.py" "$here/constraints.txt")
    done_already models "${inputs[@]}" && return
    rm -rf "$out/mlflow.db" "$out/artifacts"
    "$out/venv/bin/python" "$here/train.py" "$out" >"$out/train.log" 2>&1 || {
        cat "$out/train.log" >&2
        return 1
    }
    now_done models "${inputs[@]}"
}

# cargo-deny, unoptimised: it checks one lock file, and builds in a fraction of the time.
install_deny() {
    "$out/cargo/bin/cargo-deny" --version 2>/dev/null | grep -qx "cargo-deny $CARGO_DENY" && return
    cargo install --quiet --debug --locked --no-default-features --root "$out/cargo" "cargo-deny@$CARGO_DENY"
}

[ $# -gt 0 ] || set -- python peers node go gen models
for part in "$@"; do
    "install_$part"
done
