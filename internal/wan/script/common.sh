# What control.sh and watchdog.sh share. Both set folder, device, ifb and handle.
# POSIX shell, for dash and busybox alike. Where busybox has a lesser command of
# the same name, the real one is called by its path.

net=/sys/class/net

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

# read_lease sets lease_token, empty when there is no lease, left, the seconds
# until it ends, lease_owner and lease_profile.
read_lease() {
	lease_token='' deadline=0 lease_owner='' lease_profile=''
	if [ -e "$folder/lease" ]; then
		{
			read -r lease_token deadline
			read -r lease_owner
			read -r lease_profile
		} < "$folder/lease"
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
	[ -e "$net/$1" ] && [ "$(root_qdisc "$1")" = "netem $handle" ]
}

# foreign_root prints kind and handle of the device's root qdisc where it is
# neither ours nor the kernel's own choice.
foreign_root() {
	root=$(root_qdisc "$device")
	case $root in
	'' | *' 0:' | "netem $handle") ;;
	*) echo "$root" ;;
	esac
}

# is_redirected says whether what comes in by the device goes through our ifb.
is_redirected() {
	case $(/sbin/tc filter show dev "$device" ingress 2> /dev/null) in
	*"Redirect to device $ifb)"*) return 0 ;;
	esac
	return 1
}

# has_ingress says whether the interface has an ingress qdisc, anybody's.
has_ingress() {
	case $(/sbin/tc qdisc show dev "$device") in
	*"qdisc ingress "* | *"qdisc clsact "*) return 0 ;;
	esac
	return 1
}

# ports prints the device, and the other ports of its bridge where it is in one.
ports() {
	if [ -d "$net/$device/master/brif" ]; then
		ls -1 "$net/$device/master/brif"
	elif [ -e "$net/$device" ]; then
		echo "$device"
	fi
}

# merging prints "INTERFACE FEATURE" for each offload that is on and would have
# netem, or whoever counts there, see many packets as one: a port merges what it
# receives, and the bridge hands on what the host itself sends before that is
# cut into packets.
merging() {
	for interface in $(ports); do
		which_are_on generic-receive-offload large-receive-offload rx-gro-hw
	done
	if [ -d "$net/$device/master/brif" ]; then
		interface=$(readlink -f "$net/$device/master")
		interface=${interface##*/}
		which_are_on generic-segmentation-offload tx-tcp-segmentation tx-tcp-ecn-segmentation \
			tx-tcp-mangleid-segmentation tx-tcp6-segmentation
	fi
}

# which_are_on prints those of the features that are on at $interface.
which_are_on() {
	/sbin/ethtool -k "$interface" | while read -r feature value _; do
		feature=${feature%:}
		case "$value $* " in
		on*" $feature "*) echo "$interface $feature" ;;
		esac
	done
}

# remember adds the lines of its input to those offloads that are to be switched
# on again.
remember() {
	{
		if [ -e "$folder/offloads" ]; then
			cat "$folder/offloads"
		fi
		cat
	} | sort -u > "$folder/offloads.new" && mv "$folder/offloads.new" "$folder/offloads"
}

# restore_offloads switches on what is remembered.
restore_offloads() {
	[ -e "$folder/offloads" ] || return 0
	while read -r interface feature; do
		[ -e "$net/$interface" ] || continue
		/sbin/ethtool -K "$interface" "$feature" on > /dev/null 2>&1 || is_asked_for || return 1
	done < "$folder/offloads"
	rm "$folder/offloads"
}

# is_asked_for says whether $feature is on at $interface, or will be as soon as
# it can be: a bridge has only what one of its ports has.
is_asked_for() {
	/sbin/ethtool -k "$interface" | grep -q -E "^[[:space:]]*$feature: (on|off \[requested on\])"
}

# clear_shaping leaves everything as it was before the first Shape.
clear_shaping() {
	clear_qdiscs && restore_offloads
}

# clear_qdiscs removes our qdiscs. The ingress qdisc has no handle that could
# tell whose it is: it is ours while our ifb exists, so the ifb goes last.
clear_qdiscs() {
	if is_shaped "$device"; then
		/sbin/tc qdisc del dev "$device" root || return 1
	fi
	if [ -e "$net/$ifb" ]; then
		if [ -e "$net/$device" ] && has_ingress; then
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
