# Shapes the WAN on the host that bridges the sites. It is given on standard
# input, after shared.sh of package owner, common.sh and a function write_watchdog that
# prints those two and watchdog.sh.

# The exit codes that say that there is no shaping to renew, and that somebody
# else holds the path.
lapsed=3 held=4

# main OPERATION LABEL DEVICE IFB HANDLE OWNER [ARGUMENT...]
main() {
	operation=$1 label=$2 device=$3 ifb=$4 handle=$5 owner=$6
	shift 6
	folder=/run/heliotrope/wan-$label
	case $operation in
	state | check) lock_to_look 50 ;;
	*) lock 50 ;;
	esac
	case $operation in
	shape) shape "$@" ;;
	renew) renew "$@" ;;
	clear) clear ;;
	state) state ;;
	check) check ;;
	*) fail "no operation $operation" ;;
	esac
}

# shape LEASE-SECONDS TOKEN PROFILE [NETEM-PARAMETER...]: without parameters
# nothing is shaped, but the lease is held all the same, and packets are not
# merged either.
shape() {
	lease=$1 token=$2 profile=$3
	shift 3
	refuse_strangers
	refuse_others
	mkdir -p "$folder" || fail "cannot make $folder"
	end_watchdog
	lease_owner=$owner lease_profile=$profile
	write_lease "$lease" || fail "cannot write the lease"
	# Before the watchdog starts, which remembers it as well.
	merging | remember || give_up "cannot write down which offloads are on"
	start_watchdog "$device" "$ifb" "$handle" "$token" || give_up "the watchdog of the lease does not start"
	stop_merging
	if [ $# -eq 0 ]; then
		clear_qdiscs || give_up "cannot clear $device"
	else
		apply "$@" || give_up "cannot shape $device"
	fi
}

# stop_merging switches off what is remembered. With less than all of it off, what
# is measured would not be what the profile says.
stop_merging() {
	while read -r interface feature; do
		if [ -e "$net/$interface" ]; then
			/sbin/ethtool -K "$interface" "$feature" off > /dev/null 2>&1
		fi
	done < "$folder/offloads"
	still=$(merging)
	[ -z "$still" ] || give_up "these offloads cannot be switched off:" $still
}

give_up() {
	if clear_shaping; then
		end_watchdog
		forget
	fi
	fail "$*"
}

# refuse_strangers fails where shaping would remove what others have set up.
refuse_strangers() {
	[ -e "$net/$device" ] || fail "there is no network interface $device"
	[ -x /sbin/ethtool ] || fail "there is no /sbin/ethtool, which has to keep packets from being merged: install it"
	root=$(foreign_root)
	[ -z "$root" ] || fail "$device has a root qdisc that is not ours: $root: remove it first"
	if has_ingress && [ ! -e "$net/$ifb" ]; then
		fail "$device has an ingress qdisc that is not ours: remove it first"
	fi
}

# is_held says whether there is a lease, and somebody who ends it.
is_held() {
	[ -n "$lease_token" ] && [ "$left" -gt 0 ] && watchdog_lives
}

# refuse_others ends with a code of its own while the path is held by another
# owner, and prints the seconds left, the profile and the owner.
refuse_others() {
	read_lease
	if is_held && [ -n "$lease_owner" ] && [ "$lease_owner" != "$owner" ]; then
		printf '%s\n' "$left" "$lease_profile" "$lease_owner"
		echo "the path is held by $lease_owner" >&2
		exit $held
	fi
}

apply() {
	# Loaded by itself, the module would bring two interfaces of its own.
	/sbin/modprobe -q ifb numifbs=0 2> /dev/null
	if [ ! -e "$net/$ifb" ]; then
		/sbin/ip link add "$ifb" type ifb || return 1
	fi
	/sbin/ip link set "$ifb" up || return 1
	/sbin/tc qdisc replace dev "$ifb" root handle "$handle" netem "$@" || return 1
	if ! has_ingress; then
		/sbin/tc qdisc add dev "$device" ingress || return 1
	fi
	if ! is_redirected; then
		/sbin/tc filter add dev "$device" parent ffff: protocol all pref 18500 matchall \
			action mirred egress redirect dev "$ifb" || return 1
	fi
	/sbin/tc qdisc replace dev "$device" root handle "$handle" netem "$@"
}

write_lease() {
	now
	printf '%s\n' "$token $((seconds + $1 + 1))" "$lease_owner" "$lease_profile" > "$folder/lease.new" && mv "$folder/lease.new" "$folder/lease"
}

# renew LEASE-SECONDS: prints the state, for whoever renews to look at.
renew() {
	refuse_others
	if ! is_held; then
		echo "the lease is over" >&2
		exit $lapsed
	fi
	token=$lease_token
	write_lease "$1" || fail "cannot write the lease"
	state
}

# clear removes what the owner has shaped; without one, what anybody has.
clear() {
	if [ -n "$owner" ]; then
		refuse_others
	fi
	clear_shaping || fail "cannot clear $device"
	end_watchdog
	forget
}

# state prints a line on the lease and its owner, a line with the profile, a line
# with the offloads that merge packets, separated by commas, a line with the
# operational state of the device, and what tc says of each interface that shapes.
state() {
	[ -e "$net/$device" ] || fail "there is no network interface $device"
	read_lease
	if is_held; then
		echo "1 $left $lease_owner"
	else
		echo "0 $left $lease_owner"
	fi
	echo "$lease_profile"
	if [ -x /sbin/ethtool ]; then
		all_merging | tr '\n' ,
	fi
	echo
	cat "$net/$device/operstate"
	/sbin/tc -s -j qdisc show dev "$device" || exit 1
	if [ -e "$net/$ifb" ] && is_redirected; then
		echo
		/sbin/tc -s -j qdisc show dev "$ifb" || exit 1
	fi
}

# check prints what there is, a fact a line: a word, and what belongs to it. It
# changes nothing, and loads nothing.
check() {
	echo "tc $(/sbin/tc -V 2>&1)"
	# The last one is for the witness, which counts the WAN's traffic with nftables.
	for module in sch_netem sch_ingress ifb cls_matchall act_mirred nf_tables; do
		[ -e "/sys/module/$module" ] || /sbin/modprobe -n -q "$module" || echo "no-module $module"
	done
	if [ ! -e "$net/$device" ]; then
		echo no-device
		return 0
	fi
	find_bridge
	echo "bridge $kind $bridge"
	root=$(foreign_root)
	[ -z "$root" ] || echo "root $root"
	if has_ingress && [ ! -e "$net/$ifb" ]; then
		echo ingress
	fi
	if [ ! -x /sbin/ethtool ]; then
		echo no-ethtool
		return 0
	fi
	always_merging | while read -r interface feature _; do
		echo "fixed $interface $feature $(driver)"
	done
}

# driver prints driver and address of $interface's card.
driver() {
	/sbin/ethtool -i "$interface" | while read -r key value; do
		case $key in
		driver: | bus-info:) printf '%s ' "$value" ;;
		esac
	done
}

main "$@"
exit $?
