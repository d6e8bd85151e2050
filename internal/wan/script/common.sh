# What control.sh and watchdog.sh share. Both set folder, device, ifb and handle.
# POSIX shell, for dash and busybox alike. Where busybox has a lesser command of
# the same name, the real one is called by its path.

fail() {
	echo "$*" >&2
	exit 1
}

# lock waits until no other of our scripts is at work on this host. It lasts as
# long as the process, or until unlock.
lock() {
	exec 9< /run
	flock 9
}

unlock() {
	exec 9<&-
}

# now sets seconds, on a clock that nobody sets.
now() {
	read -r seconds _ < /proc/uptime
	seconds=${seconds%.*}
}

# read_lease sets lease_token, empty when there is no lease, and left, the
# seconds until it ends.
read_lease() {
	lease_token='' deadline=0
	if [ -e "$folder/lease" ]; then
		read -r lease_token deadline < "$folder/lease"
	fi
	now
	left=$((deadline - seconds))
}

# root_qdisc prints kind and handle of the root qdisc of interface $1.
root_qdisc() {
	/sbin/tc qdisc show dev "$1" | while read -r _ kind major place _; do
		if [ "$place" = root ]; then
			echo "$kind $major"
		fi
	done
}

# is_shaped says whether the root qdisc of interface $1 is ours.
is_shaped() {
	[ -e "/sys/class/net/$1" ] && [ "$(root_qdisc "$1")" = "netem $handle" ]
}

# has_ingress says whether the interface has an ingress qdisc, anybody's.
has_ingress() {
	case $(/sbin/tc qdisc show dev "$device") in
	*"qdisc ingress "* | *"qdisc clsact "*) return 0 ;;
	esac
	return 1
}

# clear_shaping removes our qdiscs. The ingress qdisc has no handle that could
# tell whose it is: it is ours while our ifb exists, so the ifb goes last.
clear_shaping() {
	if is_shaped "$device"; then
		/sbin/tc qdisc del dev "$device" root || return 1
	fi
	if [ -e "/sys/class/net/$ifb" ]; then
		if [ -e "/sys/class/net/$device" ] && has_ingress; then
			/sbin/tc qdisc del dev "$device" ingress || return 1
		fi
		/sbin/ip link del "$ifb" || return 1
	fi
}

# forget removes our folder. The one above it may be others' too.
forget() {
	rm -rf "$folder"
	rmdir "${folder%/*}" 2> /dev/null
	return 0
}
