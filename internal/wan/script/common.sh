# What control.sh and watchdog.sh share. Both set folder, device, ifb and handle.
# They stand after shared.sh of package owner. Where busybox has a lesser command of
# the same name, the real one is called by its path.

net=/sys/class/net

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

# find_bridge sets bridge to what the device is a port of, and kind to linux,
# openvswitch or other; both are empty when it is on its own. In the kernel, the
# ports of all bridges of Open vSwitch belong to ovs-system: which is whose, only
# Open vSwitch knows. Its bridge is empty when it does not say.
find_bridge() {
	bridge='' kind=''
	[ -e "$net/$device/master" ] || return 0
	bridge=$(readlink -f "$net/$device/master")
	bridge=${bridge##*/} kind=other
	if [ -d "$net/$bridge/brif" ]; then
		kind=linux
	elif [ "$bridge" = ovs-system ]; then
		kind=openvswitch
		bridge=$(open_vswitch port-to-br "$device")
	fi
}

open_vswitch() {
	ovs-vsctl --timeout=10 "$@" 2> /dev/null
}

# ports prints the device, and the other ports of its bridge where it is in one.
ports() {
	case $kind in
	linux) ls -1 "$net/$bridge/brif" ;;
	openvswitch)
		# Some have no interface in the kernel, such as patches.
		for port in $(open_vswitch list-ports "$bridge" || echo "$device"); do
			if [ -e "$net/$port" ]; then
				echo "$port"
			fi
		done
		;;
	*)
		if [ -e "$net/$device" ]; then
			echo "$device"
		fi
		;;
	esac
}

# all_merging prints "INTERFACE FEATURE" for each offload that is on and would
# have netem, or whoever counts there, see many packets as one: a port merges what
# it receives, and the bridge hands on what the host itself sends before that is
# cut into packets. Behind it stands "fixed" where it cannot be switched off.
all_merging() {
	find_bridge
	for interface in $(ports); do
		which_are_on generic-receive-offload large-receive-offload rx-gro-hw
	done
	case $kind:$bridge in
	linux:?* | openvswitch:?*)
		interface=$bridge
		which_are_on generic-segmentation-offload tx-tcp-segmentation tx-tcp-ecn-segmentation \
			tx-tcp-mangleid-segmentation tx-tcp6-segmentation
		;;
	esac
}

# merging prints those that can be switched off, and always_merging the others.
merging() {
	all_merging | grep -v ' fixed$'
}

always_merging() {
	all_merging | grep ' fixed$'
}

# which_are_on prints those of the features that are on at $interface.
which_are_on() {
	features | while read -r feature value note; do
		feature=${feature%:}
		case "$value $* " in
		on*" $feature "*)
			case $note in
			*fixed*) echo "$interface $feature fixed" ;;
			*) echo "$interface $feature" ;;
			esac
			;;
		esac
	done
}

# features prints the offloads of $interface.
features() {
	/sbin/ethtool -k "$interface"
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
	features | grep -q -E "^[[:space:]]*$feature: (on|off \[requested on\])"
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
