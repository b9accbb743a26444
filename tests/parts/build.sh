#!/usr/bin/env bash
# Builds the real Kubernetes parts that `make e2e` runs and prints the directory they are in.
#
#   tests/parts/build.sh [--target-dir DIR]
#
# A part found in KUBEBUILDER_ASSETS is not built. A built one is reused while the version, the
# locked sources and its own main are the same; times of files do not count, as a fresh clone and a
# restored CI cache change them.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=$here/../../target
if [[ ${1-} == --target-dir ]]; then
	target=$2
fi

version=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' "$here/go.mod")
out=$target/parts/$version
mkdir -p "$out"
out=$(cd "$out" && pwd)

parts=(etcd kube-apiserver kube-controller-manager kubectl)
wanted=()
for part in "${parts[@]}"; do
	if [[ -x ${KUBEBUILDER_ASSETS:-/nonexistent}/$part ]]; then
		continue
	fi
	stamp=$(cat "$here/go.mod" "$here/go.sum" "$here/$part/main.go" | sha256sum | cut -d' ' -f1)
	if [[ -x $out/$part && $(cat "$out/.$part.stamp" 2>/dev/null) == "$stamp" ]]; then
		continue
	fi
	wanted+=("$part:$stamp")
done

if ((${#wanted[@]})); then
	if ! command -v go >/dev/null; then
		go_version=$(awk '$1 == "go" { print $2; exit }' "$here/go.mod")
		echo "The end-to-end tests need Go $go_version or newer in PATH to build ${wanted[*]%%:*} $version (about five minutes, once), or KUBEBUILDER_ASSETS set to a directory that holds these programs." >&2
		exit 1
	fi
	IFS=. read -r major minor _ <<<"${version#v}"
	info=k8s.io/component-base/version
	for entry in "${wanted[@]}"; do
		part=${entry%%:*}
		echo "building $part $version" >&2
		# Written aside and renamed, so that an interrupted build is never taken for a whole one.
		(cd "$here" && go build -trimpath \
			-ldflags "-s -w -X $info.gitVersion=$version -X $info.gitMajor=$major -X $info.gitMinor=$minor" \
			-o "$out/.$part.new" "./$part")
		mv "$out/.$part.new" "$out/$part"
		echo "${entry#*:}" >"$out/.$part.stamp"
	done
fi

echo "$out"
