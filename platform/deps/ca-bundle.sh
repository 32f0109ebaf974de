#!/bin/bash
# Prints a C header with the roots of ca-roots.list as one PEM text: ca-bundle.sh y|n
# With n (CONFIG_CA_BUNDLE off) the text is empty, so that no code needs to ask.
set -euo pipefail

store=/usr/share/ca-certificates/mozilla
list=$(dirname "$0")/ca-roots.list

echo '/* Made by platform/deps/ca-bundle.sh; includes nothing, and is included in one place. */'
echo 'static const char CA_BUNDLE_PEM[] ='
if [ "$1" = y ]; then
	sed '/^#/d' "$list" | while read -r name; do
		if [ ! -r "$store/$name.crt" ]; then
			echo "ca-bundle: the package ca-certificates has no root $name" >&2
			exit 1
		fi
		sed 's/\r$//; /^$/d; s/.*/\t"&\\n"/' "$store/$name.crt"
	done
fi
echo '	"";'
