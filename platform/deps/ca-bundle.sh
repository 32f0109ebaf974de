#!/bin/bash
# Prints a C header with the roots of ca-roots.list: ca-bundle.sh y|n
# Each is DER, behind its length in two bytes; a length of zero ends the row. (As PEM they take
# a third more of the binary.) With n (CONFIG_CA_BUNDLE off) the row is empty, so no code asks.
set -euo pipefail

store=/usr/share/ca-certificates/mozilla
list=$(dirname "$0")/ca-roots.list
der=$(mktemp)
trap 'rm -f "$der"' EXIT

echo '/* Made by platform/deps/ca-bundle.sh; includes nothing, and is included in one place. */'
echo 'static const unsigned char CA_BUNDLE[] = {'
if [ "$1" = y ]; then
	sed '/^#/d' "$list" | while read -r name; do
		if [ ! -r "$store/$name.crt" ]; then
			echo "ca-bundle: the package ca-certificates has no root $name" >&2
			exit 1
		fi
		sed '/-----/d; s/\r$//' "$store/$name.crt" | base64 -d >"$der"
		size=$(stat -c %s "$der")
		echo "	/* $name */ $((size / 256)), $((size % 256)),"
		od -An -v -tu1 "$der" | sed 's/ *\([0-9][0-9]*\)/\1,/g; s/^/	/'
	done
fi
echo '	0, 0};'
