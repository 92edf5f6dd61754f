#!/usr/bin/env bash
# Installs what the benchmark compares with, from Debian's packages, if it is missing.
set -euo pipefail

if command -v nginx >/dev/null || [ -x /usr/sbin/nginx ]; then exit; fi

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update -qq
# The service must not start by itself: the benchmark starts nginx with a configuration of its own.
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -qq --no-install-recommends nginx-light
