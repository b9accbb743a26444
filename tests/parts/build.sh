#!/usr/bin/env bash
# Builds the real Kubernetes parts that `make e2e` runs and prints the directory they are in: the
# newest version whole, and of the oldest that is supported the API server, which is beside it; helm,
# and the two CustomResourceDefinitions of the Prometheus Operator that the chart makes use of.
#
#   tests/parts/build.sh [--target-dir DIR]
#
# A part found in KUBEBUILDER_ASSETS (the oldest version's in v1.33 there) is not built. A built one
# is reused while the version, the locked sources and its own main are the same; times of files do
# not count, as a fresh clone and a restored CI cache change them.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=$here/../../target
if [[ ${1-} == --target-dir ]]; then
	target=$2
fi

operator=v0.85.0

# A module of this directory: its version, and where its programs go.
version_of() {
	awk '$1 == "k8s.io/kubernetes" || $2 == "helm.sh/helm/v4" { print $NF; exit }' "$here/$1/go.mod"
}
directory_of() {
	local out module=$1
	[[ $module != helm ]] || module=. # it has no other place to be found in
	out=$target/parts/$(version_of "$module")
	mkdir -p "$out"
	(cd "$out" && pwd)
}

wanted=()
for entry in ./etcd ./kube-apiserver ./kube-controller-manager ./kubectl v1.33/kube-apiserver helm/helm; do
	module=${entry%/*} part=${entry##*/}
	# there helm is among the newest parts
	if [[ -x ${KUBEBUILDER_ASSETS:-/nonexistent}/${entry#helm/} ]]; then
		continue
	fi
	out=$(directory_of "$module")
	stamp=$(cd "$here/$module" && cat go.mod go.sum "$part/main.go" | sha256sum | cut -d' ' -f1)
	if [[ -x $out/$part && $(cat "$out/.$part.stamp" 2>/dev/null) == "$stamp" ]]; then
		continue
	fi
	wanted+=("$entry:$stamp")
done

if ((${#wanted[@]})); then
	if ! command -v go >/dev/null; then
		go_version=$(awk '$1 == "go" { print $2; exit }' "$here/go.mod")
		missing=("${wanted[@]%%:*}")
		echo "The end-to-end tests need Go $go_version or newer in PATH to build ${missing[*]#./} (about eight minutes, once), or KUBEBUILDER_ASSETS set to a directory that holds these programs." >&2
		exit 1
	fi
	info=k8s.io/component-base/version
	for item in "${wanted[@]}"; do
		entry=${item%%:*} module=${item%%/*} part=${entry##*/}
		version=$(version_of "$module")
		out=$(directory_of "$module")
		IFS=. read -r major minor _ <<<"${version#v}"
		echo "building $part $version" >&2
		# Written aside and renamed, so that an interrupted build is never taken for a whole one.
		(cd "$here/$module" && go build -trimpath \
			-ldflags "-s -w -X $info.gitVersion=$version -X $info.gitMajor=$major -X $info.gitMinor=$minor -X helm.sh/helm/v4/internal/version.version=$version" \
			-o "$out/.$part.new" "./$part")
		mv "$out/.$part.new" "$out/$part"
		echo "${item#*:}" >"$out/.$part.stamp"
	done
fi

out=$(directory_of .)
crds=$out/crds-$operator
if [[ ! -d $crds ]]; then
	if ! command -v go >/dev/null; then
		echo "The end-to-end tests need Go in PATH to fetch the CustomResourceDefinitions of the Prometheus Operator $operator." >&2
		exit 1
	fi
	source=$(go mod download -json "github.com/prometheus-operator/prometheus-operator@$operator" | awk -F '"' '$2 == "Dir" { print $4 }')
	mkdir -p "$crds.new"
	for kind in servicemonitors prometheusrules; do
		cat "$source/example/prometheus-operator-crd/monitoring.coreos.com_$kind.yaml" >"$crds.new/$kind.yaml"
	done
	mv "$crds.new" "$crds"
fi

echo "$out"
