#!/bin/busybox sh
# First process of the guest: mounts, modules, then the agent for ever. ttyS0 has kernel messages and a shell.
export PATH=/usr/local/bin:/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=dumb
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /root /etc /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
hostname guest

stty -F /dev/ttyS1 raw -echo 115200
exec 3>/dev/ttyS1
echo ": up" >&3
while read -r module; do
	name=${module##*/}
	echo ": ${name%.ko}" >&3
	problem=$(insmod "$module" 2>&1) || echo "! ${name%.ko} $problem" >&3
done </etc/modules

while :; do
	setsid sh /sbin/agent </dev/ttyS1 >&3 2>/dev/console
done &
exec 3>&-

# A person's shell on the console: in the foreground, because what a shell starts with & ignores Ctrl-C.
# The sleep is for a console that hangs up at once.
stty -F /dev/ttyS0 rows 40 cols 110
cd /root
while :; do
	PS1='guest:\w# ' TERM=vt100 setsid -c sh </dev/ttyS0 >/dev/ttyS0 2>&1
	sleep 1
done
