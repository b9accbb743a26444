#!/usr/bin/env bash
# Runs sdk.py with the foundation SDK of the oldest and the newest Grafana it is published for. Each lives
# in target/, so it is fetched once.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python3 -c 'import ensurepip' 2>/dev/null || {
	echo "python3 with venv is missing (on Debian: apt-get install python3-venv)" >&2
	exit 1
}
for version in '1769699998!10.1.0' 1769699241; do
	venv=target/grafana-sdk/${version//!/-}
	if [[ ! -e $venv/done ]]; then
		python3 -m venv --clear "$venv"
		"$venv/bin/pip" install --quiet --disable-pip-version-check "grafana-foundation-sdk==$version"
		touch "$venv/done"
	fi
	echo "grafana-foundation-sdk $version"
	"$venv/bin/python" -B tests/dashboards/sdk.py
done
