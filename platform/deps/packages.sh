#!/bin/bash
# Installs the Debian packages of the named sets that this machine lacks: packages.sh SET...
#   build   what `make` needs        test   what `make test` needs beyond that
#   vm      what `make run` needs beyond build
#   bench   what `make bench-crypto` needs beyond build
# Quiet, and does nothing when all are there. Without root it says what to run and fails.
# `packages.sh --missing SET...` only prints what is missing.
set -euo pipefail

build_packages=(
	binutils bzip2 ca-certificates dpkg-dev gcc git kconfig-frontends libc6-dev linux-libc-dev
	make musl-dev musl-tools patch xz-utils
)
test_packages=(
	clang-14 cryptsetup-bin e2fsprogs faketime file fio iproute2 libclang-rt-14-dev libnbd-bin
	libssl-dev mandoc nbdkit openssl python3 python3-cryptography qemu-utils strace
	tinyproxy-bin util-linux valgrind xfsprogs
)
bench_packages=(libgcrypt20-dev libssl-dev util-linux)
vm_packages=(
	busybox-static cpio cryptsetup-bin dmsetup e2fsprogs kmod openssl python3
	python3-cryptography qemu-system-x86 qemu-utils xfsprogs xz-utils zstd
)

only_print=no
if [ "${1:-}" = --missing ]; then only_print=yes; shift; fi
[ $# -ge 1 ] || { echo "usage: packages.sh [--missing] build|test|vm|bench..." >&2; exit 2; }

wanted=()
for set in "$@"; do
	case $set in
	build) wanted+=("${build_packages[@]}") ;;
	test)  wanted+=("${test_packages[@]}") ;;
	bench) wanted+=("${bench_packages[@]}") ;;
	vm)    wanted+=("${vm_packages[@]}") ;;
	*)     echo "packages: there is no set $set" >&2; exit 2 ;;
	esac
done

installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' 2>/dev/null |
	sed -n 's/ installed$//p')
missing=()
for package in $(printf '%s\n' "${wanted[@]}" | sort -u); do
	grep -qxF "$package" <<<"$installed" || missing+=("$package")
done
if [ $only_print = yes ]; then
	[ ${#missing[@]} -eq 0 ] || printf '%s\n' "${missing[@]}"
	exit 0
fi
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "packages: this machine lacks some packages; as root, run:" >&2
	echo "    apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
	exit 1
fi

echo "packages: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
		-o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "${missing[@]}" \
		>"$log" 2>&1 </dev/null
}
# A fresh machine has no lists, and an old one lists versions that are gone: fetch them then.
if ! install; then
	if ! apt-get update -q -o DPkg::Lock::Timeout=300 >"$log" 2>&1 || ! install; then
		cause=$(grep '^E: ' "$log" | head -n 1 | cut -c 4- || true)
		if grep -q 'No space left on device' "$log"; then cause="the disk is full"; fi
		cause=${cause:-see apt-get install}
		echo "packages: ${missing[*]} could not be installed: $cause" >&2
		exit 1
	fi
fi
