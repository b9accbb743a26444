#!/bin/sh
# Looks at a file system that rootfs.sh has made: nothing but the binary and the certificates, small, and
# the binary runs there, where no library and no other file is.
set -eu

root=${1:?where the file system is}
have=$(cd "$root" && find . ! -type d | sort)
want='./etc/ssl/certs/ca-certificates.crt
./usr/bin/rbac-exporter'
test "$have" = "$want" || {
	printf 'not what an image should hold:\n%s\n' "$have" >&2
	exit 1
}
limit() {
	test "$1" -le "$2" || {
		echo "$3: $1 bytes, more than the $2 that are promised" >&2
		exit 1
	}
}
size=$(wc -c <"$root/usr/bin/rbac-exporter")
all=$(cat "$root/usr/bin/rbac-exporter" "$root/etc/ssl/certs/ca-certificates.crt" | wc -c)
# 12 MB is what the release binary may have; this one has its C library in it
limit "$size" 13500000 "the binary"
limit "$all" 15000000 "the image"
# As the user of the image if this one may change the root.
if test "$(id -u)" = 0; then
	chroot --userspec=65532:65532 "$root" /usr/bin/rbac-exporter --version
else
	"$root/usr/bin/rbac-exporter" --version
fi
echo "image: $all bytes, of them the binary $size"
