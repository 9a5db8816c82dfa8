#!/bin/sh
# setpci: reads and writes config space through sysfs, at the registers of the header (PCI 3.0, 6.1).
usage='setpci -s SLOT | -d VENDOR:DEVICE  REGISTER[.b|.w|.l][=VALUE]...; all numbers are hexadecimal'
fail() {
	echo "setpci: $1; $usage" >&2
	exit 1
}

# place REGISTER: sets at (decimal) and width (bytes)
place() {
	width=
	case $1 in
	*.[bB]) width=1 ;;
	*.[wW]) width=2 ;;
	*.[lL]) width=4 ;;
	*.*) fail "the width in $1 is none of .b .w .l" ;;
	esac
	register=$(echo "${1%.*}" | tr a-z A-Z)
	case $register in
	VENDOR_ID) known=0x00.2 ;; DEVICE_ID) known=0x02.2 ;; COMMAND) known=0x04.2 ;; STATUS) known=0x06.2 ;;
	REVISION) known=0x08.1 ;; CLASS_PROG) known=0x09.1 ;; CLASS_DEVICE) known=0x0a.2 ;;
	CACHE_LINE_SIZE) known=0x0c.1 ;; LATENCY_TIMER) known=0x0d.1 ;; HEADER_TYPE) known=0x0e.1 ;; BIST) known=0x0f.1 ;;
	BASE_ADDRESS_[0-5]) known=$((0x10 + 4 * ${register#BASE_ADDRESS_})).4 ;;
	SUBSYSTEM_VENDOR_ID) known=0x2c.2 ;; SUBSYSTEM_ID) known=0x2e.2 ;; ROM_ADDRESS) known=0x30.4 ;;
	CAPABILITY_LIST) known=0x34.1 ;;
	INTERRUPT_LINE) known=0x3c.1 ;; INTERRUPT_PIN) known=0x3d.1 ;; MIN_GNT) known=0x3e.1 ;; MAX_LAT) known=0x3f.1 ;;
	*[!0-9A-F]* | '') fail "there is no register $1" ;;
	*) known=0x$register.${width:-4} ;;
	esac
	at=$((${known%.*})) width=${width:-${known#*.}}
	[ $((at % width)) -eq 0 ] && [ $at -lt 4096 ] || fail "$1 is not aligned, or beyond config space"
}

# get FILE: one number, little endian, as hex digits
get() {
	digits=
	for byte in $(dd if="$1" bs=$width skip=$((at / width)) count=1 2>/dev/null | od -An -v -tx1); do
		digits=$byte$digits
	done
	[ -n "$digits" ] || fail "there are no $width bytes at $(printf %x $at)"
	echo "$digits"
}

# put FILE VALUE: one write of the whole width, so the device sees one access
put() {
	case $2 in '' | *[!0-9A-Fa-f]*) fail "$2 is no hexadecimal number" ;; esac
	n=$((0x$2)) bytes=
	for _ in $(seq $width); do
		bytes=$bytes$(printf '\\x%02x' $((n & 255)))
		n=$((n >> 8))
	done
	[ $n -eq 0 ] || fail "$2 has more than $width bytes"
	printf "$bytes" | dd of="$1" bs=$width seek=$((at / width)) conv=notrunc 2>/dev/null || fail "$1 cannot be written"
}

slot='' ids=''
while getopts :s:d: option; do
	case $option in
	s) slot=$OPTARG ;;
	d) ids=$OPTARG ;;
	*) fail "-$OPTARG is not known here, or needs a value" ;;
	esac
done
shift $((OPTIND - 1))
[ -n "$slot$ids" ] || fail "which device?"
[ $# -gt 0 ] || fail "which register?"

found=0
for dir in /sys/bus/pci/devices/*; do
	[ -e "$dir/config" ] || continue
	name=${dir##*/}
	name=${name#0000:}
	read -r vendor <"$dir/vendor"
	read -r device <"$dir/device"
	id=${vendor#0x}:${device#0x}
	case $slot in '' | "$name" | "0000:$name" | "${name#*:}" | "${name%.*}") ;; *) continue ;; esac
	case $ids in '' | : | "$id" | "${id%:*}:" | ":${id#*:}") ;; *) continue ;; esac
	found=1
	for operation; do
		place "${operation%%=*}"
		case $operation in
		*=*) put "$dir/config" "${operation#*=}" ;;
		*) get "$dir/config" ;;
		esac
	done
done
[ $found -eq 1 ] || fail "there is no such device"
