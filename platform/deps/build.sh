#!/bin/bash
# Builds the third-party libraries that byok links: build.sh musl | host
#
#   musl   what the product is: static, small, position independent, on musl
#   host   the same sources on glibc, for the tests that run under AddressSanitizer
#
# The result is build/deps/SET/{include,lib,versions}, there only when whole. Sources are Debian's,
# with Debian's patches, through apt-private.sh; they are kept in build/deps/source.
# Says one line for each part; details go to build/deps/SET.log.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${BYOK_BUILD:-$root/build}
jobs=${JOBS:-$(nproc)}
set=${1:-}
deps=$build/deps
log=$deps/$set.log
apt=$here/apt-private.sh
unset MAKEFLAGS MFLAGS MAKELEVEL CFLAGS CPPFLAGS LDFLAGS LIBS CC

case $set in
musl) cc="musl-gcc"; optimise="-Os -fno-asynchronous-unwind-tables -fno-unwind-tables" ;;
host) cc="gcc"; optimise="-O2 -g" ;;
*)    echo "usage: build.sh musl|host" >&2; exit 2 ;;
esac
# Sections let the linker drop what byok never calls: a third of curl.
flags="$optimise -fPIE -ffunction-sections -fdata-sections -fstack-protector-strong -w"

fail() {
	local cause=""
	# The log stands on the same disk, and may have been cut short itself.
	if grep -qs 'No space left on device' "$log" ||
		(($(stat -f -c '%a * %S' "$deps") < 1048576)); then
		cause=": the disk is full"
	fi
	echo "deps: $1$cause (details: $log)" >&2
	exit 1
}

set -E
trap 'fail "step \"$BASH_COMMAND\" failed"' ERR
mkdir -p "$deps/source"
exec 8>"$deps/lock"
flock 8
: >"$log"
work=$deps/.$set.work
rm -rf "$work"
mkdir -p "$work/out/include" "$work/out/lib"
trap 'rm -rf "$work"' EXIT
versions=$work/out/versions

say_version() {
	echo "$1 $2" >>"$versions"
	echo "deps: $1 $2 ($set)"
}

# take_source NAME: leaves a private copy of the source in $work/NAME.
take_source() {
	local source=$deps/source/$1
	[ -d "$source" ] || "$apt" source "$1" "$source" || exit 1
	cp -a "$source" "$work/$1" || fail "the source of $1 could not be copied"
	say_version "$1" "$(dpkg-parsechangelog -l "$source/debian/changelog" -S Version)"
}

# take_package NAME: unpacks the binary package NAME in $work/NAME.
take_package() {
	local deb
	deb=$(find "$deps/source" -name "$1_*.deb" | head -n 1)
	[ -n "$deb" ] || deb=$("$apt" deb "$1" "$deps/source") || exit 1
	dpkg-deb -x "$deb" "$work/$1" >>"$log" 2>&1 || fail "the package $1 could not be unpacked"
	say_version "$1" "$(dpkg-deb -f "$deb" Version)"
}

build_bearssl() {
	local source object
	take_source bearssl
	cd "$work/bearssl"
	make -j"$jobs" lib CC="$cc" CFLAGS="$flags" >>"$log" 2>&1 ||
		fail "BearSSL did not build"
	# In the small build, speed matters only where the portable AES-XTS stands on it.
	for source in src/symcipher/aes_ct64*.c; do
		object=build/obj/$(basename "$source" .c).o
		"$cc" $flags -O2 -Isrc -Iinc -c -o "$object" "$source" >>"$log" 2>&1 &&
			ar rs build/libbearssl.a "$object" >>"$log" 2>&1 ||
			fail "BearSSL's $source did not build"
	done
	cp inc/*.h "$work/out/include/"
	cp build/libbearssl.a "$work/out/lib/"
}

build_liburing() {
	take_source liburing
	cd "$work/liburing"
	./configure --cc="$cc $kernel_headers" >>"$log" 2>&1 ||
		fail "liburing could not be configured"
	make -j"$jobs" -C src liburing.a ENABLE_SHARED=0 CFLAGS="$flags $kernel_headers" \
		>>"$log" 2>&1 || fail "liburing did not build"
	cp -r src/include/* "$work/out/include/"
	cp src/liburing.a "$work/out/lib/"
}

build_curl() {
	local off option=()
	take_source curl
	cd "$work/curl"
	for off in shared debug curldebug ares ftp file ldap ldaps rtsp dict telnet tftp pop3 imap \
		smb smtp gopher mqtt manual libcurl-option verbose crypto-auth ntlm ntlm-wb \
		tls-srp unix-sockets cookies http-auth doh mime dateparse netrc progress-meter \
		dnsshuffle get-easy-options alt-svc headers-api hsts websockets \
		dependency-tracking; do
		option+=("--disable-$off")
	done
	for off in zlib brotli zstd libpsl libgsasl librtmp libssh libssh2 libidn2 nghttp2 \
		nghttp3 ngtcp2 quiche hyper ca-bundle ca-path ca-fallback zsh-functions-dir; do
		option+=("--without-$off")
	done
	# The resolver has a thread of its own so that a deadline holds while a name is looked up.
	./configure "${option[@]}" --with-bearssl="$work/out" --enable-static --enable-http \
		--enable-ipv6 --disable-proxy --enable-threaded-resolver --enable-symbol-hiding \
		CC="$cc" CFLAGS="$flags" CPPFLAGS="$kernel_headers" >>"$log" 2>&1 ||
		fail "curl could not be configured"
	make -j"$jobs" -C lib libcurl.la >>"$log" 2>&1 || fail "curl did not build"
	cp -r include/curl "$work/out/include/"
	rm -f "$work"/out/include/curl/Makefile*
	cp lib/.libs/libcurl.a "$work/out/lib/"
}

# A header is all of jsmn, and Debian's own package of it is as good as its source.
build_jsmn() {
	take_package libjsmn-dev
	cp "$work"/libjsmn-dev/usr/include/jsmn.h "$work/out/include/"
}

# Debian's own libargon2.a serves under musl too: what it takes from libc is plain C and
# pthread_create. The one exception is a checked sprintf in the code that prints a hash as text,
# which byok never calls; should it ever, it stops there.
build_argon2() {
	take_package libargon2-dev
	cp "$work"/libargon2-dev/usr/include/argon2.h "$work/out/include/"
	objcopy --redefine-sym __sprintf_chk=abort \
		"$work"/libargon2-dev/usr/lib/x86_64-linux-gnu/libargon2.a \
		"$work/out/lib/libargon2.a" >>"$log" 2>&1 || fail "libargon2 could not be prepared"
}

kernel_headers=
if [ "$set" = musl ]; then
	# musl has no kernel headers and must not see glibc's, which share a folder with them.
	ln -s /usr/include/linux /usr/include/asm-generic \
		/usr/include/x86_64-linux-gnu/asm "$work/out/include/"
	kernel_headers="-isystem $work/out/include"
fi

build_bearssl
build_liburing
build_curl
build_jsmn
build_argon2

rm -rf "$deps/$set"
mv "$work/out" "$deps/$set"
