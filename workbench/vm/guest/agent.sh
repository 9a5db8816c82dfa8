# The command agent: stdin and stdout are the second serial port, raw.
#
#   host                       guest
#                              = ready
#   w BASE64                   +                         appends to the command
#   r ID SECONDS               . ID STATUS OUT ERR       then OUT and ERR bytes of output
#   b                                                    reboots
#   p                                                    powers off
#
# Output goes to files first: its length is then known, so any bytes may be in it.
: >/run/command
echo "= ready"
while read -r verb one two; do
	case $verb in
	w)
		base64 -d >>/run/command <<-.
			$one
		.
		echo "+"
		;;
	r)
		# The shell is not the session's leader: else a terminal that it opens would be its own, and hang up with it.
		(cd /root && exec setsid sh -c 'timeout -s KILL "$0" sh /run/command & wait $!' "$two") \
			</dev/null >/run/out 2>/run/err 3>&- &
		pid=$!
		wait $pid
		status=$?
		# Killed, by the time-out or otherwise: what it started in its session goes too.
		[ $status -eq 137 ] && kill -9 -- -$pid 2>/dev/null
		# No process too many: each is 5 ms of TCG.
		set -- $(stat -c %s /run/out /run/err)
		echo ". $one $status $1 $2"
		[ $1 -eq 0 ] || head -c $1 /run/out
		[ $2 -eq 0 ] || head -c $2 /run/err
		rm -f /run/out /run/err
		: >/run/command
		;;
	b) reboot -f ;;
	p) poweroff -f ;;
	esac
done
