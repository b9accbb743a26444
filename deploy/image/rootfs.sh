#!/bin/sh
# Makes the file system of the image: one static binary and the public certificate authorities, for
# kubeconfigs that rely on them. The Containerfile runs it; it runs as well without a builder.
#
#   deploy/image/rootfs.sh DIRECTORY
set -eu

out=${1:?where the file system shall be}
cd "$(dirname "$0")/../.."
target=$(rustc -vV | sed -n 's/^host: //p')

# Static, so that no base image is needed and none can go out of date. With --target the flags are not
# those of build scripts and macros, which must stay dynamic.
RUSTFLAGS="${RUSTFLAGS-} -C target-feature=+crt-static" cargo build --locked --release --target "$target"

rm -rf "$out"
install -D -m 0755 "${CARGO_TARGET_DIR:-target}/$target/release/rbac-exporter" "$out/usr/bin/rbac-exporter"
install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$out/etc/ssl/certs/ca-certificates.crt"
