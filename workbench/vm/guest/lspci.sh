#!/bin/sh
# lspci from sysfs: busybox's own takes neither -n nor -nn. What it does not know ends it with status 1.
usage='lspci knows -n, -nn, -k, -v (BARs, IRQ, driver), -x (the 64 bytes of the header), -s SLOT, -d VENDOR:DEVICE'
numeric=0 driver=0 verbose=0 header=0 slot='' ids=''
while getopts :nkvxs:d: option; do
	case $option in
	n) numeric=$((numeric + 1)) ;;
	k) driver=1 ;;
	v) verbose=1 driver=1 ;;
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
	if [ "$verbose" -eq 1 ]; then
		read -r irq <"$dir/irq"
		[ "$irq" = 0 ] || echo "	IRQ $irq"
		regions "$dir"
	fi
	[ "$driver" -eq 1 ] && [ -e "$dir/driver" ] && echo "	Kernel driver in use: $(basename "$(readlink "$dir/driver")")"
	[ "$header" -eq 0 ] || od -An -v -tx1 -w16 -N64 "$dir/config" | awk '{ printf "%02x:%s\n", (NR - 1) * 16, $0 }'
	[ "$verbose$header" = 00 ] || echo
done
true
