#!/bin/sh
# Prints the C header of a configuration: header.sh .config
# Options that are off are defined too, as 0, so that a misspelt one is an error (-Wundef).
set -eu

awk -F = '
	FNR == NR { if (/^CONFIG_/) value[$1] = $2 == "y" ? 1 : $2; next }
	/^config / {
		name = "CONFIG_" substr($0, 8)
		print "#define " name " " (name in value ? value[name] : 0)
	}' "$1" Kconfig
