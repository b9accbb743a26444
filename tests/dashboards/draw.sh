#!/usr/bin/env bash
# Draws the dashboards with real data: the exporter on the demo, in two clusters of which one ends, with accepted risks
# and grants that come and go, and a Prometheus that reads both. What it knows after each step becomes six hours of
# history of a second Prometheus, which the panels are drawn from. Usage: draw.sh FOLDER; takes about two minutes.
set -euo pipefail

folder=$(realpath -m "${1:?folder for the drawings}")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exporter=${EXPORTER:-target/debug/rbac-exporter}
dir=$(mktemp -d)
pids=()
finish() {
	kill "${pids[@]}" 2>/dev/null || true
	wait
	rm -rf "$dir"
}
trap finish EXIT

ago() {
	date -u -d "-$1" +%FT%TZ
}

# Binds to cluster-admin in the east, as of a while ago.
grant() {
	cat >"$dir/east/99-$1.yaml" <<-END
		apiVersion: rbac.authorization.k8s.io/v1
		kind: ClusterRoleBinding
		metadata: {name: $1, creationTimestamp: "$(ago "$2")"}
		roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
		subjects:
		  - {kind: ServiceAccount, name: default, namespace: shop}
		  - {apiGroup: rbac.authorization.k8s.io, kind: User, name: $1@example.com}
	END
}

prometheus() {
	command prometheus --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/$1" \
		--web.listen-address="127.0.0.1:$2" 2>"$dir/$1.log" &
	pids+=($!)
}

# What is scraped and what rules make of it, after a few rounds of both.
state() {
	sleep 12
	curl -fsS --get --data-urlencode 'match[]={__name__=~".+"}' http://127.0.0.1:17290/federate >"$dir/state-$1"
}

mkdir "$dir/east" "$dir/west"
cp deploy/demo/*.yaml "$dir/east"
cp deploy/demo/*.yaml "$dir/west"
rm "$dir/west/"{30-ci,50-payments,80-support,90-pods-ci,90-pods-payments,90-pods-support}.yaml
cat >"$dir/config.yaml" <<-END
	accepted:
	- {id: ingress-secrets, subject: "sa:edge/edge-ingress", findings: ["secrets-list@*"], priority: critical,
	   reason: Reads certificates of every team, owner: platform, expires: $(date -u -d '+200 days' +%F)}
	- {id: gitops-admin, subject: "sa:gitops/gitops-controller", findings: ["wildcard-admin@*"], priority: critical,
	   reason: Installs what the others need, owner: platform, expires: $(date -u -d '+9 days' +%F)}
	- {id: tiller-until-moved, subject: "sa:kube-system/tiller", findings: ["wildcard-admin@*"], priority: critical,
	   reason: Goes with the last old release, owner: legacy-team, expires: $(date -u -d '-20 days' +%F)}
END
for one in east:17231 west:17232; do
	"$exporter" --source.manifests "$dir/${one%:*}" --web.listen-address "127.0.0.1:${one#*:}" \
		--config.file "$dir/config.yaml" --web.external-url "https://rbac.${one%:*}.example" 2>"$dir/${one%:*}.log" &
	pids+=($!)
done
cat >"$dir/prometheus.yml" <<-END
	global: {scrape_interval: 2s, evaluation_interval: 2s}
	rule_files: ["$dir/rules/*.yaml"]
	scrape_configs:
	  - job_name: rbac-exporter
	    honor_labels: true
	    static_configs:
	      - {targets: ["127.0.0.1:17231"], labels: {cluster: east}}
	      - {targets: ["127.0.0.1:17232"], labels: {cluster: west}}
END
# all at the pace above: what comes every five minutes would be missing
mkdir "$dir/rules"
for file in alerts/rules/*.yaml; do
	sed 's/interval: 5m$/interval: 2s/' "$file" >"$dir/rules/${file##*/}"
done

prometheus first 17290
state quiet
grant bob '4 hours'
state granted
rm "$dir/east/99-bob.yaml"
state revoked
kill "${pids[1]}"
state gone
grant mallory '9 minutes'
state new
kill "${pids[2]}"
python3 tests/dashboards/history.py "360:$dir/state-quiet" "240:$dir/state-granted" "170:$dir/state-revoked" \
	"40:$dir/state-gone" "9:$dir/state-new" >"$dir/history"
promtool tsdb create-blocks-from openmetrics "$dir/history" "$dir/second" >/dev/null
prometheus second 17291
sleep 20
python3 tests/dashboards/draw.py http://127.0.0.1:17291 21600 "$folder"
