#!/bin/bash
# Debian's packages through a private apt: the machine's own sources, but lists, cache and
# configuration of our own under build/apt, so that the system's apt is never touched.
# Needs no root. Several callers may run it at once: they take turns.
#
#   apt-private.sh update [SUITE]             fetch SUITE's package lists again
#   apt-private.sh version NAME               print the source version that `source` would take
#   apt-private.sh source NAME TARGET         fetch source package NAME, unpack it with Debian's
#                                             patches applied as folder TARGET (replaced whole)
#   apt-private.sh depends NAME[/SUITE]       print what binary package NAME depends on, one a line
#   apt-private.sh deb NAME[/SUITE] [FOLDER]  fetch one binary .deb (not what it depends on) into
#                                             FOLDER (default build/debs); print its path
#
# SUITE is `bookworm` (the default: with its updates and security fixes) or `bookworm-backports`.
# Lists are fetched when there are none; when a package is no longer where the lists say, they are
# fetched once more. TARGET and the .deb appear only when whole.
# Exit status: 0 done; 1 failed, with one sentence on standard error and details in build/apt/log;
# 2 wrong usage.
#
# What vouches for what is fetched: apt checks the suite's Release against Debian's archive keyring
# (forced below, whatever the machine's entry says), and through it the hash of every list, source
# file and .deb. dpkg-source checks the hashes in the .dsc once more. The uploader's signature on
# the .dsc is not required: checking it would need the keyring of all Debian developers, of another
# package, and would vouch for nothing that the archive's signature has not.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
build=${BYOK_BUILD:-$root/build}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
state=$build/apt
log=$state/log

# The log stands on the same disk, and may have been cut short itself.
is_full() {
	grep -qs 'No space left on device' "$1" ||
		(($(stat -f -c '%a * %S' "$(dirname "$1")") < 1048576))
}

fail() {
	local cause=""
	if is_full "$log"; then
		cause=": the disk is full"
	elif grep -qs '^E: ' "$log"; then
		cause=": $(grep "^E: " "$log" | head -n 1 | cut -c 4-)"
	fi
	echo "apt-private: $1$cause (details: $log)" >&2
	exit 1
}

# Whatever has no sentence of its own: a silent death would be worse than a blunt one.
set -E
trap 'fail "step \"$BASH_COMMAND\" failed"' ERR

usage() {
	sed -n '/^#   apt-private.sh/,/^#$/s/^#   //p' "$0" >&2
	exit 2
}

# Prints "URI COMPONENTS..." of each entry of Debian itself that has the suite $1. Others publish
# suites called bookworm too: they are told apart by their Signed-By or by having no `main`.
debian_entries() {
	local file
	for file in /etc/apt/sources.list.d/*.sources; do
		if [ -e "$file" ]; then sed '/^#/d' "$file"; echo; fi
	done | awk -v wanted="$1" '
		function has(name, word) { return index(" " field[name] " ", " " word " ") }
		function flush(    uris) {
			if (has("types", "deb") && has("suites", wanted) &&
			    has("components", "main") &&
			    tolower(field["enabled"]) !~ /^(no|false|0)$/ &&
			    (field["signed-by"] == "" || field["signed-by"] ~ /debian-archive/) &&
			    split(field["uris"], uris, " ") > 0)
				print uris[1]
			split("", field)
		}
		/^[ \t]*$/ { flush(); next }
		/^[ \t]/   { field[name] = field[name] " " $0; next }
		{ name = tolower($0); sub(/:.*/, "", name)
		  value = $0; sub(/^[^:]*:[ \t]*/, "", value); gsub(/[ \t]+/, " ", value)
		  field[name] = value }
		END { flush() }'
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		if [ -e "$file" ]; then cat "$file"; echo; fi
	done | awk -v wanted="$1" '
		$1 == "deb" {
			options = ""
			if (match($0, /\[[^]]*\]/)) {
				options = substr($0, RSTART, RLENGTH)
				$0 = substr($0, 1, RSTART - 1) substr($0, RSTART + RLENGTH)
			}
			if (options ~ /signed-by=/ && options !~ /debian-archive/) next
			if ($2 ~ /^cdrom:/ || $3 != wanted) next
			for (i = 4; i <= NF && $i !~ /^#/; i++) if ($i == "main") { print $2; next }
		}'
}

# write_entry FILE SUITE URI: the URI stands where the machine put it, never in this project.
write_entry() {
	cat >>"$1" <<-END
		Types: deb deb-src
		URIs: $3
		Suites: $2
		Components: main
		Architectures: amd64
		Signed-By: $keyring

	END
}

# Makes $state/$suite with apt's configuration for it; sets $suite_state and the function `apt`.
prepare() {
	local suite=$1 part uri uris
	suite_state=$state/$suite
	mkdir -p "$suite_state"/{sources.d,empty,lists/partial,cache/archives/partial}
	sandbox=root
	if [ "$(id -u)" = 0 ] && runuser -u _apt -- test -x "$suite_state/lists" 2>/dev/null; then
		sandbox=_apt
	fi
	[ -r "$keyring" ] || fail "Debian's archive keyring is not at $keyring"

	uris=$(debian_entries bookworm | sort -u)
	[ -n "$uris" ] || fail "this machine's apt sources name no suite bookworm of Debian"
	rm -f "$suite_state/sources.new"
	case $suite in
	bookworm)
		for part in bookworm bookworm-updates bookworm-security; do
			for uri in $(debian_entries $part | sort -u | head -n 1); do
				write_entry "$suite_state/sources.new" $part "$uri"
			done
		done ;;
	bookworm-backports)
		# Every mirror of bookworm carries its backports, used by the machine or not.
		write_entry "$suite_state/sources.new" "$suite" "$(head -n 1 <<<"$uris")" ;;
	*) usage ;;
	esac
	mv "$suite_state/sources.new" "$suite_state/sources.d/debian.sources"

	# Of the machine's settings only how to reach servers is kept (proxies, time-outs): its
	# hooks and pins are not for us, and nothing may switch the signature checks off.
	{
		apt-config dump | grep '^Acquire::' |
			grep -viE '^Acquire::(IndexTargets|Languages|Allow|GzipInd|Compression)' ||
			true
		cat <<-END
			Acquire::Languages "none";
			Acquire::GzipIndexes "true";
			Acquire::Retries "3";
			Acquire::AllowInsecureRepositories "false";
			Acquire::AllowWeakRepositories "false";
			Acquire::AllowDowngradeToInsecureRepositories "false";
			APT::Get::AllowUnauthenticated "false";
			APT::Architecture "amd64";
			APT::Architectures { "amd64"; };
			Dir::Etc::Main "/dev/null";
			Dir::Etc::Parts "$suite_state/empty";
			Dir::Etc::SourceList "/dev/null";
			Dir::Etc::SourceParts "$suite_state/sources.d";
			Dir::Etc::Preferences "/dev/null";
			Dir::Etc::PreferencesParts "$suite_state/empty";
			Dir::State::Lists "$suite_state/lists";
			Dir::Cache "$suite_state/cache";
		END
		# As root, apt downloads as its own user _apt; where that user cannot come (a home
		# of mode 0700), it can only do so as root.
		[ "$sandbox" != root ] || echo 'APT::Sandbox::User "root";'
	} >"$suite_state/apt.conf.new"
	mv "$suite_state/apt.conf.new" "$suite_state/apt.conf"
	export APT_CONFIG=$suite_state/apt.conf
}

update() {
	local free_mib
	free_mib=$(($(stat -f -c '%a * %S' "$suite_state") / 1048576))
	# apt may wait for ever when the disk fills up under it.
	[ $free_mib -ge 200 ] ||
		fail "package lists need 200 MiB under $suite_state, of which $free_mib are free"
	rm -f "$suite_state/updated"
	# Without Error-Mode=any apt calls a list that it could not fetch a warning.
	timeout 900 apt-get -q -o APT::Update::Error-Mode=any update >>"$log" 2>&1 ||
		fail "the package lists of $suite could not be fetched"
	touch "$suite_state/updated"
}

ensure_lists() {
	[ -e "$suite_state/updated" ] || update
}

source_version() {
	# The newest of what the lists have: `apt-get source` alone would follow what is installed.
	local version newest=""
	for version in $(apt-cache showsrc --only-source "$1" 2>>"$log" |
		sed -n 's/^Version: //p'); do
		if [ -z "$newest" ] || dpkg --compare-versions "$version" gt "$newest"; then
			newest=$version
		fi
	done
	echo "$newest"
}

fetch_source() {
	local name=$1 work=$2 version
	version=$(source_version "$name")
	[ -n "$version" ] || return 1
	(cd "$work" && timeout 900 apt-get -q source --download-only --only-source \
		"$name=$version") >>"$log" 2>&1
}

fetch_deb() {
	(cd "$2" && timeout 900 apt-get -q download "$1") >>"$log" 2>&1
}

# work_folder PARENT: sets $work, a folder that is gone when the script ends.
work_folder() {
	mkdir -p "$1"
	work=$(mktemp -d "$1/.fetch.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	mkdir "$work/got"
	chmod 755 "$work"
	[ "$(id -u)" != 0 ] || chown "$sandbox" "$work/got"
}

# fetch KIND NAME FOLDER: the second try is for lists that are older than the archive.
fetch() {
	ensure_lists
	"fetch_$1" "$2" "$3" && return
	update
	"fetch_$1" "$2" "$3" || fail "the package $2 could not be fetched"
}

[ $# -ge 1 ] || usage
command=$1
package=${2:-}
suite=bookworm
case $command in
update)          [ $# -le 2 ] || usage; suite=${2:-bookworm} ;;
version)         [ $# = 2 ] || usage ;;
source)          [ $# = 3 ] || usage ;;
depends)         [ $# = 2 ] || usage ;;
deb)             [ $# = 2 ] || [ $# = 3 ] || usage ;;
*)               usage ;;
esac
if [ "$command" != update ] && [ "$package" != "${package#*/}" ]; then
	suite=${package#*/}
fi

mkdir -p "$state"
exec 9>"$state/lock"
flock 9
: >"$log"
prepare "$suite"

case $command in
update)
	update ;;
version)
	ensure_lists
	version=$(source_version "$package")
	[ -n "$version" ] || fail "there is no source package $package"
	echo "$version" ;;
depends)
	ensure_lists
	# The version of the suite asked for, not what is installed.
	apt-cache show "${package%%/*}" --no-all-versions 2>>"$log" |
		sed -n 's/^Depends: //p' | head -n 1 | tr ',' '\n' | sed 's/^ *//; s/ .*//' |
		grep . || fail "there is no package $package" ;;
source)
	target=$3
	work_folder "$(dirname "$target")"
	fetch source "$package" "$work/got"
	dpkg-source -x "$work"/got/*.dsc "$work/unpacked" >>"$log" 2>&1 ||
		fail "the source package $package could not be unpacked"
	rm -rf "$target"
	mv "$work/unpacked" "$target" ;;
deb)
	folder=${3:-$build/debs}
	work_folder "$folder"
	fetch deb "$package" "$work/got"
	deb=$(basename "$work"/got/*.deb)
	chmod 644 "$work/got/$deb"
	mv "$work/got/$deb" "$folder/$deb"
	[ "$(id -u)" != 0 ] || chown root: "$folder/$deb"
	echo "$folder/$deb" ;;
esac
