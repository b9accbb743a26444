#!/usr/bin/env bash
# Draws the dashboards with real data: the exporter on the demo, one grant that comes and goes, a second
# cluster that ends, and a Prometheus that reads both. Usage: draw.sh FOLDER; takes about four minutes.
set -euo pipefail

folder=$(realpath -m "${1:?folder for the drawings}")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=${SECONDS_DRAWN:-210}
exporter=${EXPORTER:-target/debug/rbac-exporter}
dir=$(mktemp -d)
pids=()
finish() {
	kill "${pids[@]}" 2>/dev/null || true
	wait
	rm -rf "$dir"
}
trap finish EXIT

mkdir "$dir/east" "$dir/west"
cp deploy/demo/*.yaml "$dir/east"
cp deploy/demo/*.yaml "$dir/west"
rm "$dir/west/"{30-ci,50-payments,80-support,90-pods-ci,90-pods-payments,90-pods-support}.yaml
for one in east:17231 west:17232; do
	"$exporter" --source.manifests "$dir/${one%:*}" --web.listen-address "127.0.0.1:${one#*:}" \
		--web.external-url "https://rbac.${one%:*}.example" 2>"$dir/${one%:*}.log" &
	pids+=($!)
done
cat >"$dir/prometheus.yml" <<-END
	global: {scrape_interval: 1s, evaluation_interval: 2s}
	rule_files: ["$PWD/alerts/rules/*.yaml"]
	scrape_configs:
	  - job_name: rbac-exporter
	    honor_labels: true
	    static_configs:
	      - {targets: ["127.0.0.1:17231"], labels: {cluster: east}}
	      - {targets: ["127.0.0.1:17232"], labels: {cluster: west}}
END
prometheus --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/data" \
	--web.listen-address=127.0.0.1:17290 2>"$dir/prometheus.log" &
pids+=($!)

sleep $((seconds / 3))
cat >"$dir/east/99-granted.yaml" <<-END
	apiVersion: rbac.authorization.k8s.io/v1
	kind: ClusterRoleBinding
	metadata: {name: night-shift, creationTimestamp: "$(date -u +%FT%TZ)"}
	roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
	subjects:
	  - {kind: ServiceAccount, name: default, namespace: shop}
	  - {apiGroup: rbac.authorization.k8s.io, kind: User, name: mallory@example.com}
END
sleep $((seconds / 3))
rm "$dir/east/99-granted.yaml"
kill "${pids[1]}"
sleep $((seconds / 3))
python3 tests/dashboards/draw.py http://127.0.0.1:17290 "$seconds" "$folder"
