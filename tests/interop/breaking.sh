#!/usr/bin/env bash
# breaking.sh BUF: compares proto/ with the version before it by buf.yaml's rules. That version is the last release, else
# the commit before the last change to proto/. A first commit or a shallow clone has none, and passes.
set -euo pipefail
cd "$(dirname "$0")/../.."

release=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || true)
if git diff --quiet HEAD -- proto 2>/dev/null; then
    before=$(git rev-list --max-count=2 HEAD -- proto 2>/dev/null | sed -n 2p)
else
    before=$(git rev-parse --quiet --verify HEAD || true) # changes that are not committed yet
fi
against=${release:-$before}
if [ -z "$against" ] || ! git cat-file -e "$against:proto" 2>/dev/null; then
    echo "buf breaking: no earlier version of proto/ to compare with"
    exit
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git archive "$against" -- proto buf.yaml | tar -x -C "$folder"
"$1" breaking --against "$folder"
echo "buf breaking: nothing breaks clients of $against"
