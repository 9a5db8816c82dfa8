#!/bin/sh
# lspci from sysfs: busybox's own takes neither -n nor -nn. Knows -n, -nn and -k, and -s SLOT, -d VENDOR:DEVICE.
numeric=0 driver=0 slot='' ids=''
while getopts nks:d:vmx option; do
	case $option in
	n) numeric=$((numeric + 1)) ;;
	k | v) driver=1 ;;
	s) slot=$OPTARG ;;
	d) ids=$OPTARG ;;
	esac
done
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
	case $slot in '' | "$name" | "0000:$name" | "${name#*:}") ;; *) continue ;; esac
	case $ids in '' | "$id" | "${id%:*}:") ;; *) continue ;; esac
	rev=
	[ "$revision" = 0x00 ] || rev=" (rev ${revision#0x})"
	if [ "$numeric" -eq 1 ]; then
		echo "$name ${class%??}: $id$rev"
	else
		echo "$name Class [${class%??}]: Device [$id]$rev"
	fi
	[ "$driver" -eq 1 ] && [ -e "$dir/driver" ] && echo "	Kernel driver in use: $(basename "$(readlink "$dir/driver")")"
done
true
