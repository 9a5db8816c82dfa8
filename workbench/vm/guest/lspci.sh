#!/bin/sh
# lspci from sysfs: busybox's own takes neither -n nor -nn. What it does not know ends it with status 1.
usage='lspci knows -n, -nn, -k, -v (BARs, IRQ, driver), -vv (capabilities too), -x (the 64 bytes of the header), -s SLOT, -d VENDOR:DEVICE'
numeric=0 driver=0 verbose=0 header=0 slot='' ids=''
while getopts :nkvxs:d: option; do
	case $option in
	n) numeric=$((numeric + 1)) ;;
	k) driver=1 ;;
	v) verbose=$((verbose + 1)) driver=1 ;;
	x) header=1 ;;
	s) slot=$OPTARG ;;
	d) ids=$OPTARG ;;
	:) echo "lspci: -$OPTARG needs a value; $usage" >&2; exit 1 ;;
	*) echo "lspci: -$OPTARG is not known here; $usage" >&2; exit 1 ;;
	esac
done
shift $((OPTIND - 1))
if [ $# -gt 0 ]; then
	echo "lspci: $1 is too much; $usage" >&2
	exit 1
fi

# size BYTES: as lspci writes it, 4096 is 4K
size() {
	n=$1
	for unit in '' K M G T; do
		if [ $((n % 1024)) -ne 0 ] || [ $n -lt 1024 ]; then
			break
		fi
		n=$((n / 1024))
	done
	[ "$unit" != T ] || [ $n -lt 1024 ] || unit=P
	echo "$n$unit"
}

# regions DIR: the lines of sysfs' resource are "start end flags" (linux/ioport.h): BAR 0 to 5, then the ROM
regions() {
	bar=0
	while read -r start end flags && [ $bar -le 6 ]; do
		if [ $((flags)) -ne 0 ]; then
			length=$(size $((end - start + 1)))
			if [ $((flags & 0x100)) -ne 0 ]; then
				what="I/O ports at $(printf %04x $((start)))"
			else
				width=32 prefetchable=non-prefetchable
				[ $((flags & 0x100000)) -eq 0 ] || width=64
				[ $((flags & 0x2000)) -eq 0 ] || prefetchable=prefetchable
				what="Memory at $(printf %08x $((start))) ($width-bit, $prefetchable)"
			fi
			name="BAR $bar"
			[ $bar -lt 6 ] || name=ROM
			echo "	$name: $what [size=$length]"
		fi
		bar=$((bar + 1))
	done <"$1/resource"
}

# capabilities DIR: both lists of the config space, as lspci names them, with what tells devices apart
capabilities() {
	od -An -v -tu1 -w1 "$1/config" | awk '
	function word(at) { return byte[at] + 256 * byte[at + 1] }
	function bit(at, n) {
		for (v = word(at); n > 0; n--)
			v = int(v / 2)
		return v % 2 ? "+" : "-"
	}
	function power(n) { return n > 0 ? 2 * power(n - 1) : 1 }
	function express(at) {
		port = int(byte[at + 2] / 16)
		name = port == 0 ? "Endpoint" : port == 1 ? "Legacy Endpoint" : port == 9 ? "Root Complex Integrated Endpoint" : "port type " port
		link = byte[at + 18] ? sprintf(", x%d at gen %d", word(at + 18) / 16 % 64, byte[at + 18] % 16) : ""
		return sprintf("Express (v%d) %s, FLReset%s%s", byte[at + 2] % 16, name, bit(at + 6, 12), link)
	}
	function said(id, at) {
		if (id == 1)
			return sprintf("Power Management version %d, D1%s D2%s NoSoftRst%s, D%d", byte[at + 2] % 8, bit(at + 2, 9), bit(at + 2, 10), bit(at + 4, 3), byte[at + 4] % 4)
		if (id == 5)
			return sprintf("MSI: Enable%s Count=%d/%d Maskable%s 64bit%s", bit(at + 2, 0), power(int(byte[at + 2] / 16) % 8), power(int(byte[at + 2] / 2) % 8), bit(at + 2, 8), bit(at + 2, 7))
		if (id == 9)
			return sprintf("Vendor Specific Information: Len=%02x", byte[at + 2])
		if (id == 16)
			return express(at)
		if (id == 17)
			return sprintf("MSI-X: Enable%s Count=%d Masked%s", bit(at + 2, 15), word(at + 2) % 2048 + 1, bit(at + 2, 14))
		return sprintf("[%02x]", id)
	}
	function extended(id, at) {
		if (id == 1)
			return "Advanced Error Reporting"
		if (id == 3) {
			text = "Device Serial Number"
			for (i = 11; i >= 4; i--)
				text = text sprintf("%s%02x", i == 11 ? " " : "-", byte[at + i])
			return text
		}
		return id == 11 ? "Vendor Specific Information" : sprintf("[%04x]", id)
	}
	{ byte[NR - 1] = $1 }
	END {
		at = int(byte[6] / 16) % 2 ? byte[52] : 0
		for (n = 0; at >= 64 && n < 48; n++) {
			printf "\tCapabilities: [%02x] %s\n", at, said(byte[at], at)
			at = byte[at + 1]
		}
		at = NR > 256 && word(256) ? 256 : 0
		for (n = 0; at >= 256 && n < 960; n++) {
			printf "\tCapabilities: [%x v%d] %s\n", at, byte[at + 2] % 16, extended(word(at), at)
			at = int(word(at + 2) / 16)
		}
	}'
}

for dir in /sys/bus/pci/devices/*; do
	[ -e "$dir/vendor" ] || continue
	name=${dir##*/}
	name=${name#0000:}
	read -r class <"$dir/class"
	read -r vendor <"$dir/vendor"
	read -r device <"$dir/device"
	read -r revision <"$dir/revision"
	class=${class#0x}
	id=${vendor#0x}:${device#0x}
	case $slot in '' | "$name" | "0000:$name" | "${name#*:}" | "${name%.*}") ;; *) continue ;; esac
	case $ids in '' | : | "$id" | "${id%:*}:" | ":${id#*:}") ;; *) continue ;; esac
	rev=
	[ "$revision" = 0x00 ] || rev=" (rev ${revision#0x})"
	if [ "$numeric" -eq 1 ]; then
		echo "$name ${class%??}: $id$rev"
	else
		echo "$name Class [${class%??}]: Device [$id]$rev"
	fi
	if [ "$verbose" -ge 1 ]; then
		read -r irq <"$dir/irq"
		[ "$irq" = 0 ] || echo "	IRQ $irq"
		regions "$dir"
		[ "$verbose" -lt 2 ] || capabilities "$dir"
	fi
	[ "$driver" -eq 1 ] && [ -e "$dir/driver" ] && echo "	Kernel driver in use: $(basename "$(readlink "$dir/driver")")"
	[ "$header" -eq 0 ] || od -An -v -tx1 -w16 -N64 "$dir/config" | awk '{ printf "%02x:%s\n", (NR - 1) * 16, $0 }'
	[ "$verbose$header" = 00 ] || echo
done
true
